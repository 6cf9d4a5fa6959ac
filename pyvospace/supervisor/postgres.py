"""An embedded PostgreSQL: made, started, taken over after a crash, stopped.

It listens at a socket in a directory that only its account (and root) may enter, and asks for passwords all the same.
Its data live in ``DIR/database/pgNN``, NN being the major version. If we are root, PostgreSQL runs as an account
without rights; should that not reach ``DIR`` (a clone in ``/root``), its data, and a copy of its programs, live below
``/var/lib/pyvospace``, and ``DIR/database.json`` says where.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import pwd
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import psutil

from pyvospace.db.provision import answers, provision
from pyvospace.supervisor.accounts import Account, can_enter, run, unprivileged
from pyvospace.supervisor.binaries import Binaries, locate, reachable
from pyvospace.supervisor.data import (
    DATABASE,
    STORAGE_ROLE,
    SUPERUSER,
    ClusterFile,
    DataDirectory,
    new_passwords,
    sync_directory,
)
from pyvospace.supervisor.errors import SupervisorError
from pyvospace.supervisor.processes import Processes, Program, Supervised

log = logging.getLogger(__name__)

OUTSIDE = Path("/var/lib/pyvospace")
"""Where the account of PostgreSQL gets along whatever the place of the data."""
_BELONGS = "belongs-to"
_SOCKET_NAME = ".s.PGSQL.5432"
_SHORT = "pyvospace-"
"""What the name of a directory begins with that was made because the usual one has too long a path."""
_LONGEST_SOCKET = 107
"""Bytes in the path of a socket that the kernel takes."""
_LARGEST_LOG = 10 * 1024**2
_PATIENCE = 60.0
"""Seconds for a server of an earlier run to shut down in, before it is told to drop everything; that loses nothing."""

Say = Callable[[str], None]


class Cluster:
    """The files of one PostgreSQL and the process on them."""

    def __init__(self, data: DataDirectory, *, say: Say, options: Mapping[str, str] | None = None) -> None:
        self._data = data
        self._say = say
        self._options = dict(options or {})

    @contextlib.asynccontextmanager
    async def running(self, processes: Processes) -> AsyncIterator[ClusterFile]:
        """Have PostgreSQL running, ready, with roles and database; the process is one of `processes`.

        The caller owns the data directory (`DataDirectory.owned`).

        Raises
        ------
        SupervisorError
            It cannot be started; the log says more.
        """
        known = self._data.cluster()
        account = self._account(known)
        home = await self._home(known, account)
        binaries = await reachable(locate(), account, OUTSIDE)
        _forget_socket(known)
        known = known or ClusterFile(passwords=new_passwords())
        known = dataclasses.replace(known, home="" if home == self._data.database else str(home), socket="")
        self._data.write_cluster(known)
        database = await self._initialise(home, binaries, account, known)
        with _socket_directory(home, account) as socket:
            known = dataclasses.replace(known, socket=str(socket))
            await self._start(processes, database, binaries, account, known)
            await provision(
                known.dsn(SUPERUSER, "postgres"),
                database=DATABASE,
                owner=known.login(DATABASE),
                storage=known.login(STORAGE_ROLE),
            )
            self._data.write_cluster(known)
            yield known

    def _account(self, known: ClusterFile | None) -> Account | None:
        """Choose the account: once it has data it stays the same."""
        account = unprivileged()
        home = Path(known.home) if known and known.home else self._data.database
        if account is None or not home.is_dir():
            return account
        owner = home.stat().st_uid
        try:
            return account if owner in {0, account.uid} else Account.of(pwd.getpwuid(owner))
        except KeyError:
            raise SupervisorError(f"{home} belongs to user {owner}, who has no entry in the password file") from None

    async def _home(self, known: ClusterFile | None, account: Account | None) -> Path:
        """Find the directory for the data, or make it where the account gets along."""
        inside = self._data.database
        if known is not None and known.home:
            if not Path(known.home).is_dir():
                raise SupervisorError(f"{self._data.cluster_file} names {known.home}, which is missing")
            return Path(known.home)
        if known is None and inside.is_dir() and any(inside.glob("pg*")):
            raise SupervisorError(f"{inside} is there but {self._data.cluster_file}, with its passwords, is missing")
        if not inside.is_dir():
            _make_private(inside, account)
        if await can_enter(inside, account):
            return inside
        if any(inside.glob("pg*")):
            raise SupervisorError(f"the account {account.name if account else 'of PostgreSQL'} cannot enter {inside}")
        inside.rmdir()
        return self._outside(account)

    def _outside(self, account: Account | None) -> Path:
        """Make a directory that the account reaches, new for these data: what another left behind is not ours."""
        if not OUTSIDE.is_dir():
            OUTSIDE.mkdir()
            OUTSIDE.chmod(0o755)
        for other in OUTSIDE.glob(f"*/{_BELONGS}"):
            owner = DataDirectory(Path(other.read_text(encoding="utf-8").strip()))
            if owner.path == self._data.path:
                self._say(f"{other.parent} is the database of data that were in {owner.path}; remove it if you like")
        place = OUTSIDE / f"data-{secrets.token_hex(8)}"
        place.mkdir()
        place.chmod(0o755)
        (place / _BELONGS).write_text(f"{self._data.path}\n", encoding="utf-8")
        home = place / "database"
        _make_private(home, account)
        self._say(f"PostgreSQL's account cannot enter {self._data.path}, so the database is in {place}")
        return home

    async def _initialise(self, home: Path, binaries: Binaries, account: Account | None, known: ClusterFile) -> Path:
        """Give the directory of the data, made by initdb if it is new: the whole of it or nothing."""
        major = await binaries.major()
        database = home / f"pg{major}"
        if database.is_dir():
            return database
        older = next((path.name for path in sorted(home.glob("pg*")) if path.name[2:].isdecimal()), None)
        if older:
            raise SupervisorError(
                f"{home / older} is of another version than {binaries.folder} ({major}): "
                f"dump and restore it, or set PYVOSPACE_PG_BIN to a PostgreSQL {older[2:]}"
            )
        self._say("making a database")
        staged = home / "new"
        await self._clear(staged)
        shutil.rmtree(staged, ignore_errors=True)
        with _password_file(home / "password", known.passwords[SUPERUSER], account) as password:
            code, output = await run(
                binaries.program("initdb"),
                *("-D", str(staged), "-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={password}"),
                *("-E", "UTF8", f"--locale={'C.UTF-8' if sys.platform == 'linux' else 'C'}"),
                *("--data-checksums", "--no-instructions"),
                *(["--no-sync"] if self._options.get("fsync") == "off" else []),
                account=account,
            )
        if code != 0:
            raise SupervisorError(f"initdb: {output.splitlines()[-1] if output else code}")
        staged.rename(database)
        sync_directory(home)
        return database

    async def _start(
        self, processes: Processes, database: Path, binaries: Binaries, account: Account | None, known: ClusterFile
    ) -> None:
        if self._data.log.exists() and self._data.log.stat().st_size > _LARGEST_LOG:
            self._data.log.replace(self._data.log.with_suffix(".log.1"))
        socket = Path(known.socket)

        async def prepare() -> None:
            await self._clear(database)
            _remove_recycled(database, socket)

        options = {
            "listen_addresses": "",
            "unix_socket_directories": '"' + str(socket).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
        }
        server = await processes.start(
            Program(
                name="PostgreSQL",
                command=(
                    binaries.program("postgres"),
                    *("-D", str(database)),
                    *(word for name, value in (options | self._options).items() for word in ("-c", f"{name}={value}")),
                ),
                environment={"PATH": os.defpath, "LC_ALL": "C"},
                account=account,
                on_orphaned=signal.SIGINT,  # fast shutdown
                stop_with=signal.SIGINT,
                patience=None,  # it writes down what it holds in memory, however long that takes
                log=self._data.log,
                prepare=prepare,
            )
        )
        await self._ready(server, known)

    async def _ready(self, server: Supervised, known: ClusterFile) -> None:
        """Wait for an answer; recovery after a crash may take long."""
        begun = spoken = time.monotonic()
        while not await answers(known.dsn(SUPERUSER, "postgres")):
            if server.falls:
                raise SupervisorError(f"PostgreSQL does not start: {self._last_words()} (see {self._data.log})")
            if time.monotonic() - spoken > 5:  # noqa: PLR2004
                spoken = time.monotonic()
                self._say(
                    f"PostgreSQL is not ready yet after {spoken - begun:.0f} s; it may be recovering from a crash"
                )
            await asyncio.sleep(0.03)

    def _last_words(self) -> str:
        lines = self._data.log.read_text(encoding="utf-8", errors="replace").splitlines()
        fatal = [line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line]
        return fatal[-1] if fatal else lines[-1] if lines else "it says nothing"

    async def _clear(self, directory: Path) -> None:
        """End what an earlier run left on these data; a server whose supervisor was killed is asked to stop."""
        begun = time.monotonic()
        told: dict[int, signal.Signals] = {}
        while survivors := list(_living_in(directory)):
            late = time.monotonic() - begun > _PATIENCE
            for process in survivors:
                number = signal.SIGQUIT if late else signal.SIGINT
                if told.get(process.pid) != number:
                    if not told:
                        self._say("waiting for the PostgreSQL of an earlier run to stop")
                    told[process.pid] = number
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(number)
            await asyncio.sleep(0.05)


def _living_in(directory: Path) -> Iterator[psutil.Process]:
    """Find PostgreSQL's processes on these data: all of them have their working directory there."""
    place = str(directory.resolve())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "postgres" and process.cwd() == place:
                yield process


def _remove_recycled(database: Path, socket: Path) -> None:
    """Remove the marks of a dead server whose process number somebody else has now.

    PostgreSQL believes such a mark and would not start; in a container numbers soon come back. That none of its
    processes lives was found out before, under our own lock. What names a dead process PostgreSQL removes itself,
    with checks of its own.
    """
    for mark in (database / "postmaster.pid", socket / f"{_SOCKET_NAME}.lock"):
        with contextlib.suppress(FileNotFoundError):
            first = mark.read_text(encoding="ascii", errors="replace").partition("\n")[0].strip()
            if not first.isdecimal() or psutil.pid_exists(int(first)):
                mark.unlink()


def _forget_socket(known: ClusterFile | None) -> None:
    """Remove the short-named directory of a run that could not do so itself."""
    if known and Path(known.socket).name.startswith(_SHORT):
        shutil.rmtree(known.socket, ignore_errors=True)


def _make_private(directory: Path, account: Account | None) -> None:
    directory.mkdir(mode=0o700)
    if account:
        os.chown(directory, account.uid, account.gid)


@contextlib.contextmanager
def _socket_directory(home: Path, account: Account | None) -> Iterator[Path]:
    """Have a private directory for the socket: `home`, or a new one if drivers would stumble over its path."""
    if len(os.fsencode(home / _SOCKET_NAME)) <= _LONGEST_SOCKET and "," not in str(home):  # "," separates hosts
        yield home
        return
    base = os.environ.get("XDG_RUNTIME_DIR") if account is None else None
    base = base if base and os.access(base, os.W_OK) and len(os.fsencode(base)) < _LONGEST_SOCKET // 2 else "/tmp"  # noqa: S108 (mkdtemp)
    with tempfile.TemporaryDirectory(prefix=_SHORT, dir=base, ignore_cleanup_errors=True) as name:
        if account:
            os.chown(name, account.uid, account.gid)
        yield Path(name)


@contextlib.contextmanager
def _password_file(path: Path, password: str, account: Account | None) -> Iterator[Path]:
    """Hand a password to initdb: not on its command line, which everybody can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if account:
            os.fchown(descriptor, account.uid, account.gid)
        file.write(password)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
