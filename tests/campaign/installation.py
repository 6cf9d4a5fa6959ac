"""What the campaign strikes: PostgreSQL, a metadata server, and two storage servers.

``storage`` keeps files on a disk, ``second`` keeps objects in an S3 store. If we may, metadata server and ``storage``
run in a sandbox; all reach PostgreSQL by TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyvospace.supervisor.data import DATABASE as DATABASE_NAME
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.campaign.relay import Relay
from tests.campaign.sandbox import Sandbox
from tests.campaign.source import Source
from tests.e2e.durable import DurablePostgres, durable_postgres
from tests.support.engines.flaky_s3 import Flaky, flaky_s3
from tests.support.engines.stores import Engine, keep
from tests.support.pair import Pair, free_ports

SERVERS: Final = ("metadata", "storage", "second")
BUCKET: Final = "campaign"
LEASE: Final = 8.0
CALM: Final = {
    # Longer than a commit takes here; much shorter than in real life.
    "PYVOSPACE_STORAGE__SWEEP_GRACE": "30",
    "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "2",
    "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "5",
}
AT_ONCE: Final = {
    # Objects that fsck writes to find out what a store can do have to live a moment.
    "PYVOSPACE_STORAGE__SWEEP_GRACE": "1.5",
    "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "0.5",
    "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "0.1",
    "PYVOSPACE_PARTIAL_UPLOADS__LIFE": "1",
}
_LIMITS: Final = {
    "PYVOSPACE_DATABASE__ACQUIRE_TIMEOUT": "3",
    "PYVOSPACE_DATABASE__UPLOAD_ACQUIRE_TIMEOUT": "10",
    "PYVOSPACE_DATABASE__STATEMENT_TIMEOUT": "5",
    "PYVOSPACE_STORAGE__IDLE_TIMEOUT": "10",
    "PYVOSPACE_PARTIAL_UPLOADS__LIFE": "20",
    "PYVOSPACE_PLACEMENT__INTERVAL": "1",
    "PYVOSPACE_OUTGOING__PORTS": "1-65535",
    "PYVOSPACE_JOBS__LEASE": str(LEASE),
    "PYVOSPACE_JOBS__ATTEMPTS": "100",
}
_LOCAL: Final = "127.0.0.1"
_RESTARTS: Final = 5
_PATIENCE: Final = 30.0


class Site(Pair):
    """A pair with a second storage server, in a sandbox if there is one."""

    def prepare(self, way: Mapping[str, str], store: Mapping[str, str], box: Sandbox | None) -> None:
        """Say how servers reach PostgreSQL from inside and outside, and the second one its store."""
        self.second_port = free_ports(1)[0]
        self._way = way
        self._store = store
        self._box = box

    @property
    def url(self) -> str:
        """Base URL of the metadata server."""
        return f"http://{self._inside}:{self.port}"

    @property
    def storage_url(self) -> str:
        """Base URL of the storage server."""
        return f"http://{self._inside}:{self.storage_port}"

    @property
    def second_url(self) -> str:
        """Base URL of the second one."""
        return f"http://{self._outside}:{self.second_port}"

    @property
    def _inside(self) -> str:
        return self._box.inside if self._box else _LOCAL

    @property
    def _outside(self) -> str:
        return self._box.outside if self._box else _LOCAL

    def start(self, *names: str) -> None:
        """Start servers and wait until they answer."""
        for name in names or SERVERS:
            self._launch(name)
        for name in names or SERVERS:
            for _ in range(_RESTARTS):
                try:
                    self._wait(name)
                    break
                except AssertionError:
                    if self.processes[name].poll() is None:
                        raise
                    self._launch(name)  # as whoever keeps a service running does
            else:
                raise AssertionError(f"{name} does not start:\n{self.log(name)[-3000:]}")

    def _launch(self, name: str) -> None:
        words = [sys.executable, "-m", "pyvospace", "metadata" if name == "metadata" else "storage"]
        with (self.data / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self._in_place(name, words),
                env=self._environment_of(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def check(self, name: str, *options: str) -> str:
        """Have fsck look at the catalogue, or at a store, as its operator would; give what it finds."""
        words = [sys.executable, "-m", "pyvospace", "fsck", *options]
        done = subprocess.run(
            self._in_place(name, words),
            env=self._environment_of(name),
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
        return "" if done.returncode == 0 else f"fsck {' '.join(options)} of {name}: {done.stdout}{done.stderr}"

    def _in_place(self, name: str, words: list[str]) -> list[str]:
        return words if self._box is None or name == "second" else self._box.command(*words)

    def _environment_of(self, name: str) -> dict[str, str]:
        inside = name != "second"
        host = self._box.database if self._box and inside else _LOCAL
        ways = {key: value.replace("@HOST", f"@{host}") for key, value in self._way.items()}
        common = {**self.server_environment(), **_LIMITS, **ways, **self.environment}
        common["PYVOSPACE_OUTGOING__ALLOW"] = self._outside
        common |= {"PYVOSPACE_METADATA__HOST": self._inside, "PYVOSPACE_STORAGE__HOST": self._inside}
        if name != "second":
            place = self._box.disk if self._box else self.data
            return {**common, "PYVOSPACE_STORAGE__PATH": str(place / "storage")}
        return {
            **common,
            "PYVOSPACE_STORAGE__HOST": self._outside,
            "PYVOSPACE_STORAGE__PORT": str(self.second_port),
            "PYVOSPACE_STORAGE__PUBLIC_URL": self.second_url,
            "PYVOSPACE_STORAGE__NAME": "second",
            "PYVOSPACE_STORAGE__BACKEND": "s3",
            "PYVOSPACE_STORAGE__OPTIONS": json.dumps(dict(self._store)),
        }

    def answers(self, name: str) -> bool:
        """Tell whether a server is ready."""
        try:
            urllib.request.urlopen(f"{self._base(name)}/readyz", timeout=5).close()
        except OSError:
            return False
        return True

    def _base(self, name: str) -> str:
        return {"metadata": self.url, "storage": self.storage_url, "second": self.second_url}[name]

    def _wait(self, name: str) -> None:
        url = self.url + "/capabilities" if name == "metadata" else self._base(name) + "/livez"
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self.processes[name].poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=5).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"{name} does not answer:\n{self.log(name)[-3000:]}")


@dataclass(frozen=True)
class Installation:
    """All of it."""

    site: Site
    postgres: DurablePostgres
    relay: Relay
    engine: Engine
    flaky: Flaky
    source: Source
    box: Sandbox | None
    without: str
    """Why there is no sandbox."""

    @property
    def files(self) -> Path:
        """Where ``storage`` keeps its files, seen from here."""
        if self.box is None:
            return self.site.data / "storage"
        return self.box.seen(self.box.disk / "storage")


@contextlib.asynccontextmanager
async def installation(folder: Path) -> AsyncIterator[Installation]:
    """Have everything running."""
    async with contextlib.AsyncExitStack() as stack:
        postgres = await asyncio.to_thread(stack.enter_context, durable_postgres())
        without = await asyncio.to_thread(Sandbox.missing)
        box = None if without else await asyncio.to_thread(Sandbox, folder)
        if box is not None:
            stack.callback(box.close)
        engine = await _store(stack, folder)
        flaky = await stack.enter_async_context(flaky_s3(engine.endpoint))
        relay = Relay(Path(postgres.cluster.socket) / ".s.PGSQL.5432")
        stack.push_async_callback(relay.close)
        await relay.start(_LOCAL, *([box.database] if box else []))
        source = Source(random.Random(0))
        stack.push_async_callback(source.close)
        await source.start(box.outside if box else _LOCAL)
        site = await asyncio.to_thread(Site, postgres.dsn, folder, storage_dsn=postgres.storage_dsn, environment=CALM)
        site.prepare(_way(postgres, relay.port), _options(engine, flaky, folder), box)
        stack.push_async_callback(asyncio.to_thread, site.stop)
        await asyncio.to_thread(site.start)
        yield Installation(site, postgres, relay, engine, flaky, source, box, without)


async def _store(stack: contextlib.AsyncExitStack, folder: Path) -> Engine:
    state = folder / "moto.json"
    keeper = await asyncio.to_thread(keep, "moto", state, os.getpid())
    stack.callback(keeper.wait)
    stack.callback(keeper.terminate)
    engine = Engine(**json.loads(state.read_text()))
    await asyncio.to_thread(lambda: engine.client().create_bucket(Bucket=BUCKET))
    return engine


def _way(postgres: DurablePostgres, port: int) -> dict[str, str]:
    """Give the DSNs of the servers, whose host is still to be filled in."""
    dsns = {}
    for name, role in (("DSN", DATABASE_NAME), ("STORAGE_DSN", STORAGE_ROLE)):
        login = postgres.cluster.login(role)
        dsns[f"PYVOSPACE_DATABASE__{name}"] = (
            f"postgresql://{login.name}:{login.password}@HOST:{port}/{DATABASE_NAME}?sslmode=disable"
        )
    return dsns


def _options(engine: Engine, flaky: Flaky, folder: Path) -> dict[str, str]:
    return {
        "bucket": BUCKET,
        "endpoint": flaky.url,
        "credentials": str(engine.credentials(folder)),
        "part_size": "5 MiB",
        "read_size": "1 MiB",
        "read_timeout": "5",
        "memory": "64 MiB",
    }
