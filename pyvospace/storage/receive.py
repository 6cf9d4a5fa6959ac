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
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import Final, TypeVar

from aiohttp import web

from pyvospace.model.faults import InvalidData, RequestTimeout
from pyvospace.storage.body import CheckedBody, Received
from pyvospace.storage.hashing import Announced, Hasher
from pyvospace.storage.pump import Pump, Pumped
from pyvospace.storage.sink import Sink
from pyvospace.storage.threads import Workers, ended, outlast, run

T = TypeVar("T")

SMALL: Final = 1 << 20
"""A body up to this size is not worth a thread and a connection of its own."""
LEAST_RATE: Final = 256
"""Bytes a second, on average over one idle time-out."""
CLOSING: Final = web.RequestKey("closing", bool)
"""Set if the connection cannot be used for another request."""
_GATHERED_FOR: Final = 1.0
"""Seconds after which a batch is written though not full: slow clients keep no memory."""


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


class HttpBody(CheckedBody):
    """The body of one PUT.

    Parameters
    ----------
    limit, announced
        See `CheckedBody`.
    idle
        Seconds that the client may be silent.
    """

    def __init__(
        self, request: web.Request, *, workers: Workers, limit: int | None, idle: float, announced: Announced
    ) -> None:
        super().__init__(size=request.content_length, limit=limit, announced=announced)
        self._request = request
        self._workers = workers
        self._idle = idle

    async def write_to(self, open_file: Callable[[], int]) -> None:
        """Write everything to a file and make it durable (see `Body.write_to`)."""
        self._begin()
        taken = self._take_socket()
        sink = Sink(
            open_file,
            hashing=self._workers.hashing,
            flushing=self._workers.flushing,
            verify=self._verify,
            direct=taken is not None,
        )
        try:
            if taken is not None:
                await self._pump(taken, sink)
            else:
                await self._write_batches(sink)
        except BaseException:
            # No thread is at work any more; at most a last flush is waited for.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, sink.close))
            raise
        if sink.digests is None:
            raise self._cut(sink.size)
        self.received = Received(sink.size, sink.digests)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes in pieces (see `Body.__aiter__`)."""
        self._begin()
        hasher = Hasher(self._workers.hashing)
        async with aclosing(self._gather()) as batches:
            async for pieces, last in batches:
                data = b"".join(pieces)
                await run(self._workers.quick, hasher.update, [data], len(data))
                if last:
                    digests = await run(self._workers.quick, hasher.digests)
                    self._verify(hasher.size, digests)
                    self.received = Received(hasher.size, digests)
                if data:
                    yield data

    def _begin(self) -> None:
        super()._begin()
        self._say_continue()

    def _say_continue(self) -> None:
        """Tell a client that waits for our word to send the body, now that it is wanted."""
        request = self._request
        if request.headers.get("Expect", "").lower() != "100-continue" or request.version < (1, 1):
            return
        if request.transport is not None and not request.content.is_eof():
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_socket(self) -> "Taken | None":
        if self.size is None or self.size <= SMALL:
            return None
        return take_socket(self._request)

    async def _pump(self, taken: "Taken", sink: Sink) -> None:
        """Let threads read the socket, a slice of time each, as long as there is something to read."""
        assert self.size is not None  # noqa: S101 (for mypy: _take_socket asked)
        pump = Pump(taken.socket, sink, head=taken.head, total=self.size, buffer_size=self._workers.buffer_size)
        pace = Pace(self._idle)
        outcome = Pumped.SLICE
        try:
            while outcome is not Pumped.ALL:
                if outcome is Pumped.DRY:
                    await pace.wait(_readable(taken.socket))
                before = pump.received
                outcome = await self._slice(pump)
                pace.saw(pump.received - before)
        except BaseException:
            # If nothing comes any more, aiohttp must not look: at an end of file it would close without an answer.
            if pump.ended:
                taken.finish()
            else:
                taken.give_back()
            raise
        taken.finish()

    async def _slice(self, pump: Pump) -> Pumped:
        try:
            outcome = await run(self._workers.moving, pump.run)
        except ConnectionError:
            raise self._cut(pump.received) from None
        if outcome is Pumped.CUT:
            raise self._cut(pump.received)
        return outcome

    async def _write_batches(self, sink: Sink) -> None:
        """Write one batch while the next is gathered."""
        writing: Future[None] | None = None
        try:
            async with aclosing(self._gather()) as batches:
                async for pieces, last in batches:
                    if writing is not None:
                        await outlast(writing)
                    size = sum(map(len, pieces))
                    writing = self._workers.quick.submit(sink.take, pieces, size, last=last)
            if writing is not None:
                await outlast(writing)
        finally:
            if writing is not None:
                await ended(writing)

    async def _gather(self) -> AsyncGenerator[tuple[list[bytes], bool], None]:
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
