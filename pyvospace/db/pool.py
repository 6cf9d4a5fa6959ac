"""Connections: a pool that waits up to a limit, and transactions that are retried, never nested.

No task ever holds two connections: a second request for one while the first is held is a defect and raises at once,
because it is how a pool locks itself up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from pyvospace.db.errors import RETRIED, translated
from pyvospace.model.callers import SERVICE, Caller
from pyvospace.model.faults import ServiceBusy

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    from pyvospace.config.settings import DatabaseSettings

    Connection = PoolConnectionProxy[asyncpg.Record]

T = TypeVar("T")
Alone = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]

MINIMUM_SERVER = 15
"""Oldest major version of PostgreSQL."""
_ATTEMPTS = 6
_MARGIN = 5.0
"""Seconds after which a statement that the server should have stopped is given up by us."""
_TRANSACTION = 90.0
"""Seconds that a transaction may take, those of whole trees aside."""
_STEPS = 3
"""Statements of a tree operation that may each take its time-out."""
_holding: ContextVar[bool] = ContextVar("pyvospace_holding_connection", default=False)
on_behalf_of: ContextVar[str] = ContextVar("pyvospace_client", default="")
"""The client for whom connections are used; empty: the service itself."""
acting: ContextVar[Caller] = ContextVar("pyvospace_acting", default=SERVICE)
"""Who brings bytes to a storage server, for the audit log."""


class UnsafeDatabaseError(Exception):
    """The database would lose what it has acknowledged, or is too old."""


class _Connection(asyncpg.Connection):  # not generic at run time
    """A connection that goes back to the pool without a statement: nothing of ours outlives a transaction."""

    def get_reset_query(self) -> str:
        return ""


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
        most: int,
    ) -> None:
        self._pool = pool
        self._shares = Shares(most)
        self._alone = alone
        self._wait = wait
        self._statement = statement_timeout + _MARGIN
        self._tree_timeout = tree_timeout

    @classmethod
    async def connect(
        cls, dsn: str, settings: DatabaseSettings, *, name: str = "pyvospace", acting: Caller = SERVICE
    ) -> Database:
        """Open a pool.

        Parameters
        ----------
        acting
            Who changes users and what belongs to them, for the audit log, unless a transaction says who it is for.

        Raises
        ------
        UnsafeDatabaseError
            The server is older than 15, or does not flush what it commits.
        ServiceBusy
            It cannot be reached.
        """
        with translated():
            pool = await asyncpg.create_pool(
                dsn,
                min_size=0,  # asyncpg would restore a minimum by itself, and log each failure with its traceback
                max_size=settings.pool_size,
                connection_class=_Connection,
                max_cached_statement_lifetime=0,
                max_inactive_connection_lifetime=0,
                server_settings=_server_settings(settings, name, acting),
            )
            await _check_or_close(pool, durability=settings.check_durability)

        async def alone() -> asyncpg.Connection[asyncpg.Record]:
            return await asyncpg.connect(dsn, server_settings=_server_settings(settings, f"{name} listening", acting))

        return cls(
            pool,
            alone=alone,
            wait=settings.acquire_timeout,
            statement_timeout=settings.statement_timeout,
            tree_timeout=settings.tree_timeout,
            most=max(1, int(settings.pool_size * settings.client_share)),
        )

    def connections(self) -> dict[str, int]:
        """Tell how many connections of the pool are busy and idle, and how many there may be."""
        idle = self._pool.get_idle_size()
        return {"busy": self._pool.get_size() - idle, "idle": idle, "most": self._pool.get_max_size()}

    async def connect_alone(self) -> asyncpg.Connection[asyncpg.Record]:
        """Open a connection that is not of the pool, for who listens; errors are the driver's own."""
        return await self._alone()

    async def close(self) -> None:
        """Close all connections, also those that are busy after some seconds."""
        try:
            await asyncio.wait_for(self._pool.close(), 5)
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
        return Held(self._pool, self._shares, self._wait if wait is None else wait, limit)

    async def fetchrow(
        self, sql: str, *args: object, wait: float | None = None, subject: object = ""
    ) -> asyncpg.Record | None:
        """Run one statement by itself and give its first row."""
        async with self.connection(wait=wait, limit=self._statement) as connection:
            with translated(subject):
                return await connection.fetchrow(sql, *args)

    async def fetch(self, sql: str, *args: object, subject: object = "") -> list[asyncpg.Record]:
        """Run one statement by itself and give its rows; only for statements that say how many at the most."""
        async with self.connection(limit=self._statement) as connection:
            with translated(subject):
                return await connection.fetch(sql, *args)

    async def fetchval(self, sql: str, *args: object, wait: float | None = None, subject: object = "") -> Any:
        """Run one statement by itself and give the first column of its first row."""
        async with self.connection(wait=wait, limit=self._statement) as connection:
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
        limit = _STEPS * self._tree_timeout if tree else _TRANSACTION
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
        async with connection.transaction():
            if tree:
                await connection.execute(
                    "select set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true)",
                    f"{self._tree_timeout:g}s",
                )
            return await work(connection)


class Shares:
    """Places for clients, so that none of them holds all connections: who has his share waits for himself alone.

    It remembers only clients that hold a place.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, int] = {}
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        """Give the number of clients that hold places."""
        return len(self._held)

    async def take(self, client: str, wait: float) -> None:
        """Take a place, waiting for it up to `wait` seconds.

        Raises
        ------
        TimeoutError
            None became free in time.
        """
        held = self._held.get(client, 0)
        if held < self._most:
            self._held[client] = held + 1
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        queue = self._queues.setdefault(client, deque())
        queue.append(turn)
        alarm = loop.call_later(wait, _give_up, turn)  # asyncio.timeout costs ten times as much
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # the place came in the same moment
                self.give_back(client)
            raise
        finally:
            alarm.cancel()

    def give_back(self, client: str) -> None:
        """Give a place to the next of the same client, or to nobody."""
        queue = self._queues.get(client)
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._queues.pop(client, None)
        held = self._held[client] - 1
        if held:
            self._held[client] = held
        else:
            del self._held[client]


def _give_up(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(TimeoutError())


class Held:
    """A connection for the time of an ``async with``: a class, since every request goes through here."""

    __slots__ = ("_alarm", "_client", "_connection", "_limit", "_mark", "_pool", "_shares", "_wait")

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], shares: Shares, wait: float, limit: float) -> None:
        self._pool = pool
        self._shares = shares
        self._wait = wait
        self._limit = limit

    async def __aenter__(self) -> Connection:
        if _holding.get():
            raise RuntimeError("a task that holds a connection asks for another")
        self._client = on_behalf_of.get()
        with translated():
            try:
                self._connection = await self._acquire()
            except TimeoutError:  # an OSError too, but it does not mean that the database is away
                raise ServiceBusy(f"no connection to the database became free in {self._wait:g} s") from None
        self._mark = _holding.set(True)
        # Cut rather than cancelled: what waits for an answer fails at once, and a commit ends as one without outcome.
        self._alarm = asyncio.get_running_loop().call_later(self._limit, self._connection.terminate)
        return self._connection

    async def _acquire(self) -> Connection:
        if not self._client:
            return await self._pool.acquire(timeout=self._wait)
        clock = asyncio.get_running_loop().time
        until = clock() + self._wait
        await self._shares.take(self._client, self._wait)
        try:
            return await self._pool.acquire(timeout=max(until - clock(), 0.0))
        except BaseException:
            self._shares.give_back(self._client)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._alarm.cancel()
        _holding.reset(self._mark)
        try:
            await self._pool.release(self._connection)
        finally:
            if self._client:
                self._shares.give_back(self._client)


async def tell_who_acts(connection: Connection, caller: Caller) -> None:
    """Tell the triggers of the audit log, until the transaction ends, who changes users, quotas and the like."""
    await connection.execute("select set_config('pyvospace.caller', $1, true)", caller.told)


def _server_settings(settings: DatabaseSettings, name: str, acting: Caller) -> dict[str, str]:
    return {
        "application_name": name,
        "pyvospace.caller": acting.told,
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


async def _check_or_close(pool: asyncpg.Pool[asyncpg.Record], *, durability: bool) -> None:
    try:
        async with pool.acquire() as connection:
            if durability:
                await _check(connection)
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
