"""Reads from a replica: as fresh as the primary's, whatever happens to it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import replica
from pyvospace.db.gathering import Question
from pyvospace.db.pool import Database
from pyvospace.db.replica import Position, Replica
from pyvospace.model.faults import ServiceBusy
from tests.support.postgres import PostgresServer
from tests.support.standby import Standby, standby

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection, Reader

WHERE = "select pg_is_in_recovery()"


@pytest.fixture(scope="module")
def follower(postgres_server: PostgresServer) -> Iterator[Standby]:
    with standby(postgres_server) as running:
        yield running


@dataclass
class Servers:
    """Two metadata servers, of which the second one writes."""

    first: Database
    second: Database

    async def until(self, *, fit: bool) -> None:
        """Wait until the first one reads from the replica, or does not any more."""
        assert isinstance(self.first.reader, Replica)
        async with asyncio.timeout(20):
            while self.first.reader.fit is not fit:
                await asyncio.sleep(0.02)

    async def raised(self) -> tuple[int, bool]:
        """Change a number, read it at once at the other server, and say how it was read."""
        written = await self.second.fetchval("update t set n = n + 1 returning n")
        row = await self.first.reader.fetchrow("select n, pg_is_in_recovery() as there from t")
        assert row is not None
        return row["n"] - written, row["there"]


@asynccontextmanager
async def connected(database_dsn: str, dsn: str, **settings: float) -> AsyncIterator[Database]:
    wanted = DatabaseSettings.model_validate(
        {"dsn": database_dsn, "replica_dsn": dsn, "check_durability": False, **settings}
    )
    database = await Database.connect(database_dsn, wanted)
    async with replica.attached(database, wanted, name="tested"):
        yield database
    await database.close()


@pytest.fixture
async def servers(database_dsn: str, database_name: str, follower: Standby) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        dsn = follower.dsn(database_name)
        pair = [await stack.enter_async_context(connected(database_dsn, dsn, replica_wait=5)) for _ in range(2)]
        await pair[0].fetchrow("create table t (n int)")
        await pair[0].fetchrow("insert into t values (0)")
        servers = Servers(*pair)
        await servers.until(fit=True)
        yield servers


async def test_without_a_replica_the_database_reads(database: Database) -> None:
    assert database.reader is database


async def test_reads_see_what_was_acknowledged_before(servers: Servers) -> None:
    for _ in range(100):
        assert await servers.raised() == (0, True)
    assert await asyncio.gather(*(servers.first.reader.fetchval(WHERE) for _ in range(50))) == [True] * 50
    assert [row["n"] for row in await servers.first.reader.fetch("select n from t")] == [100]


async def test_replica_that_is_behind_is_not_asked(
    servers: Servers, follower: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(servers.first.reader, Replica)
    monkeypatch.setattr(servers.first.reader, "_wait", 0.05)
    follower.execute("select pg_wal_replay_pause()")
    try:
        for _ in range(10):
            assert await servers.raised() == (0, False)
        assert not servers.first.reader.fit
    finally:
        follower.execute("select pg_wal_replay_resume()")
    await servers.until(fit=True)
    monkeypatch.undo()
    assert await servers.raised() == (0, True)


async def test_readers_wait_for_a_replica_that_is_a_little_behind(servers: Servers, follower: Standby) -> None:
    follower.execute("select pg_wal_replay_pause()")
    reading = asyncio.create_task(servers.raised())
    await asyncio.sleep(0.2)
    assert not reading.done()
    follower.execute("select pg_wal_replay_resume()")
    assert await reading == (0, True)


async def test_nobody_hears_of_the_end_of_a_replica(servers: Servers, follower: Standby) -> None:
    stop = asyncio.Event()
    seen: list[bool] = []

    async def read() -> None:
        while not stop.is_set():
            difference, there = await servers.raised()
            assert difference >= 0
            seen.append(there)

    tasks = [asyncio.create_task(read()) for _ in range(4)]
    await asyncio.sleep(0.3)
    await asyncio.to_thread(follower.kill)
    await servers.until(fit=False)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(follower.start)
    await servers.until(fit=True)
    seen.clear()
    await asyncio.sleep(0.3)
    stop.set()
    await asyncio.gather(*tasks)
    assert True in seen


async def test_replica_that_says_nothing_is_given_up(
    servers: Servers, follower: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by those who have asked it already (I33)."""
    monkeypatch.setattr(servers.first.reader, "_wait", 0.2)
    sleeping = asyncio.create_task(servers.first.reader.fetchrow(f"select pg_sleep(1), ({WHERE}) as there"))
    await asyncio.sleep(0.2)
    follower.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            row = await sleeping
            assert row is not None
            assert not row["there"]
            assert await servers.raised() == (0, False)
    finally:
        follower.signal(signal.SIGCONT)
    await servers.until(fit=True)


async def test_what_the_primary_has_removed_is_read_there(servers: Servers) -> None:
    """A replica that has to replay the removal of what a statement reads ends the statement."""
    reader = servers.first.reader
    assert isinstance(reader, Replica)

    async def read(source: Connection | Reader) -> bool:
        there: bool = await source.fetchval(WHERE)
        if there:
            raise asyncpg.SerializationError("canceling statement due to conflict with recovery")
        return there

    assert await reader._read(read) is False
    assert reader.fit


async def test_statement_that_takes_too_long_is_not_tried_twice(
    database_dsn: str, database_name: str, follower: Standby
) -> None:
    async with connected(database_dsn, follower.dsn(database_name), statement_timeout=0.3) as database:
        await Servers(database, database).until(fit=True)
        with pytest.raises(ServiceBusy):
            await database.reader.fetchval("select pg_sleep(5)")
        assert await database.reader.fetchval(WHERE)


async def test_readers_who_come_together_ask_the_primary_once(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    fetch = servers.first.fetch

    async def count(sql: str, *args: object) -> list[asyncpg.Record]:
        nonlocal asked
        asked += 1
        return await fetch(sql, *args)

    monkeypatch.setattr(servers.first, "fetch", count)
    assert await asyncio.gather(*(servers.first.reader.fetchval(WHERE) for _ in range(40))) == [True] * 40
    assert asked < 5


async def test_who_asks_together_is_answered_there(servers: Servers) -> None:
    """And hears of what was acknowledged before."""
    one = "select n, pg_is_in_recovery() as there, $1::int as i from t"
    question = Question(
        one, one.replace("$1::int as i from t", "i from t, unnest($1::int[]) i"), lambda i: list(zip(*i, strict=True))
    )
    for _ in range(20):
        written = await servers.second.fetchval("update t set n = n + 1 returning n")
        rows = await asyncio.gather(*(servers.first.reader.gathering.ask(question, i) for i in range(5)))
        assert [tuple(row) for row in rows if row] == [(written, True, i) for i in range(5)]


async def test_replica_of_somebody_else_is_not_asked(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another timeline: there it may have what was never acknowledged here, and less of what was."""
    reader = servers.first.reader
    assert isinstance(reader, Replica)
    [here] = await reader._ask([None])

    async def ask(readers: Sequence[None]) -> Sequence[Position]:
        return [Position(here.timeline + 1, 0)] * len(readers)

    monkeypatch.setattr(reader._flushed, "_work", ask)
    assert not await reader.fetchval(WHERE)
    assert not reader.fit
    monkeypatch.undo()
    await servers.until(fit=True)


async def test_replica_that_became_a_primary_is_not_asked(servers: Servers, follower: Standby) -> None:
    """The last test with it."""
    follower.execute("select pg_promote()")
    assert await servers.raised() == (0, False)
    await servers.until(fit=False)
    assert await servers.raised() == (0, False)


async def test_replica_that_was_never_there_costs_nothing(
    database_dsn: str,
) -> None:
    async with connected(database_dsn, "postgresql://nobody@127.0.0.1:1/nothing") as database:
        assert await database.reader.fetchval(WHERE) is False
