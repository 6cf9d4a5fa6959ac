"""What uploads in parts ask of the catalogue.

`pyvospace.db.partials` implements this over the functions of the schema ``storage_api``. Every method that is told a
name or an upload checks anew whether its owner may still write to the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pyvospace.storage.catalogue import Leases

if TYPE_CHECKING:
    from pyvospace.model.claims import EndpointClaims, UploadClaim
    from pyvospace.model.partials import NewPartial, Partial, Piece, Segment


class PartialCatalogue(Leases, Protocol):
    """Leases are of an upload while a part comes, and of the node while the whole is made."""

    async def begin(self, claims: EndpointClaims, name: str, new: NewPartial) -> None:
        """Begin an upload with this name.

        Raises
        ------
        QuotaExceeded
            There is no room for it, or the user has begun too many.
        EndpointUsed
            The bytes are there already.
        """

    async def find(self, name: str) -> Partial:
        """Tell what is known of an upload; NotFound: nothing, or not any more."""

    async def claim_segment(self, piece: Piece) -> UploadClaim:
        """Let a request write behind what is there.

        Raises
        ------
        UploadBusy
            Another one does.
        OffsetMismatch
            More is there than it thinks, or less.
        """

    async def claim_whole(self, partial: Partial) -> UploadClaim:
        """Take the writer's lease of the node for an upload whose bytes are all there.

        Raises
        ------
        NodeBusy, UploadBusy
            Somebody else writes to the node, or makes the whole.
        EndpointUsed
            It has been made, or other bytes have come by the same endpoint.
        """

    async def segments(self, partial: Partial) -> Sequence[Segment]:
        """Tell where the bytes of a whole are, in their order."""

    async def revert(self, partial: Partial) -> int:
        """Take back what the last request has brought; gives the bytes that are left."""

    async def drop(self, name: str) -> None:
        """Forget an upload that will not be complete."""

    async def drop_expired(self, *, limit: int) -> int:
        """Forget uploads whose time is over, up to `limit`; gives how many these were."""
