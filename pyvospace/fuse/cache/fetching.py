"""Bytes of a version on their way into the cache: only those that are read, and a little more."""

from __future__ import annotations

import asyncio
from typing import Final

from pyvospace.client import ContentChanged, Reader
from pyvospace.fuse.cache.blocks import Held
from pyvospace.fuse.cache.changes import Base
from pyvospace.fuse.cache.ranges import Ranges
from pyvospace.fuse.cache.records import Limits, Names
from pyvospace.fuse.cache.remote import Remote

_UNITS: Final = ((4, 256 << 10), (16, 1 << 20))
"""Bytes that are fetched for somebody who reads here and there, up to so many times; then it is whole blocks."""
_EVERYWHERE: Final = 32
"""So many times, and the block behind is fetched as well."""
_NEAR: Final = 1 << 20
"""Requests of one reader overtake each other; so far apart they still count as reading on."""

Fetched = tuple[int, bytes]


class Fetching:
    """Reads one version, for one file."""

    def __init__(self, remote: Remote, held: Held, base: Base, limits: Limits) -> None:
        self._remote = remote
        self._held = held
        self._limits = limits
        self._opening: asyncio.Task[Reader] | None = None
        self._under_way: dict[tuple[int, int], asyncio.Task[Fetched]] = {}
        self._next = 0
        """Where a reader would go on who reads on and on."""
        self._streak = 0
        """Bytes that were read on and on."""
        self._misses = 0
        """How often bytes were wanted that were not here."""
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
        self._misses += 1
        self._follow(start, stop)
        found = bytearray(stop - start)
        wanted = Ranges((start, stop))
        while wanted:
            first, last = next(iter(wanted))
            task = self._task(first, last)
            self._read_ahead(stop)
            begin, fetched = task if isinstance(task, tuple) else await asyncio.shield(task)
            end = min(begin + len(fetched), last)
            found[first - start : end - start] = fetched[first - begin : end - begin]
            wanted.remove(first, end)
        return bytes(found)

    def move(self, path: Names) -> None:
        """Read it under another name."""
        self.base = Base(path, self.base.version)
        self._opening = None

    def close(self) -> None:
        """Fetch no more."""
        for task in self._under_way.values():
            task.cancel()
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

    def _task(self, start: int, stop: int) -> Fetched | asyncio.Task[Fetched]:
        """Give the bytes from `start` on, as many as are here or come together."""
        here = self._held.present.within(start, stop)
        if here and here[0][0] == start:
            data = self._held.read(*here[0])
            if data is not None:
                return start, data
        for (first, last), task in self._under_way.items():
            if first <= start < last:
                return task
        return self._begin(start)

    def _begin(self, start: int) -> asyncio.Task[Fetched]:
        """Begin to fetch what is around a position: a block for those who read on, less for others."""
        unit = self._unit()
        first = start // unit * unit
        last = min(first + unit, self.size)
        gaps = self._held.present.without(first, last)
        first, last = next((gap for gap in gaps if gap[0] <= start < gap[1]), (start, last))
        for left, right in self._under_way:
            if left > start:
                last = min(last, left)
            elif right <= start:
                first = max(first, right)
        return self._start(first, last)

    def _unit(self) -> int:
        block = self._limits.block
        if self._streak:
            return block
        return min(block, next((size for misses, size in _UNITS if self._misses <= misses), block))

    def _start(self, first: int, last: int) -> asyncio.Task[Fetched]:
        task = asyncio.create_task(self._fetch(first, last))
        self._under_way[first, last] = task
        task.add_done_callback(lambda done: self._done((first, last), done))
        return task

    def _done(self, key: tuple[int, int], task: asyncio.Task[Fetched]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waits for it hears of it; reading ahead nobody does

    def _read_ahead(self, position: int) -> None:
        """Fetch blocks before they are asked for: the more, the longer somebody reads on."""
        block = self._limits.block
        window = int(self._misses >= _EVERYWHERE)
        if self._streak >= _NEAR:
            window = min(self._limits.read_ahead, self._streak * 2 // block + 1)
        index = position // block
        for first in range(index * block, min((index + window + 1) * block, self.size) if window else 0, block):
            last = min(first + block, self.size)
            taken = self._held.present.touches(first, last)
            if not taken and not any(left < last and first < right for left, right in self._under_way):
                self._start(first, last)

    async def _fetch(self, start: int, stop: int) -> Fetched:
        if self._opening is None or (self._opening.done() and self._failed(self._opening)):
            self._opening = asyncio.create_task(self._remote.reader(self.base))
        reader = await asyncio.shield(self._opening)
        etag = self.base.version.etag
        if reader.size != self.size or (etag is not None and reader.etag != etag):
            self._opening = None
            raise ContentChanged(f"/{'/'.join(self.base.path)} has other bytes in the space by now")
        data = await self._remote.fetch(reader, start, stop)
        if len(data) != stop - start:
            raise ContentChanged(f"/{'/'.join(self.base.path)} is shorter than it was")
        self._held.store(start, data)
        return start, data

    @staticmethod
    def _failed(task: asyncio.Task[Reader]) -> bool:
        return task.cancelled() or task.exception() is not None
