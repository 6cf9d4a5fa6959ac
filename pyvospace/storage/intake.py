"""How new bytes come to a node, whatever protocol brings them: asked for, claimed, received, published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvospace.model.faults import RequestEntityTooLarge
from pyvospace.storage.jobs import ClaimedUpload, carry_out

if TYPE_CHECKING:
    from pyvospace.model.claims import EndpointClaims, Facts, UploadClaim
    from pyvospace.storage.backend import StorageBackend
    from pyvospace.storage.body import CheckedBody
    from pyvospace.storage.catalogue import Catalogue
    from pyvospace.storage.room import Room


class Intake:
    """Takes uploads.

    Parameters
    ----------
    limit
        The most bytes that one upload may have; None: as many as fit.
    """

    def __init__(self, catalogue: Catalogue, backend: StorageBackend, room: Room, *, limit: int | None) -> None:
        self._catalogue = catalogue
        self._backend = backend
        self._room = room
        self._limit = limit

    async def require_room(self, size: int) -> None:
        """Refuse what cannot fit, or is not welcome, before it begins."""
        if self._limit is not None and size > self._limit:
            raise RequestEntityTooLarge(f"more than {self._limit} bytes are not taken")
        await self._room.require(size)

    async def claim(self, claims: EndpointClaims, *, size: int | None) -> UploadClaim:
        """Take the lease for an upload of so many bytes; None: its sender does not say."""
        await self.require_room(size or 0)
        return await self._catalogue.claim_upload(claims, size=size)

    def limit(self, claim: UploadClaim) -> int | None:
        """Give the most bytes that a claimed upload may have."""
        return min((limit for limit in (claim.limit, self._limit) if limit is not None), default=None)

    async def store(self, claim: UploadClaim, body: CheckedBody, facts: Facts) -> None:
        """Bring the body to the node, or leave everything as it was and give the lease back.

        Raises
        ------
        Fault
            The upload failed.
        """
        job = ClaimedUpload(claim, self._catalogue, body, facts)
        await carry_out(job, self._backend, body, self._catalogue)
