"""Files on their way through a plain connection: read, hashed and sent by a thread, past the event loop.

Through aiohttp each piece costs several hops between the loop and threads, and some copies; with several large files at
once that was most of what a push cost. TLS is aiohttp's, piece by piece.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp

from pyvospace.client.failures import ContentChanged

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from pyvospace.client.digests import Digester
    from pyvospace.client.sources import FilePart

_PIECE: Final = 512 << 10
"""Small enough that what was read is still in the cache of the processor when it is hashed and sent."""
_LOOK: Final = 0.1
"""Seconds after which a thread that waits for the network looks whether anybody still wants it to."""
_SHORT: Final = 0.001
_ANSWER: Final = 0.5
"""Seconds for an answer to be read that came instead of all bytes being taken."""


class Sender(Protocol):
    """Who has a file sent, and accounts for it."""

    def account(self, count: int, *, last: bool) -> None:
        """Hear that so many bytes more are about to be sent."""

    def fail(self, error: Exception) -> None:
        """Hear that the file cannot be read."""

    def pieces(self) -> AsyncGenerator[bytes]:
        """Give the same bytes, accounted for, where no thread can send them."""


class FileBody(aiohttp.Payload):
    """The body of a request: a file from a byte on."""

    def __init__(self, part: FilePart, sender: Sender, digester: Digester) -> None:
        super().__init__(part)
        self._part = part
        self._sender = sender
        self._digester = digester
        self._stopped = threading.Event()

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Give it as text: nobody asks for that."""
        raise UnicodeDecodeError(encoding, b"", 0, 0, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send it."""
        transport = getattr(writer, "transport", None)
        if transport is None or transport.get_extra_info("ssl_object") or not transport.get_extra_info("socket"):
            async for piece in self._sender.pieces():
                await writer.write(piece)
            return
        writer.send_headers()
        await _emptied(transport)
        await self._carry(os.dup(transport.get_extra_info("socket").fileno()))

    async def _carry(self, descriptor: int) -> None:
        """Let a thread send all, and wait for its end in any case: it has the descriptor."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "push")
        sending = loop.run_in_executor(thread, self._send, descriptor, loop)
        try:
            await asyncio.shield(sending)
        except (BrokenPipeError, ConnectionResetError):
            await asyncio.sleep(_ANSWER)
            raise
        finally:
            self._stopped.set()
            await asyncio.wait([sending])
            sending.exception()  # who was cancelled hears no more of it, and the loop would complain of that
            thread.shutdown(wait=False)
            os.close(descriptor)

    def _send(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        for piece, last in self._read():
            self._digester.add(piece)
            with suppress(RuntimeError):  # the loop has gone
                loop.call_soon_threadsafe(partial(self._account, len(piece), last=last))
            self._send_all(descriptor, piece)

    def _read(self) -> Iterator[tuple[memoryview, bool]]:
        """Give the pieces of the file, all in one place of memory; with each whether it is the last."""
        view = memoryview(bytearray(min(_PIECE, self._part.size)))
        left = self._part.size
        try:
            with self._part.path.open("rb", buffering=0) as file:
                file.seek(self._part.start)
                while left and not self._stopped.is_set():
                    count = file.readinto(view[:left])
                    left -= count
                    if not left or not count:
                        self._part.require_unchanged(os.fstat(file.fileno()))
                    yield view[:count], not left
        except (OSError, ContentChanged) as error:
            self._sender.fail(error)
            raise

    def _account(self, count: int, *, last: bool) -> None:
        if not self._stopped.is_set():
            self._sender.account(count, last=last)

    def _send_all(self, descriptor: int, data: memoryview) -> None:
        """Send to a socket that does not block, which the loop reads meanwhile."""
        writable = select.poll()
        writable.register(descriptor, select.POLLOUT)
        while data and not self._stopped.is_set():
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                writable.poll(_LOOK * 1000)


async def _emptied(transport: asyncio.WriteTransport) -> None:
    """Wait until the system has all that was written to a connection: now somebody else writes to it."""
    while transport.get_write_buffer_size():
        if transport.is_closing():
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        await asyncio.sleep(_SHORT)  # the headers of a new connection: they are gone already
