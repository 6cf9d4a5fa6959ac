"""Any parts of the bytes of one node, all of one version."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Final
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from pyvospace.client.content import Content, described
from pyvospace.client.failures import ContentChanged, ServiceUnreachable
from pyvospace.client.http import REDIRECTS, Http, translated
from pyvospace.client.lanes import Part, Target
from pyvospace.client.negotiation import Endpoints
from pyvospace.client.retry import Attempts
from pyvospace.model.faults import Fault, PreconditionFailed, RangeNotSatisfiable, TransferFailed

_PART: Final = 8 << 20
_AT_ONCE: Final = 4
"""Parts that are held in memory if the first of them comes last."""
_DOUBTS: Final = 3
"""So often in a row a plain connection did not bring what was wanted, and no other is tried."""


class Reader:
    """The bytes that a node had when it was opened, in any order, several parts at once (see `Space.reader`).

    Digests cannot be compared: of parts there are none.
    """

    def __init__(self, http: Http, endpoints: Endpoints, *, what: object) -> None:
        self._http = http
        self._endpoints = endpoints
        self._what = what
        self._content: Content | None = None
        self._doubts = 0
        self.etag: str | None = None
        """SHA-256 of the bytes in hex, as `Entry.etag`; None: the service names no version."""
        self.size = 0
        """Bytes of the whole."""

    def know(self, etag: str, size: int) -> None:
        """Read only these bytes, which are known from elsewhere."""
        self.etag, self.size = etag, size

    def expect(self, content: Content) -> None:
        """Read only bytes of which an answer says the same as one did before."""
        self._content, self.size = content, content.total or 0

    async def open(self) -> None:
        """Ask which bytes there are.

        Raises
        ------
        Fault
            They are not for the caller, or there are none.
        """
        content = await self._ask()
        if content.total is None:
            raise TransferFailed(f"{self._what}: the service does not say how long the file is")
        self.size = content.total
        self.etag = content.etag.strip('"') if content.etag is not None else None

    async def _ask(self) -> Content:
        attempts = Attempts(self._http.retry)
        while True:
            endpoint = await self._endpoints.current()
            try:
                async with self._http.open("HEAD", endpoint, credential=False) as response:
                    return described(response)[0]
            except Fault as fault:
                self._endpoints.failed(fault)
                await attempts.wait_after(fault)

    async def read(self, start: int, stop: int) -> bytes:
        """Read from byte `start` to before `stop`, as a slice of the file would be: less only at its end.

        Raises
        ------
        ContentChanged
            The node has other bytes by now.
        """
        arrived: list[bytes] = []
        await self._gather(start, min(stop, self.size), arrived.append)
        return arrived[0] if len(arrived) == 1 else b"".join(arrived)

    async def fill(self, start: int, stop: int, target: Target) -> None:
        """Read as `read` does into a file, where the bytes are in the whole; in order, as they come.

        Those that the target was told of are right, whatever happens then. Where no thread can write them it is given
        them instead.

        Raises
        ------
        ContentChanged
            The node has other bytes by now.
        """
        counted = _Counted(target)
        stop = min(stop, self.size)
        if self.etag is not None and start < stop and self._doubts < _DOUBTS:
            url = URL(await self._endpoints.current(), encoded=True)
            if self._http.is_plain(url):
                came = await self._http.lanes.fetch(Part(url, self.etag, start, stop, self.size), counted)
                self._doubts = 0 if came else self._doubts + 1
        await self._gather(start + counted.count, stop, target.take)

    async def _gather(self, start: int, stop: int, take: Callable[[bytes], None]) -> None:
        arrived = _Arrived(take)
        attempts, renewed = Attempts(self._http.retry), False
        while (following := start + arrived.count) < stop:
            endpoint, before = await self._endpoints.current(), arrived.count
            try:
                await self._fetch(endpoint, following, stop, arrived)
            except (PreconditionFailed, RangeNotSatisfiable):
                raise self._changed() from None
            except ContentChanged:
                raise
            except Fault as fault:
                if self._endpoints.renew(fault, endpoint) and not renewed:
                    renewed = True
                    continue
                self._endpoints.failed(fault)
                if arrived.count > before:
                    attempts.progressed()
                await attempts.wait_after(fault)

    async def parts(self, start: int) -> AsyncGenerator[bytes]:
        """Give all bytes from `start` on, in order, with several parts on their way at once."""
        coming: deque[asyncio.Task[bytes]] = deque()
        try:
            while start < self.size or coming:
                while start < self.size and len(coming) < _AT_ONCE:
                    stop = min(start + _PART, self.size)
                    coming.append(asyncio.ensure_future(self.read(start, stop)))
                    start = stop
                yield await coming.popleft()
        finally:
            for one in coming:
                one.cancel()
            await asyncio.gather(*coming, return_exceptions=True)

    async def _fetch(self, endpoint: str, start: int, stop: int, arrived: _Arrived) -> None:
        wanted = {"Range": f"bytes={start}-{stop - 1}"}
        condition = {} if self.etag is None else {"If-Match": f'"{self.etag}"'}
        async with AsyncExitStack() as stack:
            response = await stack.enter_async_context(
                self._http.open("GET", endpoint, headers=wanted | condition, credential=False, follow=self.etag is None)
            )
            elsewhere = response.headers.get("Location")
            if response.status in REDIRECTS and elsewhere is not None:
                # The condition holds. Who is told there calls the same bytes by another name.
                elsewhere = urljoin(endpoint, elsewhere)
                response = await stack.enter_async_context(
                    self._http.open("GET", elsewhere, headers=wanted, credential=False)
                )
            first = self._verify(response, named=elsewhere is None)
            if first > start:
                raise TransferFailed(f"{self._what}: the service sent another range than was asked for")
            await _take(response, arrived, skip=start - first, count=stop - start)

    def _verify(self, response: aiohttp.ClientResponse, *, named: bool) -> int:
        """Find out whether these are bytes of the right version; gives the position of the first one.

        Parameters
        ----------
        named
            Whether the answer calls the version as it was called before.
        """
        content, first = described(response)
        if named:
            self._content = self._content or content
            other = self.etag is not None and content.etag not in {None, f'"{self.etag}"'}
            if other or not content.same(self._content):
                raise self._changed()
        if content.total != self.size:
            raise self._changed()
        return first

    def _changed(self) -> ContentChanged:
        return ContentChanged(f"{self._what} changed while it was read")


class _Arrived:
    """Bytes that came, counted and handed on."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self.count = 0

    def append(self, data: bytes) -> None:
        self._take(data)
        self.count += len(data)


class _Counted:
    """A target, and how many bytes were written to it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.path = target.path
        self.mark = target.mark
        self.take = target.take
        self.count = 0

    def wrote(self, count: int, mark: int) -> None:
        self.count += count
        self._target.wrote(count, mark)


async def _take(response: aiohttp.ClientResponse, arrived: _Arrived, *, skip: int, count: int) -> None:
    """Gather bytes as they arrive; what comes before a connection breaks is kept."""
    while count:
        with translated(response.url):
            data = await response.content.readany()
        if not data:
            raise ServiceUnreachable("the answer ended before its last byte")
        wanted = data[skip : skip + count] if skip or len(data) > count else data
        skip = max(0, skip - len(data))
        count -= len(wanted)
        if wanted:
            arrived.append(wanted)
