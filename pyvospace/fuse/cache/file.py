"""One file of a mount: what is here of it, and what is to be sent."""

from __future__ import annotations

import asyncio
import errno
import time
from typing import TYPE_CHECKING, Final

from pyvospace.fuse.cache.changes import Base, Changes
from pyvospace.fuse.cache.fetching import Fetching
from pyvospace.fuse.cache.journal import Handed
from pyvospace.fuse.cache.ranges import Ranges
from pyvospace.fuse.cache.records import MIB, Names, Sent, UnsentFile, Version
from pyvospace.model.faults import Fault

if TYPE_CHECKING:
    from pyvospace.fuse.cache.blocks import Held
    from pyvospace.fuse.cache.shelf import Shelf

_LARGE: Final = 64 * MIB
_SELDOM: Final = 15.0
"""Seconds that a large file rests which is synced and not closed: a database is, after each transaction."""
_COPY: Final = MIB
"""Up to this size a file that is all here is copied when it is changed: then it needs nobody else to be whole."""


class LocalFile:
    """A file of the mount; one object for each name while it is open or not sent.

    What it says of its bytes is what lies on top: a change (`_changes`), below it perhaps the one that is being sent
    (`_sealed`), at the bottom a version of the space. A change that is being sent is never written to: another is laid
    on it, so that the space gets what was there at one moment.

    Reading and writing do not wait unless bytes have to be fetched.
    """

    def __init__(self, shelf: Shelf, path: Names, version: Version | None, *, mtime_ns: int, mode: int | None) -> None:
        self._shelf = shelf
        self.absolute = path
        self._version = version
        self._mtime_ns = mtime_ns
        self._mode = mode
        self._handles = 0
        self._changes: Changes | None = None
        self._sealed: Changes | None = None
        self._held: Held | None = None
        self._fetching: Fetching | None = None
        self._serial = 0
        self._sent_serial = 0
        self.discarded = False
        self.failure: Fault | None = None
        """Why the space does not take it, as long as nothing newer is known."""
        self.trouble: Fault | None = None
        """Why it is not there yet, though that may pass."""

    # ------------------------------------------------------------------ what it is

    @property
    def path(self) -> Names:
        """Where it is below the root of the mount."""
        return self._shelf.below_root(self.absolute)

    @property
    def version(self) -> Version | None:
        """What the space has under this name, as far as is known; None: nothing."""
        return self._version

    @property
    def size(self) -> int:
        """Bytes, as they are here."""
        top = self._changes or self._sealed
        if top is not None:
            return top.size
        return self._version.size if self._version is not None else 0

    @property
    def mtime_ns(self) -> int:
        """When it was changed."""
        top = self._changes or self._sealed
        return top.mtime_ns if top is not None else self._mtime_ns

    @property
    def mode(self) -> int | None:
        """Permissions; None: nobody said."""
        top = self._changes or self._sealed
        return top.mode if top is not None else self._mode

    @property
    def dirty(self) -> bool:
        """Whether the space does not have it as it is here."""
        return not self.discarded and (self._changes is not None or self._sealed is not None)

    @property
    def sending(self) -> bool:
        """Whether it is being sent."""
        return self._shelf.sender.is_under_way(self)

    @property
    def is_open(self) -> bool:
        """Whether anybody has it open."""
        return self._handles > 0

    @property
    def in_use(self) -> bool:
        """Whether it must not be forgotten."""
        return self.is_open or self.dirty

    @property
    def unsent(self) -> UnsentFile:
        """Tell of it as one that the space does not have."""
        return UnsentFile(
            path=self.path,
            size=self.size,
            mtime_ns=self.mtime_ns,
            mode=self.mode,
            new=self._version is None,
            failure=str(self.failure or self.trouble or "") or None,
        )

    # ------------------------------------------------------------------ bytes

    async def read(self, offset: int, size: int) -> bytes:
        """Read; less than was asked for only at the end of the file.

        Raises
        ------
        ContentChanged
            The bytes are no longer in the space, and not here.
        """
        stop = min(offset + size, self.size)
        if stop <= offset:
            return b""
        top = self._changes or self._sealed
        if top is not None:
            return await self._read_changes(top, offset, stop)
        fetching = self._fetching or self._fetch()
        data = fetching.read_now(offset, stop)
        return data if data is not None else await fetching.read(offset, stop)

    async def _read_changes(self, top: Changes, start: int, stop: int) -> bytes:
        if not top.missing.touches(start, stop):
            return top.read(start, stop)
        below = [(left, await self._read_below(top, left, right)) for left, right in top.missing.within(start, stop)]
        if top is not (self._changes or self._sealed):
            return await self.read(start, stop - start)  # it was sent meanwhile, or there is a newer one
        # Only now, in one step: what was written meanwhile lies above what was fetched.
        found = bytearray(top.read(start, stop))
        for begin, data in below:
            for left, right in top.missing.within(begin, begin + len(data)):
                found[left - start : right - start] = data[left - begin : right - begin]
        return bytes(found)

    async def _read_below(self, top: Changes, start: int, stop: int) -> bytes:
        if top.below is not None:
            return top.below.read(start, stop)
        if top.base is None:
            return bytes(stop - start)
        return await (self._fetching or self._fetch(top.base)).read(start, stop)

    def _fetch(self, base: Base | None = None) -> Fetching:
        """Make ready to read what the space has."""
        if base is None:
            base = Base(self.absolute, self._version or Version(None, 0))
        self._held = self._shelf.blocks.held(base.version)
        self._fetching = self._shelf.fetching(self._held, base)
        return self._fetching

    async def write(self, offset: int, data: bytes) -> int:
        """Write, beyond the end too: what is between is zero.

        Raises
        ------
        OSError
            The disk of the cache is full.
        """
        changes = self._writable()
        changes.mtime_ns = time.time_ns()
        self._shelf.sender.worked()
        try:
            changes.write(offset, data)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._shelf.blocks.make_room():
                raise
            changes.write(offset, data)
        return len(data)

    async def truncate(self, size: int) -> None:
        """Cut or extend it; what is beyond the old end reads as zeros."""
        top = self._changes
        if not size and top is not None and top.handed and not top.sealed and self._sealed is None:
            # Whoever begins anew has not finished: until he has, what was handed over before is what there is.
            self._sealed = top
        changes = self._writable()
        changes.mtime_ns = time.time_ns()
        if changes.written and changes.handed and size < changes.size:
            # The journal must never say of bytes that they are there which have been cut off.
            changes.cut(size)
            self._shelf.keep(changes)
        changes.truncate(size)

    def touch(self, mtime_ns: int | None = None, mode: int | None = None) -> bool:
        """Set what goes with the bytes; say whether it will: if nothing is unsent the space has to be told."""
        if not self.dirty:
            self._mtime_ns = self._mtime_ns if mtime_ns is None else mtime_ns
            self._mode = self._mode if mode is None else mode
            return False
        on_top = self._changes
        changes = self._writable()
        changes.mtime_ns = changes.mtime_ns if mtime_ns is None else mtime_ns
        changes.mode = changes.mode if mode is None else mode
        if changes is not on_top or (changes.handed and not changes.altered):
            self._hand_over(changes, changes.handed or Handed.FLUSHED)
        return True

    def rebase(self, version: Version | None) -> None:
        """Take note of what the space has under this name, in whose place the file is to be put."""
        self._version = version
        for changes in (self._sealed, self._changes):
            if changes is not None:
                changes.version = version
                if changes.written:
                    self._shelf.keep(changes)

    # ------------------------------------------------------------------ changes

    def begin(self) -> None:
        """Make it a new file, which has to be sent even if nothing is ever written to it."""
        self._changes = self._begin()

    def _writable(self) -> Changes:
        top = self._changes
        if top is None or top.sealed or top is self._sealed:
            top = self._changes = self._begin()
        return top

    def _begin(self) -> Changes:
        """Lay a change on what is there."""
        below = self._changes or self._sealed
        made = self._shelf.begin(self.absolute, self.size)
        made.mtime_ns, made.mode, made.version = self.mtime_ns, self.mode, self._version
        made.missing = Ranges((0, made.size))
        if below is not None:
            made.below = below
        elif self._version is not None and self._version.size:
            made.base = Base(self.absolute, self._version)
            self._copy_small(made)
        if self.discarded:
            self._detach(made)
        self._shelf.register(self)
        return made

    def _detach(self, changes: Changes) -> None:
        """Have the bytes live no longer than the handles that are open."""
        if self.is_open:
            _ = changes.descriptor
        self._shelf.forget(changes)

    def _copy_small(self, made: Changes) -> None:
        fetching = self._fetching or self._fetch()
        data = fetching.read_now(0, made.size) if made.size <= min(_COPY, self._shelf.limits.block) else None
        if data is not None:
            made.fill(0, data)

    # ------------------------------------------------------------------ handing over

    def hand_over(self) -> None:
        """Hand over as it stands whatever nobody has handed over, to be sent."""
        changes = self._changes
        if self.dirty and changes is not None and changes.altered:
            self._hand_over(changes, Handed.FLUSHED)

    async def flush(self) -> None:
        """Hand it over to be sent, if anything was changed since; it outlives the process then.

        Raises
        ------
        Fault
            The space did not take it; only if nothing is to wait (``write_back`` is 0).
        """
        self.hand_over()
        if self.dirty and self._shelf.limits.write_back <= 0:
            await self._shelf.sender.settle([self])

    async def fsync(self) -> None:
        """Hand it over so that it outlives a power cut.

        Raises
        ------
        Fault
            The space has refused it.
        """
        if self.dirty:
            await self._sync()
        if self.failure is not None:
            raise self.failure

    async def _sync(self) -> None:
        unsent = self.unsent_changes
        for changes in unsent:
            await asyncio.to_thread(changes.sync)
        for changes in unsent:
            if changes is self._changes and (changes.altered or not changes.handed):
                self._hand_over(changes, Handed.SYNCED)
            elif changes in self.unsent_changes and changes.handed is Handed.FLUSHED:
                changes.handed = Handed.SYNCED
                self._shelf.keep(changes)
        await self._shelf.journal.sync()

    def _hand_over(self, changes: Changes, how: Handed) -> None:
        before, altered = changes.handed, changes.altered
        changes.handed, changes.altered = how, False
        overtaken = self._sealed if self._sealed is not changes else None
        if overtaken is not None and (overtaken.sealed or changes.below is not None):
            overtaken = None
        try:
            self._shelf.keep(changes, instead=overtaken)
        except OSError:
            changes.handed, changes.altered = before, altered
            raise
        if overtaken is not None:
            self._sealed = None
        self._serial += 1
        changes.serial = self._serial
        self.failure = changes.failure = None
        self._shelf.sender.worked()
        open_still = how is Handed.SYNCED and self.is_open and changes.size > _LARGE
        self._shelf.sender.schedule(self, _SELDOM if open_still else None)

    async def discard(self) -> bool:
        """Forget what is unsent, for the file is deleted; who has it open goes on with what is here.

        Returns
        -------
        bool
            Whether the space may have got it all the same, in this moment.
        """
        self.discarded = True
        for changes in (self._sealed, self._changes):
            if changes is not None:
                self._detach(changes)
        attempted = await self._shelf.sender.stop(self)
        if not self.is_open:
            self.rest()
        self._shelf.unregister(self)
        return attempted or self._sealed is not None

    def retain(self) -> None:
        """Note that it is open once more."""
        self._handles += 1
        self._shelf.register(self)

    def release(self) -> None:
        """Note that it is open once less.

        Raises
        ------
        OSError
            What came after the last flush (pages of the kernel may) cannot be written down.
        """
        self._handles -= 1
        if self._handles <= 0:
            try:
                self.hand_over()
            finally:
                self.rest()
            if not self.in_use:
                self._shelf.unregister(self)

    def rest(self) -> None:
        """Let go of open files."""
        for changes in (self._sealed, self._changes):
            if changes is not None:
                changes.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._fetching is not None:
            self._fetching.rest()
        if self._held is not None:
            self._shelf.blocks.release(self._held)
        self._held = self._fetching = None

    # ------------------------------------------------------------------ being sent

    def refresh(self, version: Version | None, *, mtime_ns: int, mode: int | None) -> None:
        """Take note of what the space has now, unless something here is newer."""
        if self.dirty:
            return
        if version != self._version:
            self._let_go()
            self._version = version
        self._mtime_ns, self._mode = mtime_ns, mode

    def move(self, path: Names) -> None:
        """Have another name."""
        old, self.absolute = self.absolute, path
        for changes in (self._sealed, self._changes):
            if changes is None:
                continue
            changes.path = path
            if changes.base is not None and changes.base.path == old:
                changes.base = Base(path, changes.base.version)
        if self._fetching is not None and self._fetching.base.path == old:
            self._fetching.move(path)

    @property
    def outgoing(self) -> Changes | None:
        """Give what is to be sent next; None: nothing, or nobody has handed it over yet."""
        if self.discarded:
            return None
        if self._sealed is not None:
            return self._sealed
        changes = self._changes
        return changes if changes is not None and changes.handed and not changes.altered else None

    @property
    def unsent_changes(self) -> list[Changes]:
        """Give all of them, what is to be sent first first."""
        return [changes for changes in (self._sealed, self._changes) if changes is not None]

    @property
    def serial(self) -> int:
        """Which handing over was the last."""
        return self._serial

    def has_sent(self, serial: int) -> bool:
        """Say whether a handing over is in the space, or does not matter any more."""
        return self._sent_serial >= serial or not self.dirty

    async def complete(self, changes: Changes) -> None:
        """Fetch all bytes that were never written here.

        The journal hears of it: when it is sent the space has the old version no longer, and should the answer be lost
        only who has the whole knows that what is there is his.
        """
        if not changes.missing:
            return
        while changes.missing:
            start, stop = next(iter(changes.missing))
            stop = min(stop, start + self._shelf.limits.block)
            data = await self._read_below(changes, start, stop)
            if changes.forgotten:
                return
            try:
                changes.fill(start, data)
            except OSError as error:
                if error.errno != errno.ENOSPC or not self._shelf.blocks.make_room():
                    raise
            await asyncio.sleep(0)
        if changes.handed is Handed.SYNCED:
            await asyncio.to_thread(changes.sync)
        if changes.written and not changes.forgotten:
            self._shelf.keep(changes)

    def seal(self, changes: Changes) -> None:
        """Let nothing be written to what is being sent."""
        changes.sealed = True
        self._sealed = changes
        if self._changes is changes:
            self._changes = None

    def sent(self, changes: Changes, etag: str | None) -> Sent:
        """Take note that the space has it; its bytes are those of a version from now on."""
        version = Version(etag, changes.size)
        top = self._changes
        if top is not None:
            top.version = version
            if top.below is changes:
                top.below, top.base = None, Base(self.absolute, version)
        self._shelf.note_sent(changes, top)
        self._let_go()
        self._version, self._sealed = version, None
        self._mtime_ns, self._mode = changes.mtime_ns, changes.mode
        self._sent_serial = max(self._sent_serial, changes.serial)
        self.failure = self.trouble = None
        changes.close()
        self._shelf.blocks.adopt(changes.location, version)
        self._shelf.forget(changes, gone=True)
        return Sent(etag=etag, size=changes.size, mtime_ns=changes.mtime_ns, mode=changes.mode)

    def refused(self, fault: Fault) -> None:
        """Take note that the space does not want what was to be sent. If there is something newer, only that matters.

        Raises
        ------
        OSError
            The disk is full: the next mount tries it without knowing of this.
        """
        changes = self._sealed or self._changes
        if changes is None:
            return
        top = self._changes
        if top is not None and top is not changes and top.handed:
            if top.below is changes:
                for _ in top.fill_from(changes):
                    pass
            self._sealed = None
            self._shelf.keep(top, instead=changes)
            return
        self.failure = fault
        changes.failure = str(fault)
        changes.sealed = False
        if top is None:
            self._changes, self._sealed = changes, None
        self._shelf.keep(changes)

    def found(self, changes: list[Changes]) -> None:
        """Take over what another process has left."""
        *older, self._changes = changes
        self._sealed = older[-1] if older else None
        for one in changes:
            self._serial += 1
            one.serial = self._serial
        if self._sealed is not None:
            self._sealed.sealed = True

    def close(self) -> None:
        """Let go of everything, for good."""
        if self._fetching is not None:
            self._fetching.close()
        self.rest()
