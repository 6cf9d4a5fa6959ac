"""A PostgreSQL that loses nothing and may be killed, in a process of its own: it comes back at once.

Run as a program it serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pyvospace.db.migrations import migrate
from pyvospace.db.provision import answers
from pyvospace.supervisor import processes
from pyvospace.supervisor.data import DATABASE, STORAGE_ROLE, SUPERUSER, ClusterFile, DataDirectory
from pyvospace.supervisor.postgres import Cluster
from pyvospace.supervisor.processes import Processes
from tests.support.postgres import reachable_directory

_PATIENCE = 60.0


@dataclass(frozen=True)
class DurablePostgres:
    """The server."""

    cluster: ClusterFile
    data: DataDirectory

    @property
    def dsn(self) -> str:
        """How a metadata server reaches it."""
        return self.cluster.dsn(DATABASE)

    @property
    def storage_dsn(self) -> str:
        """How a storage server reaches it."""
        return self.cluster.dsn(STORAGE_ROLE)

    def kill(self) -> None:
        """Kill its main process with SIGKILL; all others die with it."""
        home = Path(self.cluster.home) if self.cluster.home else self.data.database
        (mark,) = home.glob("pg*/postmaster.pid")
        os.kill(int(mark.read_text().split()[0]), signal.SIGKILL)

    def wait(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + _PATIENCE
        while not asyncio.run(answers(self.cluster.dsn(SUPERUSER, "postgres"))):
            if time.monotonic() > end:
                raise TimeoutError(self.data.log.read_text()[-3000:])
            time.sleep(0.05)


@contextlib.contextmanager
def durable_postgres() -> Iterator[DurablePostgres]:
    """Run a server with all migrations and all its safety on."""
    with reachable_directory() as directory:
        data = DataDirectory(directory / "data")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.durable", str(data.path)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("no PostgreSQL for the campaign; what is wrong stands above")
        try:
            yield DurablePostgres(ClusterFile(**json.loads(line)), data)
        finally:
            process.communicate()


async def _serve(data: DataDirectory) -> None:
    running = Processes()
    async with running, Cluster(data, say=lambda _: None).running(running) as known:
        await migrate(known.dsn(DATABASE))
        sys.stdout.write(json.dumps(asdict(known)) + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    # It is meant to fall, again and again.
    processes.FIRST_PAUSE = processes.LONGEST_PAUSE = 0.05
    _data = DataDirectory(Path(sys.argv[1]))
    with _data.owned():
        asyncio.run(_serve(_data))
