import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from pyvospace.supervisor import SupervisorError, postgres, processes
from pyvospace.supervisor.accounts import Account, launch, unprivileged
from pyvospace.supervisor.binaries import locate, reachable
from pyvospace.supervisor.data import DATABASE, SUPERUSER, ClusterFile, DataDirectory
from pyvospace.supervisor.postgres import Cluster
from pyvospace.supervisor.processes import Processes
from tests.support.postgres import UNSAFE_AND_QUICK, reachable_directory

PATIENCE = 30.0
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL runs as another account for root alone")


@pytest.fixture
def data(reachable_path: Path) -> DataDirectory:
    return DataDirectory(reachable_path / "data")


@asynccontextmanager
async def running(data: DataDirectory, said: list[str] | None = None, **options: str) -> AsyncIterator[ClusterFile]:
    group = Processes()
    cluster = Cluster(data, say=(said if said is not None else []).append, options={**UNSAFE_AND_QUICK, **options})
    with data.owned():
        async with group, cluster.running(group) as known:
            yield known


async def value(known: ClusterFile, statement: str) -> object:
    connection = await asyncpg.connect(known.dsn(DATABASE))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def postmaster(data: DataDirectory, known: ClusterFile) -> psutil.Process:
    home = Path(known.home) if known.home else data.database
    [mark] = home.glob("pg*/postmaster.pid")
    return psutil.Process(int(mark.read_text().split()[0]))


async def test_data_survive(data: DataDirectory) -> None:
    said: list[str] = []
    async with running(data, said) as known:
        await value(known, "create table kept as select 42 as answer")
        server = postmaster(data, known)
    assert not server.is_running()
    async with running(data, said) as known:
        assert await value(known, "select answer from kept") == 42
    assert said == ["making a database"]
    assert data.cluster_file.stat().st_mode & 0o777 == 0o600


async def test_it_never_runs_as_root_and_shows_no_password(data: DataDirectory) -> None:
    async with running(data) as known:
        family = [server := postmaster(data, known), *server.children()]
        assert all(process.uids().effective != 0 for process in family)
        shown = " ".join(word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or ())
        for password in known.passwords.values():
            assert password not in shown
            assert password not in str(server.environ())
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(known.dsn(SUPERUSER).replace(known.passwords[SUPERUSER], "guess"))
        assert (await value(known, "show listen_addresses")) == ""
        assert Path(known.socket).stat().st_mode & 0o777 == 0o700


async def test_it_is_started_again_when_killed(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.01)
    async with running(data) as known:
        await value(known, "create table kept as select 42 as answer")
        postmaster(data, known).kill()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert await value(known, "select answer from kept") == 42
                    break
                except (OSError, asyncpg.PostgresError):
                    await asyncio.sleep(0.02)


async def test_a_server_that_nobody_watches_is_stopped_first(data: DataDirectory) -> None:
    async with running(data):
        pass
    [database] = data.database.glob("pg*")
    binaries = await reachable(locate(), unprivileged(), postgres.OUTSIDE)
    command = [binaries.program("postgres"), "-D", str(database), "-c", f"unix_socket_directories={data.database}"]
    orphan = subprocess.Popen(
        launch(
            [*command, "-c", "listen_addresses="], account=unprivileged(), on_orphaned=signal.Signals(signal.SIGWINCH)
        ),
        stderr=subprocess.DEVNULL,
    )
    async with asyncio.timeout(PATIENCE):
        while not (data.database / ".s.PGSQL.5432.lock").exists():
            await asyncio.sleep(0.01)
    said: list[str] = []
    waiting = asyncio.create_task(asyncio.to_thread(orphan.wait))  # as init would
    async with running(data, said) as known:
        assert await value(known, "select 1") == 1
        assert postmaster(data, known).pid != orphan.pid
    assert said == ["waiting for the PostgreSQL of an earlier run to stop"]
    assert await waiting == 0


async def test_marks_of_the_dead_whose_number_lives_on(data: DataDirectory) -> None:
    async with running(data):
        pass
    [database] = data.database.glob("pg*")
    for mark in (database / "postmaster.pid", data.database / ".s.PGSQL.5432.lock"):
        mark.write_text(f"{os.getppid()}\n{database}\n1700000000\n5432\n{data.database}\n\n\n")
    async with running(data) as known:
        assert await value(known, "select 1") == 1


async def test_an_interrupted_first_start(data: DataDirectory) -> None:
    with data.owned():
        data.database.mkdir(mode=0o700)
        if account := unprivileged():
            os.chown(data.database, account.uid, account.gid)
        (data.database / "new").mkdir()
        (data.database / "new/PG_VERSION").write_text("18")
        (data.database / "password").write_text("")
    async with running(data) as known:
        assert await value(known, "select 1") == 1
    assert [path.name for path in data.database.iterdir()] == [path.name for path in data.database.glob("pg*")]


async def test_a_long_path(reachable_path: Path) -> None:
    data = DataDirectory(reachable_path / ("long" * 25))
    async with running(data) as known:
        assert len(known.socket) < 90
        assert await value(known, "select 1") == 1
    assert not Path(known.socket).exists()


async def test_a_path_with_odd_characters(reachable_path: Path) -> None:
    data = DataDirectory(reachable_path / "a \"b\", 'c' é")
    async with running(data) as known:
        assert await value(known, "select 1") == 1


async def test_another_version_is_named(data: DataDirectory) -> None:
    async with running(data):
        pass
    [database] = data.database.glob("pg*")
    database.rename(database.with_name("pg14"))
    with pytest.raises(SupervisorError, match=r"pg14 is of another version than .* dump and restore it"):
        async with running(data):
            pass


async def test_lost_passwords_are_named(data: DataDirectory) -> None:
    async with running(data):
        pass
    data.cluster_file.unlink()
    with pytest.raises(SupervisorError, match=r"database\.json, with its passwords, is missing"):
        async with running(data):
            pass


async def test_what_keeps_it_from_starting_is_told(data: DataDirectory) -> None:
    with pytest.raises(SupervisorError, match=r'PostgreSQL does not start: .*"max_connections": "many"'):
        async with running(data, max_connections="many"):
            pass


async def test_the_log_does_not_grow_for_ever(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_LARGEST_LOG", 10)
    async with running(data):
        pass
    old = data.log.read_text()
    async with running(data):
        pass
    assert data.log.with_name("postgres.log.1").read_text() == old


@as_root
async def test_data_where_its_account_cannot_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reachable_directory() as outside:
        monkeypatch.setattr(postgres, "OUTSIDE", outside / "lib")
        tmp_path.chmod(0o700)
        data = DataDirectory(tmp_path / "data")
        said: list[str] = []
        async with running(data, said) as known:
            await value(known, "create table kept as select 42 as answer")
        async with running(data) as known:
            assert await value(known, "select answer from kept") == 42
        home = Path(known.home)
        assert home.is_relative_to(outside)
        assert said[0] == f"PostgreSQL's account cannot enter {data.path}, so the database is in {home.parent}"
        assert tmp_path.stat().st_mode & 0o777 == 0o700

        data.cluster_file.unlink()  # with the data, say
        said.clear()
        async with running(data, said) as known:
            assert Path(known.home) != home
        assert said[0].startswith(f"{home.parent} is the database of data that were in {data.path}")


@as_root
async def test_it_keeps_its_account(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Account("nobody", 65534, 65534)
    monkeypatch.setattr(postgres, "unprivileged", lambda: nobody)
    async with running(data):
        pass
    monkeypatch.undo()
    async with running(data) as known:
        assert postmaster(data, known).uids().effective == 65534
