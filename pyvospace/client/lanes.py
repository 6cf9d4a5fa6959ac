"""Parts of a file on their way into a file here, through plain connections: by threads, past the event loop.

Through aiohttp each piece costs a round of the loop and some copies; of a mount that reads from its space this was most
of the work. Whatever is not just as it should be (TLS, proxies, redirects, faults, other bytes) is left to aiohttp,
which knows what to do about it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Final, Protocol

from yarl import URL

_FIRST_PIECE: Final = 128 << 10
"""Whoever waits for a little need not wait for more."""
_PIECE: Final = 512 << 10
_THREADS: Final = 16
_IDLE: Final = 10.0
"""Seconds after which nobody trusts a connection that nobody used."""
_KEPT: Final = 8

Address = tuple[str, int]


class Target(Protocol):
    """A file that bytes are written to, where they are in the whole."""

    @property
    def path(self) -> Path:
        """Say where it is."""

    def mark(self) -> int:
        """Give what `wrote` is told of the bytes that are about to be written. This is called by a thread."""

    def wrote(self, count: int, mark: int) -> None:
        """Hear that so many bytes more are there."""

    def take(self, data: bytes) -> None:
        """Take the next bytes, which were not written."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one version of a file."""

    url: URL
    etag: str
    start: int
    stop: int
    size: int
    """Of the whole file."""

    @property
    def headers(self) -> dict[str, str]:
        """Ask for these bytes and no others."""
        return {"Range": f"bytes={self.start}-{self.stop - 1}", "If-Match": f'"{self.etag}"'}

    def is_what(self, response: HTTPResponse) -> bool:
        """Say whether an answer brings just these bytes."""
        return (
            response.status == HTTPStatus.PARTIAL_CONTENT
            and response.getheader("Content-Range") == f"bytes {self.start}-{self.stop - 1}/{self.size}"
            and response.getheader("ETag") == f'"{self.etag}"'
            and response.length == self.stop - self.start
            and response.getheader("Content-Encoding", "identity") == "identity"
        )

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Give where to begin and how many bytes to read, one after the other."""
        start, length = self.start, _FIRST_PIECE
        while start < self.stop:
            yield start, min(length, self.stop - start)
            start, length = start + length, _PIECE


class Lane:
    """One connection; a thread reads from it, the loop may end that."""

    def __init__(self, address: Address, connected: socket.socket) -> None:
        self.address = address
        self.reusable = False
        self._end = connected
        """The end that the loop holds: whatever the thread closes, this stays until the loop closes it."""
        self._http = HTTPConnection(*address)
        self._http.auto_open = 0
        self._http.sock = connected.dup()
        self._idle_since = 0.0
        self._place: memoryview | None = None
        """For each piece the same: new memory costs as much as to copy what comes into it."""

    def fetch(self, part: Part, target: Target, told: Callable[[int, int], None], headers: dict[str, str]) -> None:
        """Read a part and write it down, in a thread.

        Raises
        ------
        OSError, HTTPException
            It broke off, or the answer is not what was wanted.
        """
        self.reusable = False
        response = None
        try:
            self._http.request("GET", part.url.raw_path_qs, headers=part.headers | headers)
            response = self._http.getresponse()
            if not part.is_what(response):
                raise HTTPException(f"status {response.status}")
            self._write(response, part, target, told)
            self.reusable = response.isclosed() and self._http.sock is not None
            self._idle_since = time.monotonic()
        finally:
            if not self.reusable:
                if response is not None:
                    response.close()
                self._http.close()

    def _write(self, response: HTTPResponse, part: Part, target: Target, told: Callable[[int, int], None]) -> None:
        if self._place is None:
            self._place = memoryview(bytearray(_PIECE))
        descriptor = os.open(target.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for start, length in part.pieces():
                piece = self._place[:length]
                _fill(response, piece)
                mark = target.mark()
                if os.pwrite(descriptor, piece, start) != length:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                told(length, mark)
        finally:
            os.close(descriptor)

    @property
    def is_fresh(self) -> bool:
        """Whether the other side has most likely not closed it."""
        waiting = select.poll()
        waiting.register(self._end, select.POLLIN)
        return time.monotonic() - self._idle_since < _IDLE and not waiting.poll(0)

    def stop(self) -> None:
        """End it; a thread that reads hears of it at once."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def close(self) -> None:
        """Close it, when no thread has it."""
        self._http.close()
        self._end.close()


class Lanes:
    """The connections of one client, kept for the next part.

    Parameters
    ----------
    connect, read
        Seconds to wait for a connection, and for the next byte.
    headers
        Go with each request.
    """

    def __init__(self, *, connect: float, read: float, headers: dict[str, str]) -> None:
        self._connect = connect
        self._read = read
        self._headers = headers
        self._idle: list[Lane] = []
        self._threads = ThreadPoolExecutor(_THREADS, "pull")
        self._closed = False

    def close(self) -> None:
        """Close what nobody uses; what is used is closed by whoever waits for it."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        self._threads.shutdown(wait=False)

    async def fetch(self, part: Part, target: Target) -> bool:
        """Write the bytes of a part down as they come; say whether all came.

        What the target was told of is right, in any case.
        """
        try:
            lane = await self._lane((part.url.host or "", part.url.port or 80))
        except OSError:
            return False
        try:
            await self._carry(lane, part, target)
        except (OSError, HTTPException, ValueError, RuntimeError):
            return False
        finally:
            self._put_back(lane)
        return True

    async def _carry(self, lane: Lane, part: Part, target: Target) -> None:
        loop, stopped = asyncio.get_running_loop(), threading.Event()

        def wrote(count: int, mark: int) -> None:
            if not stopped.is_set():
                target.wrote(count, mark)

        def told(count: int, mark: int) -> None:
            if stopped.is_set():
                raise ConnectionAbortedError
            loop.call_soon_threadsafe(wrote, count, mark)

        reading = self._threads.submit(lane.fetch, part, target, told, self._headers)
        try:
            await asyncio.wrap_future(reading)
        finally:
            stopped.set()
            if reading.cancelled():  # no thread ever had it
                lane.close()

    def _put_back(self, lane: Lane) -> None:
        if lane.reusable and not self._closed and len(self._idle) < _KEPT:
            self._idle.append(lane)
        else:
            lane.stop()

    async def _lane(self, address: Address) -> Lane:
        for lane in [one for one in self._idle if one.address == address]:
            self._idle.remove(lane)
            if lane.is_fresh:
                return lane
            lane.close()
        async with asyncio.timeout(self._connect):
            return Lane(address, await self._connected(address))

    async def _connected(self, address: Address) -> socket.socket:
        loop = asyncio.get_running_loop()
        failure: OSError = ConnectionRefusedError()
        for family, kind, protocol, _, where in await loop.getaddrinfo(*address, type=socket.SOCK_STREAM):
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            try:
                await loop.sock_connect(made, where)
            except BaseException as error:
                made.close()
                if not isinstance(error, OSError):
                    raise
                failure = error
                continue
            made.setblocking(True)
            # Of the system, not of Python, which would ask before each read whether there is anything.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(self._read), 0))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return made
        raise failure


def _fill(response: HTTPResponse, view: memoryview) -> None:
    while view:
        count = response.readinto(view)
        if not count:
            raise ConnectionResetError
        view = view[count:]
