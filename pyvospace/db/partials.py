"""Uploads in parts as a storage server may ask the catalogue for them: functions of the schema ``storage_api``."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.db.storage import LEASE, StorageCatalogue, Store, stored_of, upload_of
from pyvospace.model.claims import UploadClaim
from pyvospace.model.faults import NotFound
from pyvospace.model.partials import Partial, Segment

if TYPE_CHECKING:
    from uuid import UUID

    from pyvospace.config.partials import PartialSettings
    from pyvospace.db.pool import Database
    from pyvospace.model.claims import EndpointClaims
    from pyvospace.model.partials import NewPartial, Piece


class _Sql(QueryFile, file="partials.sql"):
    begin: ClassVar[str]
    find: ClassVar[str]
    claim_segment: ClassVar[str]
    renew_segment: ClassVar[str]
    release_segment: ClassVar[str]
    reserve_segment: ClassVar[str]
    store_segment: ClassVar[str]
    revert: ClassVar[str]
    drop: ClassVar[str]
    drop_expired: ClassVar[str]
    segments: ClassVar[str]
    claim_whole: ClassVar[str]
    release_whole: ClassVar[str]
    store_whole: ClassVar[str]


class PostgresPartials(StorageCatalogue):
    """What `pyvospace.storage.partials.catalogue.PartialCatalogue` asks for, over the database.

    Parameters
    ----------
    storage
        Whose servers ask.
    """

    def __init__(
        self,
        database: Database,
        storage: UUID,
        settings: PartialSettings,
        *,
        upload_wait: float,
        repeat_window: float,
    ) -> None:
        super().__init__(database, upload_wait=upload_wait, repeat_window=repeat_window)
        self._storage = storage
        self._settings = settings
        self._pieces: dict[str, str] = {}
        """Of each claim of a segment: the upload."""

    async def begin(self, claims: EndpointClaims, name: str, new: NewPartial) -> None:
        """Check the right to write once more, and begin an upload."""
        await self._database.fetchval(
            _Sql.begin,
            self._storage,
            claims.job_id,
            claims.user_id,
            name,
            new.size,
            new.content_type,
            new.metadata,
            new.part,
            None if new.parts is None else list(new.parts),
            new.concat,
            self._settings.life,
            self._repeat_window,
            self._settings.user_bytes,
            self._settings.user_uploads,
        )

    async def find(self, name: str) -> Partial:
        """Tell what is known of an upload, with the right to write checked once more."""
        row = await self._database.fetchrow(_Sql.find, self._storage, name)
        if row is None:  # dropped while we waited for its job
            raise NotFound("there is no such upload, or not any more")
        return Partial(id=name, **row)

    async def claim_segment(self, piece: Piece) -> UploadClaim:
        """Check the right to write once more, and let a request write behind what is there."""
        attempt = secrets.token_hex(16)
        row = await self._database.fetchrow(
            _Sql.claim_segment,
            self._storage,
            piece.partial,
            attempt,
            LEASE,
            piece.offset,
            piece.told,
            piece.size,
            self._settings.life,
            self._settings.user_bytes,
            wait=self._upload_wait,
        )
        if row is None:
            raise AssertionError
        ends = self._storage, piece.partial, attempt, piece.request, self._settings.life, piece.hashed
        self._stores[attempt] = _Sql.store_segment, ends
        self._pieces[attempt] = piece.partial
        return UploadClaim(
            id=attempt, lease=LEASE, limit=row["size_limit"], room=row["room"], refusal=row["words"] or ""
        )

    async def claim_whole(self, partial: Partial) -> UploadClaim:
        """Take the writer's lease of the node for an upload whose bytes are all there."""
        attempt = secrets.token_hex(16)
        row = await self._database.fetchrow(
            _Sql.claim_whole,
            self._storage,
            partial.id,
            attempt,
            LEASE,
            self._repeat_window,
            partial.job_id,
            wait=self._upload_wait,
        )
        if row is None:
            raise AssertionError
        self._stores[attempt] = _Sql.store_whole, (self._storage, partial.id, attempt, self._settings.life)
        return upload_of(row, attempt, stored_of(row))

    @asynccontextmanager
    async def transaction(self, claim: UploadClaim) -> AsyncIterator[Store]:
        """Open the transaction in which a segment, or the whole, is entered."""
        async with super().transaction(claim) as opened:
            yield opened
        self._pieces.pop(claim.id, None)

    async def reserve(self, claim: UploadClaim, *, size: int) -> None:
        """Have room kept for bytes that came unannounced."""
        await self._database.fetchval(
            _Sql.reserve_segment, self._storage, self._pieces[claim.id], claim.id, size, wait=self._upload_wait
        )

    async def renew(self, claim: UploadClaim) -> bool:
        """Extend the lease; False: it was lost."""
        if claim.id not in self._pieces:
            return await super().renew(claim)
        name = self._pieces[claim.id]
        return bool(await self._database.fetchval(_Sql.renew_segment, self._storage, name, claim.id, LEASE))

    async def release(self, claim: UploadClaim, *, reason: str) -> None:
        """Give the lease of what failed back."""
        self._stores.pop(claim.id, None)
        name = self._pieces.pop(claim.id, None)
        if name is None:
            await self._database.fetchval(_Sql.release_whole, claim.id, reason, wait=self._upload_wait)
        else:
            await self._database.fetchval(_Sql.release_segment, self._storage, name, claim.id, wait=self._upload_wait)

    async def segments(self, partial: Partial) -> Sequence[Segment]:
        """Tell where the bytes of a whole are, in their order."""
        return [Segment(*row) for row in await self._database.fetch(_Sql.segments, self._storage, partial.id)]

    async def revert(self, partial: Partial) -> int:
        """Take back what the last request has brought; gives the bytes that are left."""
        return int(await self._database.fetchval(_Sql.revert, self._storage, partial.id))

    async def drop(self, name: str) -> None:
        """Forget an upload that will not be complete."""
        await self._database.fetchval(_Sql.drop, self._storage, name)

    async def drop_expired(self, *, limit: int) -> int:
        """Forget uploads whose time is over, up to `limit`; gives how many these were."""
        return int(await self._database.fetchval(_Sql.drop_expired, self._storage, limit))
