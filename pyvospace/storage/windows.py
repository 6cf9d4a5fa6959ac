"""Bytes that are read in blocks, of what can be had only in larger parts: some of these are held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

SIZE: Final = 4 << 20
"""Bytes of a window."""
_HELD: Final = 2


class Windows:
    """The last windows that were read of one file.

    Parameters
    ----------
    fetch
        Gives the bytes from a first to before a last.
    size
        Of the file.
    ahead
        Fetch the next window while one is read.
    """

    def __init__(self, fetch: Callable[[int, int], Awaitable[bytes]], size: int, *, ahead: bool = False) -> None:
        self._fetch = fetch
        self._size = size
        self._ahead = ahead
        self._held: dict[int, asyncio.Task[bytes]] = {}

    async def read(self, start: int, end: int) -> bytes:
        """Give the bytes from `start` to before `end`, which lie within the file and are at least one."""
        found = []
        for index in range(start // SIZE, (end - 1) // SIZE + 1):
            window = await asyncio.shield(self._window(index))
            found.append(window[max(start - index * SIZE, 0) : end - index * SIZE])
            if self._ahead and (index + 1) * SIZE < self._size and start % SIZE > SIZE // 2:
                self._window(index + 1)
        return b"".join(found)

    async def close(self) -> None:
        """Give up what is on its way."""
        held = list(self._held.values())
        for task in held:
            task.cancel()
        if held:
            await asyncio.wait(held)

    def _window(self, index: int) -> asyncio.Task[bytes]:
        known = self._held.pop(index, None)
        if known is None or (known.done() and (known.cancelled() or known.exception())):
            known = asyncio.create_task(self._get(index))
            known.add_done_callback(_see)
        self._held[index] = known  # the last one used stands last
        for old in list(self._held)[:-_HELD]:
            if self._held[old].done():
                self._held.pop(old)
        return known

    async def _get(self, index: int) -> bytes:
        return await self._fetch(index * SIZE, min((index + 1) * SIZE, self._size))


def _see(task: asyncio.Task[bytes]) -> None:
    """Take note of a failure: what was fetched ahead may be wanted by nobody."""
    if not task.cancelled():
        task.exception()
