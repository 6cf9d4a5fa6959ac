"""The body of one request, on its way into as many segments as it takes.

A connection that breaks, or a sender who falls silent, ends the body early; what has come is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiohttp import web

from pyvospace.model.faults import ChecksumMismatch, Fault, InvalidData, RequestEntityTooLarge, RequestTimeout
from pyvospace.storage.gathered import GatheredBody, Pace
from pyvospace.storage.hashing import Announced, Digests, Watch
from pyvospace.storage.pump import Pump, Pumped
from pyvospace.storage.receive import SMALL, Taken, readable, say_continue, take_socket
from pyvospace.storage.waiting import run

if TYPE_CHECKING:
    from pyvospace.storage.sink import Sink
    from pyvospace.storage.threads import Workers

T = TypeVar("T")

_FOREVER: Final = 2.0
"""Idle times after which a body is given up that has an idle time of its own."""


class Incoming:
    """What one request brings.

    Parameters
    ----------
    most
        Bytes that are welcome; None: as many as fit.
    idle, least_rate
        See `GatheredBody`.
    """

    def __init__(
        self, request: web.Request, *, workers: Workers, most: int | None, idle: float, least_rate: float
    ) -> None:
        self.workers = workers
        self.idle = idle
        self.fault: Fault | None = None
        """Why the body ended early."""
        self.closed = asyncio.Event()
        self._request = request
        self._most = most
        self._total = request.content_length
        self._pace = Pace(idle, least_rate)
        self._stopping = asyncio.Event()
        self._rest = b""
        self._seen = 0
        self._taken: Taken | None = None
        self._eof = False
        say_continue(request)

    @property
    def left(self) -> int | None:
        """Bytes that are still to come, those included that wait here; None: nobody knows."""
        return None if self._total is None else self._total - self._seen + len(self._rest)

    def stop(self) -> None:
        """Take nothing any more: the client has said elsewhere that he does not send any more."""
        self._stopping.set()

    async def more(self) -> bool:
        """Whether anything is still to come."""
        if self._rest:
            return True
        if self._eof or self.fault is not None or self._seen == self._total:
            return False
        if self._total is None:
            self._rest = await self._next()
            return bool(self._rest)
        return True

    async def take(self, at_most: int) -> bytes:
        """Give what has come; nothing: it was all."""
        data = self._rest or await self._next()
        self._rest = data[at_most:]
        return data[:at_most]

    async def _next(self) -> bytes:
        data = b""
        while not data and not self._eof and self.fault is None:
            arrived = await self._watched(self._request.content.readany())
            data = arrived[0] if arrived else b""
            self._eof = self._request.content.at_eof()
            self._saw(len(data))
        return data

    def _saw(self, size: int) -> None:
        self._seen += size
        if self._most is not None and self._seen > self._most:
            raise RequestEntityTooLarge("there are more bytes than the upload is to have")
        try:
            self._pace.saw(size)
        except RequestTimeout as slow:
            self.fault = slow

    async def _watched(self, arriving: Awaitable[T]) -> tuple[T] | None:
        """Wait for more; None, and a fault is noted, if nothing will come."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        waiting = asyncio.ensure_future(arriving)
        try:
            await self._pace.wait(asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED))
            if waiting.done():
                return (await waiting,)
            self.fault = InvalidData("the client has begun anew")
        except RequestTimeout as silent:
            self.fault = silent
        except (ConnectionError, web.PayloadAccessError, web.RequestPayloadError) as error:
            self.fault = InvalidData(f"the body broke off: {error}")
        finally:
            for task in (stopping, waiting):
                task.cancel()
            await asyncio.gather(stopping, waiting, return_exceptions=True)
        return None

    def socket(self) -> Taken | None:
        """Give the socket, if the rest is better read from there."""
        if self._taken is None and self._total is not None and self._total - self._seen > SMALL:
            self._taken = take_socket(self._request)
            if self._taken is not None:
                self._rest += self._taken.head
                self._seen += len(self._taken.head)
        return self._taken

    async def pump(self, taken: Taken, most: int, sink: Sink) -> None:
        """Let threads read the socket into a sink, as `HttpBody` does, until `most` bytes or the end have come."""
        size = min(most, self.left or 0)
        pump = Pump(taken.socket, sink, head=self._rest, total=size, buffer_size=self.workers.buffer_size, whole=False)
        waiting = len(self._rest)
        outcome = Pumped.SLICE
        try:
            while outcome is not Pumped.ALL and self.fault is None:
                if outcome is Pumped.DRY and await self._watched(readable(taken.socket)) is None:
                    break
                before = pump.received
                outcome = await run(self.workers.moving, pump.run)
                self._pace_of(pump.received - before)
                if outcome is Pumped.CUT:
                    self._broke(size, pump.received)
            if outcome is not Pumped.ALL:
                await run(self.workers.moving, pump.finish)
        finally:
            self._rest = pump.rest
            self._seen += max(pump.received - waiting, 0)
        if pump.received < size:
            self._broke(size, pump.received)

    def _pace_of(self, size: int) -> None:
        try:
            self._pace.saw(size)
        except RequestTimeout as slow:
            self.fault = slow

    def _broke(self, size: int, received: int) -> None:
        self.fault = self.fault or InvalidData(f"the body ended {size - received} bytes early, or more")

    def close(self) -> None:
        """Let go of the connection."""
        self.closed.set()
        if self._taken is None:
            return
        if self.fault is not None or self._seen == self._total:
            self._taken.finish()
        else:
            self._taken.give_back()


class SegmentBody(GatheredBody):
    """The next bytes of a request, up to `most`.

    Parameters
    ----------
    checksum
        What to compare all of it with: (algorithm, digest). Then a request that broke off is of no use.
    """

    def __init__(
        self,
        incoming: Incoming,
        *,
        most: int,
        limit: int | None,
        checksum: Checksum | None = None,
    ) -> None:
        super().__init__(
            workers=incoming.workers,
            size=None,
            limit=limit,
            idle=_FOREVER * incoming.idle,
            announced=Announced(),
            least_rate=0,
        )
        self._incoming = incoming
        self._left = most
        self._checksum = checksum

    async def write_to(self, open_file: Callable[[], int]) -> None:
        """Write everything to a file and make it durable (see `Body.write_to`)."""
        self._begin()
        taken = self._incoming.socket()
        if taken is None:
            await self._keep(open_file, self._write_batches)
        else:
            await self._keep(open_file, partial(self._incoming.pump, taken, self._left), direct=True)

    async def _more(self) -> tuple[bytes, bool]:
        data = await self._incoming.take(self._left)
        self._left -= len(data)
        return data, not data or not self._left or self._incoming.left == 0

    def _verify(self, size: int, digests: Digests) -> None:
        super()._verify(size, digests)
        if not size:
            raise self._cut(size)
        if self._checksum is not None:
            if self._incoming.fault is not None:
                raise self._incoming.fault
            self._checksum.verify()

    def _cut(self, size: int) -> Fault:
        del size
        return self._incoming.fault or InvalidData("nothing has come")

    @property
    def _watch(self) -> Watch | None:
        return self._checksum.take if self._checksum is not None else None


class Checksum:
    """A digest that a client tells of one request.

    Parameters
    ----------
    digest
        What it should be.
    hasher
        Computes what it is, from the first byte on.
    """

    def __init__(self, digest: bytes, hasher: Any) -> None:
        self._digest = digest
        self._hasher = hasher

    def take(self, pieces: Any) -> None:
        """Be shown some more bytes."""
        for piece in pieces:
            self._hasher.update(piece)

    def verify(self) -> None:
        """Compare.

        Raises
        ------
        ChecksumMismatch
            They differ.
        """
        if self._hasher.digest() != self._digest:
            raise ChecksumMismatch(f"{self._hasher.name} of the bytes received is {self._hasher.hexdigest()}")
