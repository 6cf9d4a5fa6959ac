"""What can be pushed: files, open files, bytes and streams."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pyvospace.client.digests import Digests
from pyvospace.client.failures import ContentChanged
from pyvospace.client.http import PIECE
from pyvospace.model.faults import TransferFailed

SMALL = 4 << 20
"""Up to this size a file is read into memory, so that its digests are known before it is sent."""

RESUMABLE = 64 << 20
"""From this size on a file is sent so that it can be resumed, to services that know how."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file from a byte to its end."""

    path: Path
    start: int
    size: int
    """Bytes from there on."""
    require_unchanged: Callable[[os.stat_result], None]
    """Raises ContentChanged if the file is not what it was."""


class Source(ABC):
    """Bytes to be pushed."""

    size: int | None = None
    """None: unknown, the bytes are sent in chunks."""
    repeatable: bool = True
    """Whether `pieces` can be asked for a second time."""
    digests: Digests | None = None
    """If they are known beforehand."""

    part: FilePart | None = None
    """Where a thread can read it by itself; None: nowhere."""

    @abstractmethod
    def pieces(self) -> AsyncGenerator[bytes]:
        """Give all bytes from the beginning."""


class BytesSource(Source):
    """Bytes in memory."""

    def __init__(self, data: bytes, *, md5: bool) -> None:
        self._data = data
        self.size = len(data)
        known = hashlib.md5(data, usedforsecurity=False).digest() if md5 else None
        self.digests = Digests(known, hashlib.sha256(data).digest())

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Give them in one piece."""
        if self._data:
            yield self._data


class FileSource(Source):
    """An open file, from where it stands now."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.repeatable = file.seekable()
        if self.repeatable:
            self._start = file.tell()
            self.size = file.seek(0, os.SEEK_END) - self._start
            file.seek(self._start)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Read it."""
        if self.repeatable:
            await asyncio.to_thread(self._file.seek, self._start)
        async with aclosing(_read(self._file)) as found:
            async for piece in found:
                yield piece


class PathSource(Source):
    """A large file, which must not change while it is sent."""

    def __init__(self, path: Path, state: os.stat_result) -> None:
        self._path = path
        self._state = state
        self.size = state.st_size
        self.part = self.part_from(0)

    def part_from(self, start: int) -> FilePart:
        """Give the file from a byte on."""
        return FilePart(self._path, start, self._state.st_size - start, self._require_unchanged)

    @property
    def is_large(self) -> bool:
        """Whether it is worth two more requests that it can be resumed."""
        return self._state.st_size >= RESUMABLE

    @property
    def version(self) -> list[object]:
        """Tell these bytes from those that may stand there later."""
        state = self._state
        return [str(self._path.absolute()), state.st_ino, state.st_size, state.st_mtime_ns]

    async def pieces(self, start: int = 0) -> AsyncGenerator[bytes]:
        """Read it, from a byte on.

        Raises
        ------
        ContentChanged
            Before the last piece is given, so that the service throws away what came.
        """
        with await asyncio.to_thread(self._path.open, "rb") as file:
            file.seek(start)
            left = self._state.st_size - start
            async with aclosing(_read(file)) as found:
                async for piece in found:
                    left -= len(piece)
                    if left <= 0:
                        self._require_unchanged(os.fstat(file.fileno()))
                    yield piece

    def _require_unchanged(self, now: os.stat_result) -> None:
        then = self._state
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (then.st_ino, then.st_size, then.st_mtime_ns):
            raise ContentChanged(f"{self._path} changed while it was sent")


class StreamSource(Source):
    """A stream that comes once."""

    repeatable = False

    def __init__(self, stream: AsyncIterable[bytes], size: int | None = None) -> None:
        self._stream = stream
        self.size = size

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Give what comes."""
        async for piece in self._stream:
            if piece:
                yield piece


async def _read(file: BinaryIO) -> AsyncGenerator[bytes]:
    """Read the next piece while the last one is sent."""
    reading = asyncio.ensure_future(asyncio.to_thread(file.read, PIECE))
    try:
        while piece := await reading:
            reading = asyncio.ensure_future(asyncio.to_thread(file.read, PIECE))
            yield piece
    finally:
        # The file may be closed only when no thread reads it any more.
        await asyncio.wait([reading])


async def source_of(
    what: Path | bytes | BinaryIO | AsyncIterable[bytes], size: int | None = None, *, md5: bool
) -> Source:
    """Choose how to read what is to be pushed.

    Parameters
    ----------
    size
        Bytes that a stream will have, if known.
    md5
        As for `Upload`.

    Raises
    ------
    TransferFailed
        A path leads to a directory.
    """
    if isinstance(what, bytes):
        return BytesSource(what, md5=md5)
    if isinstance(what, Path):
        return await asyncio.to_thread(_path_source, what, md5=md5)
    if isinstance(what, AsyncIterable):
        return StreamSource(what, size)
    return FileSource(what)


def _path_source(path: Path, *, md5: bool) -> Source:
    # A pipe must not be opened before somebody reads it: it would wait for its writer.
    state = path.stat()
    if stat.S_ISDIR(state.st_mode):
        raise TransferFailed(f"{path} is a directory")
    if not stat.S_ISREG(state.st_mode):
        return FileSource(path.open("rb"))
    if state.st_size <= SMALL:
        data = path.read_bytes()
        if len(data) <= SMALL:
            return BytesSource(data, md5=md5)
    return PathSource(path, state)
