"""The body of an upload on its way from the socket into a backend.

Three ways with one result:

* Small bodies come through aiohttp; one thread job hashes, writes and syncs. The connection stays usable.
* Large bodies with a Content-Length on plain TCP: a worker thread reads the socket itself (`pump`), which
  costs half the CPU. aiohttp cannot find the next request behind such a body, so the connection is closed.
* All else (TLS, chunked) is gathered from aiohttp in batches, each hashed and written by one thread job
  while the next is gathered.

Nothing is ever inflated: what the client sent is what is stored, whatever Content-Encoding says.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

from aiohttp import web

from pyvospace.model.faults import InvalidData, RequestEntityTooLarge, RequestTimeout
from pyvospace.storage.backend import Body
from pyvospace.storage.hashing import Announced, Digests, Hasher
from pyvospace.storage.pump import Pump, Pumped
from pyvospace.storage.sink import Sink
from pyvospace.storage.threads import Workers, run

T = TypeVar("T")

SMALL: Final = 1 << 20
"""A body up to this size is not worth a thread and a connection of its own."""
LEAST_RATE: Final = 256
"""Bytes a second, on average over one idle time-out."""
CLOSING: Final = web.RequestKey("closing", bool)
"""Set if the connection cannot be used for another request."""
_GATHERED_FOR: Final = 1.0
"""Seconds after which a batch is written though not full: slow clients keep no memory."""


@dataclass(frozen=True, slots=True)
class Received:
    """All bytes came, and they are what the client announced."""

    size: int
    digests: Digests


class Pace:
    """Refuses clients that send nothing, or next to nothing, for `idle` seconds."""

    def __init__(self, idle: float) -> None:
        self._idle = idle
        self._since = asyncio.get_running_loop().time()
        self._received = 0

    async def wait(self, arriving: Awaitable[T]) -> T:
        """Wait for more bytes."""
        try:
            async with asyncio.timeout(self._idle):
                return await arriving
        except TimeoutError:
            raise RequestTimeout(f"no bytes for {self._idle:g} seconds") from None

    def saw(self, size: int) -> None:
        """Count `size` bytes that came."""
        self._received += size
        now = asyncio.get_running_loop().time()
        if now - self._since < self._idle:
            return
        if self._received < LEAST_RATE * self._idle:
            raise RequestTimeout(f"{self._received} bytes in {now - self._since:.0f} seconds are too few")
        self._since, self._received = now, 0


class HttpBody(Body):
    """The body of one PUT.

    Parameters
    ----------
    limit
        The most bytes that are welcome; None: as many as fit.
    idle
        Seconds that the client may be silent.
    announced
        The digests that the bytes are to have.
    """

    def __init__(
        self, request: web.Request, *, workers: Workers, limit: int | None, idle: float, announced: Announced
    ) -> None:
        self._request = request
        self._workers = workers
        self._limit = limit
        self._idle = idle
        self._announced = announced
        self._begun = False
        self.size = request.content_length
        """As announced; None: chunked."""
        self.received: Received | None = None
        """Set at the end of the body, if all is well."""

    async def write_to(self, open_file: Callable[[], int]) -> None:
        """Write everything to a file and make it durable (see `Body.write_to`)."""
        self._begin()
        sink = Sink(open_file, hashing=self._workers.hashing, flushing=self._workers.flushing, verify=self._verify)
        try:
            taken = self._take_socket()
            if taken is not None:
                await self._pump(taken, sink)
            else:
                await self._write_batches(sink)
        except BaseException:
            # No thread is at work any more; at most a last flush is waited for.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, sink.close))
            raise
        if sink.digests is None:
            raise InvalidData(f"the body ended after {sink.size} of {self.size} bytes")
        self.received = Received(sink.size, sink.digests)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes in pieces (see `Body.__aiter__`)."""
        self._begin()
        hasher = Hasher(self._workers.hashing)
        async for pieces, last in self._gather():
            data = b"".join(pieces)
            await run(self._workers.quick, hasher.update, [data], len(data))
            if last:
                digests = await run(self._workers.quick, hasher.digests)
                self._verify(hasher.size, digests)
                self.received = Received(hasher.size, digests)
            if data:
                yield data

    async def discard(self) -> None:
        """Receive everything, check it and keep nothing."""
        async for _ in self:
            pass

    def digests(self) -> Digests:
        """Tell the digests of a body that was received."""
        if self.received is None:
            raise RuntimeError("the body was not received to its end")
        return self.received.digests

    def _begin(self) -> None:
        if self._begun:
            raise RuntimeError("a body can be consumed only once")
        self._begun = True
        self._check_size(self.size or 0)
        self._say_continue()

    def _say_continue(self) -> None:
        """Tell a client that waits for our word to send the body, now that it is wanted."""
        request = self._request
        if request.headers.get("Expect", "").lower() != "100-continue" or request.version < (1, 1):
            return
        if request.transport is not None and not request.content.is_eof():
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _check_size(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise RequestEntityTooLarge(f"more than {self._limit} bytes are not taken")

    def _verify(self, size: int, digests: Digests) -> None:
        if self.size is not None and size != self.size:
            raise InvalidData(f"the body ended after {size} of {self.size} bytes")
        self._announced.verify(digests)

    def _take_socket(self) -> "Taken | None":
        if self.size is None or self.size <= SMALL:
            return None
        return take_socket(self._request)

    async def _pump(self, taken: "Taken", sink: Sink) -> None:
        """Let threads read the socket, a slice of time each, as long as there is something to read."""
        assert self.size is not None  # noqa: S101 (for mypy: _take_socket asked)
        pump = Pump(taken.socket, sink, total=self.size, buffer_size=self._workers.buffer_size)
        pace = Pace(self._idle)
        try:
            outcome = await run(self._workers.quick, pump.begin, taken.head)
            while outcome is not Pumped.ALL:
                if outcome is Pumped.DRY:
                    await pace.wait(_readable(taken.socket))
                before = pump.received
                outcome = await self._slice(pump)
                pace.saw(pump.received - before)
        except BaseException:
            taken.give_back()
            raise
        taken.finish()

    async def _slice(self, pump: Pump) -> Pumped:
        try:
            return await run(self._workers.receiving, pump.run)
        except ConnectionError:
            raise InvalidData(f"the body ended after {pump.received} of {pump.total} bytes") from None

    async def _write_batches(self, sink: Sink) -> None:
        """Write one batch while the next is gathered."""
        writing: asyncio.Task[None] | None = None
        try:
            async for pieces, last in self._gather():
                if writing is not None:
                    await writing
                size = sum(map(len, pieces))
                writing = asyncio.create_task(run(self._workers.quick, sink.take, pieces, size, last=last))
            if writing is not None:
                await writing
        finally:
            if writing is not None and not writing.done():
                writing.cancel()
                await asyncio.wait([writing])

    async def _gather(self) -> AsyncIterator[tuple[list[bytes], bool]]:
        """Give batches of pieces as aiohttp has them; the last batch says so and may be empty."""
        content, pace = self._request.content, Pace(self._idle)
        received, last = 0, False
        loop = asyncio.get_running_loop()
        with self._workers as workers:
            while not last:
                pieces: list[bytes] = []
                room = workers.batch_size()
                until = loop.time() + _GATHERED_FOR
                while room > 0 and not last and loop.time() < until:
                    piece = await pace.wait(self._any())
                    received += len(piece)
                    room -= len(piece)
                    pieces.append(piece)
                    pace.saw(len(piece))
                    self._check_size(received)
                    last = content.at_eof()
                yield pieces, last

    async def _any(self) -> bytes:
        try:
            return await self._request.content.readany()
        except (ConnectionError, web.PayloadAccessError, web.RequestPayloadError) as error:
            raise InvalidData(f"the body broke off: {error}") from None


class Taken:
    """A socket whose next bytes are ours and not aiohttp's."""

    def __init__(self, request: web.Request, transport: asyncio.Transport, head: bytes, sock: socket.socket) -> None:
        self._request = request
        self._transport = transport
        self.head = head
        """What aiohttp had read of the body already."""
        self.socket = sock

    def finish(self) -> None:
        """Tell aiohttp that the body is complete, and to close the connection behind the answer.

        What the client may have sent behind the body stays unread: aiohttp would take it for the body.
        """
        self.socket.close()
        self._request.content.feed_eof()
        self._transport.pause_reading()

    def give_back(self) -> None:
        """Let aiohttp read and drop what still comes, so that the client gets to see the answer."""
        self.socket.close()
        with suppress(RuntimeError):
            self._transport.resume_reading()


def take_socket(request: web.Request) -> Taken | None:
    """Take the socket away from aiohttp; None if the body is better read through it."""
    transport = request.transport
    if transport is None or transport.get_extra_info("sslcontext") is not None:
        return None
    sock = transport.get_extra_info("socket")
    if sock is None:
        return None
    request[CLOSING] = True
    # Reading from the buffer makes the transport read on, so it must be empty before the transport pauses.
    head = bytearray()
    while piece := request.content.read_nowait():
        head += piece
    transport.pause_reading()
    return Taken(request, transport, bytes(head), sock.dup())


async def _readable(sock: socket.socket) -> None:
    """Wait until `sock` has bytes or its end for us."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
