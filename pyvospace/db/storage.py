"""The catalogue as a storage server may reach it: the functions of the schema ``storage_api``, nothing else."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import asyncpg

from pyvospace.db.gathering import Gathering, Question
from pyvospace.db.pool import acting
from pyvospace.db.publications import Publication, Publications
from pyvospace.db.statements import QueryFile
from pyvospace.model.claims import (
    DownloadClaim,
    RenderClaim,
    StorageState,
    StoredFile,
    UploadClaim,
)
from pyvospace.model.faults import Fault, PermissionDenied
from pyvospace.model.nodes import Param
from pyvospace.model.vocabulary import BYTE_VIEWS

if TYPE_CHECKING:
    from uuid import UUID

    from pyvospace.db.pool import Database
    from pyvospace.model.claims import EndpointClaims
    from pyvospace.model.jobs import Claimed

LEASE = 60.0
"""Seconds that a writer's lease lasts unless it is renewed."""


class _Sql(QueryFile, file="storages.sql"):
    announce: ClassVar[str]
    leave: ClassVar[str]
    current: ClassVar[str]
    claim_upload: ClassVar[str]
    claim_uploads: ClassVar[str]
    renew: ClassVar[str]
    release: ClassVar[str]
    store: ClassVar[str]
    store_together: ClassVar[str]
    claim_pull: ClassVar[str]
    reserve: ClassVar[str]
    store_pulled: ClassVar[str]
    claim_download: ClassVar[str]
    claim_downloads: ClassVar[str]
    claim_render: ClassVar[str]
    claim_version: ClassVar[str]
    claim_replica: ClassVar[str]
    set_structure: ClassVar[str]
    delivered: ClassVar[str]
    delivered_together: ClassVar[str]
    claim_sweep: ClassVar[str]
    unknown: ClassVar[str]
    note_obsolete: ClassVar[str]
    take_obsolete: ClassVar[str]


_CLAIM_UPLOAD = Question(_Sql.claim_upload, _Sql.claim_uploads)
_CLAIM_DOWNLOAD = Question(_Sql.claim_download, _Sql.claim_downloads)
_DELIVERED = Question(_Sql.delivered, _Sql.delivered_together)


def _given(row: asyncpg.Record | None) -> asyncpg.Record:
    """Give the row of a function that raises if it has none."""
    if row is None:
        raise AssertionError
    return row


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


class StorageCatalogue:
    """What `pyvospace.storage.catalogue.Catalogue` asks for, over the database."""

    def __init__(self, database: Database, *, upload_wait: float, repeat_window: float) -> None:
        self._database = database
        self._upload_wait = upload_wait
        self._repeat_window = repeat_window
        self._storage: UUID | None = None
        self._stores: dict[str, tuple[str, tuple[object, ...]]] = {}
        """Of each claim: the statement that turns its node to new bytes, and its first arguments."""
        self._uploads = Gathering(partial(database.fetch, wait=upload_wait))
        self._publications: dict[str, Publications] = {}

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
        asked = self._storage, claims.job_id, claims.user_id, attempt, LEASE, size, self._repeat_window
        try:
            row = _given(await self._uploads.ask(_CLAIM_UPLOAD, *asked))
        except asyncio.CancelledError:
            # Others were asking by the same statement: it went on to its end.
            with suppress(Fault, OSError):
                await asyncio.shield(self._database.fetchval(_Sql.release, attempt, "the storage server stopped"))
            raise
        self._stores[attempt] = _Sql.store, (self._storage, claims.job_id, claims.user_id, attempt)
        return upload_of(row, attempt, stored_of(row))

    async def claim_pull(self, job: Claimed, *, size: int | None) -> UploadClaim:
        """Check the right to write of the job's owner once more and take the writer's lease for him."""
        attempt = secrets.token_hex(16)
        asked = self._storage, job.attempt, attempt, LEASE, size, job.id
        row = await self._database.fetchrow(_Sql.claim_pull, *asked)
        self._stores[attempt] = _Sql.store_pulled, (self._storage, job.attempt, attempt)
        return upload_of(_given(row), attempt)

    async def reserve(self, claim: UploadClaim, *, size: int) -> None:
        """Have room kept, by all quotas, for bytes that came unannounced."""
        await self._database.fetchval(_Sql.reserve, claim.id, size, wait=self._upload_wait)

    async def renew(self, claim: UploadClaim) -> bool:
        """Extend the lease; False: it was lost."""
        return bool(await self._database.fetchval(_Sql.renew, claim.id, LEASE, wait=self._upload_wait))

    @asynccontextmanager
    async def transaction(self, claim: UploadClaim) -> AsyncIterator[Store]:
        """Open the transaction in which the node turns to its new bytes."""
        statement, ends = self._stores[claim.id]
        opened = Store(self._by(statement), ends, claim)
        try:
            yield opened
            if claim.discard:
                await opened.complete()
        except BaseException:
            await opened.leave(published=False)
            raise
        try:
            await opened.leave(published=True)
        finally:
            self._stores.pop(claim.id, None)

    def _by(self, statement: str) -> Publications:
        """Give the transactions by a statement."""
        found = self._publications.get(statement)
        if found is None:
            several = _Sql.store_together if statement is _Sql.store else ""
            found = Publications(self._database, statement, several, wait=self._upload_wait)
            self._publications[statement] = found
        return found

    async def release(self, claim: UploadClaim, *, reason: str) -> None:
        """Give the lease of an upload that failed back."""
        self._stores.pop(claim.id, None)
        await self._database.fetchval(_Sql.release, claim.id, reason, wait=self._upload_wait)

    async def claim_download(self, claims: EndpointClaims) -> DownloadClaim:
        """Check the right to read once more and tell where the bytes are."""
        asked = self._storage, claims.node_id, claims.job_id, claims.user_id, claims.token_id
        return _download(_given(await self._database.gathering.ask(_CLAIM_DOWNLOAD, *asked)), claims)

    async def claim_replica(self, claims: EndpointClaims) -> DownloadClaim:
        """Tell where the bytes are that another storage is to copy."""
        row = await self._database.fetchrow(_Sql.claim_replica, self._storage, claims.job_id)
        return DownloadClaim(name="copy", modified=datetime.now(UTC), **_given(row))

    async def claim_version(self, claims: EndpointClaims) -> DownloadClaim:
        """Check the right to read once more and tell where the bytes of a version are."""
        row = await self._database.fetchrow(
            _Sql.claim_version, self._storage, claims.node_id, claims.version, claims.user_id, claims.token_id
        )
        return _download(_given(row), claims)

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
        await self._database.gathering.ask(_DELIVERED, claim.job_id)

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
    """The transaction of an upload."""

    def __init__(self, publications: Publications, ends: tuple[object, ...], claim: UploadClaim) -> None:
        self._publications = publications
        self._ends = ends
        self._claim = claim
        self._publication: Publication | None = None

    async def store(self, file: StoredFile, *, shared: bool = False) -> None:
        """Point the node at `file`, mark what it had before as obsolete, complete the job.

        `shared`: what is left to do takes no longer than a moment, so that others may wait for it.
        """
        values = file.location, file.size, file.md5, file.sha256, file.content_type, file.changed, file.mode
        rest: list[tuple[str, tuple[object, ...]]] = []
        if self._claim.structured:
            claimed = self._claim.view is not None
            rest.append((_Sql.set_structure, (self._ends[0], file.location, file.structure, claimed)))
        await self._enter(Publication((*self._ends, *values, acting.get().told), rest), shared=shared)

    async def complete(self) -> None:
        """Complete the job of bytes that were dropped."""
        await self._enter(Publication((*self._ends, *(None,) * 7, acting.get().told)), shared=True)

    async def _enter(self, publication: Publication, *, shared: bool) -> None:
        self._publication = publication
        await publication.enter(self._publications.shared if shared else self._publications.own)

    async def leave(self, *, published: bool) -> None:
        """Commit, or roll back."""
        if self._publication is not None:
            await self._publication.leave(published=published)
