from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import nodes
from pyvospace.db.errors import Unavailable
from pyvospace.db.holding import Shares, on_behalf_of
from pyvospace.db.pool import Database, UnsafeDatabaseError
from pyvospace.model.faults import DuplicateNode, InternalFault, ServiceBusy
from pyvospace.model.stored import Changes
from pyvospace.model.vocabulary import NodeType
from pyvospace.supervisor.data import DATABASE, SUPERUSER, ClusterFile, DataDirectory
from pyvospace.supervisor.postgres import Cluster
from pyvospace.supervisor.processes import Processes
from tests.db.world import Storage, World, pull, push, stored_file
from tests.support.postgres import PostgresServer
from tests.support.statements import Statement, statement_log

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection

NOBODY = "postgresql://nobody@127.0.0.1:1/nothing"


@asynccontextmanager
async def pool(dsn: str, **settings: float) -> AsyncIterator[Database]:
    database = await Database.connect(
        dsn, DatabaseSettings.model_validate({"check_durability": False, **settings}), name="tested"
    )
    try:
        yield database
    finally:
        await database.close()


async def backend(connection: Connection) -> int:
    pid = await connection.fetchval("select pg_backend_pid()")
    assert isinstance(pid, int)
    return pid


async def terminate(dsn: str, pid: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("select pg_terminate_backend($1, 5000)", pid)
    await connection.close()


def other_task(work: Coroutine[None, None, object]) -> asyncio.Task[object]:
    """Begin what has nothing to do with the task that is running, which holds a connection."""
    return asyncio.create_task(work, context=Context())


async def test_second_connection_of_a_task_is_a_defect(database: Database) -> None:
    async with database.connection():
        with pytest.raises(RuntimeError, match="asks for another"):
            await database.fetchval("select 1")
    assert await database.fetchval("select 1") == 1


async def test_second_connection_inside_a_transaction_is_a_defect(database: Database) -> None:
    async def work(_: Connection) -> None:
        await database.fetchval("select 1")

    with pytest.raises(RuntimeError, match="asks for another"):
        await database.transact(work)
    assert await database.fetchval("select 1") == 1


async def test_exhausted_pool_answers_busy_in_time(database_dsn: str) -> None:
    async with pool(database_dsn, pool_size=2, acquire_timeout=0.2) as database, AsyncExitStack() as stack:
        free = asyncio.Event()
        holding = asyncio.Semaphore(0)

        async def hold() -> None:
            async with database.connection():
                holding.release()
                await free.wait()

        tasks = [asyncio.create_task(hold()) for _ in range(2)]
        for task in tasks:
            stack.push_async_callback(asyncio.wait_for, task, 10)
        stack.callback(free.set)
        for _ in tasks:
            await holding.acquire()
        with pytest.raises(ServiceBusy, match=r"no connection .* became free in 0\.2 s") as caught:
            await database.fetchval("select 1")
        assert not isinstance(caught.value, Unavailable)
        waiting = asyncio.create_task(database.fetchval("select 1", wait=30))
        free.set()
        assert await waiting == 1


async def test_many_tasks_share_few_connections(database_dsn: str) -> None:
    async with pool(database_dsn, pool_size=3) as database:
        values = await asyncio.gather(*(database.fetchval("select $1::int", i) for i in range(200)))
        assert values == [*range(200)]
        assert await database.fetchval("select count(*) from pg_stat_activity where application_name = 'tested'") <= 3


async def test_one_client_leaves_connections_to_the_others(database_dsn: str) -> None:
    """However many requests he sends; his own wait for each other and are all served (I34)."""
    async with pool(database_dsn, pool_size=4, client_share=0.75, acquire_timeout=30) as database:
        mark = on_behalf_of.set("greedy")
        hogs = [asyncio.create_task(database.fetchval("select pg_sleep(0.2)")) for _ in range(30)]
        on_behalf_of.set("modest")
        await asyncio.sleep(0.05)
        assert await database.fetchval("select 1") == 1
        assert not any(hog.done() for hog in hogs[3:])
        on_behalf_of.reset(mark)
        busy = "select count(*) from pg_stat_activity where application_name = 'tested' and query like '%pg_sleep(0.2)'"
        assert await database.fetchval(busy) <= 3
        hogs[-1].cancel()
        await asyncio.gather(*hogs[:-1])


async def test_connection_taken_while_all_are_forgotten_is_forgotten_too(database_dsn: str) -> None:
    async with pool(database_dsn, pool_size=2) as database:
        await asyncio.gather(*(database.fetchval("select pg_sleep(0.05)") for _ in range(2)))
        forgetting = asyncio.create_task(database.forget_connections())
        await asyncio.sleep(0)
        async with database.connection() as connection:
            old = await connection.fetchval("select pg_backend_pid()")
            await forgetting
        assert await database.fetchval("select pg_backend_pid()") != old


async def test_shares_forget_who_has_no_connection() -> None:
    shares = Shares(2)
    await shares.take("a", 1)
    await shares.take("a", 1)
    with pytest.raises(TimeoutError):
        await shares.take("a", 0.01)
    waiting = [asyncio.create_task(shares.take("a", 30)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    shares.give_back("a")
    waiting[1].cancel()  # in the moment in which its turn has come
    await asyncio.wait([waiting[1]])
    await waiting[2]
    await shares.take("b", 1)
    assert len(shares) == 2
    for client in ("a", "a", "b"):
        shares.give_back(client)
    assert len(shares) == 0


async def test_connection_is_handed_to_who_waits_for_it(database_dsn: str) -> None:
    async with pool(database_dsn, pool_size=1, client_share=1) as database:
        async with database.connection() as connection:
            first = await backend(connection)
            waiting = [other_task(database.fetchval("select pg_backend_pid()")) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        waiting[1].cancel()  # in the moment in which its turn has come
        assert await waiting[2] == first
        assert await database.fetchval("select pg_backend_pid()") == first
        assert database.connections() == {"busy": 0, "idle": 1, "most": 1}


async def test_connection_that_was_cut_leaves_its_place_to_who_waits(database_dsn: str) -> None:
    async with pool(database_dsn, pool_size=1) as database:
        async with database.connection() as connection:
            waiting = [other_task(database.fetchval("select 1")) for _ in range(3)]
            await asyncio.sleep(0)
            connection.terminate()
        assert await asyncio.gather(*waiting) == [1, 1, 1]


@pytest.mark.parametrize("failing", [True, False])
async def test_nothing_outlives_who_held_a_connection(database_dsn: str, failing: bool) -> None:
    async with pool(database_dsn, pool_size=1) as database:
        with suppress(ZeroDivisionError):
            async with database.connection() as connection:
                await connection.execute("begin; create table half_done ()")
                if failing:
                    raise ZeroDivisionError
        assert await database.fetchval("select to_regclass('half_done')") is None
        assert await database.fetchval("select pg_current_xact_id_if_assigned()") is None


async def test_connection_lost_in_a_statement_is_busy(database_dsn: str, database: Database) -> None:
    async with database.connection() as connection:
        pid = await backend(connection)
    # The pool gives the connection that was used last.
    sleeping = asyncio.create_task(database.fetchval("select pg_sleep(60)"))
    await asyncio.sleep(0.1)
    await terminate(database_dsn, pid)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await sleeping
    assert await database.fetchval("select 1") == 1


async def test_connection_lost_in_a_transaction_is_busy(database_dsn: str, database: Database) -> None:
    runs = 0

    async def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        await connection.execute("create table never ()")
        await terminate(database_dsn, await backend(connection))
        await connection.execute("select 1")

    with pytest.raises(Unavailable):
        await database.transact(work)
    assert runs == 1
    assert await database.fetchval("select to_regclass('never')") is None


@asynccontextmanager
async def silent(pid: int) -> AsyncIterator[None]:
    """Let a backend say nothing, as a machine that froze."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_database_that_says_nothing_is_given_up(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvospace.db.pool._MARGIN", 0.2)
    monkeypatch.setattr("pyvospace.db.pool._TRANSACTION", 0.5)

    async def work(connection: Connection) -> None:
        async with silent(await backend(connection)):
            await connection.execute("select 1")

    async with pool(database_dsn, statement_timeout=0.1, pool_size=1) as database:
        async with database.connection() as connection:
            pid = await backend(connection)
        async with silent(pid):
            with pytest.raises(Unavailable, match="cannot be reached"):
                await database.fetchval("select 1")
        with pytest.raises(Unavailable, match="cannot be reached"):
            await database.transact(work)
        assert await database.fetchval("select 1") == 1


async def test_database_that_came_back_is_used_again(
    database_dsn: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.gather(*(database.fetchval("select pg_sleep(0.05)") for _ in range(4)))
    connection = await asyncpg.connect(database_dsn)
    await connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    await connection.close()
    await asyncio.sleep(0.1)
    assert await asyncio.gather(*(database.fetchval("select 1") for _ in range(8))) == [1] * 8
    assert caplog.records == []


@pytest.mark.parametrize("check", [True, False])
async def test_database_that_is_away_is_busy(check: bool) -> None:
    with pytest.raises(Unavailable):
        await Database.connect(NOBODY, DatabaseSettings(check_durability=check))


async def test_cancelled_statement_leaves_the_pool_whole(database_dsn: str) -> None:
    async with pool(database_dsn, pool_size=1) as database:
        for _ in range(3):
            sleeping = asyncio.create_task(database.fetchval("select pg_sleep(60)"))
            await asyncio.sleep(0.05)
            sleeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sleeping
        assert await database.fetchval("select 1") == 1


async def test_statement_that_was_never_sent_does_not_time_out_in_another(database_dsn: str) -> None:
    """The driver has it parsed, and time begins to count, before it finds that a value does not fit."""
    async with pool(database_dsn, statement_timeout=0.2, pool_size=1) as database:
        with pytest.raises(InternalFault):
            await database.fetchval("select $1::int", "no number")
        await asyncio.sleep(0.4)
        assert await database.fetchval("select 1") == 1


async def test_statement_given_up_before_it_was_sent_does_not_time_out_in_another(
    database_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked is cancelled when the server has parsed it, and the driver has not said what to do with it."""
    parsed = asyncio.Event()
    get_statement = asyncpg.connection.Connection._get_statement  # type: ignore[attr-defined]

    async def get_and_wait(*args: Any, **options: Any) -> object:
        await get_statement(*args, **options)
        parsed.set()
        return await asyncio.Event().wait()

    async with pool(database_dsn, statement_timeout=0.2, pool_size=1) as database:
        with monkeypatch.context() as patch:
            patch.setattr("asyncpg.connection.Connection._get_statement", get_and_wait)
            given_up = asyncio.create_task(database.fetchval("select 2"))
            await parsed.wait()
            given_up.cancel()
            await asyncio.wait([given_up])
        await asyncio.sleep(0.4)
        assert await database.fetchval("select 1") == 1


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select pg_sleep(60)", ServiceBusy),
        ("select 1 / 0", InternalFault),
        ("select raise_fault('DuplicateNode', 'two words')", DuplicateNode),
    ],
)
async def test_errors_become_faults(database_dsn: str, sql: str, expected: type[Exception]) -> None:
    async with pool(database_dsn, statement_timeout=0.2, pool_size=1) as database:
        with pytest.raises(expected) as caught:
            await database.fetchval(sql)
        assert type(caught.value) is expected


async def test_server_that_takes_no_writes_is_busy(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await connection.execute("set transaction read only")
        await connection.execute("create table t ()")

    with pytest.raises(Unavailable):
        await database.transact(work)


async def test_wait_for_a_lock_is_bounded(database_dsn: str, database: Database) -> None:
    await database.fetchrow("create table t (id int primary key)")
    await database.fetchrow("insert into t values (1)")
    locked = asyncio.Event()

    async def wait() -> None:
        async with pool(database_dsn, lock_timeout=0.1) as other:
            await locked.wait()
            await other.fetchval("update t set id = 1")

    waiting = asyncio.create_task(wait())
    async with database.connection() as connection, connection.transaction():
        await connection.execute("update t set id = 1")
        locked.set()
        with pytest.raises(ServiceBusy, match="others are changing the same nodes"):
            await waiting


async def test_deadlock_is_retried_not_shown(database: Database) -> None:
    await database.fetchrow("create table t (id int primary key, n int)")
    await database.fetchrow("insert into t values (1, 0), (2, 0)")
    both = asyncio.Barrier(2)
    met = asyncio.Event()

    def worker(first: int, second: int) -> Callable[[Connection], Awaitable[None]]:
        async def work(connection: Connection) -> None:
            await connection.execute("update t set n = n + 1 where id = $1", first)
            if not met.is_set():
                await both.wait()
                met.set()
            await connection.execute("update t set n = n + 1 where id = $1", second)

        return work

    await asyncio.gather(database.transact(worker(1, 2)), database.transact(worker(2, 1)))
    assert await database.fetchval("select array_agg(n order by id) from t") == [2, 2]


async def test_tree_transactions_have_limits_of_their_own(database_dsn: str) -> None:
    async def limits(connection: Connection) -> tuple[str, str]:
        row = await connection.fetchrow(
            "select current_setting('statement_timeout') as statement, current_setting('lock_timeout') as lock"
        )
        assert row is not None
        return row["statement"], row["lock"]

    async with pool(database_dsn, pool_size=1, tree_timeout=77, statement_timeout=5, lock_timeout=3) as database:
        assert await database.transact(limits, tree=True) == ("77s", "38500ms")
        assert await database.transact(limits) == ("5s", "3s")


async def test_database_that_would_forget_is_refused(reachable_path: Path) -> None:
    data = DataDirectory(reachable_path / "data")
    cluster = Cluster(data, say=lambda _: None)
    with data.owned():
        async with Processes() as processes, cluster.running(processes) as known:
            await _check_settings(known)


async def _check_settings(known: ClusterFile) -> None:
    superuser = await asyncpg.connect(known.dsn(SUPERUSER))
    await (await Database.connect(known.dsn(DATABASE), DatabaseSettings())).close()
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        await superuser.execute(f"alter system set {setting} = off")
        await superuser.execute("select pg_reload_conf()")
        with pytest.raises(UnsafeDatabaseError, match=f"{setting} = off"):
            await _refused(known.dsn(DATABASE))
        await (await Database.connect(known.dsn(DATABASE), DatabaseSettings(check_durability=False))).close()
        await superuser.execute(f"alter system reset {setting}")
    await superuser.close()


async def _refused(dsn: str) -> None:
    """Connect until it fails: the server takes its time to read its configuration."""
    for _ in range(500):
        await (await Database.connect(dsn, DatabaseSettings())).close()
        await asyncio.sleep(0.01)


def texts(statements: list[Statement], application: str = "pyvospace") -> list[str]:
    return [one.text.partition(" ")[0] for one in statements if one.application == application]


async def test_each_call_is_one_statement(
    postgres_server: PostgresServer, database_name: str, world: World, storage: Storage
) -> None:
    owner = await world.caller("owner")
    home = await world.add("home/owner")
    with statement_log(postgres_server, database_name) as log:

        async def sent(application: str = "pyvospace") -> list[str]:
            return texts(await asyncio.to_thread(log.take), application)

        made = await nodes.insert(
            world.database, owner, ("home", "owner", "a"), kind=NodeType.DATA, changes=Changes(properties={"x": "y"})
        )
        assert made
        assert await sent() == ["with"]
        await nodes.resolve(world.database, owner, ("home", "owner", "a"))
        assert await sent() == ["with"]
        assert await nodes.update(world.database, owner, made, Changes(properties={"x": "z"}))
        assert await sent() == ["with"]
        await nodes.children(world.database, owner, home, start="", inclusive=True, limit=10)
        assert await sent() == ["select"]
        claims = await push(world, "home/owner/a", owner)
        await sent()
        claim = await storage.catalogue.claim_upload(claims, size=None)
        assert await sent("storage") == ["select"]
        await storage.store(claim, stored_file())
        assert await sent("storage") == ["BEGIN;", "select", "COMMIT;"]
        download = await pull(world, "home/owner/a", owner)
        await sent()
        await storage.catalogue.delivered(await storage.catalogue.claim_download(download))
        assert await sent("storage") == ["select", "select"]
        assert await nodes.delete(world.database, owner, await world.node("home/owner/a", owner))
        await sent()
        empty = await world.add("home/owner/b")
        await sent()
        assert await nodes.delete(world.database, owner, empty)
        # Limits, turn, place, rights, locks twice, obstacles, days in the trash, deletion; begin and commit.
        assert len(await sent()) == 11
