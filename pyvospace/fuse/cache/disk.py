"""Bytes on their way to the local disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path


def written(descriptor: int, data: bytes | memoryview, start: int) -> Iterator[int]:
    """Write all of it from byte `start` on; gives after each step how far it has come.

    Raises
    ------
    OSError
        The disk is full; what was told of before is written.
    """
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, start)
        if not count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view, start = view[count:], start + count
        yield start


def sync(path: Path) -> None:
    """Have the bytes of a file, or the names in a directory, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
