"""What calls of the system refuse, and how."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOREPLACE, EXCHANGE = 1, 2
_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100


@contextmanager
def refused(*numbers: int) -> Iterator[None]:
    """Expect one of these errors."""
    try:
        yield
    except OSError as error:
        told = errno.errorcode.get(error.errno or 0)
    else:
        told = "nothing"
    expected = {errno.errorcode[number] for number in numbers}
    assert told in expected, f"{told} instead of {expected}"


def renameat2(old: Path, new: Path, flags: int) -> None:
    """Rename with flags, which Python does not offer."""
    if _LIBC.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
