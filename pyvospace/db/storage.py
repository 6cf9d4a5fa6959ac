"""The catalogue as a storage server may reach it: the functions of the schema ``storage_api``, nothing else."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Final

import asyncpg

from pyvospace.db.errors import translated
from pyvospace.db.pool import acting
from pyvospace.db.statements import QueryFile
from pyvospace.model.claims import (
    DownloadClaim,
    OutcomeUnknownError,
    RenderClaim,
    StorageState,
    StoredFile,
    UploadClaim,
)
from pyvospace.model.faults import PermissionDenied
from pyvospace.model.nodes import Param
from pyvospace.model.vocabulary import BYTE_VIEWS

if TYPE_CHECKING:
    from uuid import UUID

    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.claims import EndpointClaims
    from pyvospace.model.jobs import Claimed

LEASE = 60.0
"""Seconds that a writer's lease lasts unless it is renewed."""


class _Sql(QueryFile, file="storages.sql"):
    announce: ClassVar[str]
    leave: ClassVar[str]
    current: ClassVar[str]
    claim_upload: ClassVar[str]
    renew: ClassVar[str]
    release: ClassVar[str]
    store: ClassVar[str]
    claim_pull: ClassVar[str]
    reserve: ClassVar[str]
    store_pulled: ClassVar[str]
    claim_download: ClassVar[str]
    claim_render: ClassVar[str]
    claim_version: ClassVar[str]
    claim_replica: ClassVar[str]
    set_structure: ClassVar[str]
    delivered: ClassVar[str]
    claim_sweep: ClassVar[str]
    unknown: ClassVar[str]
    note_obsolete: ClassVar[str]
    take_obsolete: ClassVar[str]


def stored_of(row: asyncpg.Record | None) -> StoredFile | None:
    """Read what a node holds; None: nothing."""
    if row is None or row["location"] is None:
        return None
    return StoredFile(
        location=row["location"],
        size=row["size"],
        md5=row["md5"],
        sha256=row["sha256"],
        content_type=row["content_type"],
    )


def _download(row: asyncpg.Record, claims: EndpointClaims) -> DownloadClaim:
    return DownloadClaim(
        name=row["name"],
        modified=row["modified"],
        location=row["location"],
        size=row["size"],
        md5=row["md5"],
        sha256=row["sha256"],
        content_type=row["content_type"],
        job_id=claims.job_id if row["waiting"] else None,
    )


def upload_of(row: asyncpg.Record, attempt: str, current: StoredFile | None = None) -> UploadClaim:
    """Read the claim of an attempt."""
    view = None if row["view"] in BYTE_VIEWS else row["view"]
    return UploadClaim(
        id=attempt,
        lease=LEASE,
        limit=row["size_limit"],
        room=row["room"],
        refusal=row["words"] or "",
        discard=row["discard"],
        current=current,
        structured=row["structured"] or view is not None,
        view=view,
    )


_LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""The driver calls it internal if a statement comes while it reads the last words of a server that dies."""


@asynccontextmanager
async def publishing(database: Database, *, wait: float) -> AsyncIterator[Connection]:
    """Open a transaction in which bytes get a name.

    Raises
    ------
    OutcomeUnknownError
        On leaving: the connection was lost while the commit was on its way.
    """
    async with database.connection(wait=wait) as connection:
        transaction = connection.transaction()
        with translated():
            await transaction.start()
        try:
            yield connection
        except BaseException:
            # What went wrong matters, not that a dead connection cannot even roll back.
            with suppress(asyncpg.PostgresError, *_LOST):
                await transaction.rollback()
            raise
        try:
            await transaction.commit()
        except (asyncpg.PostgresConnectionError, *_LOST) as error:
            raise OutcomeUnknownError from error
        except asyncpg.PostgresError:
            with translated():
                raise


class StorageCatalogue:
    """What `pyvospace.storage.catalogue.Catalogue` asks for, over the database."""

    def __init__(self, database: Database, *, upload_wait: float, repeat_window: float) -> None:
        self._database = database
        self._upload_wait = upload_wait
        self._repeat_window = repeat_window
        self._storage: UUID | None = None
        self._stores: dict[str, tuple[str, tuple[object, ...]]] = {}
        """Of each claim: the statement that turns its node to new bytes, and its first arguments."""

    async def ready(self) -> None:
        """Return if the database answers."""
        await self._database.fetchval("select 1")

    async def announce(self, storage: StorageState) -> None:
        """Enter or refresh the row of this storage."""
        await self._database.fetchval(
            _Sql.announce,
            storage.id,
            storage.name,
            storage.url,
            storage.free,
            storage.total,
            list(storage.labels),
            storage.cold,
            storage.site,
            storage.busy,
        )
        self._storage = storage.id

    async def leave(self, url: str) -> None:
        """Say that the server at this URL goes."""
        await self._database.fetchval(_Sql.leave, self._storage, url)

    async def current(self, claims: EndpointClaims) -> StoredFile | None:
        """Tell what the node of an upload endpoint has now."""
        return stored_of(await self._database.fetchrow(_Sql.current, self._storage, claims.job_id, claims.user_id))

    async def claim_upload(self, claims: EndpointClaims, *, size: int | None) -> UploadClaim:
        """Check the right to write once more and take the writer's lease."""
        attempt = secrets.token_hex(16)
        row = await self._database.fetchrow(
            _Sql.claim_upload,
            self._storage,
            claims.job_id,
            claims.user_id,
            attempt,
            LEASE,
            size,
            self._repeat_window,
            wait=self._upload_wait,
        )
        if row is None:
            raise AssertionError
        self._stores[attempt] = _Sql.store, (self._storage, claims.job_id, claims.user_id, attempt)
        return upload_of(row, attempt, stored_of(row))

    async def claim_pull(self, job: Claimed, *, size: int | None) -> UploadClaim:
        """Check the right to write of the job's owner once more and take the writer's lease for him."""
        attempt = secrets.token_hex(16)
        row = await self._database.fetchrow(_Sql.claim_pull, self._storage, job.attempt, attempt, LEASE, size, job.id)
        if row is None:
            raise AssertionError
        self._stores[attempt] = _Sql.store_pulled, (self._storage, job.attempt, attempt)
        return upload_of(row, attempt)

    async def reserve(self, claim: UploadClaim, *, size: int) -> None:
        """Have room kept, by all quotas, for bytes that came unannounced."""
        await self._database.fetchval(_Sql.reserve, claim.id, size, wait=self._upload_wait)

    async def renew(self, claim: UploadClaim) -> bool:
        """Extend the lease; False: it was lost."""
        return bool(await self._database.fetchval(_Sql.renew, claim.id, LEASE, wait=self._upload_wait))

    @asynccontextmanager
    async def transaction(self, claim: UploadClaim) -> AsyncIterator[Store]:
        """Open the transaction in which the node turns to its new bytes."""
        async with publishing(self._database, wait=self._upload_wait) as connection:
            opened = Store(connection, *self._stores[claim.id], claim)
            yield opened
            if claim.discard:
                await opened.complete()
        self._stores.pop(claim.id, None)

    async def release(self, claim: UploadClaim, *, reason: str) -> None:
        """Give the lease of an upload that failed back."""
        self._stores.pop(claim.id, None)
        await self._database.fetchval(_Sql.release, claim.id, reason, wait=self._upload_wait)

    async def claim_download(self, claims: EndpointClaims) -> DownloadClaim:
        """Check the right to read once more and tell where the bytes are."""
        row = await self._database.fetchrow(
            _Sql.claim_download, self._storage, claims.node_id, claims.job_id, claims.user_id, claims.token_id
        )
        if row is None:
            raise AssertionError
        return _download(row, claims)

    async def claim_replica(self, claims: EndpointClaims) -> DownloadClaim:
        """Tell where the bytes are that another storage is to copy."""
        row = await self._database.fetchrow(_Sql.claim_replica, self._storage, claims.job_id)
        if row is None:
            raise AssertionError
        return DownloadClaim(name="copy", modified=datetime.now(UTC), **row)

    async def claim_version(self, claims: EndpointClaims) -> DownloadClaim:
        """Check the right to read once more and tell where the bytes of a version are."""
        row = await self._database.fetchrow(
            _Sql.claim_version, self._storage, claims.node_id, claims.version, claims.user_id, claims.token_id
        )
        if row is None:
            raise AssertionError
        return _download(row, claims)

    async def claim_render(self, claims: EndpointClaims) -> RenderClaim:
        """Check the right to read once more and tell which view of which bytes is wanted."""
        row = await self._database.fetchrow(
            _Sql.claim_render, self._storage, claims.node_id, claims.job_id, claims.user_id, claims.token_id
        )
        if row is None or row["view"] is None:
            raise PermissionDenied("this endpoint was withdrawn; negotiate again")
        return RenderClaim(
            download=_download(row, claims),
            structure=row["structure"],
            view=row["view"],
            params=tuple(Param(uri, value) for uri, value in json.loads(row["params"])),
        )

    async def delivered(self, claim: DownloadClaim) -> None:
        """Complete the job that waited for this delivery."""
        await self._database.fetchval(_Sql.delivered, claim.job_id)

    async def claim_sweep(self, *, interval: float) -> bool:
        """Tell whether this process is to sweep."""
        return bool(await self._database.fetchval(_Sql.claim_sweep, self._storage, interval))

    async def unknown(self, locations: Sequence[str], *, margin: float) -> Sequence[str]:
        """Pick the locations that nothing has named for a while."""
        rows = await self._database.fetch(_Sql.unknown, self._storage, list(locations), margin)
        return [row[0] for row in rows]

    async def note_obsolete(self, locations: Sequence[str]) -> None:
        """Let the next sweep take these locations."""
        await self._database.fetchval(_Sql.note_obsolete, self._storage, list(locations))

    async def take_obsolete(self, *, grace: float, limit: int) -> Sequence[str]:
        """Delete rows of obsolete bytes and tell their locations."""
        return [row[0] for row in await self._database.fetch(_Sql.take_obsolete, self._storage, grace, limit)]


class Store:
    """The open transaction of an upload."""

    def __init__(self, connection: Connection, statement: str, ends: tuple[object, ...], claim: UploadClaim) -> None:
        self._connection = connection
        self._statement = statement
        self._ends = ends
        self._claim = claim

    async def store(self, file: StoredFile) -> None:
        """Point the node at `file`, mark what it had before as obsolete, complete the job."""
        await self._store(file.location, file.size, file.md5, file.sha256, file.content_type, file.changed, file.mode)
        if self._claim.structured:
            claimed = self._claim.view is not None
            with translated():
                await self._connection.execute(
                    _Sql.set_structure, self._ends[0], file.location, file.structure, claimed
                )

    async def complete(self) -> None:
        """Complete the job of bytes that were dropped."""
        await self._store(*(None,) * 7)

    async def _store(self, *values: object) -> None:
        with translated():
            await self._connection.execute(self._statement, *self._ends, *values, acting.get().told)
