"""Bytes of a version on their way into the cache: those that are read, and those that most likely will be."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from pyvospace.client import ContentChanged, Reader
from pyvospace.fuse.cache.blocks import Held
from pyvospace.fuse.cache.changes import Base
from pyvospace.fuse.cache.coming import Coming
from pyvospace.fuse.cache.ranges import Ranges
from pyvospace.fuse.cache.records import MIB, Limits, Names
from pyvospace.fuse.cache.remote import Remote

_LITTLE: Final = 64 << 10
"""Bytes that are fetched for somebody who reads here and there: he waits for them."""
_UNITS: Final = ((96, _LITTLE), (128, 1 << 20))
"""How many he gets up to so many times; then it is whole blocks, unless all is coming anyway."""
_EVERYWHERE: Final = 64
"""So many times, and the rest is fetched as well, behind his back."""
_WHOLE: Final = 256 * MIB
"""Of files up to this size; of larger ones the block behind."""
_BEHIND: Final = 2
"""Blocks at once."""
_NEAR: Final = 1 << 20
"""Requests of one reader overtake each other; so far apart they still count as reading on."""
_RUN: Final = 4
"""Blocks that are asked for at once by somebody who reads on and on."""


class Fetching:
    """Reads one version, for one file."""

    def __init__(self, remote: Remote, held: Held, base: Base, limits: Limits) -> None:
        self._remote = remote
        self._held = held
        self._limits = limits
        self._opening: asyncio.Task[Reader] | None = None
        self._under_way: dict[int, Coming] = {}
        self._next = 0
        """Where a reader would go on who reads on and on."""
        self._streak = 0
        """Bytes that were read on and on."""
        self._behind: Ranges | None = None
        """What is still to be fetched of the whole, behind the back of a reader; None: nobody wants the whole."""
        self.base = base
        self.size = base.version.size

    def read_now(self, start: int, stop: int) -> bytes | None:
        """Give a range that is within the file; None: not all of it is here."""
        data = self._held.read(start, stop)
        if data is not None and not self._held.complete:
            self._follow(start, stop)
            self._read_ahead(stop)
        return data

    async def read(self, start: int, stop: int) -> bytes:
        """Give a range that is within the file.

        Raises
        ------
        ContentChanged
            These bytes are no longer in the space, and were not here.
        """
        data = self._held.read(start, stop)
        if data is not None:
            return data
        self._follow(start, stop)
        if not self._streak:
            self._held.misses += 1
        found: list[bytes] = []
        while start < stop:
            data = self._here(start, stop)
            if data is None:
                coming = self._coming(start)
                self._read_ahead(stop)
                data = await self._read_from(coming, start, min(stop, coming.stop))
            found.append(data)
            start += len(data)
        return found[0] if len(found) == 1 else b"".join(found)

    async def _read_from(self, coming: Coming, start: int, stop: int) -> bytes:
        data = await coming.read(start, stop)
        if data is not None:
            return data
        # The cache is so small, or so much is read at once, that it was thrown away at once.
        return await (await self._reader()).read(start, stop)

    def move(self, path: Names) -> None:
        """Read it under another name."""
        self.base = Base(path, self.base.version)
        self._opening = None

    def rest(self) -> None:
        """Fetch no more than somebody waits for."""
        self._behind = None
        self._streak = 0
        for coming in list(self._under_way.values()):
            if not coming.is_awaited and coming.task is not None:
                coming.task.cancel()
                # Whoever reads on asks for these bytes anew.
                del self._under_way[coming.start]

    def close(self) -> None:
        """Fetch no more."""
        self._behind = None
        for coming in self._under_way.values():
            if coming.task is not None:
                coming.task.cancel()
        if self._opening is not None:
            self._opening.cancel()

    # ------------------------------------------------------------------ what is fetched

    def _follow(self, start: int, stop: int) -> None:
        if abs(start - self._next) <= _NEAR:
            self._streak += stop - start
            self._next = max(self._next, stop)
        else:
            self._streak = 0
            self._next = stop

    def _here(self, start: int, stop: int) -> bytes | None:
        """Give the bytes from `start` on, as many as are here."""
        here = self._held.present.within(start, stop)
        return self._held.read(*here[0]) if here and here[0][0] == start else None

    def _coming(self, start: int) -> Coming:
        """Give what brings a position: what is under way, or else what is around it."""
        for coming in self._under_way.values():
            if coming.start <= start < coming.stop:
                return coming
        unit = self._unit()
        first = start // unit * unit
        last = min(first + unit, self.size)
        gaps = self._wanted(first, last)
        first, last = next((gap for gap in gaps if gap[0] <= start < gap[1]), (start, last))
        return self._start(first, last)

    def _wanted(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Give the parts of a range that are neither here nor under way."""
        wanted = Ranges(*self._held.present.without(start, stop))
        for coming in self._under_way.values():
            wanted.remove(coming.start, coming.stop)
        return list(wanted)

    def _unit(self) -> int:
        block, misses = self._limits.block, self._held.misses
        if self._streak:
            return block
        if self._behind is not None:
            return min(block, _LITTLE)
        return min(block, next((size for most, size in _UNITS if misses <= most), block))

    def _start(self, first: int, last: int) -> Coming:
        coming = self._under_way[first] = Coming(self._held, first, last)
        coming.task = asyncio.create_task(self._fetch(coming))
        coming.task.add_done_callback(partial(self._done, coming))
        return coming

    def _done(self, coming: Coming, task: asyncio.Task[None]) -> None:
        if self._under_way.get(coming.start) is coming:
            del self._under_way[coming.start]
        error = None if task.cancelled() else task.exception()
        coming.end(error)
        if error is None and not task.cancelled():
            self._go_on_behind()
        else:
            self._behind = None

    # ------------------------------------------------------------------ what nobody has asked for yet

    def _read_ahead(self, position: int) -> None:
        """Fetch before it is asked for: the more, the longer somebody reads on."""
        block = self._limits.block
        if not self._streak:
            if self._held.misses >= _EVERYWHERE:
                self._fetch_behind(position)
            return
        most = self._limits.read_ahead * block
        window = min(most, max(2 * block, self._streak * 4 // block * block))
        if not self._wanted(position, min(position + window // 2, self.size)):
            return
        stop = min((position // block + 1) * block + window, self.size)
        for first, last in self._wanted(position, stop):
            for start in range(first, last, _RUN * block):
                self._start(start, min(start + _RUN * block, last))

    def _fetch_behind(self, position: int) -> None:
        """Fetch the whole for somebody who reads everywhere, if it is small; else the next block."""
        if self._behind is not None:
            return
        block = self._limits.block
        if self.size <= min(_WHOLE, self._limits.bytes // 4):
            self._behind = Ranges((0, self.size))
        elif self._held.misses >= _UNITS[-1][0]:
            first = (position // block + 1) * block
            self._behind = Ranges((first, min(first + block, self.size)))
        self._go_on_behind()

    def _go_on_behind(self) -> None:
        """Have some blocks under way, as long as anything of the whole is missing."""
        block = self._limits.block
        while self._behind and sum(one.stop - one.start > _LITTLE for one in self._under_way.values()) < _BEHIND:
            first, last = next(iter(self._behind))
            last = min(last, (first // block + 1) * block)
            self._behind.remove(first, last)
            wanted = self._wanted(first, last)
            if wanted and not any(first < one.stop and one.start < last for one in self._under_way.values()):
                # One request costs more than the little that is here already.
                wanted = [(wanted[0][0], wanted[-1][1])]
            for start, stop in wanted:
                self._start(start, stop)

    # ------------------------------------------------------------------ the space

    async def _fetch(self, coming: Coming) -> None:
        reader = await self._reader()
        await self._remote.fetch(reader, coming)

    async def _reader(self) -> Reader:
        if self._opening is None or (self._opening.done() and self._failed(self._opening)):
            self._opening = asyncio.create_task(self._remote.reader(self.base))
        reader = await asyncio.shield(self._opening)
        etag = self.base.version.etag
        if reader.size != self.size or (etag is not None and reader.etag != etag):
            self._opening = None
            raise ContentChanged(f"/{'/'.join(self.base.path)} has other bytes in the space by now")
        return reader

    @staticmethod
    def _failed(task: asyncio.Task[Reader]) -> bool:
        return task.cancelled() or task.exception() is not None
