"""Bytes on their way to a node: kept until all of them are there, since a node has all of its bytes or none."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO, Final

from pyvospace.client.sources import SMALL

_PREFIX: Final = "pyvospace-"


class Body:
    """What was written so far: in memory while it is little, else in a file that the owner alone can read."""

    def __init__(self) -> None:
        self._few = bytearray()
        self._file: IO[bytes] | None = None
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        if self._file is None and self.size <= SMALL:
            self._few += data
        else:
            self.file().write(data)

    def file(self) -> IO[bytes]:
        """Give the file, to which more may be written at its end; what is in memory stands there already."""
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(prefix=_PREFIX, delete=False)  # noqa: SIM115 (`discard`)
            self._file.write(self._few)
            self._few.clear()
        return self._file

    def source(self) -> bytes | Path:
        """Give all bytes as they can be pushed."""
        if self._file is None:
            return bytes(self._few)
        self._file.flush()
        return Path(self._file.name)

    def discard(self) -> None:
        """Forget the bytes."""
        self._few.clear()
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)
            self._file = None
