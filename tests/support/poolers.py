"""PgBouncer before the PostgreSQL of the tests, in transaction mode, with fewer sessions than clients."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pyvospace.supervisor.data import DATABASE, STORAGE_ROLE
from tests.support.postgres import PostgresServer, reachable_directory

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
MISSING = "no pgbouncer: see ./dev"
_PATIENCE = 20.0
_SETTINGS = """
[databases]
* = host={postgres} port=5432

[pgbouncer]
pool_mode = transaction
default_pool_size = 3
max_client_conn = 500
listen_port = 5432
unix_socket_dir = {folder}
auth_type = scram-sha-256
auth_file = {folder}/users.txt
"""


@dataclass(frozen=True)
class Pooler:
    """A pooler that runs."""

    server: PostgresServer
    folder: Path
    pid: int

    def dsn(self, database: str, role: str = DATABASE) -> str:
        """Give the DSN of a database, by way of the pooler."""
        return replace(self.server.cluster, socket=str(self.folder)).dsn(role, database)

    def environment(self, database: str) -> dict[str, str]:
        """Give the settings of servers that come by way of it."""
        return {
            "PYVOSPACE_DATABASE__DSN": self.dsn(database),
            "PYVOSPACE_DATABASE__DIRECT_DSN": self.server.dsn(database),
            "PYVOSPACE_DATABASE__STORAGE_DSN": self.dsn(database, STORAGE_ROLE),
            "PYVOSPACE_DATABASE__STORAGE_DIRECT_DSN": self.server.dsn(database, STORAGE_ROLE),
        }


@contextlib.contextmanager
def pooler(server: PostgresServer) -> Iterator[Pooler]:
    """Run one, under the account of PostgreSQL."""
    assert PROGRAM is not None
    postgres = Path(server.cluster.socket)
    owner = postgres.stat()
    with reachable_directory() as folder:
        users = "".join(f'"{role}" "{password}"\n' for role, password in server.cluster.passwords.items())
        (folder / "users.txt").write_text(users)
        (folder / "pgbouncer.ini").write_text(_SETTINGS.format(postgres=postgres, folder=folder))
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([PROGRAM, folder / "pgbouncer.ini"], stdout=log, stderr=log, **account)  # type: ignore[call-overload]
        try:
            end = time.monotonic() + _PATIENCE
            while not (folder / ".s.PGSQL.5432").exists():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.02)
            yield Pooler(server, folder, process.pid)
        finally:
            process.terminate()
            process.wait()
