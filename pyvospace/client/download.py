"""The bytes of a pull on their way from an endpoint, through broken connections and expired endpoints."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Final

import aiohttp

from pyvospace.client.content import Content, described
from pyvospace.client.digests import Digester
from pyvospace.client.failures import ContentChanged, ServiceUnreachable
from pyvospace.client.http import Http, pieces
from pyvospace.client.negotiation import Endpoints
from pyvospace.client.parts import Part
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.reader import Reader
from pyvospace.client.retry import Attempts
from pyvospace.model.faults import ChecksumMismatch, Fault, RangeNotSatisfiable, TransferFailed

AT_ONCE: Final = 64 << 20
"""From so many bytes on it is worth the requests to fetch a file in parts."""


class Reading:
    """The bytes of one node, or a part of them, in order.

    Parameters
    ----------
    start
        First byte; less than 0: so many from the end, as in slices.
    stop
        Byte to stop before; None: the end of the file.
    credential
        Whether the endpoint is one of the service itself, and wants the credential.
    """

    def __init__(
        self,
        http: Http,
        endpoints: Endpoints,
        *,
        what: object,
        start: int = 0,
        stop: int | None = None,
        credential: bool = False,
        progress: Progress = SILENT,
    ) -> None:
        self._http = http
        self._endpoints = endpoints
        self._what = what
        self._next = start
        self._stop = stop
        self._credential = credential
        self._progress = progress
        self._digester = Digester() if start == 0 and stop is None else None
        self._attempts = Attempts(http.retry)
        self._content: Content | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._skip = 0
        """Bytes that the service sends before those that are wanted, since it knows no ranges."""
        self._stack = AsyncExitStack()

    @property
    def total(self) -> int | None:
        """Bytes of the whole file, after `open`; None: unknown."""
        return None if self._content is None else self._content.total

    async def close(self) -> None:
        """Let go of the connection."""
        self._response = None
        await self._stack.aclose()

    async def open(self) -> Content:
        """Ask for the bytes and tell what the service says of them.

        Raises
        ------
        Fault
            There is no such node, range and so on.
        """
        while self._response is None:
            endpoint = await self._endpoints.current()
            try:
                await self._connect(endpoint)
            except Fault as fault:
                await self._recover(fault)
        assert self._content is not None  # noqa: S101 (for mypy: _connect sets it)
        return self._content

    async def resume(self, digester: Digester) -> None:
        """Leave out the beginning, which the caller has and gave to `digester` already."""
        content = await self.open()
        self._digester = digester
        self._next = digester.size
        self._progress.advance(digester.size)
        if self._next != content.total:
            await self.close()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Give the bytes; if it is the whole file, its digests are compared at the end.

        Raises
        ------
        Fault
            The rest does not come; ChecksumMismatch if what came is not what the service has.
        """
        try:
            while not self._ended(await self.open()):
                try:
                    async for piece in self._arriving():
                        yield piece
                    self._require_end()
                except Fault as fault:
                    await self._recover(fault)
            self._verify()
        finally:
            await self.close()

    async def pieces_at_once(self) -> AsyncGenerator[bytes]:
        """Give the bytes as `pieces` does, of a large file in parts of which several are on their way at once."""
        content = self._content or await self.open()
        whole = self._stop is None and not self._credential and content.in_ranges and content.etag is not None
        at_once = whole and content.total is not None and content.total - self._next >= AT_ONCE
        source = self._parts(content) if at_once else self.pieces()
        async with aclosing(source) as pieces_of:
            async for piece in pieces_of:
                yield piece

    async def _parts(self, content: Content) -> AsyncGenerator[bytes]:
        await self.close()
        reader = Reader(self._http, self._endpoints, what=self._what)
        reader.expect(content)
        async with aclosing(reader.parts(self._next)) as parts:
            async for part in parts:
                await self._took(part)
                yield part
        self._verify()

    async def _connect(self, endpoint: str) -> None:
        headers = self._range_headers()
        opened = self._http.open("GET", endpoint, headers=headers, credential=self._credential)
        response = await self._stack.enter_async_context(opened)
        content, first = described(response)
        if self._content is None:
            self._content = content
            self._next = _absolute(self._next, content.total)
            self._progress.expect(None if content.total is None else self._last(content.total) - self._next)
        elif not content.same(self._content):
            raise ContentChanged(f"{self._what} changed while it was read")
        self._skip = self._next - first
        if self._skip < 0:
            raise TransferFailed(f"{self._what}: the service sent another range than was asked for")
        self._response = response

    def _range_headers(self) -> dict[str, str]:
        if self._next == 0 and self._stop is None:
            return {}
        last = "" if self._stop is None else self._stop - 1
        headers = {"Range": f"bytes={self._next}" if self._next < 0 else f"bytes={self._next}-{last}"}
        if self._content is not None and self._content.etag is not None:
            headers["If-Range"] = self._content.etag
        return headers

    async def _arriving(self) -> AsyncGenerator[bytes]:
        assert self._response is not None  # noqa: S101 (for mypy: open() was called)
        async for data in pieces(self._response):
            wanted = data[self._skip :] if self._skip else data
            self._skip -= len(data) - len(wanted)
            if self._stop is not None:
                wanted = wanted[: self._stop - self._next]
            if wanted:
                await self._took(wanted)
                yield wanted
            if self._next == self._stop:
                return

    async def _took(self, data: bytes) -> None:
        if self._digester is not None:
            await self._digester.update(data)
        self._next += len(data)
        self._progress.advance(len(data))
        self._attempts.progressed()

    def _last(self, total: int) -> int:
        return total if self._stop is None else min(self._stop, total)

    def _ended(self, content: Content) -> bool:
        return content.total is not None and self._next >= self._last(content.total)

    def _require_end(self) -> None:
        """At the end of an answer: it was the end of what is wanted too."""
        assert self._content is not None  # noqa: S101 (for mypy: open() was called)
        if self._content.total is None:
            self._content = replace(self._content, total=self._next)
        if not self._ended(self._content):
            raise ServiceUnreachable(f"{self._what}: the answer ended after byte {self._next}")

    async def _recover(self, fault: Fault) -> None:
        """Make ready for another try, or raise the fault."""
        await self.close()
        over = False
        if self._content is not None:
            if isinstance(fault, RangeNotSatisfiable):
                raise ContentChanged(f"{self._what} changed while it was read")
            if not self._content.recognisable:
                raise fault
            over = self._endpoints.renew(fault)
        self._endpoints.failed(fault)
        await self._attempts.wait_after(fault, passing=over)

    def _verify(self) -> None:
        if self._digester is not None and self._content is not None:
            self._content.digests.require(self._digester.digests(), self._what)


def _absolute(start: int, total: int | None) -> int:
    if start >= 0:
        return start
    if total is None:
        raise TransferFailed("the service does not say how long the file is, so its end cannot be read")
    return max(0, total + start)


async def fetch(reading: Reading, target: Path) -> None:
    """Bring the bytes to a part beside `target`, and the part into its place once it is verified.

    Raises
    ------
    ChecksumMismatch
        The part was wrong and is deleted.
    ContentChanged
        The bytes became others meanwhile; another try begins with the new ones.
    """
    try:
        content = await reading.open()
        with Part(target, content.version) as part:
            await _continue(reading, part)
            try:
                async with aclosing(reading.pieces_at_once()) as bytes_of:
                    async for piece in bytes_of:
                        await part.write(piece)
            except ChecksumMismatch:
                part.discard()
                raise
            part.publish()
    finally:
        await reading.close()


async def _continue(reading: Reading, part: Part) -> None:
    """Leave out what an earlier try brought."""
    size, total = part.size, reading.total
    if not size:
        return
    if total is None or size > total:
        part.empty()
        return
    digester = Digester()
    await part.read_into(digester)
    await reading.resume(digester)
