"""A range of a file on its way: whoever wants a part of it has it as soon as that part is there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pyvospace.fuse.cache.blocks import Held


class Coming:
    """Bytes from `start` to before `stop`, which come in order (a `Target` of the client)."""

    def __init__(self, held: Held, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.reached = start
        """Up to here they have come."""
        self.task: asyncio.Task[None] | None = None
        self._held = held
        self._pieces: list[tuple[int, bytes]] = []
        """Those that came past the file: there may be no room for them there."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    # ------------------------------------------------------------------ what comes

    @property
    def path(self) -> Path:
        """Say which file is to be written to."""
        return self._held.made()

    def mark(self) -> int:
        """Give what tells later whether anything was taken out of the file meanwhile."""
        return self._held.epoch

    def wrote(self, count: int, mark: int) -> None:
        """Hear that the next bytes are in the file."""
        self._held.wrote(self.reached, self.reached + count, mark)
        self._advance(count)

    def take(self, data: bytes) -> None:
        """Take the next bytes in."""
        self._held.store(self.reached, data)
        self._pieces.append((self.reached, data))
        self._advance(len(data))

    def _advance(self, count: int) -> None:
        self.reached += count
        for until, future in self._waiting:
            if until <= self.reached and not future.done():
                future.set_result(None)

    def end(self, error: BaseException | None) -> None:
        """Let nobody wait any longer."""
        for _, future in self._waiting:
            if future.done():
                continue
            if error is None:
                future.cancel()
            else:
                future.set_exception(error)

    # ------------------------------------------------------------------ who waits

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for it now."""
        return bool(self._waiting)

    async def read(self, start: int, stop: int) -> bytes | None:
        """Give the bytes of a range that is within, as soon as they have come; None: they are here no more.

        Raises
        ------
        Exception
            Why they do not come.
        """
        if self.reached < stop:
            waiting = (stop, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            try:
                await waiting[1]
            finally:
                self._waiting.remove(waiting)
        data = self._held.read(start, stop)
        return data if data is not None else self._remembered(start, stop)

    def _remembered(self, start: int, stop: int) -> bytes | None:
        """Put a range together from what came past the file, and what is in it."""
        found = bytearray()
        for first, piece in self._pieces:
            at = start + len(found)
            if first > at and (between := self._held.read(at, min(first, stop))) is not None:
                found += between
                at = start + len(found)
            if first <= at < min(stop, first + len(piece)):
                found += memoryview(piece)[at - first : stop - first]
        return bytes(found) if len(found) == stop - start else None
