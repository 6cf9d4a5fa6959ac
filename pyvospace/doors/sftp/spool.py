"""Files that are being written, until they are complete.

A place for bytes is written once and whole, while SFTP writes anywhere. So a file is gathered here, in a temporary file
without a name that nobody else can see and that is gone with the process, and sent when the client closes it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import TYPE_CHECKING, BinaryIO, cast

from pyvospace.model.faults import InsufficientStorage

if TYPE_CHECKING:
    from pathlib import Path


class Spool:
    """A directory for such files.

    Parameters
    ----------
    most
        Bytes that they may have together.
    """

    def __init__(self, directory: Path, most: int) -> None:
        self._directory = directory
        self._most = most
        self._used = 0

    def prepare(self) -> None:
        """Make the directory."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def file(self) -> SpooledFile:
        """Give an empty file."""
        return SpooledFile(self, await asyncio.to_thread(self._open))

    def _open(self) -> BinaryIO:
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self._directory))

    def reserve(self, more: int) -> None:
        """Have room for more bytes; less than 0: for so many less.

        Raises
        ------
        InsufficientStorage
            There is none.
        """
        if more > 0 and self._used + more > self._most:
            raise InsufficientStorage("too many bytes wait here to be complete; try again later")
        self._used += more


class SpooledFile:
    """One of them."""

    def __init__(self, spool: Spool, file: BinaryIO) -> None:
        self._spool = spool
        self.file = file
        self.size = 0

    async def write(self, offset: int, data: bytes) -> None:
        """Write anywhere; what is left out is zero."""
        self._grow(offset + len(data))
        await asyncio.to_thread(self._write, offset, data)

    async def read(self, offset: int, size: int) -> bytes:
        """Read what was written."""
        size = max(0, min(size, self.size - offset))
        return await asyncio.to_thread(os.pread, self.file.fileno(), size, offset) if size else b""

    async def truncate(self, size: int) -> None:
        """Make it shorter or longer."""
        self._grow(size)
        await asyncio.to_thread(os.ftruncate, self.file.fileno(), size)
        self._spool.reserve(size - self.size)
        self.size = size

    async def close(self) -> None:
        """Forget it."""
        self._spool.reserve(-self.size)
        self.size = 0
        await asyncio.to_thread(self.file.close)

    def _grow(self, size: int) -> None:
        if size > self.size:
            self._spool.reserve(size - self.size)
            self.size = size

    def _write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.file.fileno(), view, offset)
            view, offset = view[written:], offset + written
