"""Connections by way of a pooler in transaction mode: real PgBouncer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db.listening import JOBS, Listener
from pyvospace.db.migrations import migrate
from pyvospace.db.pool import Database, UnsafeDatabaseError, session_settings, tell_who_acts
from pyvospace.model.callers import Caller
from pyvospace.model.faults import ServiceBusy
from tests.support.poolers import MISSING, PROGRAM, Pooler, pooler
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
SETTINGS = DatabaseSettings(check_durability=False, pool_size=20, statement_timeout=2, lock_timeout=1)


@pytest.fixture(scope="module")
def bouncer(postgres_server: PostgresServer) -> Iterator[Pooler]:
    with pooler(postgres_server) as running:
        yield running


@pytest.fixture
async def pooled(bouncer: Pooler, database_name: str, database_dsn: str) -> AsyncIterator[Database]:
    database = await Database.connect(bouncer.dsn(database_name), SETTINGS, direct=database_dsn)
    yield database
    await database.close()


async def test_tasks_share_fewer_sessions_than_they_have_connections(pooled: Database) -> None:
    await pooled.fetchrow("create table t (id int primary key, n int)")
    await pooled.fetchrow("insert into t select i, 0 from generate_series(0, 9) i")

    async def raise_it(number: int) -> None:
        async def work(connection: Connection) -> None:
            before = await connection.fetchval("select n from t where id = $1 for update", number % 10)
            await connection.execute("update t set n = $2 where id = $1", number % 10, before + 1)

        await pooled.transact(work)
        assert await pooled.fetchval("select n > 0 from t where id = $1", number % 10)

    await asyncio.gather(*(raise_it(number) for number in range(200)))
    assert [row["n"] for row in await pooled.fetch("select n from t order by id")] == [20] * 10
    sessions = await asyncio.gather(*(pooled.fetchval("select pg_backend_pid()") for _ in range(100)))
    assert len(set(sessions)) <= 3


async def test_sessions_are_as_they_would_be_without_it(pooled: Database, database_dsn: str) -> None:
    alone = await Database.connect(database_dsn, SETTINGS)
    for name in session_settings(SETTINGS):
        wanted = await alone.fetchval("select current_setting($1)", name)
        assert await pooled.fetchval("select current_setting($1)", name) == wanted
    await alone.close()
    with pytest.raises(ServiceBusy):
        await pooled.fetchval("select pg_sleep(60)")


async def test_steps_of_the_schema_have_no_limits(pooled: Database, database_dsn: str) -> None:
    """The role has limits now that are meant for single statements."""
    plain = await asyncpg.connect(database_dsn)
    assert await plain.fetchval("show statement_timeout") == "2s"
    await plain.close()
    assert await migrate(database_dsn) == []


async def test_sessions_from_before_a_change_are_told_of(
    bouncer: Pooler, pooled: Database, database_name: str, database_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    changed = SETTINGS.model_copy(update={"statement_timeout": 3.0})
    other = await Database.connect(bouncer.dsn(database_name), changed, direct=database_dsn)
    await other.close()
    assert "statement_timeout" in caplog.text
    assert "lock_timeout" not in caplog.text


async def test_settings_end_with_their_transaction(pooled: Database) -> None:
    name = secrets.token_hex(4)

    async def work(connection: Connection) -> str:
        await tell_who_acts(connection, Caller(name=name))
        told: str = await connection.fetchval("select current_setting('pyvospace.caller')")
        return told

    told = await asyncio.gather(*(pooled.transact(work) for _ in range(20)))
    assert all(name in one for one in told)
    left = await asyncio.gather(
        *(pooled.fetchval("select current_setting('pyvospace.caller', true)") for _ in range(50))
    )
    assert not any(left)


async def test_notifications_come_past_it(pooled: Database) -> None:
    listener = Listener(pooled)
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener.subscribe(JOBS, heard.put_nowait)
    listening = asyncio.create_task(listener.run())
    async with asyncio.timeout(20):
        assert await heard.get() == ""
        await pooled.fetchval("select pg_notify($1, 'x')", JOBS)
        assert await heard.get() == "x"
    listening.cancel()


async def test_cancelled_statement_leaves_all_whole(pooled: Database) -> None:
    for _ in range(3):
        sleeping = asyncio.create_task(pooled.fetchval("select pg_sleep(60)"))
        await asyncio.sleep(0.05)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping
    assert await asyncio.gather(*(pooled.fetchval("select $1::int", i) for i in range(50))) == [*range(50)]


async def test_pooler_that_nobody_told_of_says_so(bouncer: Pooler, database_name: str) -> None:
    with pytest.raises(UnsafeDatabaseError, match="direct_dsn"):
        await Database.connect(bouncer.dsn(database_name), SETTINGS)
