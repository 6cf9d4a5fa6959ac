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
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Final

from aiohttp import web

from pyvospace.model.faults import InvalidData
from pyvospace.storage.body import Received
from pyvospace.storage.gathered import GatheredBody, Pace
from pyvospace.storage.hashing import Announced, Hasher
from pyvospace.storage.pump import Pump, Pumped
from pyvospace.storage.sink import Relay, Sink
from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import run

SMALL: Final = 1 << 20
"""A body up to this size is not worth a thread and a connection of its own."""
CLOSING: Final = web.RequestKey("closing", bool)
"""Set if the connection cannot be used for another request."""


class HttpBody(GatheredBody):
    """The body of one PUT.

    Parameters
    ----------
    limit, announced
        See `CheckedBody`.
    idle, least_rate
        See `GatheredBody`.
    """

    def __init__(
        self,
        request: web.Request,
        *,
        workers: Workers,
        limit: int | None,
        idle: float,
        announced: Announced,
        least_rate: float,
    ) -> None:
        super().__init__(
            workers=workers,
            size=request.content_length,
            limit=limit,
            idle=idle,
            announced=announced,
            least_rate=least_rate,
        )
        self._request = request

    async def write_to(self, open_file: Callable[[], int]) -> None:
        """Write everything to a file and make it durable (see `Body.write_to`)."""
        self._begin()
        taken = self._take_socket()
        if taken is None:
            await self._keep(open_file, self._write_batches)
        else:
            await self._keep(open_file, partial(self._pump, taken), direct=True)

    def _begin(self) -> None:
        super()._begin()
        say_continue(self._request)

    def _take_socket(self) -> "Taken | None":
        if self.size is None or self.size <= SMALL:
            return None
        return take_socket(self._request)

    async def _pump(self, taken: "Taken", sink: Sink) -> None:
        """Let threads read the socket, a slice of time each, as long as there is something to read."""
        assert self.size is not None  # noqa: S101 (for mypy: _take_socket asked)
        pump = Pump(taken.socket, sink, head=taken.head, total=self.size, buffer_size=self._workers.buffer_size)
        async with aclosing(self._slices(taken, pump)) as slices:
            async for _ in slices:
                pass

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """Give them as threads read them from the socket, if it can be had."""
        taken = self._take_socket()
        if taken is None:
            async with aclosing(super()._pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            return
        assert self.size is not None  # noqa: S101 (for mypy: _take_socket asked)
        relay = Relay(Hasher(self._workers.hashing, self._watch, self.begun), self._verify)
        with self._workers as workers:
            size = 2 * workers.batch_size()
            pump = Pump(taken.socket, relay, head=taken.head, total=self.size, buffer_size=size, slice_time=0)
            async with aclosing(self._slices(taken, pump)) as slices:
                async for _ in slices:
                    if relay.digests is not None:
                        self.received = Received(pump.received, relay.digests)
                        self.hashes = relay.hasher.hashes
                    for piece in relay.fetch():
                        yield piece

    async def _slices(self, taken: "Taken", pump: Pump) -> AsyncGenerator[None, None]:
        """Run the pump to its end; stop after each slice of time."""
        pace = Pace(self._idle, self._least_rate)
        outcome = Pumped.SLICE
        try:
            while outcome is not Pumped.ALL:
                if outcome is Pumped.DRY:
                    await pace.wait(readable(taken.socket))
                before = pump.received
                outcome = await self._slice(pump)
                pace.saw(pump.received - before)
                yield
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

    def _arrived(self) -> bytes | None:
        content = self._request.content
        return content.read_nowait() if content.is_eof() and content.exception() is None else None

    async def _more(self) -> tuple[bytes, bool]:
        content = self._request.content
        try:
            return await content.readany(), content.at_eof()
        except (ConnectionError, web.PayloadAccessError, web.RequestPayloadError) as error:
            raise InvalidData(f"the body broke off: {error}") from None


def say_continue(request: web.Request) -> None:
    """Tell a client that waits for our word to send the body, now that it is wanted."""
    if request.headers.get("Expect", "").lower() != "100-continue" or request.version < (1, 1):
        return
    if request.transport is not None and not request.content.is_eof():
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


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


async def readable(sock: socket.socket) -> None:
    """Wait until `sock` has bytes or its end for us."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)
