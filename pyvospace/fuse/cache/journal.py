"""What must outlive the process: which changed files there are, in SQLite.

A transaction is in the file of the log when it is committed, so that it outlives the process. It outlives a power cut
once the log is synced, which only `Journal.sync` does: SQLite itself syncs when it moves the log into the database.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from enum import IntEnum
from operator import attrgetter
from pathlib import Path
from typing import Final

from pyvospace.fuse.cache.records import Names, Version

log = logging.getLogger(__name__)

_VERSION: Final = 1
_CHECKPOINT: Final = 2000
"""Statements after which the log is moved into the database."""

_ROOM: Final = 1 << 19
"""Bytes that database and log have from the beginning: on a full disk, what is sent or deleted has to be written down
before its own bytes make room."""
_TAKE_ROOM: Final = (
    "drop table if exists room",
    f"create table room as select zeroblob({_ROOM:d})",
    "drop table room",
    "pragma wal_checkpoint(passive)",
)

_CREATE: Final = """
create table if not exists changes (
    number integer primary key,   -- in order of their beginning: of two with one path the later lies on the earlier
    file text not null,           -- name in the directory of changes
    path text not null,           -- from the root of the space, JSON
    size integer not null,
    mtime_ns integer not null,
    mode integer,                 -- null: nobody said
    missing blob not null,        -- ranges that were never written here: they are in what lies below
    below integer,                -- number of another change, of the same file; null: it lies on the base
    base_path text,               -- where the base is read; null: there is none
    base_etag text,
    base_size integer,
    known integer not null,       -- whether the space has a node of this name
    etag text,                    -- its version; null: it never had bytes, or the service does not tell
    known_size integer,
    handed integer not null,      -- 0: never, 1: by a flush, 2: by an fsync, 3: it is in the space
    boot text not null,           -- since when the machine runs: bytes that nobody synced do not outlive that
    failure text                  -- why the space did not take it
)
"""
_KEEP: Final = "insert or replace into changes values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_DROP: Final = "delete from changes where number = ?"
_WRITE_PATH: Final = json.JSONEncoder(ensure_ascii=False).encode
_ALL: Final = "select * from changes order by number"


class Handed(IntEnum):
    """How far whoever wrote a file has let it go."""

    NEVER = 0
    FLUSHED = 1
    SYNCED = 2
    SENT = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A changed file, as it is written down. See the table for the columns."""

    number: int
    file: str
    path: str
    size: int
    mtime_ns: int
    mode: int | None
    missing: bytes
    below: int | None
    base_path: str | None
    base_etag: str | None
    base_size: int | None
    known: int
    etag: str | None
    known_size: int | None
    handed: int
    boot: str
    failure: str | None

    @property
    def version(self) -> Version | None:
        """What the space has under this name."""
        return Version(self.etag, self.known_size or 0) if self.known else None


_VALUES: Final = attrgetter(*(column.name for column in fields(Row)))


def write_path(path: Names) -> str:
    """Write a path for a row."""
    return _WRITE_PATH(path)


def read_path(text: str) -> Names:
    """Read it."""
    return tuple(json.loads(text))


def boot_id() -> str:
    """Tell one run of the machine from all others."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


@contextmanager
def full_disk() -> Iterator[None]:
    """Say of a full disk what the system says of it.

    Raises
    ------
    OSError
        The disk is full, or cannot be written.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


class Journal:
    """The changed files of one cache. Its directory belongs to this process alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = _open(path)
        self._log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._statements = 0
        self._checkpoint: asyncio.Task[None] | None = None
        self._over: list[tuple[int]] = []

    def rows(self) -> list[Row]:
        """Give all that is written down, in order of their numbers."""
        self._drop_over()
        return [Row(*row) for row in self._database.execute(_ALL)]

    def keep(self, row: Row) -> None:
        """Write one down, in place of what was said before.

        Raises
        ------
        OSError
            The disk is full; what was said before holds.
        """
        self._write(_KEEP, _VALUES(row))
        self._statements += 1

    def drop(self, number: int) -> None:
        """Forget one."""
        self._write(_DROP, (number,))
        self._statements += 1

    def drop_soon(self, number: int) -> None:
        """Forget one that is in the space, and is written down as such, with the next `tidy`."""
        self._over.append((number,))

    def _drop_over(self) -> None:
        if self._over:
            with self.together():
                for number in self._over:
                    self._write(_DROP, number)
            self._statements += len(self._over)
            self._over.clear()

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        """Write something; on a full disk with the room that was taken at the beginning."""
        try:
            with full_disk():
                self._database.execute(statement, values)
        except OSError as error:
            if error.errno != errno.ENOSPC or self._database.in_transaction:
                raise
            _move_log(self._path)  # it begins anew then, and grows no more
            with full_disk():
                self._database.execute(statement, values)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make what is done within hold all at once, or not at all."""
        if _is_full(self._path):
            _move_log(self._path)
        with full_disk():
            self._database.execute("begin immediate")
        try:
            yield
            with full_disk():
                self._database.execute("commit")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("rollback")
            raise

    async def sync(self) -> None:
        """Let all that was written down so far outlive a power cut."""
        await asyncio.to_thread(os.fdatasync, self._log)

    def tidy(self) -> None:
        """Move the log into the database if it has become long, beside everything else."""
        self._drop_over()
        if self._statements < _CHECKPOINT or (self._checkpoint is not None and not self._checkpoint.done()):
            return
        self._statements = 0
        self._checkpoint = asyncio.create_task(asyncio.to_thread(_move_log, self._path))

    async def close(self) -> None:
        """Close it."""
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        with suppress(OSError):  # whoever opens it next does it
            self._drop_over()
        self.close_now()

    def close_now(self) -> None:
        """Close one that nothing was written to for long."""
        os.close(self._log)
        self._database.close()


def _move_log(path: Path) -> None:
    # By a connection of its own: the other one goes on writing meanwhile.
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("pragma wal_checkpoint(passive)").fetchall()
    except sqlite3.Error as error:
        log.warning("%s: %s", path, error)


def _is_full(path: Path) -> bool:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize < _ROOM


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_CORRUPT:
            raise OSError(errno.EIO, f"{path}: {error}") from error
        damaged = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        log.error("%s cannot be read (%s): put aside as %s, and begun anew", path, error, damaged.name)  # noqa: TRY400
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(damaged.with_name(damaged.name + suffix))
    return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("pragma journal_mode = wal").fetchone()
        database.execute("pragma synchronous = normal")
        database.execute("pragma wal_autocheckpoint = 0")
        found = database.execute("pragma quick_check(1)").fetchone()
        version = database.execute("pragma user_version").fetchone()
        if found != ("ok",) or version[0] not in {0, _VERSION}:
            raise sqlite3.DatabaseError(f"{found[0]}, version {version[0]}")  # noqa: TRY301
        database.execute(_CREATE)
        database.execute(f"pragma user_version = {_VERSION:d}")
        [Row(*row) for row in database.execute(_ALL)]
        _take_room(database)
    except BaseException:
        database.close()
        raise
    return database


def _take_room(database: sqlite3.Connection) -> None:
    try:
        for statement in _TAKE_ROOM:
            database.execute(statement).fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        log.warning("the disk of the cache is full: nothing can be written before something was sent or deleted")
