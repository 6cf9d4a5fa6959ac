"""Reads from a replica that are never older than the primary's own (hot standby by streaming replication).

Before a read the primary is asked how far its log is flushed: whatever anybody was told to be done is in there, rights
that were taken away as well. One such question serves all reads that wait when it is sent, and costs the primary less
than any read. The read goes to the replica when that has replayed as much. If it has not in time, or is away, or
follows somebody else, the primary answers. See decision 51.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

import asyncpg

from pyvospace.db.errors import Unavailable, translated
from pyvospace.db.gathering import Gathering
from pyvospace.db.pool import Database, PooledConnection, Reader, open_pool, server_settings
from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import ServiceBusy
from pyvospace.model.together import Together

if TYPE_CHECKING:
    from pyvospace.config.settings import DatabaseSettings
    from pyvospace.db.pool import Connection

log = logging.getLogger(__name__)
T = TypeVar("T")


class _Sql(QueryFile, file="replica.sql"):
    flushed: ClassVar[str]
    replayed: ClassVar[str]
    timeline: ClassVar[str]


_PROBE: Final = 1.0
"""Seconds between two looks at the replica, and for an answer of it, or for a connection."""
_READERS: Final = 10_000
"""Most for whom the primary is asked at once."""
_PAUSES: Final = (0.001, 0.01)
"""Seconds between two looks of who waits for it to catch up: the first, and the longest."""


class _UnfitError(Exception):
    """The replica is behind, or follows somebody else."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log of a primary."""

    timeline: int
    lsn: int


class _Connection(PooledConnection):  # not generic at run time
    """A connection to the replica that remembers what was there already; after a crash there may be less."""

    timeline = 0
    lsn = -1

    async def catch_up(self, position: Position, wait: float) -> None:
        """Wait until the replica has replayed the log up to a position.

        Raises
        ------
        _UnfitError
            It has not in time, or does not follow that primary.
        """
        if self.timeline != position.timeline:
            known = await self.fetchval(_Sql.timeline)
            if known != position.timeline:
                raise _UnfitError(f"it is on timeline {known}, the primary on {position.timeline}")
            self.timeline = known
        clock = asyncio.get_running_loop().time
        until, (pause, longest) = clock() + wait, _PAUSES
        while self.lsn < position.lsn:
            replayed = await self.fetchval(_Sql.replayed)
            if replayed is None:
                raise _UnfitError("it is no replica any more")
            self.lsn = replayed
            if replayed < position.lsn:
                if clock() > until:
                    raise _UnfitError(f"it is {position.lsn - replayed} bytes of the log behind")
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)


class Replica:
    """Sends reads to the replica while it is fit for them, else to the primary."""

    def __init__(self, primary: Database, follower: Database, *, wait: float) -> None:
        self._primary = primary
        self._follower = follower
        self._wait = wait
        self._flushed: Together[None, Position] = Together(self._ask, size=_READERS, groups=1)
        self._busy: set[Connection] = set()
        self.gathering = Gathering(self.fetch)
        self.fit = False
        """It was there at the last look, and had caught up."""

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """Run a statement and give its first row."""
        return await self._read(lambda source: source.fetchrow(sql, *args))

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Run a statement and give its rows."""
        return await self._read(lambda source: source.fetch(sql, *args))

    async def fetchval(self, sql: str, *args: object) -> Any:
        """Run a statement and give the first column of its first row."""
        return await self._read(lambda source: source.fetchval(sql, *args))

    async def _ask(self, readers: Sequence[None]) -> Sequence[Position]:
        """Ask how far the primary has got: this covers what was acknowledged before any of the readers came."""
        [row] = await self._primary.fetch(_Sql.flushed)
        return [Position(row["timeline"], row["lsn"])] * len(readers)

    async def _read(self, read: Callable[[Connection | Reader], Awaitable[T]]) -> T:
        if self.fit:
            position = await self._flushed.do(None)
            try:
                return await self._read_there(position, read)
            except (_UnfitError, Unavailable) as error:
                self._leave(error)
            except ServiceBusy as busy:  # all connections are in use, or the primary has removed what was being read
                if isinstance(busy.__cause__, asyncpg.QueryCanceledError):
                    raise
        return await read(self._primary)

    async def _read_there(self, position: Position, read: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._follower.statement(wait=_PROBE) as connection:
            self._busy.add(connection)
            try:
                with translated():
                    await cast("_Connection", connection).catch_up(position, self._wait)  # what it stands for, that is
                    return await read(connection)
            finally:
                self._busy.discard(connection)

    def _leave(self, error: Exception) -> None:
        if self.fit:
            log.warning("the replica is not read from: %s", error.detail if isinstance(error, ServiceBusy) else error)
        self.fit = False

    async def follow(self) -> None:
        """Look at the replica again and again, until cancelled: reads that it does not answer any more are cut."""
        while True:
            try:
                with translated():
                    await self._look()
            except _UnfitError as error:
                self._leave(error)
            except ServiceBusy as error:
                self._leave(error)
                await self._cut()
            await asyncio.sleep(_PROBE)

    async def _look(self) -> None:
        """Look until something is wrong."""
        async with asyncio.timeout(_PROBE):
            connection = cast("_Connection", await self._follower.connect_alone())
        try:
            while True:
                connection.lsn = -1  # it is to say something though nothing may have happened
                async with asyncio.timeout(_PROBE + self._wait):
                    await connection.catch_up(await self._flushed.do(None), self._wait)
                if not self.fit:
                    log.info("the replica is read from")
                self.fit = True
                await asyncio.sleep(_PROBE)
        finally:
            connection.terminate()

    async def _cut(self) -> None:
        for connection in list(self._busy):
            connection.terminate()
        await self._follower.forget_connections()


@contextlib.asynccontextmanager
async def attached(database: Database, settings: DatabaseSettings, *, name: str) -> AsyncIterator[None]:
    """Let the readers of a database read from the replica that the settings name, if they do."""
    if settings.replica_dsn is None:
        yield
        return
    dsn, said = settings.replica_dsn.get_secret_value(), server_settings(settings, f"{name} reading")
    pool = await open_pool(dsn, settings, said, connection_class=_Connection)

    async def alone() -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(dsn, server_settings=said, connection_class=_Connection)

    follower = Database.of(pool, alone, settings)
    replica = Replica(database, follower, wait=settings.replica_wait)
    following = asyncio.create_task(replica.follow())
    database.reader = replica
    try:
        yield
    finally:
        database.reader = database
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await follower.close()
