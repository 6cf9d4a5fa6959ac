"""What the files of one cache share: their bytes, their journal and their names."""

from __future__ import annotations

import itertools
import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from pyvospace.fuse.cache.blocks import Blocks, Held
from pyvospace.fuse.cache.changes import Base, Changes
from pyvospace.fuse.cache.fetching import Fetching
from pyvospace.fuse.cache.file import LocalFile
from pyvospace.fuse.cache.journal import Handed, Journal
from pyvospace.fuse.cache.records import Limits, Names, Version
from pyvospace.fuse.cache.remote import Remote
from pyvospace.fuse.cache.slots import CHANGES

if TYPE_CHECKING:
    from pyvospace.fuse.cache.sending import Sender

log = logging.getLogger(__name__)


class Shelf:
    """The local state of one mount. Paths here are from the root of the space."""

    sender: Sender

    def __init__(self, directory: Path, remote: Remote, root: Names, limits: Limits) -> None:
        self.directory = directory / CHANGES
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.root = root
        self.limits = limits
        self.journal = Journal(directory / "journal.db")
        self.blocks = Blocks(directory / "blocks", limits.bytes, limits.block)
        self._remote = remote
        self._files: WeakValueDictionary[Names, LocalFile] = WeakValueDictionary()
        self._kept: dict[LocalFile, None] = {}
        self._unfinished: list[Changes] = []
        self._numbers = itertools.count(1)

    # ------------------------------------------------------------------ names

    def shows(self, path: Names) -> bool:
        """Say whether the mount shows a path: what other mounts have left may lie elsewhere in the space."""
        return path[: len(self.root)] == self.root

    def below_root(self, path: Names) -> Names:
        """Give a path as the mount shows it."""
        return path[len(self.root) :]

    def find(self, path: Names) -> LocalFile | None:
        """Give the file of that name, if anybody has it."""
        return self._files.get(path)

    def file(self, path: Names, version: Version | None, *, mtime_ns: int, mode: int | None) -> LocalFile:
        """Give the file of that name, or make it."""
        found = self._files.get(path)
        if found is not None and (version is not None or found.dirty):
            found.refresh(version, mtime_ns=mtime_ns, mode=mode)
            return found
        made = self._files[path] = LocalFile(self, path, version, mtime_ns=mtime_ns, mode=mode)
        if version is None:
            made.begin()
        return made

    def kept(self, below: Names = ()) -> list[LocalFile]:
        """Give the files that are open or unsent."""
        return [file for file in self._kept if file.absolute[: len(below)] == below]

    def register(self, file: LocalFile) -> None:
        """Keep a file, under its name unless it was deleted."""
        self._kept[file] = None
        if not file.discarded:
            self._files[file.absolute] = file

    def unregister(self, file: LocalFile) -> None:
        """Keep it no longer than others do; one that was deleted has no name any more."""
        if not file.in_use:
            self._kept.pop(file, None)
        if file.discarded and self._files.get(file.absolute) is file:
            del self._files[file.absolute]

    def moved(self, old: Names, new: Names) -> None:
        """Give a file, or all below a container, other names."""
        single = self._files.get(old)
        below = [single] if single is not None else list(self._files.values())
        renamed = [file for file in below if file.absolute[: len(old)] == old]
        for file in renamed:
            self._files.pop(file.absolute, None)
        for file in renamed:
            file.move(new + file.absolute[len(old) :])
            self._files[file.absolute] = file
        with self.journal.together() if len(renamed) > 1 else nullcontext():
            for changes in [one for file in renamed for one in file.unsent_changes if one.written]:
                self.journal.keep(changes.row())

    # ------------------------------------------------------------------ changes

    def number_from(self, number: int) -> None:
        """Begin to count changes there."""
        self._numbers = itertools.count(number)

    def next_number(self) -> int:
        """Give a number that no change had."""
        return next(self._numbers)

    def begin(self, path: Names, size: int) -> Changes:
        """Begin a change."""
        made = Changes(self.next_number(), self.directory, path, size=size)
        self._unfinished.append(made)
        return made

    def keep(self, changes: Changes, *, instead: Changes | None = None) -> None:
        """Write a change down, in place of another.

        Raises
        ------
        OSError
            The disk is full; what was written down before holds.
        """
        if instead is None or not instead.written:
            self.journal.keep(changes.row())
        else:
            with self.journal.together():
                self.journal.keep(changes.row())
                self.journal.drop(instead.number)
        changes.written = True
        if instead is not None:
            instead.written = False
            self.forget(instead)

    def note_sent(self, changes: Changes, top: Changes | None) -> None:
        """Write down that the space has a change, and of the one on it what it lies on now."""
        with nullcontext() if top is None else self.journal.together():
            self.journal.keep(replace(changes.row(), handed=int(Handed.SENT)))
            if top is not None and top.written:
                self.journal.keep(top.row())

    def forget(self, changes: Changes, *, gone: bool = False) -> None:
        """Delete a change; who has it open goes on with it. Its bytes may be gone from here already."""
        if changes.written:
            (self.journal.drop_soon if gone else self.journal.drop)(changes.number)
            changes.written = False
        changes.forgotten = True
        if not gone:
            changes.remove()

    def note_unfinished(self) -> None:
        """Write down what somebody is writing, so that it is found if this process dies."""
        self._unfinished = [changes for changes in self._unfinished if not (changes.handed or changes.forgotten)]
        for changes in self._unfinished:
            self.keep(changes)
        self.journal.tidy()

    def fetching(self, held: Held, base: Base) -> Fetching:
        """Make ready to read a version."""
        return Fetching(self._remote, held, base, self.limits)

    async def close(self) -> None:
        """Let go of everything."""
        for file in list(self._files.values()) + list(self._kept):
            file.close()
        await self.journal.close()
        self.blocks.close()
