"""All local state of one mount."""

from __future__ import annotations

import asyncio
import getpass
import logging
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Self

from pyvospace.client import Space
from pyvospace.fuse.cache.changes import Changes
from pyvospace.fuse.cache.disk import sync
from pyvospace.fuse.cache.file import LocalFile
from pyvospace.fuse.cache.records import ConflictListener, Limits, Names, SentListener, UnsentFile, Version
from pyvospace.fuse.cache.recovery import adopt, recover
from pyvospace.fuse.cache.remote import Remote
from pyvospace.fuse.cache.sending import Sender
from pyvospace.fuse.cache.shelf import Shelf
from pyvospace.fuse.cache.slots import Slot, left_by_others, take
from pyvospace.model.uris import NodeUri

log = logging.getLogger(__name__)

_TICK: Final = 0.5
"""Seconds after which the journal knows of what somebody has begun to write."""


class Cache:
    """The files of one mount, as far as they are here.

    What was handed over by `LocalFile.flush` outlives the process, what `LocalFile.fsync` has acknowledged a power cut
    too; both are sent, by this process or the next one that opens a cache of the same directory. Paths are names below
    the root of the mount.
    """

    def __init__(self, slot: Slot, shelf: Shelf, sender: Sender) -> None:
        self._slot = slot
        self._shelf = shelf
        self._sender = sender
        self._closed = False
        self._ticking = asyncio.create_task(self._tick())

    @classmethod
    async def open(
        cls, directory: Path, space: Space, root: NodeUri, limits: Limits | None = None, *, user: str | None = None
    ) -> Self:
        """Open a cache; what processes have left there that are gone is sent.

        Parameters
        ----------
        directory
            As `cache_directory` gives it; in it each process has a directory of its own.
        user
            Who names of conflicts speak of; None: the user of this machine.

        Raises
        ------
        OSError
            Nothing can be written there.
        """
        limits = limits or Limits()
        user = user or _login()
        remote = Remote(space, root.authority, limits.patience)
        slot = await asyncio.to_thread(take, directory)
        sender = None
        try:
            shelf = Shelf(slot.directory, remote, root.path, limits)
            sender = shelf.sender = Sender(shelf, remote, user)
            found = await asyncio.to_thread(_left, shelf, slot, directory, user)
        except BaseException:
            if sender is not None:
                await sender.close()
            slot.release()
            raise
        for changes in found:
            top = changes[-1]
            file = LocalFile(shelf, top.path, changes[0].version, mtime_ns=top.mtime_ns, mode=top.mode)
            file.found(changes)
            shelf.register(file)
            sender.schedule(file, 0)
        return cls(slot, shelf, sender)

    @property
    def directory(self) -> Path:
        """Where all of it is."""
        return self._slot.directory

    @property
    def on_sent(self) -> SentListener:
        """Who hears that a file is in the space."""
        return self._sender.on_sent

    @on_sent.setter
    def on_sent(self, listener: SentListener) -> None:
        self._sender.on_sent = listener

    @property
    def on_conflict(self) -> ConflictListener:
        """Who hears that a file has another name now, because somebody else has changed it in the space too."""
        return self._sender.on_conflict

    @on_conflict.setter
    def on_conflict(self, listener: ConflictListener) -> None:
        self._sender.on_conflict = listener

    # ------------------------------------------------------------------ files

    def file(self, path: Names, version: Version | None, *, mtime_ns: int, mode: int | None) -> LocalFile:
        """Give the file of a name; the same object as long as it is open or unsent.

        Parameters
        ----------
        version
            What the space has; None: a new file, which is sent even if nothing is ever written to it.
        """
        return self._shelf.file(self._shelf.root + path, version, mtime_ns=mtime_ns, mode=mode)

    def find(self, path: Names) -> LocalFile | None:
        """Give the file of a name, if it is open or unsent."""
        found = self._shelf.find(self._shelf.root + path)
        return found if found is not None and found.in_use else None

    def unsent_below(self, path: Names) -> list[UnsentFile]:
        """Tell of the files below a container that the space does not know as they are here."""
        return [file.unsent for file in self._shelf.kept(self._shelf.root + path) if file.dirty]

    def unsent(self) -> list[UnsentFile]:
        """Tell of all of them."""
        return self.unsent_below(())

    def moved(self, old: Names, new: Names) -> None:
        """Take note that a file, or a container with all below it, has another name."""
        self._shelf.moved(self._shelf.root + old, self._shelf.root + new)

    def held(self, *paths: Names) -> AbstractAsyncContextManager[None]:
        """Send nothing below these paths meanwhile: for those who move or delete in the space itself."""
        return self._sender.held(*(self._shelf.root + path for path in paths))

    async def settle(self, path: Names = ()) -> None:
        """Send now what is below a path, and wait until it is in the space.

        Raises
        ------
        Fault
            The first that was refused, or that could not be sent as long as anybody would wait.
        """
        await self._sender.settle(self._shelf.kept(self._shelf.root + path))

    async def close(self) -> None:
        """Let go of everything; what is unsent is sent by whoever opens a cache there next."""
        if self._closed:
            return
        self._closed = True
        self._ticking.cancel()
        await asyncio.wait([self._ticking])
        await self._sender.close()
        self._note()
        await self._shelf.close()
        self._slot.release()

    # ------------------------------------------------------------------ meanwhile

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._note()

    def _note(self) -> None:
        try:
            self._shelf.note_unfinished()
        except OSError as error:
            log.warning("the journal cannot be written: %s", error)


def _left(shelf: Shelf, slot: Slot, base: Path, user: str) -> list[list[Changes]]:
    sync(slot.directory)
    shelf.number_from(max((row.number for row in shelf.journal.rows()), default=0) + 1)
    for other in left_by_others(base, slot):
        adopt(shelf, other.directory, user)
    return recover(shelf, user)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
