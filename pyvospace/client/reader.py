"""Any parts of the bytes of one node, all of one version."""

from __future__ import annotations

import aiohttp

from pyvospace.client.download import Content, described
from pyvospace.client.failures import ContentChanged, ServiceUnreachable
from pyvospace.client.http import Http, translated
from pyvospace.client.negotiation import Endpoints
from pyvospace.client.retry import Attempts
from pyvospace.model.faults import Fault, PreconditionFailed, RangeNotSatisfiable, TransferFailed


class Reader:
    """The bytes that a node had when it was opened, in any order, several parts at once (see `Space.reader`).

    Digests cannot be compared: of parts there are none.
    """

    def __init__(self, http: Http, endpoints: Endpoints, *, what: object) -> None:
        self._http = http
        self._endpoints = endpoints
        self._what = what
        self._content: Content | None = None
        self.etag: str | None = None
        """SHA-256 of the bytes in hex, as `Entry.etag`; None: the service names no version."""
        self.size = 0
        """Bytes of the whole."""

    def know(self, etag: str, size: int) -> None:
        """Take what is known from elsewhere."""
        self.etag, self.size = etag, size

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
        stop = min(stop, self.size)
        arrived: list[bytes] = []
        attempts, renewed = Attempts(self._http.retry), False
        while (following := start + sum(map(len, arrived))) < stop:
            endpoint = await self._endpoints.current()
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
                await attempts.wait_after(fault)
        return arrived[0] if len(arrived) == 1 else b"".join(arrived)

    async def _fetch(self, endpoint: str, start: int, stop: int, arrived: list[bytes]) -> None:
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if self.etag is not None:
            headers["If-Match"] = f'"{self.etag}"'
        async with self._http.open("GET", endpoint, headers=headers, credential=False) as response:
            first = self._verify(response)
            if first > start:
                raise TransferFailed(f"{self._what}: the service sent another range than was asked for")
            await _take(response, arrived, skip=start - first, count=stop - start)

    def _verify(self, response: aiohttp.ClientResponse) -> int:
        """Find out whether these are bytes of the right version; gives the position of the first one."""
        content, first = described(response)
        self._content = self._content or content
        other = content.etag is not None and self.etag not in {None, content.etag.strip('"')}
        if other or content.total != self.size or not content.same(self._content):
            raise self._changed()
        return first

    def _changed(self) -> ContentChanged:
        return ContentChanged(f"{self._what} changed while it was read")


async def _take(response: aiohttp.ClientResponse, arrived: list[bytes], *, skip: int, count: int) -> None:
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
