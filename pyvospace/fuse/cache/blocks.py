"""Bytes that the space has as well, in files of which only parts need be there.

They may be thrown away at any time. One file for each version, named by its ETag: other bytes are another file, so that
nothing here ever becomes wrong.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import logging
import os
import re
import sqlite3
from collections import OrderedDict
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from pyvospace.fuse.cache.disk import written
from pyvospace.fuse.cache.ranges import Ranges
from pyvospace.fuse.cache.records import Version

log = logging.getLogger(__name__)

_NAME: Final = re.compile("[0-9a-f]{64}")
_PUNCH: Final = 0x01 | 0x02
"""FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE."""
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

_REMEMBERED: Final = 128
"""Misses of a file that is open no more; half of them count when it is opened again."""

_CREATE: Final = "create table files (name text not null, size integer not null, present blob not null)"
_INSERT: Final = "insert into files values (?, ?, ?)"
_SELECT: Final = "select name, size, present from files order by rowid"


class Held:
    """The bytes of one version, as far as they are here."""

    __slots__ = (
        "__weakref__",
        "_blocks",
        "_descriptor",
        "complete",
        "epoch",
        "misses",
        "name",
        "path",
        "present",
        "size",
        "users",
    )

    def __init__(self, blocks: Blocks, name: str, path: Path, size: int, present: Ranges) -> None:
        self._blocks = blocks
        self._descriptor = -1
        self.name = name
        self.path = path
        self.size = size
        self.present = present
        self.complete = present.covers(0, size)
        self.users = 0
        self.epoch = 0
        """Another number each time that anything is taken out of the file."""
        self.misses = 0
        """How often somebody who reads here and there wanted bytes that were not here, of late."""

    @property
    def descriptor(self) -> int:
        """Give the open file."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def read(self, start: int, stop: int) -> bytes | None:
        """Give a range that is within the file; None: not all of it is here."""
        if not (self.complete or self.present.covers(start, stop)):
            return None
        self._blocks.touch(self, start)
        return os.pread(self.descriptor, stop - start, start)

    def store(self, start: int, data: bytes) -> None:
        """Take bytes in, if there is room for them."""
        self._blocks.take(self, start, data)

    def made(self) -> Path:
        """Give the path of the file, which is there."""
        _ = self.descriptor
        return self.path

    def wrote(self, start: int, stop: int, epoch: int) -> None:
        """Take note of bytes that somebody else has written to the file, unless some were taken out since `epoch`."""
        if epoch == self.epoch:
            self._blocks.note(self, start, stop)

    def close(self) -> None:
        """Let go of the open file; it is opened again when it is needed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Blocks:
    """All of them, up to a limit; what was not read for the longest time goes first.

    Parameters
    ----------
    block
        Bytes that come and go together.
    """

    def __init__(self, directory: Path, limit: int, block: int) -> None:
        self._directory = directory
        self._limit = limit
        self._block = block
        self._held: dict[str, Held] = {}
        self._order: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._bytes = 0
        self._last: tuple[str, int] | None = None
        self._unknown = itertools.count()
        directory.mkdir(mode=0o700, exist_ok=True)
        self._load()

    # ------------------------------------------------------------------ versions

    def held(self, version: Version) -> Held:
        """Give the file of a version, with one user more."""
        name = self._name(version)
        held = self._held.get(name)
        if held is None or held.size != version.size:
            held = self._held[name] = Held(self, name, self._directory / name, version.size, Ranges())
        held.users += 1
        return held

    def release(self, held: Held) -> None:
        """Take one user away."""
        held.users -= 1
        if held.users <= 0:
            held.misses = min(held.misses, _REMEMBERED) // 2
            held.close()
            if not held.present or not _NAME.fullmatch(held.name):
                self._forget(held)

    def adopt(self, path: Path, version: Version) -> None:
        """Take in a whole file that was sent as this version, instead of fetching it when it is wanted."""
        name = self._name(version)
        if version.etag is None or not version.size or name in self._held:
            path.unlink(missing_ok=True)
            return
        path.rename(self._directory / name)
        held = self._held[name] = Held(self, name, self._directory / name, version.size, Ranges((0, version.size)))
        self._account(held, 0, version.size)
        self._shrink()

    def _name(self, version: Version) -> str:
        if version.etag is None:
            return f"unknown-{next(self._unknown)}"
        return version.etag if _NAME.fullmatch(version.etag) else hashlib.sha256(version.etag.encode()).hexdigest()

    # ------------------------------------------------------------------ room

    def touch(self, held: Held, start: int) -> None:
        """Note that it was read."""
        key = (held.name, start // self._block)
        if key != self._last and key in self._order:
            self._last = key
            self._order.move_to_end(key)

    def take(self, held: Held, start: int, data: bytes) -> None:
        """Write fetched bytes down. On a full disk they are just not kept."""
        if not self._is_used(held):
            return
        try:
            for _ in written(held.descriptor, data, start):
                pass
        except OSError as error:
            log.info("%s is not kept: %s", held.name, error)
            return
        self.note(held, start, start + len(data))

    def note(self, held: Held, start: int, stop: int) -> None:
        """Take note of what was written down."""
        if not self._is_used(held):
            return
        for left, right in held.present.without(start, stop):
            self._account(held, left, right)
        held.present.add(start, stop)
        held.complete = held.present.covers(0, held.size)
        self._shrink()

    def _is_used(self, held: Held) -> bool:
        return held.users > 0 and self._held.get(held.name) is held

    def make_room(self) -> bool:
        """Throw away the older half, because the disk is full; say whether there was anything."""
        before = self._bytes
        self._shrink(before // 2)
        return self._bytes < before

    def _account(self, held: Held, start: int, stop: int) -> None:
        while start < stop:
            index = start // self._block
            end = min(stop, (index + 1) * self._block)
            self._order[held.name, index] = self._order.get((held.name, index), 0) + end - start
            self._order.move_to_end((held.name, index))
            self._bytes += end - start
            start = end

    def _shrink(self, limit: int | None = None) -> None:
        most = self._limit if limit is None else limit
        while self._bytes > most and self._order:
            (name, index), size = self._order.popitem(last=False)
            self._bytes -= size
            self._last = None
            self._evict(self._held[name], index)

    def _evict(self, held: Held, index: int) -> None:
        start = index * self._block
        held.present.remove(start, start + self._block)
        held.complete = held.present.covers(0, held.size)
        # Before and after: a thread that writes meanwhile must not think that its bytes are still there.
        held.epoch += 1
        if not held.present and not held.users:
            self._forget(held)
        elif _LIBC.fallocate(held.descriptor, _PUNCH, start, self._block):
            log.debug("no holes can be made in %s: %s", held.path, os.strerror(ctypes.get_errno()))
        held.epoch += 1
        if not held.users:
            held.close()

    def _forget(self, held: Held) -> None:
        held.close()
        held.path.unlink(missing_ok=True)
        held.present, held.complete = Ranges(), not held.size
        if self._held.get(held.name) is held:
            del self._held[held.name]
        for key in [key for key in _keys(held, self._block) if key in self._order]:
            self._bytes -= self._order.pop(key)

    # ------------------------------------------------------------------ from one run to the next

    @property
    def _catalogue(self) -> Path:
        return self._directory.with_name("blocks.db")

    def _load(self) -> None:
        """Find what an earlier run has left; without its list nobody knows which parts of a file are there."""
        for name, size, present in self._listed():
            held = Held(self, name, self._directory / name, size, present)
            self._held[name] = held
            for start, stop in present:
                self._account(held, start, stop)
        self._catalogue.unlink(missing_ok=True)
        for path in self._directory.iterdir():
            if path.name not in self._held:
                path.unlink()
        self._shrink()

    def _listed(self) -> list[tuple[str, int, Ranges]]:
        if not self._catalogue.exists():
            return []
        try:
            with closing(sqlite3.connect(self._catalogue)) as database:
                rows = database.execute(_SELECT).fetchall()
            found = [(str(name), int(size), Ranges.unpack(present)) for name, size, present in rows]
        except (sqlite3.Error, ValueError, TypeError) as error:
            log.warning("%s cannot be read (%s); what it lists is fetched anew", self._catalogue, error)
            return []
        return [one for one in found if _NAME.fullmatch(one[0]) and self._fits(*one)]

    def _fits(self, name: str, size: int, present: Ranges) -> bool:
        with suppress(OSError):
            last = max((stop for _, stop in present), default=0)
            return 0 < last <= min(size, (self._directory / name).stat().st_size)
        return False

    def close(self) -> None:
        """Write down what is here, for the next run; after a crash it is fetched anew."""
        for held in list(self._held.values()):
            if not _NAME.fullmatch(held.name) or not held.present:
                self._forget(held)
        for held in self._held.values():
            held.close()
        _sync(self._directory)
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._catalogue)) as database, database:
            database.execute(_CREATE)
            names = dict.fromkeys(name for name, _ in self._order)
            found = [self._held[name] for name in names]
            database.executemany(_INSERT, [(held.name, held.size, held.present.pack()) for held in found])


def _keys(held: Held, block: int) -> list[tuple[str, int]]:
    return [(held.name, index) for index in range((held.size + block - 1) // block)]


def _sync(directory: Path) -> None:
    """Write all of a file system to its disk: what is listed as here must be here after a power cut too."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _LIBC.syncfs(descriptor)
    finally:
        os.close(descriptor)
