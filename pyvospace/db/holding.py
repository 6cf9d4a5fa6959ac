"""Who holds a connection: tasks take one, use it for a few statements and give it back.

The pool of the driver opens, mends and closes connections; but to hand one out and to take it back costs it more than
a row costs PostgreSQL. So what was given back whole waits here for the next task, and the pool hears nothing of it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import asyncpg

from pyvospace.db.errors import translated
from pyvospace.model.faults import ServiceBusy

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

T = TypeVar("T")

_MENDING = 10.0
"""Seconds for which the pool may try to make a connection whole again, before it closes it."""
_holding: ContextVar[bool] = ContextVar("pyvospace_holding_connection", default=False)
on_behalf_of: ContextVar[str] = ContextVar("pyvospace_client", default="")
"""The client for whom connections are used; empty: the service itself."""


def forbid_second() -> None:
    """Raise if the task holds a connection: it asks for another, be it by way of others who do."""
    if _holding.get():
        raise RuntimeError("a task that holds a connection asks for another")


class _Turns(Generic[T]):
    """A queue of those who wait for something; who waits no more is passed over."""

    def __init__(self) -> None:
        self._queue: deque[asyncio.Future[T]] = deque()

    async def wait(self, seconds: float, give_back: Callable[[T], object]) -> T:
        """Wait for a turn.

        Parameters
        ----------
        give_back
            Takes what comes in the moment in which the task is cancelled.

        Raises
        ------
        TimeoutError
            None came in time.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[T] = loop.create_future()
        self._queue.append(turn)
        alarm = loop.call_later(seconds, _give_up, turn)  # asyncio.timeout costs ten times as much
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                give_back(turn.result())
            raise
        finally:
            alarm.cancel()

    def give(self, what: T) -> bool:
        """Give something to the next; False: nobody waits."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(what)
                return True
        return False


def _give_up(turn: asyncio.Future[Any]) -> None:
    if not turn.done():
        turn.set_exception(TimeoutError())


class Shares:
    """Places for clients, so that none of them holds all connections: who has his share waits for himself alone.

    It remembers only clients that hold a place.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, int] = {}
        self._queues: dict[str, _Turns[None]] = {}

    def __len__(self) -> int:
        """Give the number of clients that hold places."""
        return len(self._held)

    def take_at_once(self, client: str) -> bool:
        """Take a place if one is free."""
        held = self._held.get(client, 0)
        if held >= self._most:
            return False
        self._held[client] = held + 1
        return True

    async def take(self, client: str, wait: float) -> None:
        """Take a place, waiting for it up to `wait` seconds.

        Raises
        ------
        TimeoutError
            None became free in time.
        """
        if not self.take_at_once(client):
            queue = self._queues.setdefault(client, _Turns())
            await queue.wait(wait, lambda _: self.give_back(client))

    def give_back(self, client: str) -> None:
        """Give a place to the next of the same client, or to nobody."""
        queue = self._queues.get(client)
        if queue is not None:
            if queue.give(None):
                return
            del self._queues[client]
        held = self._held[client] - 1
        if held:
            self._held[client] = held
        else:
            del self._held[client]


class Idle:
    """Connections that nobody holds, in front of the pool.

    A task has a connection, or the place of one that it may open; each is somebody's, or free, or handed to the next
    who waits.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], most: int) -> None:
        self._pool = pool
        self._free: list[Connection] = []
        self._places = most
        self._unwanted: set[Connection] = set()
        self._closing = False
        self._turns: _Turns[Connection | None] = _Turns()

    def __len__(self) -> int:
        """Give the number of connections that nobody holds."""
        return len(self._free)

    def take_at_once(self) -> Connection | None:
        """Take the connection that was used last, if one is free."""
        return self._free.pop() if self._free and _is_open(self._free[-1]) else None

    async def take(self, wait: float) -> Connection:
        """Take a connection, or open one, waiting up to `wait` seconds.

        Raises
        ------
        TimeoutError
            None became free in time.
        """
        if self._free:
            connection: Connection | None = self._free.pop()
        elif self._places:
            self._places -= 1
            connection = None
        else:
            connection = await self._turns.wait(wait, self._hand_on)
        if connection is not None and _is_open(connection):
            return connection
        try:
            if connection is not None:
                await self._pool.release(connection, timeout=_MENDING)
            return await self._pool.acquire(timeout=wait)
        except BaseException:
            self._hand_on(None)
            raise

    async def give_back(self, connection: Connection, *, whole: bool) -> None:
        """Take a connection back; if not `whole`, by way of the pool, which cleans it up or closes it."""
        if whole and self._is_wanted(connection) and _is_clean(connection):
            self._hand_on(connection)
            return
        self._unwanted.discard(connection)
        try:
            await self._pool.release(connection, timeout=_MENDING)
        finally:
            self._hand_on(None)

    def _is_wanted(self, connection: Connection) -> bool:
        return not self._closing and connection not in self._unwanted

    def _hand_on(self, connection: Connection | None) -> None:
        """Hand a connection, or the place of one, to the next who waits."""
        if self._turns.give(connection):
            return
        if connection is None:
            self._places += 1
        else:
            self._free.append(connection)

    async def forget(self, held: Iterable[Connection]) -> None:
        """Give to the pool what nobody holds, and what is `held` as soon as it is given back."""
        self._unwanted.update(held, self._free)  # of these, some may be taken before it is their turn
        while self._free:
            await self.give_back(self._free.pop(), whole=False)

    async def close(self) -> None:
        """Give to the pool what nobody holds, and from now on all that is given back."""
        self._closing = True
        await self.forget(())


def _is_open(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has heard of its end, and taken it back
        return False


def _is_clean(connection: Connection) -> bool:
    try:
        return not connection.is_in_transaction()
    except asyncpg.InterfaceError:  # it has ended: the next task that takes it opens another
        return True


class Limits:
    """Cuts connections that are held for too long: the database is taken to be dead, whatever it is waiting for.

    One alarm serves all connections, since nearly none is ever cut.
    """

    def __init__(self) -> None:
        self._ends: dict[Connection, float] = {}
        self._next = math.inf
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self, connection: Connection, seconds: float) -> None:
        """Cut a connection after so many seconds, unless `end` comes first."""
        end = self._ends[connection] = asyncio.get_running_loop().time() + seconds
        if end < self._next:
            self._look_at(end)

    def end(self, connection: Connection) -> None:
        """Leave a connection alone."""
        self._ends.pop(connection, None)

    def __iter__(self) -> Iterator[Connection]:
        """Give the connections that are held."""
        return iter(self._ends)

    def _look_at(self, instant: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._next = instant
        self._alarm = None if instant == math.inf else asyncio.get_running_loop().call_at(instant, self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in [connection for connection, end in self._ends.items() if end <= now]:
            del self._ends[connection]
            # Cut rather than cancelled: what waits for an answer fails at once, and a commit ends without outcome.
            with suppress(asyncpg.InterfaceError):  # it has ended by itself
                connection.terminate()
        self._look_at(min(self._ends.values(), default=math.inf))


class Holder:
    """Hands out the connections of a pool.

    Parameters
    ----------
    most
        Connections that there may be.
    share
        Connections that one client may hold.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], *, most: int, share: int) -> None:
        self.idle = Idle(pool, most)
        self.shares = Shares(share)
        self.limits = Limits()

    def hold(self, wait: float, limit: float) -> Held:
        """Hold a connection for the time of an ``async with``."""
        return Held(self, wait, limit)

    async def forget(self) -> None:
        """Hand out none of the connections that there are any more: the pool decides about them."""
        await self.idle.forget(self.limits)

    async def close(self) -> None:
        """Let go of what nobody holds."""
        await self.idle.close()


class Held:
    """A connection for the time of an ``async with``: a class, since every request goes through here."""

    __slots__ = ("_client", "_connection", "_holder", "_limit", "_mark", "_wait")

    def __init__(self, holder: Holder, wait: float, limit: float) -> None:
        self._holder = holder
        self._wait = wait
        self._limit = limit

    async def __aenter__(self) -> Connection:
        forbid_second()
        self._client = client = on_behalf_of.get()
        holder = self._holder
        placed = not client or holder.shares.take_at_once(client)
        connection = holder.idle.take_at_once() if placed else None
        if connection is None:
            connection = await self._wait_for_one(placed=placed)
        self._connection = connection
        self._mark = _holding.set(True)
        holder.limits.begin(connection, self._limit)
        return connection

    async def _wait_for_one(self, *, placed: bool) -> Connection:
        clock = asyncio.get_running_loop().time
        until = clock() + self._wait
        with translated():
            try:
                if not placed:
                    await self._holder.shares.take(self._client, self._wait)
                try:
                    return await self._holder.idle.take(max(until - clock(), 0.0))
                except BaseException:
                    self._give_place_back()
                    raise
            except TimeoutError:  # an OSError too, but it does not mean that the database is away
                raise ServiceBusy(f"no connection to the database became free in {self._wait:g} s") from None

    async def __aexit__(self, failure: type[BaseException] | None, *_: object) -> None:
        self._holder.limits.end(self._connection)
        _holding.reset(self._mark)
        try:
            await self._holder.idle.give_back(self._connection, whole=failure is None)
        finally:
            self._give_place_back()

    def _give_place_back(self) -> None:
        if self._client:
            self._holder.shares.give_back(self._client)
