"""The connections of a pool: who has one, who waits for one.

asyncpg's own pool costs four turns of the event loop and two tasks for each use, more than a statement itself. We need
less of it: nothing of ours outlives a transaction, so that a connection comes back without a statement, or not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_PATIENCE = 5.0
"""Seconds that closing waits for connections that are in use."""


class Connections:
    """Up to `size` connections, made when they are needed and kept.

    Parameters
    ----------
    connect
        Makes one.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._number = 0  # open, being opened, or promised to somebody who will open it
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._closed = False
        self._all_back = asyncio.Event()

    async def acquire(self, wait: float) -> Connection:
        """Take a connection, the one that was used last; who came first is served first.

        Raises
        ------
        TimeoutError
            None became free within `wait` seconds.
        """
        if self._closed:
            raise asyncpg.InterfaceError("the pool is closed")
        connection = self._take_idle()
        if connection is None:
            async with asyncio.timeout(wait):
                connection = await self._obtain()
        self._used.add(connection)
        return connection

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._number -= 1
        return None

    async def _obtain(self) -> Connection:
        if self._number < self._size:
            self._number += 1
            return await self._open()
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            connection = await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give(turn.result())  # it came too late for us
            raise
        return connection or await self._open()

    async def _open(self) -> Connection:
        try:
            return await self._connect()
        except BaseException:
            self._give(None)
            raise

    def release(self, connection: Connection, *, usable: bool) -> None:
        """Give a connection back; one that is not `usable`, or in a transaction, is not used again."""
        self._used.discard(connection)
        if usable and not self._closed and not connection.is_closed() and not connection.is_in_transaction():
            self._give(connection)
            return
        connection.terminate()
        self._give(None)
        if self._closed and not self._used:
            self._all_back.set()

    def _give(self, connection: Connection | None) -> None:
        """Let the next one have a connection, or (None) open one in place of one that is gone."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is None:
            self._number -= 1
        else:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close all; who is using one has some seconds to finish."""
        self._closed = True
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(asyncpg.InterfaceError("the pool was closed"))
        self._waiting.clear()
        if self._used:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_back.wait(), _PATIENCE)
        for connection in self._used:
            connection.terminate()
        for connection in self._idle:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await connection.close(timeout=_PATIENCE)
        self._idle.clear()
        await asyncio.sleep(0)  # sockets of terminated connections are closed in the next turn of the loop
