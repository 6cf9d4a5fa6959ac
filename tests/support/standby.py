"""A replica of the PostgreSQL of the tests, by streaming replication: a server that can be held, killed, promoted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from pyvospace.db.provision import answers
from pyvospace.supervisor.data import DATABASE, SUPERUSER
from tests.support.postgres import UNSAFE_AND_QUICK, PostgresServer, reachable_directory

_PATIENCE = 30.0
_LEFT_OUT = shutil.ignore_patterns("postmaster.*", "pgsql_tmp", "pg_stat_tmp", "*.log")


@dataclass
class Standby:
    """A replica, running or not."""

    server: PostgresServer
    folder: Path
    program: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def dsn(self, database: str, role: str = DATABASE) -> str:
        """Give the DSN of a database there."""
        return replace(self.server.cluster, socket=str(self.folder)).dsn(role, database)

    def start(self) -> None:
        """Start it, and wait until it lets anybody in."""
        owner = (self.folder / "data").stat()
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        options = {
            **UNSAFE_AND_QUICK,
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [self.program, "-D", self.folder / "data", *words]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **account)  # type: ignore[call-overload]
        end = time.monotonic() + _PATIENCE
        while not _run(answers(self.dsn("postgres", SUPERUSER))):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        assert self.process is not None
        first = psutil.Process(self.process.pid)
        for process in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as if its machine had lost power."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    def execute(self, statement: str) -> None:
        """Run a statement there as superuser."""
        _run(_execute(self.dsn("postgres", SUPERUSER), statement))


@contextlib.contextmanager
def standby(server: PostgresServer) -> Iterator[Standby]:
    """Make a replica of the server of the tests, and run it."""
    slot = f"standby_{secrets.token_hex(4)}"
    server.execute(f"select pg_create_physical_replication_slot('{slot}', true)")
    with reachable_directory(quick=True) as folder:
        made = Standby(server, folder, Path())
        try:
            made.program = _run(_copy(server, folder, slot))
            made.start()
            yield made
        finally:
            made.kill()
            server.execute(
                f"select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = '{slot}'"
            )
            server.execute(f"select pg_drop_replication_slot('{slot}')")


async def _copy(server: PostgresServer, folder: Path, slot: str) -> Path:
    """Copy the files of the primary while it runs; give the program that works on them."""
    primary = await asyncpg.connect(server.dsn("postgres", SUPERUSER))
    source, target = Path(await primary.fetchval("show data_directory")), folder / "data"
    await primary.execute("select pg_backup_start('standby', true)")
    shutil.copytree(source, target, ignore=_LEFT_OUT)
    shutil.rmtree(target / "pg_replslot")
    (target / "pg_replslot").mkdir()
    for segment in (target / "pg_wal").iterdir():
        if segment.is_file():
            segment.unlink()
    (target / "backup_label").write_text(await primary.fetchval("select labelfile from pg_backup_stop(false)"))
    await primary.close()
    (target / "standby.signal").touch()
    cluster = server.cluster
    login = f"host={cluster.socket} port=5432 user={SUPERUSER} password={cluster.passwords[SUPERUSER]}"
    with (target / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"primary_conninfo = '{login}'\nprimary_slot_name = '{slot}'\n")
    owner = source.stat()
    for path in (folder, target, *target.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    target.chmod(0o700)
    pid = int((source / "postmaster.pid").read_text().split()[0])
    return Path(psutil.Process(pid).exe())


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement)
    await connection.close()


def _run(work: Any) -> Any:
    """Run a coroutine where no loop runs, unlike in an asynchronous test."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work)).result()
