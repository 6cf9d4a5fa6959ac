"""A pair that speaks SFTP too, and the door to its space."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
import pytest

from pyvospace.db import ssh_keys
from pyvospace.db.pool import Database
from pyvospace.model.callers import Scope
from pyvospace.model.ssh_keys import fingerprint
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.doors.clients import Way
from tests.support.pair import Pair, free_ports, running_pair
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def sftp_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both servers, running; the storage server gives endpoints for SFTP."""
    port = free_ports(1)[0]
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {
            "PYVOSPACE_STORAGE__PROTOCOLS": json.dumps({"sftp": {"port": port}}),
            "PYVOSPACE_LIMITS__PAGE": "50",
        }
        data = tmp_path_factory.mktemp("sftp")
        with running_pair(dsn, data, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


@dataclass
class OpenDoor:
    """A door to the space of a pair, and keys of its users."""

    pair: Pair
    keys: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Open it."""
        environment = self.pair.server_environment() | {
            "PYVOSPACE_SFTP__PORT": str(self.port),
            "PYVOSPACE_SFTP__DATA": str(self.pair.data / "door"),
            "PYVOSPACE_SFTP__PASSWORDS": "true",
        }
        with (self.pair.data / "door.log").open("ab") as log:
            command = [sys.executable, "-m", "pyvospace", "sftp"]
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(self.pair.log("door"))

    def stop(self, *, kill: bool = False) -> None:
        """Close it."""
        assert self.process is not None
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(15)

    def add_key(self, user: str, scope: Scope | None = None) -> tuple[Path, int]:
        """Make a key that speaks for a user; give its file and its number."""
        file = self.keys / f"{user}-{len(list(self.keys.iterdir()))}"
        made = asyncssh.generate_private_key("ssh-ed25519", f"{user} at home")
        made.write_private_key(file)
        file.chmod(0o600)
        made.write_public_key(f"{file}.pub")

        async def work() -> int:
            database = await Database.connect(self.pair.dsn, self.pair.database)
            try:
                print_of = fingerprint(Path(f"{file}.pub").read_text())
                return await ssh_keys.add(database, user, "test", print_of, scope=scope)
            finally:
                await database.close()

        return file, asyncio.run(work())

    def way(self, user: str = "alice", password: str | None = None) -> Way:
        """Say how a user gets there."""
        return Way("127.0.0.1", self.port, user, password)

    def place(self, path: str = "", user: str = "alice") -> str:
        """Say the same to OpenSSH."""
        return f"sftp://{user}@127.0.0.1:{self.port}/{path}"


@contextmanager
def open_door(pair: Pair, keys: Path) -> Iterator[OpenDoor]:
    """Open a door for a while."""
    door = OpenDoor(pair, keys)
    door.start()
    try:
        yield door
    finally:
        door.stop()


@pytest.fixture(scope="session")
def door(sftp_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoor]:
    """The door to the space of `sftp_pair`."""
    with open_door(sftp_pair, tmp_path_factory.mktemp("keys")) as opened:
        yield opened


@pytest.fixture(scope="session")
def key(door: OpenDoor) -> Path:
    """A key of alice."""
    return door.add_key("alice")[0]
