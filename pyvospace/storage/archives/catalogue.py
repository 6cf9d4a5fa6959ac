"""What packing and unpacking ask of the catalogue."""

from collections.abc import Sequence
from typing import Protocol

from pyvospace.model.archives import PackClaim, PackedNode, UnpackClaim, Unpacked
from pyvospace.model.claims import EndpointClaims


class ArchiveCatalogue(Protocol):
    """`pyvospace.db.archives` implements this. No method keeps a connection when it returns."""

    async def claim_pack(self, claims: EndpointClaims) -> PackClaim:
        """Check the right to fetch an archive once more."""

    async def nodes(self, claim: PackClaim, ids: Sequence[int]) -> list[tuple[PackedNode, tuple[str, ...]]]:
        """Give those nodes that the caller may read now, each with its path."""

    async def children(self, claim: PackClaim, parents: Sequence[int], *, after: str, at_most: int) -> list[PackedNode]:
        """Give up to so many children that the caller may read now, container by container, by name.

        `after`: of the first container only those behind this name.
        """

    async def delivered(self, claim: PackClaim) -> None:
        """Complete the job that waited for this delivery."""

    async def signing_key(self) -> tuple[str, bytes]:
        """Give name and secret of a key with which endpoints of other storages can be signed."""

    async def claim_unpack(self, claims: EndpointClaims, *, size: int | None) -> UnpackClaim:
        """Check the right to bring an archive once more and take the writer's lease of the container.

        Raises
        ------
        NodeBusy
            Somebody else's lease is alive.
        """

    async def unpack(self, claims: EndpointClaims, claim: UnpackClaim, tree: Unpacked) -> None:
        """Make the nodes of an archive and complete its job, all or nothing.

        Raises
        ------
        DuplicateNode
            A node of another type is in the way.
        OutcomeUnknownError
            The connection was lost: it may have happened or not.
        """
