"""Connections: a pool that waits up to a limit, and transactions that are retried, never nested.

No task ever holds two connections: a second request for one while the first is held is a defect and raises at once,
because it is how a pool locks itself up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import asyncpg

from pyvospace.db import poolers
from pyvospace.db.errors import run_again, translated
from pyvospace.db.gathering import Gathering
from pyvospace.db.holding import Held, Holder
from pyvospace.model.callers import SERVICE, Caller

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from pyvospace.config.settings import DatabaseSettings

    Connection = PoolConnectionProxy[asyncpg.Record]

T = TypeVar("T")
Alone = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]

MINIMUM_SERVER = 15
"""Oldest major version of PostgreSQL."""
_MARGIN = 5.0
"""Seconds after which a statement that the server should have stopped is given up by us."""
_TRANSACTION = 90.0
"""Seconds that a transaction may take, those of whole trees aside."""
_STATEMENTS = 100
"""Prepared statements that a connection keeps."""
_LOCKED = 0.5
"""Share of the time of a statement on whole trees that it may wait for others."""
_STEPS = 3
"""Statements of a tree operation that may each take its time-out."""
acting: ContextVar[Caller] = ContextVar("pyvospace_acting", default=SERVICE)
"""Who brings bytes to a storage server, for the audit log."""


class UnsafeDatabaseError(Exception):
    """The database would lose what it has acknowledged, is too old, or is a pooler that nobody told of."""


class PooledConnection(asyncpg.Connection):  # not generic at run time
    """A connection that forgets nothing when it goes back to the pool: nothing of ours outlives a transaction."""

    def get_reset_query(self) -> str:
        """Give the statement that is sent when it goes back, which is after failures only.

        The driver has a statement parsed before it looks at the values; if these do not fit, or if who asked is
        cancelled, the server still waits for what is to be done with it. Its time-out would come over somebody else's
        statement later. Any statement ends that.
        """
        return "select"


class Reader(Protocol):
    """Where single statements that only read are sent: the database, or what asks a replica of it."""

    gathering: Gathering
    """What is asked by several at the same time."""

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """Run a statement and give its first row."""
        ...

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Run a statement and give its rows."""
        ...

    async def fetchval(self, sql: str, *args: object) -> Any:
        """Run a statement and give the first column of its first row."""
        ...


class Database:
    """The catalogue, through a pool of connections."""

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        alone: Alone,
        wait: float,
        statement_timeout: float,
        tree_timeout: float,
        share: int,
    ) -> None:
        self._pool = pool
        self._holder = Holder(pool, most=pool.get_max_size(), share=share)
        self._alone = alone
        self._wait = wait
        self._statement = statement_timeout + _MARGIN
        self._tree_timeout = tree_timeout
        self.gathering = Gathering(self.fetch)
        self.reader: Reader = self

    @classmethod
    async def connect(
        cls,
        dsn: str,
        settings: DatabaseSettings,
        *,
        direct: str | None = None,
        name: str = "pyvospace",
        acting: Caller = SERVICE,
    ) -> Database:
        """Open a pool.

        Parameters
        ----------
        direct
            The DSN of PostgreSQL itself, if `dsn` is that of a pooler in transaction mode.
        acting
            Who changes users and what belongs to them, for the audit log, unless a transaction says who it is for;
            behind a pooler it is the role.

        Raises
        ------
        UnsafeDatabaseError
            The server is older than 15, or does not flush what it commits, or is a pooler though `direct` is not given.
        ServiceBusy
            It cannot be reached.
        """
        with translated():
            defaults = await poolers.set_defaults(direct, session_settings(settings)) if direct else {}
            pool = await open_pool(dsn, settings, server_settings(settings, name, acting), pooler=direct is not None)
            await _check_or_close(pool, defaults, durability=settings.check_durability)

        async def alone() -> asyncpg.Connection[asyncpg.Record]:
            return await asyncpg.connect(
                direct or dsn, server_settings=server_settings(settings, f"{name} listening", acting)
            )

        return cls.of(pool, alone, settings)

    @classmethod
    def of(cls, pool: asyncpg.Pool[asyncpg.Record], alone: Alone, settings: DatabaseSettings) -> Self:
        """Take what the settings say of a pool."""
        return cls(
            pool,
            alone=alone,
            wait=settings.acquire_timeout,
            statement_timeout=settings.statement_timeout,
            tree_timeout=settings.tree_timeout,
            share=max(1, int(settings.pool_size * settings.client_share)),
        )

    def connections(self) -> dict[str, int]:
        """Tell how many connections of the pool are busy and idle, and how many there may be."""
        idle = self._pool.get_idle_size() + len(self._holder.idle)
        return {"busy": self._pool.get_size() - idle, "idle": idle, "most": self._pool.get_max_size()}

    async def connect_alone(self) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection that is not of the pool, for who listens; errors are the driver's own."""
        return await self._alone()

    async def forget_connections(self) -> None:
        """Use none of the connections that there are any more."""
        await self._pool.expire_connections()
        await self._holder.forget()

    async def close(self) -> None:
        """Close all connections, also those that are busy after some seconds."""
        try:
            async with asyncio.timeout(5):
                await self._holder.close()
                await self._pool.close()
        except (TimeoutError, asyncpg.PostgresError, OSError):
            self._pool.terminate()

    def connection(self, *, wait: float | None = None, limit: float = _TRANSACTION) -> Held:
        """Hold a connection, waiting for one up to `wait` seconds, for the time of an ``async with``.

        After `limit` seconds the database is taken to be dead: the connection is cut, whatever it waits for.

        Raises
        ------
        ServiceBusy
            On entering: none became free in time.
        """
        return self._holder.hold(self._wait if wait is None else wait, limit)

    def statement(self, *, wait: float | None = None) -> Held:
        """Hold a connection as `connection` does, for as long as a single statement may take."""
        return self.connection(wait=wait, limit=self._statement)

    async def fetchrow(
        self, sql: str, *args: object, wait: float | None = None, subject: object = ""
    ) -> asyncpg.Record | None:
        """Run one statement by itself, again if it lost against others, and give its first row."""
        return await self._again(partial(self.statement, wait=wait), lambda one: one.fetchrow(sql, *args), subject)

    async def fetch(
        self, sql: str, *args: object, wait: float | None = None, subject: object = ""
    ) -> list[asyncpg.Record]:
        """Likewise, and give its rows; only for statements that say how many at the most."""
        return await self._again(partial(self.statement, wait=wait), lambda one: one.fetch(sql, *args), subject)

    async def fetchval(self, sql: str, *args: object, wait: float | None = None, subject: object = "") -> Any:
        """Likewise, and give the first column of its first row."""
        return await self._again(partial(self.statement, wait=wait), lambda one: one.fetchval(sql, *args), subject)

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
        limit = _STEPS * self._tree_timeout if tree else _TRANSACTION
        return await self._again(
            partial(self.connection, limit=limit), lambda one: self._run(one, work, tree=tree), subject
        )

    async def _again(self, hold: Callable[[], Held], work: Callable[[Connection], Awaitable[T]], subject: object) -> T:
        async def once() -> T:
            async with hold() as connection:
                with translated(subject):
                    return await work(connection)

        return await run_again(once)

    async def _run(self, connection: Connection, work: Callable[[Connection], Awaitable[T]], *, tree: bool) -> T:
        async with connection.transaction():
            if tree:
                await connection.execute(
                    "select set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true)",
                    f"{self._tree_timeout:g}s",
                    f"{1000 * _LOCKED * self._tree_timeout:.0f}ms",
                )
            return await work(connection)


async def tell_who_acts(connection: Connection, caller: Caller) -> None:
    """Tell the triggers of the audit log, until the transaction ends, who changes users, quotas and the like."""
    await connection.execute("select set_config('pyvospace.caller', $1, true)", caller.told)


async def open_pool(
    dsn: str,
    settings: DatabaseSettings,
    said: dict[str, str],
    *,
    pooler: bool = False,
    connection_class: type[PooledConnection] = PooledConnection,
) -> asyncpg.Pool[asyncpg.Record]:
    """Make a pool; it connects, saying what is `said`, when somebody asks for a connection."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,  # asyncpg would restore a minimum by itself, and log each failure with its traceback
        max_size=settings.pool_size,
        connection_class=connection_class,
        statement_cache_size=0 if pooler else _STATEMENTS,
        max_cached_statement_lifetime=0,
        max_inactive_connection_lifetime=0,
        server_settings={name: said[name] for name in poolers.FOLLOWED} if pooler else said,
    )


def session_settings(settings: DatabaseSettings) -> dict[str, str]:
    """Give what every session is to be like."""
    return {
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


def server_settings(settings: DatabaseSettings, name: str, acting: Caller = SERVICE) -> dict[str, str]:
    """Give what a connection says when it begins."""
    return {"application_name": name, "pyvospace.caller": acting.told, **session_settings(settings)}


async def _check_or_close(pool: asyncpg.Pool[asyncpg.Record], defaults: Mapping[str, str], *, durability: bool) -> None:
    try:
        async with pool.acquire() as connection:
            await poolers.compare(connection, defaults)
            if durability:
                await _check(connection)
    except asyncpg.ProtocolViolationError as error:
        pool.terminate()
        raise UnsafeDatabaseError(f"{error}: if this is a pooler, name PostgreSQL itself in direct_dsn") from error
    except BaseException:
        pool.terminate()
        raise


async def _check(connection: Connection) -> None:
    version = int(await connection.fetchval("show server_version_num")) // 10000
    if version < MINIMUM_SERVER:
        raise UnsafeDatabaseError(f"PostgreSQL {version} is too old: {MINIMUM_SERVER} is the oldest that will do")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if await connection.fetchval(f"show {setting}") == "off":
            raise UnsafeDatabaseError(f"the database runs with {setting} = off and would lose what it acknowledged")
