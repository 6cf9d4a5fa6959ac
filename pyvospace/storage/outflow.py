"""Sending bodies: to the end or with a cut, and files from worker threads, so that a slow disk holds up nobody else.

`loop.sendfile` of asyncio would read the disk on the event loop: whatever is not in the page cache makes every other
client wait.
"""

import asyncio
import enum
import logging
import os
import select
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from aiohttp import web

from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import run

log = logging.getLogger(__name__)

SLICE: Final = 1.0
"""Seconds after which the thread goes back to its pool, so that all clients get their turn."""
FULL: Final = 100
"""Milliseconds in which the client takes nothing, after which it is waited for without a thread."""
_AT_ONCE: Final = 1 << 20
"""Bytes of one call: more of them at a time keep the socket from taking what its client says, a quarter slower."""


class Sent(enum.Enum):
    """Why `Outflow.run` returned."""

    ALL = enum.auto()
    FULL = enum.auto()
    SLICE = enum.auto()


class Outflow:
    """Some bytes of a file on their way into a socket."""

    def __init__(self, sock: socket.socket, fd: int, offset: int, count: int) -> None:
        self._socket = sock
        self._fd = fd
        self._offset = offset
        self._left = count

    def run(self) -> Sent:
        """Send until all is sent, the client is slow, or the slice of time is over.

        Raises
        ------
        EOFError
            The file ended too early.
        ConnectionError
            The client is gone.
        """
        deadline = time.monotonic() + SLICE
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        while self._left:
            try:
                sent = os.sendfile(self._socket.fileno(), self._fd, self._offset, min(self._left, _AT_ONCE))
            except BlockingIOError:
                if not poller.poll(FULL):
                    return Sent.FULL
                continue
            if not sent:
                raise EOFError(f"the file ended {self._left} bytes early")
            self._offset += sent
            self._left -= sent
            if time.monotonic() > deadline:
                return Sent.SLICE
        return Sent.ALL


async def send_file(transport: asyncio.Transport, fd: int, offset: int, count: int, *, workers: Workers) -> None:
    """Send `count` bytes behind what `transport` was given before, which must have been sent.

    A client that takes nothing is waited for: see `streaming`.
    """
    sock = transport.get_extra_info("socket").dup()
    try:
        outflow = Outflow(sock, fd, offset, count)
        outcome = Sent.SLICE
        while outcome is not Sent.ALL:
            if outcome is Sent.FULL:
                await _writable(sock)
            outcome = await run(workers.moving, outflow.run)
    finally:
        sock.close()


@asynccontextmanager
async def streaming(
    request: web.Request,
    response: web.StreamResponse,
    *,
    idle: float,
    what: str,
    given_up: tuple[type[Exception], ...],
) -> AsyncIterator[asyncio.Transport]:
    """Send the head before the body of an answer and its end behind it.

    If the body ends early, the connection is cut so that the client knows: no fault can be told any more, it would be
    taken for bytes.

    Parameters
    ----------
    idle
        Seconds that the client may take no byte.
    what
        Name of the body in the log.
    given_up
        What is nobody's defect: above all, that the client is gone.

    Raises
    ------
    ConnectionError
        The client is gone, or the connection was cut.
    """
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    _limit_waiting(transport, idle)
    try:
        yield transport
    except given_up as error:
        log.info("%s was given up: %s", what, error)
        transport.abort()
        raise ConnectionAbortedError from error
    except Exception as error:
        log.exception("%s broke off", what)
        transport.abort()
        raise ConnectionAbortedError from error
    await response.write_eof()


def _limit_waiting(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel end the connection of a client that takes no byte for so long.

    It alone knows: a socket counts as writable only when a third of its buffer is free, which is a long time for
    a slow client. Systems other than Linux go by their own limits.
    """
    with suppress(AttributeError, OSError):
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock)
