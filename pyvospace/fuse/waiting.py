"""Waiting for requests of the kernel, as pyfuse3 does it under asyncio, but with fewer steps of the loop.

pyfuse3 registers its descriptor anew for each request and lets the loop turn once. Under load the next request is there
already: one look at the descriptor tells, at a tenth of the price. Every few requests the loop gets its turn all the
same, so that transfers of the cache go on.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from typing import Final, Self

import pyfuse3.asyncio

_TURN: Final = 16
"""Requests after which everything else gets its turn."""


class _Readiness:
    """Tells when the descriptor of the session can be read."""

    def __init__(self) -> None:
        self._polls: dict[int, select.poll] = {}
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._served = 0
        self._closed = False

    async def wait(self, descriptor: int) -> None:
        """Return when the kernel has a request, or raise when the session is closed."""
        poll = self._polls.get(descriptor)
        if poll is None:
            poll = self._polls[descriptor] = select.poll()
            poll.register(descriptor, select.POLLIN)
        self._served += 1
        if self._served % _TURN == 0:
            await asyncio.sleep(0)
        # Whoever is killed takes his request back: it may be gone by now, and reading would stop everything else.
        while not poll.poll(0):
            if self._closed:
                raise pyfuse3.asyncio.ClosedResourceError
            await self._one(descriptor)

    async def _one(self, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        future = self._waiting[descriptor] = loop.create_future()
        loop.add_reader(descriptor, _wake, future)
        try:
            await future
        finally:
            loop.remove_reader(descriptor)
            del self._waiting[descriptor]

    def close(self, descriptor: int) -> None:
        """Wake who waits: there will be no more requests."""
        self._closed = True
        future = self._waiting.get(descriptor)
        if future is not None and not future.done():
            future.set_exception(pyfuse3.asyncio.ClosedResourceError())


class _Lock:
    """Lets one task read requests at a time.

    Whoever gives it back and comes again at once has it again, without a turn of the loop; the others get it as soon as
    he has to wait for something.
    """

    def __init__(self) -> None:
        self._locked = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._called = False

    async def __aenter__(self) -> Self:
        while self._locked:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        self._locked = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._locked = False
        if self._waiting and not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._hand_on)

    def _hand_on(self) -> None:
        self._called = False
        if not self._locked and self._waiting:
            _wake(self._waiting.popleft())


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def enable() -> None:
    """Have pyfuse3 use asyncio, and wait so."""
    pyfuse3.asyncio.enable()
    readiness = _Readiness()
    pyfuse3.asyncio.wait_readable = readiness.wait  # type: ignore[assignment]
    pyfuse3.asyncio.Lock = _Lock  # type: ignore[assignment]
    pyfuse3.asyncio.notify_closing = readiness.close  # type: ignore[assignment]
