"""Downloads on disk: bytes go to a ``.part`` file beside the target, which takes its place when they are verified."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import logging
import os
import stat
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from pyvospace.client.digests import Digester
from pyvospace.client.http import PIECE

log = logging.getLogger(__name__)

SUFFIX: Final = ".part"
_NAME_BYTES: Final = 200
"""Of the target's name in the name of its part, so that there is room for the rest."""


class Part:
    """The bytes of a file that is not complete yet.

    The name holds a mark of the version of the bytes, so that a part is continued only with bytes of the same
    version. Two processes that fetch the same file do not share one: it is locked.

    Parameters
    ----------
    target
        Where the complete file is to stand; what is there stays until then.
    version
        Names the version of the bytes; None: it cannot be told, so the part is of no use later.
    """

    def __init__(self, target: Path, version: str | None) -> None:
        self._target = target
        self._file: FileIO | None = None
        self._published = False
        self._path = self._named(version)
        self._kept = version is not None

    def _named(self, version: str | None) -> Path:
        short = os.fsencode(self._target.name)[:_NAME_BYTES].decode(errors="ignore")
        mark = uuid4().hex if version is None else hashlib.sha256(version.encode()).hexdigest()
        return self._target.with_name(f"{short}.{mark[:16]}{SUFFIX}")

    def __enter__(self) -> Self:
        """Open it."""
        self._file = _opened(self._path)
        if self._file is None:
            log.info("%s is being written by another process", self._path)
            self._kept = False
            self._path = self._named(None)
            self._file = _opened(self._path)
        if self._file is None:
            raise OSError(errno.EDEADLK, "cannot be locked", str(self._path))
        self._take_mode()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; what came stays, if it can be of use later."""
        if self._file is None:
            return
        if not self._published and not (self._kept and self.size):
            self.discard()
        self._file.close()

    def _take_mode(self) -> None:
        """Let nobody read the part who may not read the file that it will replace."""
        with suppress(FileNotFoundError):
            there = self._target.lstat()
            if stat.S_ISREG(there.st_mode):
                os.fchmod(self._opened.fileno(), stat.S_IMODE(there.st_mode) & 0o777)

    @property
    def size(self) -> int:
        """Bytes that are there already."""
        return os.fstat(self._opened.fileno()).st_size

    @property
    def _opened(self) -> FileIO:
        if self._file is None:
            raise RuntimeError("the part is not open")
        return self._file

    async def read_into(self, digester: Digester) -> None:
        """Hash what is there already."""
        self._opened.seek(0)
        while data := await asyncio.to_thread(self._opened.read, PIECE):
            await digester.update(data)

    async def write(self, data: bytes) -> None:
        """Add bytes behind those that are there."""
        # Shielded: the file must not be closed, nor its size be looked at, while a thread writes.
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, data))
        try:
            await asyncio.shield(writing)
        finally:
            if not writing.done():
                await asyncio.wait([writing])

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._opened.write(rest) :]

    def empty(self) -> None:
        """Forget the bytes."""
        self._opened.truncate(0)
        self._opened.seek(0)

    def discard(self) -> None:
        """Delete the file."""
        self._kept = False
        with suppress(FileNotFoundError):
            self._path.unlink()

    def publish(self) -> None:
        """Put the file in the place of the target."""
        self._path.replace(self._target)
        self._published = True


def _opened(path: Path) -> FileIO | None:
    """Open a part for appending and lock it; None if somebody else has it or made it, or it went away meanwhile."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = FileIO(os.open(path, flags, 0o666), "r+")
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = path.lstat()
        mine = os.fstat(file.fileno())
    except (BlockingIOError, FileNotFoundError):
        file.close()
        return None
    ours = stat.S_ISREG(mine.st_mode) and mine.st_uid == os.geteuid() and mine.st_nlink == 1
    if not ours or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
        file.close()
        return None
    file.seek(0, os.SEEK_END)
    return file
