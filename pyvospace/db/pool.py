"""Connections: a pool that waits up to a limit, and transactions that are retried, never nested.

No task ever holds two connections: a second request for one while the first is held is a defect and raises at once,
because it is how a pool locks itself up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from pyvospace.db.connections import Connections
from pyvospace.db.errors import RETRIED, Unavailable, translated
from pyvospace.model.faults import ServiceBusy

if TYPE_CHECKING:
    from types import TracebackType

    from pyvospace.config.settings import DatabaseSettings
    from pyvospace.db.connections import Connection

log = logging.getLogger(__name__)
T = TypeVar("T")

MINIMUM_SERVER = 15
"""Oldest major version of PostgreSQL."""
_ATTEMPTS = 6
_STATEMENTS = 4
"""Statements of a transaction that is not on a tree."""
_SILENCE = 5.0
"""Seconds that we listen beyond the time at which PostgreSQL gives up by itself."""
_holding: ContextVar[bool] = ContextVar("pyvospace_holding_connection", default=False)


class UnsafeDatabaseError(Exception):
    """The database would lose what it has acknowledged, or is too old."""


class Database:
    """The catalogue, through a pool of connections."""

    def __init__(self, connections: Connections, settings: DatabaseSettings) -> None:
        self._connections = connections
        self._wait = settings.acquire_timeout
        self._statement = settings.statement_timeout
        self._tree = settings.tree_timeout

    @classmethod
    async def connect(cls, dsn: str, settings: DatabaseSettings, *, name: str = "pyvospace") -> Database:
        """Open a pool.

        Raises
        ------
        UnsafeDatabaseError
            The server is older than 15, or does not flush what it commits.
        ServiceBusy
            It cannot be reached.
        """
        options = _server_settings(settings, name)

        async def open_one() -> Connection:
            return await asyncpg.connect(dsn, server_settings=options, max_cached_statement_lifetime=0)

        database = cls(Connections(open_one, settings.pool_size), settings)
        try:
            async with database.connection() as connection:
                if settings.check_durability:
                    with translated():
                        await _check(connection)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close all connections, also those that are busy after some seconds."""
        await self._connections.close()

    def connection(self, *, wait: float | None = None, limit: float | None = None) -> Held:
        """Hold a connection for the time of an ``async with``.

        Parameters
        ----------
        wait
            Seconds to wait for one, if not as the settings say.
        limit
            Seconds to hold it, if it is for more than one statement. PostgreSQL ends by itself what takes too long;
            this is for a connection that nobody answers any more.

        Raises
        ------
        ServiceBusy
            On entering: none became free in time. On leaving: the database does not answer.
        """
        return Held(
            self._connections,
            self._wait if wait is None else wait,
            (self._statement if limit is None else limit) + _SILENCE,
        )

    async def fetchrow(self, sql: str, *args: object, subject: object = "") -> asyncpg.Record | None:
        """Run one statement by itself and give its first row."""
        async with self.connection() as connection:
            with translated(subject):
                return await connection.fetchrow(sql, *args)

    async def fetch(self, sql: str, *args: object, subject: object = "") -> list[asyncpg.Record]:
        """Run one statement by itself and give its rows; only for statements that say how many at the most."""
        async with self.connection() as connection:
            with translated(subject):
                return await connection.fetch(sql, *args)

    async def fetchval(self, sql: str, *args: object, wait: float | None = None, subject: object = "") -> Any:
        """Run one statement by itself and give the first column of its first row."""
        async with self.connection(wait=wait) as connection:
            with translated(subject):
                return await connection.fetchval(sql, *args)

    async def transact(
        self, work: Callable[[Connection], Awaitable[T]], *, tree: bool = False, subject: object = ""
    ) -> T:
        """Run `work` in a transaction, and again if it lost against another one.

        Parameters
        ----------
        work
            Runs statements on the connection and nothing else: it may be run several times.
        tree
            It changes whole trees, and may take ``database.tree_timeout`` for that.
        """
        limit = self._tree if tree else _STATEMENTS * self._statement
        for attempt in range(_ATTEMPTS):
            try:
                async with self.connection(limit=limit) as connection:
                    with translated(subject):
                        return await self._run(connection, work, tree=tree)
            except ServiceBusy as busy:
                if not isinstance(busy.__cause__, RETRIED) or attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(0.01 * 2**attempt)
        raise AssertionError

    async def _run(self, connection: Connection, work: Callable[[Connection], Awaitable[T]], *, tree: bool) -> T:
        transaction = connection.transaction()
        await transaction.start()
        try:
            if tree:
                await connection.execute(
                    "select set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true)",
                    f"{self._tree:g}s",
                )
            result = await work(connection)
        except Exception:
            # Not if we were cancelled: a statement is still running then, and the connection is not used again.
            await transaction.rollback()
            raise
        await transaction.commit()
        return result


class Held:
    """A connection for the time of an ``async with``: a class, since every request goes through here."""

    __slots__ = ("_connection", "_connections", "_limit", "_mark", "_wait")

    def __init__(self, connections: Connections, wait: float, limit: float) -> None:
        self._connections = connections
        self._wait = wait
        self._limit = asyncio.timeout(limit)

    async def __aenter__(self) -> Connection:
        if _holding.get():
            raise RuntimeError("a task that holds a connection asks for another")
        with translated():
            try:
                self._connection = await self._connections.acquire(self._wait)
            except TimeoutError:  # an OSError too, but it does not mean that the database is away
                raise ServiceBusy(f"no connection to the database became free in {self._wait:g} s") from None
        self._mark = _holding.set(True)
        await self._limit.__aenter__()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _holding.reset(self._mark)
        # Who was cancelled, or waited in vain, may have left a statement running.
        finished = error is None or (isinstance(error, Exception) and not isinstance(error, TimeoutError | Unavailable))
        self._connections.release(self._connection, usable=finished)
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            raise Unavailable("the database does not answer; try again") from None


def _server_settings(settings: DatabaseSettings, name: str) -> dict[str, str]:
    return {
        "application_name": name,
        "statement_timeout": f"{settings.statement_timeout:g}s",
        "lock_timeout": f"{settings.lock_timeout:g}s",
        "idle_in_transaction_session_timeout": "60s",
        "jit": "off",
        # Every statement finds its rows by index: planning costs more than it gains. A plan may be made while the
        # tables are still empty, and is kept: nothing must tempt the planner to read them whole.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "timezone": "UTC",
    }


async def _check(connection: Connection) -> None:
    version = int(await connection.fetchval("show server_version_num")) // 10000
    if version < MINIMUM_SERVER:
        raise UnsafeDatabaseError(f"PostgreSQL {version} is too old: {MINIMUM_SERVER} is the oldest that will do")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if await connection.fetchval(f"show {setting}") == "off":
            raise UnsafeDatabaseError(f"the database runs with {setting} = off and would lose what it acknowledged")
