"""What a process has left that was killed: it is sent, or kept where somebody finds it."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from pyvospace.fuse.cache.changes import Changes
from pyvospace.fuse.cache.journal import Handed, Journal, Row, boot_id, read_path, write_path
from pyvospace.fuse.cache.naming import beside
from pyvospace.fuse.cache.records import Names
from pyvospace.fuse.cache.shelf import Shelf
from pyvospace.fuse.cache.slots import CHANGES

log = logging.getLogger(__name__)

RECOVERED = "recovered"
"""Where in a slot bytes are of which nobody knows any more what they belong to."""
_MOST = 2
"""Changes of one file: one that is being sent, and one on it."""


def adopt(shelf: Shelf, other: Path, user: str) -> None:
    """Take over what another slot has left. It is in both for a moment, so that it is always in one."""
    journal = Journal(other / "journal.db")
    taken = {row.path for row in shelf.journal.rows() if row.handed != Handed.SENT}
    numbers: dict[int, int] = {}
    try:
        for row in journal.rows():
            if row.handed == Handed.SENT:
                (other / CHANGES / row.file).unlink(missing_ok=True)
                journal.drop(row.number)
                continue
            number = numbers[row.number] = shelf.next_number()
            file = f"{number:08d}-{row.file.partition('-')[2]}"
            old = other / CHANGES / row.file
            if old.exists():
                os.link(old, shelf.directory / file)
            below = None if row.below is None else numbers.get(row.below)
            mine = replace(row, number=number, file=file, below=below)
            if row.path in taken:
                path = write_path(beside(read_path(row.path), "recovered", user))
                mine = replace(mine, path=path, known=0, etag=None, known_size=None)
                log.warning("%s was changed by two mounts that are gone: one is kept as %s", row.path, path)
            shelf.journal.keep(mine)
            journal.drop(row.number)
            old.unlink(missing_ok=True)
        if numbers:
            log.warning("%d unsent files of an earlier mount are taken over from %s", len(numbers), other)
    finally:
        journal.close_now()
    _put_aside(other, set())


def recover(shelf: Shelf, user: str) -> list[list[Changes]]:
    """Find all that is unsent; gives the changes of each file, what is to be sent first first."""
    found: dict[int, Changes] = {}
    for row in shelf.journal.rows():
        changes = _found(shelf, row, found, user)
        if changes is not None:
            found[row.number] = changes
    _put_aside(shelf.directory.parent, {changes.file for changes in found.values()})
    by_path: defaultdict[Names, list[Changes]] = defaultdict(list)
    for changes in found.values():
        by_path[changes.path].append(changes)
    for path in list(by_path):
        while len(by_path[path]) > _MOST:
            oldest = by_path[path].pop(0)
            _rename(shelf, oldest, beside((*path[:-1], f"{path[-1]}.{oldest.number}"), "recovered", user))
            by_path[oldest.path] = [oldest]
    return list(by_path.values())


def _found(shelf: Shelf, row: Row, below: dict[int, Changes], user: str) -> Changes | None:
    location = shelf.directory / row.file
    if row.handed == Handed.SENT or not (row.size or row.handed):
        location.unlink(missing_ok=True)
        shelf.journal.drop(row.number)
        return None
    try:
        changes = Changes.found(row, shelf.directory)
        if row.below is not None and row.below in below:
            # What it lies on will be another file's, or nobody's, before it is sent itself.
            for _ in changes.fill_from(below[row.below]):
                pass
            shelf.keep(changes)
            changes.close()
    except (OSError, ValueError) as error:
        log.error("the unsent /%s is lost: %s", "/".join(read_path(row.path)), error)  # noqa: TRY400
        shelf.journal.drop(row.number)
        return None
    switched_off = row.boot != boot_id() and row.handed != Handed.SYNCED
    if row.handed == Handed.NEVER or switched_off:
        # Nobody said that it is whole: it must not take the place of anything.
        _rename(shelf, changes, beside(changes.path, "recovered", user))
    return changes


def _rename(shelf: Shelf, changes: Changes, path: Names) -> None:
    log.warning("/%s was not written to its end: it is kept as /%s", "/".join(changes.path), "/".join(path))
    changes.path, changes.version = path, None
    changes.handed, changes.altered = max(changes.handed, Handed.FLUSHED), False
    shelf.keep(changes)


def _put_aside(slot: Path, known: set[str]) -> None:
    """Keep bytes that no journal knows: it was damaged, or the process was killed before it said anything."""
    for path in list((slot / CHANGES).iterdir()):
        if path.name in known:
            continue
        if not path.stat().st_size:
            path.unlink()
            continue
        aside = slot / RECOVERED
        aside.mkdir(mode=0o700, exist_ok=True)
        log.warning("%s belongs to no file that is known: it is kept in %s", path.name, aside)
        path.rename(aside / path.name)
