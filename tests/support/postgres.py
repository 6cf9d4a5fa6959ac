"""An embedded PostgreSQL for one run of the tests, in a process of its own.

Run as a program it serves until its standard input ends, that is, until the tests are over, however they end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg

from pyvospace.db.migrations import migrate
from pyvospace.supervisor.data import DATABASE, SUPERUSER, ClusterFile, DataDirectory
from pyvospace.supervisor.postgres import Cluster
from pyvospace.supervisor.processes import Processes

UNSAFE_AND_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "200",
}
_MEMORY = Path("/dev/shm")
_PLENTY = 8 << 30
"""Bytes that have to be free in memory: databases of tests are made five times as fast there."""


@dataclass(frozen=True)
class PostgresServer:
    """The server of the tests; its database `pyvospace` is the template of all others."""

    cluster: ClusterFile
    log: Path
    """Where the server logs, statements too if a test asks for it."""

    def dsn(self, database: str, role: str = DATABASE) -> str:
        """Give the DSN of a database."""
        return self.cluster.dsn(role, database)

    @contextlib.contextmanager
    def clone(self) -> Iterator[str]:
        """Have a fresh database with all migrations; give its name."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(f"create database {name} template {DATABASE} owner {DATABASE} strategy file_copy")
        try:
            yield name
        finally:
            self.execute(f"drop database {name} with (force)")

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as superuser."""

        async def work() -> None:
            connection = await asyncpg.connect(self.dsn(database, SUPERUSER))
            await connection.execute(statement)
            await connection.close()

        with ThreadPoolExecutor(1) as thread:  # where no loop runs, unlike here in an asynchronous test
            thread.submit(lambda: asyncio.run(work())).result()


@contextlib.contextmanager
def reachable_directory(*, quick: bool = False) -> Iterator[Path]:
    """Have a directory that PostgreSQL's account can enter, which pytest's own are not if root runs the tests.

    `quick`: in memory, if there is plenty of it.
    """
    in_memory = quick and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _PLENTY
    path = Path(tempfile.mkdtemp(prefix="pyvospace-test-", dir=_MEMORY if in_memory else None))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server."""
    with reachable_directory(quick=True) as directory:
        data = DataDirectory(directory / "data")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYVOSPACE_DATA")}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.postgres", str(data.path)],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("no PostgreSQL for the tests; what is wrong stands above")
        try:
            yield PostgresServer(ClusterFile(**json.loads(line)), data.log)
        finally:
            process.communicate()


async def _serve(data: DataDirectory) -> None:
    processes = Processes()
    cluster = Cluster(data, say=lambda _: None, options=UNSAFE_AND_QUICK)
    async with processes, cluster.running(processes) as known:
        await migrate(known.dsn(DATABASE))
        sys.stdout.write(json.dumps(asdict(known)) + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    _data = DataDirectory(Path(sys.argv[1]))
    with _data.owned():
        asyncio.run(_serve(_data))
