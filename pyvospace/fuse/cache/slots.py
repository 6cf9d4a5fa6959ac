"""Directories of caches: each belongs to one process, and what a dead one has left goes to the next."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

CHANGES = "changes"
"""Where in a slot the bytes are that are not in the space."""


class Slot:
    """A directory of one cache, locked as long as this exists."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.directory = directory
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Let others have it."""
        os.close(self._lock)


def _has_unsent(directory: Path) -> bool:
    try:
        return any((directory / CHANGES).iterdir())
    except FileNotFoundError:
        return False


def _directories(base: Path) -> list[Path]:
    return sorted((path for path in base.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))


def take(base: Path) -> Slot:
    """Take the first one that is free, those first in which something is unsent.

    Raises
    ------
    OSError
        Nothing can be written there.
    """
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = _directories(base)
    for path in sorted(found, key=lambda path: not _has_unsent(path)):
        try:
            return Slot(path)
        except BlockingIOError:
            continue
    number = int(found[-1].name) + 1 if found else 0
    while True:
        try:
            return Slot(base / str(number))
        except BlockingIOError:  # another process was quicker
            number += 1


def left_by_others(base: Path, mine: Slot) -> Iterator[Slot]:
    """Give those of dead processes in which something is unsent, each locked until the next is asked for."""
    for path in _directories(base):
        if path == mine.directory or not _has_unsent(path):
            continue
        try:
            slot = Slot(path)
        except OSError as error:
            log.info("%s is not free: %s", path, error)
            continue
        try:
            yield slot
        finally:
            slot.release()


def left_alone(home: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Give the slots that no process holds and in which something is unsent, with the files of its bytes.

    Parameters
    ----------
    home
        Where the caches of all spaces are.
    """
    for base in sorted(home.iterdir()) if home.is_dir() else ():
        for path in filter(_has_unsent, _directories(base)):
            with suppress(OSError):
                slot = Slot(path)
                files = sorted((path / CHANGES).iterdir())
                slot.release()
                yield path, files
