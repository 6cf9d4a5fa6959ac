"""The bytes of one file that were changed here and are not in the space yet."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyvospace.fuse.cache.disk import sync, written
from pyvospace.fuse.cache.journal import Handed, Row, boot_id, read_path, write_path
from pyvospace.fuse.cache.ranges import Ranges
from pyvospace.fuse.cache.records import Names, Version

_HINT: Final = 60
"""Characters of the file's name that its bytes are filed under: for whoever has nothing else left."""
_PIECE: Final = 1 << 20
_BOOT: Final = boot_id()


@dataclass(frozen=True, slots=True)
class Base:
    """A version that a change lies on, and where it can be read."""

    path: Names
    version: Version


class Changes:
    """A file as it is here: what was written, in a sparse file, and what lies below where nothing was.

    All offsets are right in the sparse file but those in `missing`. Once `sealed` nothing is written to it any more:
    it is being sent, and a further change lies on it.
    """

    def __init__(self, number: int, directory: Path, path: Names, *, file: str = "", size: int = 0) -> None:
        self.number = number
        self.directory = directory
        self.path = path
        self.file = file or f"{number:08d}-{path[-1][:_HINT] if path else ''}"
        self.size = size
        self.mtime_ns = 0
        self.mode: int | None = None
        self.missing = Ranges()
        self.below: Changes | None = None
        self.base: Base | None = None
        self.version: Version | None = None
        """What the space has under the name, as far as is known; it is sent only in its place."""
        self.handed = Handed.NEVER
        self.altered = True
        """Since it was handed over."""
        self.written = False
        """It is in the journal."""
        self.forgotten = False
        """It is neither sent nor written down any more."""
        self.sealed = False
        self.serial = 0
        """Which handing over this is, of all of the file."""
        self.failure: str | None = None
        self._descriptor = -1
        self._linked = bool(file)
        self._listed = False

    # ------------------------------------------------------------------ bytes

    @property
    def location(self) -> Path:
        """Where the sparse file is."""
        return self.directory / self.file

    @property
    def descriptor(self) -> int:
        """Give the sparse file, open."""
        if self._descriptor < 0:
            if self.forgotten:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            self._descriptor = os.open(f"{self.directory}/{self.file}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not self._linked and self.size:
                os.ftruncate(self._descriptor, self.size)
            self._linked = True
        return self._descriptor

    def write(self, offset: int, data: bytes) -> None:
        """Write, whether or not the file reaches so far.

        Raises
        ------
        OSError
            The disk is full; as much as was written counts.
        """
        if not data:
            return
        at = offset
        try:
            for at in written(self.descriptor, data, offset):  # noqa: B007 (how far it came counts below)
                pass
        finally:
            if at > offset:
                self.altered = True
                self._has(offset, at)
                self.size = max(self.size, at)

    def truncate(self, size: int) -> None:
        """Cut or extend it; what is beyond the old end reads as zeros."""
        os.ftruncate(self.descriptor, size)
        self.cut(size)

    def cut(self, size: int) -> None:
        """Note that it is truncated; the sparse file has to follow."""
        self.altered = True
        if size < self.size:
            self._has(size, self.size)
        self.size = size

    def _has(self, start: int, stop: int) -> None:
        self.missing.remove(start, stop)
        if not self.missing:
            self.below = None

    def read(self, start: int, stop: int) -> bytes:
        """Give what is written of a range within the file; what is missing is zero."""
        found = os.pread(self.descriptor, stop - start, start)
        return found + bytes(stop - start - len(found)) if len(found) < stop - start else found

    def fill(self, start: int, data: bytes) -> None:
        """Take bytes from what lies below, where they are missing still."""
        for left, right in self.missing.within(start, start + len(data)):
            for reached in written(self.descriptor, memoryview(data)[left - start : right - start], left):
                self._has(left, reached)

    def fill_from(self, below: Changes) -> Iterator[None]:
        """Take all that is missing from the change it lies on; the work is done in steps."""
        for start, stop in self.missing:
            for at in range(start, stop, _PIECE):
                self.fill(at, below.read(at, min(stop, at + _PIECE)))
                yield

    def whole(self) -> bytes:
        """Give all bytes; nothing is missing."""
        return self.read(0, self.size) if self.size else b""

    def sync(self) -> None:
        """Have them outlive a power cut."""
        with suppress(FileNotFoundError):  # empty, or deleted meanwhile
            sync(self.location)
            if not self._listed:
                sync(self.directory)
                self._listed = True

    def close(self) -> None:
        """Let go of the sparse file; it is opened again when it is needed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Delete the sparse file; whoever has it open goes on with it."""
        with suppress(FileNotFoundError):
            self.location.unlink()

    # ------------------------------------------------------------------ what is written down

    def row(self) -> Row:
        """Give what outlives the process."""
        base, version = self.base, self.version
        return Row(
            number=self.number,
            file=self.file,
            path=write_path(self.path),
            size=self.size,
            mtime_ns=self.mtime_ns,
            mode=self.mode,
            missing=self.missing.pack(),
            below=None if self.below is None else self.below.number,
            base_path=None if base is None else write_path(base.path),
            base_etag=None if base is None else base.version.etag,
            base_size=None if base is None else base.version.size,
            known=int(version is not None),
            etag=None if version is None else version.etag,
            known_size=None if version is None else version.size,
            handed=int(self.handed),
            boot=_BOOT,
            failure=self.failure,
        )

    @classmethod
    def found(cls, row: Row, directory: Path) -> Changes:
        """Give what another process has left; what it lies on is for the caller to find.

        Raises
        ------
        OSError
            The sparse file is not there, or cannot be brought to its size.
        """
        made = cls(row.number, directory, read_path(row.path), file=row.file, size=row.size)
        made.mtime_ns, made.mode = row.mtime_ns, row.mode
        made.missing = Ranges.unpack(row.missing)
        if row.base_path is not None:
            made.base = Base(read_path(row.base_path), Version(row.base_etag, row.base_size or 0))
        made.version = row.version
        made.handed = Handed(row.handed)
        made.failure = row.failure
        made.written = True
        made.altered = made.handed is Handed.NEVER
        if row.size and not made.missing.covers(0, row.size):
            made.location.stat()
        if row.size or made.location.exists():
            # Bytes that were written later than this was said do not count, and must not show up again.
            os.truncate(made.descriptor, row.size)
            made.close()
        return made
