"""Faults of a space as the errors that Python has for files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyvospace.client.failures import ContentChanged
from pyvospace.model.faults import Fault, PreconditionFailed


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise the OSError that a fault is: FileNotFoundError, PermissionError, FileExistsError and so on."""
    try:
        yield
    except Fault as fault:
        raise failure_of(fault, path) from fault


def failure_of(fault: Fault, path: str) -> OSError:
    """Make the error; the class follows from the number, the words are those of the service."""
    number = errno.ESTALE if isinstance(fault, ContentChanged | PreconditionFailed) else fault.errno
    return OSError(number, str(fault), path)


def plain(number: int, path: str) -> OSError:
    """Make an error of the operating system, in its own words."""
    return OSError(number, os.strerror(number), path)
