from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import asyncpg
import pytest

from pyvospace.db.connections import Connections

if TYPE_CHECKING:
    from pyvospace.db.connections import Connection

PATIENCE = 10.0


class Double:
    """As much of a connection as a pool sees."""

    def __init__(self) -> None:
        self.closed = False
        self.in_transaction = False

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return self.in_transaction

    def terminate(self) -> None:
        self.closed = True

    async def close(self, **_: float) -> None:
        self.closed = True


class Server:
    """Makes doubles, unless it is away."""

    def __init__(self) -> None:
        self.made: list[Double] = []
        self.away = False
        self.slow: asyncio.Event | None = None

    async def connect(self) -> Connection:
        if self.slow:
            await self.slow.wait()
        if self.away:
            raise OSError
        self.made.append(Double())
        return cast("Connection", self.made[-1])


@pytest.fixture
def server() -> Server:
    return Server()


async def test_last_used_is_used_first(server: Server) -> None:
    pool = Connections(server.connect, 3)
    first, second = await pool.acquire(1), await pool.acquire(1)
    pool.release(first, usable=True)
    pool.release(second, usable=True)
    assert await pool.acquire(1) is second
    assert await pool.acquire(1) is first
    assert len(server.made) == 2


async def test_who_came_first_is_served_first(server: Server) -> None:
    pool = Connections(server.connect, 1)
    held = await pool.acquire(1)
    order = []

    async def wait(number: int) -> None:
        connection = await pool.acquire(PATIENCE)
        order.append(number)
        await asyncio.sleep(0)
        pool.release(connection, usable=True)

    tasks = [asyncio.create_task(wait(number)) for number in range(5)]
    await asyncio.sleep(0)
    pool.release(held, usable=True)
    late = asyncio.create_task(wait(5))
    await asyncio.gather(*tasks, late)
    assert order == [0, 1, 2, 3, 4, 5]
    assert len(server.made) == 1


async def test_waiting_is_bounded(server: Server) -> None:
    pool = Connections(server.connect, 1)
    held = await pool.acquire(1)
    with pytest.raises(TimeoutError):
        await pool.acquire(0.01)
    pool.release(held, usable=True)
    assert await pool.acquire(1) is held


async def test_opening_is_bounded(server: Server) -> None:
    pool = Connections(server.connect, 1)
    server.slow = asyncio.Event()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await pool.acquire(0.01)
    server.slow = None
    await pool.acquire(1)


async def test_who_gave_up_does_not_keep_what_he_was_given(server: Server) -> None:
    pool = Connections(server.connect, 1)
    held = await pool.acquire(1)
    waiting = asyncio.create_task(pool.acquire(PATIENCE))
    await asyncio.sleep(0)
    pool.release(held, usable=True)  # it is his now, but he does not know yet
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await pool.acquire(1) is held


@pytest.mark.parametrize("flaw", ["closed", "in_transaction", "unusable"])
async def test_bad_connection_makes_room_for_a_new_one(server: Server, flaw: str) -> None:
    pool = Connections(server.connect, 1)
    held = await pool.acquire(1)
    waiting = asyncio.create_task(pool.acquire(PATIENCE))
    await asyncio.sleep(0)
    setattr(server.made[0], flaw, True)
    pool.release(held, usable=flaw != "unusable")
    assert await waiting is not held
    assert server.made[0].closed


async def test_connection_that_was_closed_while_idle_is_not_used(server: Server) -> None:
    pool = Connections(server.connect, 2)
    both = [await pool.acquire(1), await pool.acquire(1)]
    for one in both:
        pool.release(one, usable=True)
    for double in server.made:
        double.closed = True
    again = [await pool.acquire(1), await pool.acquire(1)]
    assert not set(again) & set(both)
    with pytest.raises(TimeoutError):
        await pool.acquire(0.01)


async def test_failure_to_open_passes_the_turn_on(server: Server) -> None:
    pool = Connections(server.connect, 1)
    held = await pool.acquire(1)
    waiting = [asyncio.create_task(pool.acquire(PATIENCE)) for _ in range(3)]
    await asyncio.sleep(0)
    server.away = True
    pool.release(held, usable=False)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in results] == [OSError] * 3
    server.away = False
    await pool.acquire(1)


async def test_closing_waits_for_who_is_at_work(server: Server) -> None:
    pool = Connections(server.connect, 2)
    idle, held = await pool.acquire(1), await pool.acquire(1)
    pool.release(idle, usable=True)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    assert not closing.done()
    assert not server.made[1].closed
    pool.release(held, usable=True)
    await closing
    assert [one.closed for one in server.made] == [True, True]
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await pool.acquire(1)


async def test_closing_sends_those_away_who_wait(server: Server) -> None:
    pool = Connections(server.connect, 1)
    held = await pool.acquire(1)
    waiting = asyncio.create_task(pool.acquire(PATIENCE))
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await waiting
    pool.release(held, usable=True)
    await closing


async def test_nothing_is_lost_in_a_crowd(server: Server) -> None:
    pool = Connections(server.connect, 3)
    in_use: set[Connection] = set()

    async def work(number: int) -> None:
        connection = await pool.acquire(PATIENCE)
        assert connection not in in_use
        in_use.add(connection)
        assert len(in_use) <= 3
        try:
            await asyncio.sleep(0.001 * (number % 3))
        finally:
            in_use.discard(connection)
            pool.release(connection, usable=number % 7 != 0)

    tasks = [asyncio.create_task(work(number)) for number in range(300)]
    await asyncio.sleep(0.01)
    for task in tasks[::5]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in results if one is not None} <= {asyncio.CancelledError}
    three = [await pool.acquire(1) for _ in range(3)]
    assert len(set(three)) == 3
    with pytest.raises(TimeoutError):
        await pool.acquire(0.01)
