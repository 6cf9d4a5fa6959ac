"""A pair with more storage servers beside its own, each of a place of its own."""

from __future__ import annotations

import asyncio
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyvospace.db.pool import Database
from tests.support.forking import Forked
from tests.support.pair import free_ports

if TYPE_CHECKING:
    from asyncpg import Record

    from tests.support.pair import Pair

_PATIENCE = 30.0


@dataclass
class Fleet:
    """Storage servers by the names of their places; the pair's own is called ``first``."""

    pair: Pair
    ports: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Mapping[str, str]] = field(default_factory=dict)
    processes: dict[str, Forked] = field(default_factory=dict)

    def add(self, name: str, **settings: str) -> None:
        """Start one more, with settings of the section ``storage`` beside the usual ones."""
        self.ports[name] = free_ports(1)[0]
        self.settings[name] = settings
        self.start(name)

    def url(self, name: str) -> str:
        return f"http://localhost:{self.ports[name]}"

    def start(self, name: str) -> None:
        environment = {
            **self.pair.server_environment(),
            "PYVOSPACE_STORAGE__NAME": name,
            "PYVOSPACE_STORAGE__PORT": str(self.ports[name]),
            "PYVOSPACE_STORAGE__PUBLIC_URL": self.url(name),
            "PYVOSPACE_STORAGE__PATH": str(self.pair.data / name),
            **{f"PYVOSPACE_STORAGE__{key.upper()}": value for key, value in self.settings[name].items()},
        }
        with (self.pair.data / f"{name}.log").open("ab") as log:
            self.processes[name] = Forked(["storage"], environment, log=log.fileno())
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self.processes[name].poll() is None:
            with suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(self.url(name) + "/livez", timeout=5).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"{name} does not answer:\n{self.pair.log(name)}")

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def ask(self, statement: str, *values: object) -> list[Record]:
        """Ask the catalogue, or change it."""
        database = await Database.connect(self.pair.dsn, self.pair.database)
        try:
            return list(await database.fetch(statement, *values))
        finally:
            await database.close()

    async def until(self, statement: str, *values: object) -> None:
        """Wait until the first column of the first row is true."""
        database = await Database.connect(self.pair.dsn, self.pair.database)
        try:
            end = time.monotonic() + _PATIENCE
            while not await database.fetchval(statement, *values):
                assert time.monotonic() < end, statement + "\n".join(self.pair.log(name)[-2000:] for name in self.ports)
                await asyncio.sleep(0.1)
        finally:
            await database.close()

    def files(self, name: str) -> list[str]:
        """Locations of the files that a place has published."""
        top = self.pair.data / name / "data"
        return sorted(str(one.relative_to(top)) for one in top.rglob("*") if one.is_file())
