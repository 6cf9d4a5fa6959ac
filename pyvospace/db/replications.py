"""Copies that a storage is to make of bytes elsewhere: functions of the schema ``storage_api``, nothing else."""

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Final

from pyvospace.db.errors import translated
from pyvospace.db.publications import publishing
from pyvospace.db.statements import QueryFile
from pyvospace.model.claims import Place, Replication
from pyvospace.model.faults import InternalFault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.claims import StoredFile, UploadClaim

LEASE: Final = 30.0
"""Seconds that a copy stays with a server that is silent."""


class _Sql(QueryFile, file="replications.sql"):
    claim: ClassVar[str]
    renew: ClassVar[str]
    release: ClassVar[str]
    store: ClassVar[str]
    signing_key: ClassVar[str]


class PostgresReplications:
    """What `pyvospace.storage.replication.Replications` asks for, over the database.

    Parameters
    ----------
    storage
        Whose servers ask.
    """

    def __init__(self, database: Database, storage: UUID, *, upload_wait: float) -> None:
        self._database = database
        self._storage = storage
        self._wait = upload_wait
        self._done: dict[str, int] = {}

    async def claim(self) -> Replication | None:
        """Take a copy that is to be made."""
        attempt = secrets.token_hex(16)
        row = await self._database.fetchrow(_Sql.claim, self._storage, attempt, LEASE)
        if row is None:
            return None
        self._done[attempt] = 0
        places = tuple(Place(*one) for one in zip(row["urls"], row["storages"], strict=True))
        return Replication(
            id=attempt, lease=LEASE, size=row["size"], md5=row["md5"], sha256=row["sha256"], places=places
        )

    def advance(self, attempt: str, done: int) -> None:
        """Note how many bytes have come."""
        self._done[attempt] = done

    async def signing_key(self) -> tuple[str, bytes]:
        """Give the key that signs endpoints of other storages."""
        row = await self._database.fetchrow(_Sql.signing_key)
        if row is None:
            raise InternalFault("there is no key that signs endpoints")
        return row["id"], row["secret"]

    async def reserve(self, claim: UploadClaim, *, size: int) -> None:
        """Do nothing: copies are nobody's usage."""

    async def renew(self, claim: UploadClaim) -> bool:
        """Extend the lease, and tell how far the copy is."""
        done = self._done.get(claim.id, 0)
        return bool(await self._database.fetchval(_Sql.renew, self._storage, claim.id, LEASE, done, wait=self._wait))

    @asynccontextmanager
    async def transaction(self, claim: UploadClaim) -> AsyncIterator[_Store]:
        """Open the transaction in which the copy is entered."""
        async with publishing(self._database, wait=self._wait) as connection:
            yield _Store(connection, self._storage, claim)
        self._done.pop(claim.id, None)

    async def release(self, claim: UploadClaim, *, reason: str) -> None:
        """Give the copy up; another attempt is made later."""
        self._done.pop(claim.id, None)
        await self._database.fetchval(_Sql.release, self._storage, claim.id, reason, wait=self._wait)


class _Store:
    """The open transaction of a copy."""

    def __init__(self, connection: Connection, storage: UUID, claim: UploadClaim) -> None:
        self._connection = connection
        self._ends = storage, claim.id

    async def store(self, file: StoredFile, *, shared: bool = False) -> None:
        """Enter the copy."""
        del shared  # nobody waits for it
        with translated():
            await self._connection.execute(_Sql.store, *self._ends, file.location, file.size, file.sha256)
