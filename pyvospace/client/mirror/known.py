"""Digests of local files that were computed before, and hold as long as nothing about the file has changed.

The time of change (ctime) is part of that: unlike the time that a file shows, nobody can set it back.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from pyvospace.client.digests import Digests
from pyvospace.client.http import PIECE

log = logging.getLogger(__name__)

_SETTLED: Final = 2_000_000_000
"""Nanoseconds for which a file must have been left alone: another change at once might not show in its time."""
_TABLE: Final = """
create table if not exists digests (
    path text primary key, size integer not null, mtime integer not null, ctime integer not null,
    inode integer not null, md5 blob not null, sha256 blob not null
) without rowid
"""
_FIND: Final = "select md5, sha256 from digests where path = ? and size = ? and mtime = ? and ctime = ? and inode = ?"
_KEEP: Final = "insert or replace into digests values (?, ?, ?, ?, ?, ?, ?)"


def cache_file() -> Path:
    """Give where they are kept: ``digests.sqlite`` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyvospace" / "digests.sqlite"


_Key = tuple[str, int, int, int, int]


class KnownDigests:
    """Computes digests of files, and remembers them. For any thread; without its file it remembers nothing."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or cache_file()

    def of(self, path: Path) -> Digests:
        """Give both digests of a file."""
        state = path.stat()
        key = (os.fsencode(path.absolute()).hex(), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        found = self._find(key)
        if found is None:
            found = _digests(path)
            if time.time_ns() - state.st_ctime_ns > _SETTLED:
                self._keep(key, found)
        return found

    def _find(self, key: _Key) -> Digests | None:
        if not self._file.exists():
            return None
        try:
            with closing(self._open()) as connection:
                row = connection.execute(_FIND, key).fetchone()
        except (sqlite3.Error, OverflowError) as error:  # times after 2262 have no room there
            log.info("%s: %s", self._file, error)
            return None
        return None if row is None else Digests(*row)

    def _keep(self, key: _Key, found: Digests) -> None:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # nobody else's business
            with closing(self._open()) as connection, connection:
                connection.execute(_KEEP, (*key, found.md5, found.sha256))
        except (sqlite3.Error, OSError, OverflowError) as error:
            log.info("%s: %s; digests are not remembered", self._file, error)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=10)
        connection.execute("pragma synchronous = off")  # what is lost is computed anew
        connection.execute(_TABLE)
        return connection


def _digests(path: Path) -> Digests:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            md5.update(piece)
            sha256.update(piece)
    return Digests(md5.digest(), sha256.digest())
