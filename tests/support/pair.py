"""A real pair for tests: metadata and storage server as processes of their own, on a database of their own."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db.bootstrap import add_user, bootstrap, create_token
from pyvospace.db.pool import Database
from tests.support import forking
from tests.support.forking import Forked

AUTHORITY = "localhost~space"
PREFIXES = ("ivo://localhost/space/gms?", "ivo://cadc.nrc.ca/gms?")
_PATIENCE = 30.0


def free_ports(number: int) -> list[int]:
    """Find ports in a row that nobody listens at, below those that the system gives to connections that go out."""
    while True:
        first = 20_000 + secrets.randbelow(12_000)
        ports = list(range(first, first + number))
        with suppress(OSError), ExitStack() as stack:
            for port in ports:
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return ports


@dataclass
class Pair:
    """Two servers that can be started, killed and started again."""

    dsn: str
    data: Path
    storage_dsn: str = ""
    """Of the storage server; empty: the same."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings beside the usual ones, as PYVOSPACE_… variables."""
    tls: tuple[Path, Path] | None = None
    """Certificate and key."""
    context: SSLContext | None = None
    """Trusts the certificate."""
    user: str = "alice"
    authority: str = AUTHORITY
    workers: int = 1
    token: str = ""
    admin_token: str = ""
    processes: dict[str, subprocess.Popen[bytes] | Forked] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port, self.storage_port = free_ports(2)
        made = asyncio.run(
            bootstrap(
                self.dsn,
                settings=self.database,
                authority=self.authority,
                group_prefixes=PREFIXES,
                user=self.user,
            )
        )
        self.token = made.token or ""
        self.admin_token = self.token_for("admin")

    @property
    def database(self) -> DatabaseSettings:
        """How the tests themselves reach the database."""
        return DatabaseSettings(check_durability=False)

    @property
    def home(self) -> str:
        """Path of the user's home."""
        return f"/home/{self.user}"

    @property
    def url(self) -> str:
        """Base URL of the metadata server."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    @property
    def storage_url(self) -> str:
        """Base URL of the storage server."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.storage_port}"

    def uri(self, path: str) -> str:
        """Give the URI of a node below the home."""
        return f"vos://{self.authority}{self.home}/{path}"

    def start(self, *names: str) -> None:
        """Start the servers, or those named, and wait until they answer."""
        for name in names or ("metadata", "storage"):
            with (self.data / f"{name}.log").open("ab") as log:
                self.processes[name] = forking.start([name], self.server_environment(), log=log.fileno())
        for name in names or ("metadata", "storage"):
            self._wait(name)

    def server_environment(self) -> dict[str, str]:
        """Give the environment in which the servers run."""
        paths: dict[str, str] = {}
        if self.tls:
            for server in ("METADATA", "STORAGE"):
                paths[f"PYVOSPACE_{server}__TLS_CERT"] = str(self.tls[0])
                paths[f"PYVOSPACE_{server}__TLS_KEY"] = str(self.tls[1])
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYVOSPACE_", "VOSPACE_"))}
        return {
            **kept,
            "PYVOSPACE_DATABASE__DSN": self.dsn,
            "PYVOSPACE_DATABASE__STORAGE_DSN": self.storage_dsn or self.dsn,
            "PYVOSPACE_DATABASE__CHECK_DURABILITY": "false",
            "PYVOSPACE_AUTHORITY": self.authority,
            "PYVOSPACE_METADATA__HOST": "127.0.0.1",
            "PYVOSPACE_METADATA__PORT": str(self.port),
            "PYVOSPACE_METADATA__PUBLIC_URL": self.url,
            "PYVOSPACE_METADATA__WORKERS": str(self.workers),
            "PYVOSPACE_STORAGE__HOST": "127.0.0.1",
            "PYVOSPACE_STORAGE__PORT": str(self.storage_port),
            "PYVOSPACE_STORAGE__PUBLIC_URL": self.storage_url,
            "PYVOSPACE_STORAGE__WORKERS": str(self.workers),
            "PYVOSPACE_STORAGE__PATH": str(self.data / "storage"),
            "PYVOSPACE_STORAGE__HEARTBEAT": "1",
            # Tests run wherever there is room, also on disks that are nearly full.
            "PYVOSPACE_STORAGE__RESERVE": "0",
            # All tests come from one address.
            "PYVOSPACE_LOGINS__FAILURES_OF_ADDRESS": "1000000",
            "PYVOSPACE_LOGINS__LONGEST_DELAY": "0.05",
            **paths,
            **self.environment,
        }

    def _wait(self, name: str) -> None:
        url = self.url + "/capabilities" if name == "metadata" else self.storage_url + "/livez"
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self.processes[name].poll() is None:
            try:
                urllib.request.urlopen(url, timeout=5, context=self.context).close()
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{name} does not answer:\n{self.log(name)}")

    def stop(self) -> None:
        """Stop what runs, as Ctrl-C would."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self, name: str) -> None:
        """Kill a server with SIGKILL."""
        self.processes[name].kill()
        self.processes[name].wait()

    def log(self, name: str) -> str:
        """Give what a server has logged."""
        return (self.data / f"{name}.log").read_text(errors="replace")

    def add_user(self, name: str) -> str:
        """Add a user with a home and give a token of his."""

        async def work() -> None:
            database = await Database.connect(self.dsn, self.database)
            try:
                await add_user(database, name)
            finally:
                await database.close()

        asyncio.run(work())
        return self.token_for(name)

    def token_for(self, name: str) -> str:
        """Make another token for a user."""

        async def work() -> str:
            database = await Database.connect(self.dsn, self.database)
            try:
                return await create_token(database, name, "test")
            finally:
                await database.close()

        return asyncio.run(work())


@contextmanager
def running_pair(dsn: str, data: Path, **options: object) -> Iterator[Pair]:
    """Run a pair for the time of a test."""
    pair = Pair(dsn, data, **options)  # type: ignore[arg-type]
    try:
        pair.start()
        yield pair
    finally:
        pair.stop()
