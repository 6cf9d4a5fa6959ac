"""The bytes of a push on their way to an endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from pyvospace.client.conditions import About
from pyvospace.client.digests import Digester, Digests, told_digests
from pyvospace.client.direct import FileBody
from pyvospace.client.failures import ContentChanged, ServiceUnreachable
from pyvospace.client.http import Http, pieces
from pyvospace.client.negotiation import Endpoints
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.retry import Attempts
from pyvospace.client.sources import Source
from pyvospace.model.faults import ChecksumMismatch, EndpointUsed, Fault, NodeBusy, PreconditionFailed, TransferFailed

log = logging.getLogger(__name__)

_WORDS: Final = 1 << 20
_LEASE: Final = 10
"""Seconds to wait for the service to notice that a broken attempt is over."""
_LOST: Final = (ServiceUnreachable, EndpointUsed)
"""How one hears that the answer to an earlier try, or to this one, was lost."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the service stored, as counted and hashed here and agreed there."""

    size: int
    digests: Digests

    @property
    def etag(self) -> str | None:
        """Give what `Entry.etag` is then: the SHA-256 in hex."""
        return None if self.digests.sha256 is None else self.digests.sha256.hex()


class Sending:
    """One try to send a source.

    Parameters
    ----------
    watch
        Is moved on with each piece that the service takes.
    begun
        The digests of what was sent before.
    """

    def __init__(
        self,
        source: Source,
        watch: asyncio.Timeout,
        http: Http,
        progress: Progress,
        begun: Digester | None = None,
    ) -> None:
        self._begun = begun or Digester()
        self._source = source
        self._watch = watch
        self._times = http.timeouts
        self._progress = progress
        self._digester = Digester()
        self._hashing: asyncio.Future[None] | None = None
        self._body: AsyncGenerator[bytes] | None = None
        self.begun = False
        self.sent = 0
        """Bytes that aiohttp was given."""
        self.complete = False
        """It was given all; whether they arrived is another matter."""
        self.error: Exception | None = None
        """Why the source could not be read; aiohttp tells it as a broken connection."""

    def body(self) -> AsyncGenerator[bytes] | FileBody:
        """Give the bytes to aiohttp, from the beginning."""
        self._digester = self._begun.copy()
        self._progress.advance(-self.sent)
        self.sent = 0
        return self.pieces() if self._source.part is None else FileBody(self._source.part, self, self._digester)

    async def close(self) -> None:
        """Let go of the source."""
        if self._body is not None:
            with suppress(RuntimeError):  # aiohttp is still at it and will drop it
                await self._body.aclose()

    def pieces(self) -> AsyncGenerator[bytes]:
        """Give the bytes piece by piece."""
        self._body = self._pieces()
        return self._body

    def account(self, count: int, *, last: bool) -> None:
        """Note bytes that a thread is about to send."""
        self.begun = True
        self.sent += count
        self._move(self._times.read)
        self._progress.advance(count)
        if last:
            self._end()

    def fail(self, error: Exception) -> None:
        """Note that the source cannot be read."""
        self.error = error

    async def _pieces(self) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._source.pieces()) as pieces_of:
                async for piece in pieces_of:
                    await self._account(piece)
                    yield piece
            if self.sent < (self._source.size or 0):
                raise ContentChanged(f"the source became shorter: {self.sent} bytes, not {self._source.size}")
        except (OSError, Fault) as error:
            self.error = error
            raise
        self._end()

    async def _account(self, piece: bytes) -> None:
        """Note a piece before aiohttp gets it: behind the last one it does not ask for more if it knows the size."""
        await self.settle()
        if self._source.digests is None:
            self._hashing = asyncio.ensure_future(self._digester.update(piece))  # while it is sent
        self.account(len(piece), last=self.sent + len(piece) == self._source.size)
        if self._source.size is not None and self.sent > self._source.size:
            raise ContentChanged(f"the source has more than the {self._source.size} bytes that were announced")

    def _end(self) -> None:
        self.complete = True
        self._move(self._times.read + self._times.finish)

    async def settle(self) -> None:
        """Wait for the digests of what was sent so far."""
        if self._hashing is not None:
            await self._hashing

    def _move(self, seconds: float) -> None:
        with suppress(RuntimeError):  # the answer came before the end
            self._watch.reschedule(asyncio.get_running_loop().time() + seconds)

    async def stored(self) -> Stored:
        """Tell what was sent, once it is complete."""
        await self.settle()
        return Stored(self.sent, self._source.digests or self._digester.digests())


class Upload:
    """A push of one source to the endpoints of one node.

    Parameters
    ----------
    md5
        Whether MD5 is to be compared; a service of ours tells SHA-256.
    """

    def __init__(
        self,
        http: Http,
        endpoints: Endpoints,
        source: Source,
        *,
        what: object,
        about: About,
        md5: bool = True,
        progress: Progress = SILENT,
    ) -> None:
        self._http = http
        self._md5 = md5
        self._endpoints = endpoints
        self._source = source
        self._what = what
        self._progress = progress
        self._headers = _headers(source, about)
        self._begun = False
        self._sent: Stored | None = None
        """All bytes were sent at least once; whether they arrived is another matter."""
        self._mismatches = 0

    async def run(self) -> Stored:
        """Send until the service has it.

        Raises
        ------
        Fault
            It does not take it; ChecksumMismatch if it stored other bytes than were sent, PreconditionFailed if the
            condition does not hold.
        """
        self._progress.expect(self._source.size)
        attempts = Attempts(self._http.retry)
        while True:
            endpoint = await self._endpoints.current()
            # After a try whose answer was lost, what is in the way of the condition may be our own bytes.
            lost = (*_LOST, PreconditionFailed) if self._sent is not None else _LOST
            try:
                return await self._try(endpoint)
            except Fault as fault:
                if self._sent is not None and isinstance(fault, lost) and await self._arrived(endpoint, self._sent):
                    return self._sent
                await self._wait(attempts, fault)

    async def _try(self, endpoint: str) -> Stored:
        async with watched(self._http) as watch:
            sending = Sending(self._source, watch, self._http, self._progress, Digester(md5=self._md5))
            try:
                return await self._send(endpoint, sending)
            except BaseException:
                self._progress.advance(-sending.sent)
                if sending.error is not None:
                    raise sending.error from None
                raise
            finally:
                await sending.close()
                self._begun |= sending.begun
                if sending.complete:
                    self._sent = await sending.stored()

    async def _send(self, endpoint: str, sending: Sending) -> Stored:
        async with self._http.open(
            "PUT",
            endpoint,
            body=sending.body,
            headers=self._headers,
            credential=False,
            read=self._http.timeouts.finish,
        ) as response:
            if not sending.complete:
                raise TransferFailed(f"{self._what}: the service was content before it had all bytes")
            stored, told = await sending.stored(), told_digests(response.headers)
            told.require(stored.digests, self._what)
            async for _ in pieces(response, limit=_WORDS):
                pass
        return Stored(stored.size, stored.digests.filled(told))

    async def _arrived(self, endpoint: str, sent: Stored) -> bool:
        """Find out whether the bytes are there, though the answer was lost."""
        try:
            async with self._http.open("HEAD", endpoint, credential=False) as response:
                told = told_digests(response.headers)
        except Fault as failure:
            log.info("cannot ask whether the bytes have arrived: %s", failure)
            return False
        return told.agree(sent.digests)

    async def _wait(self, attempts: Attempts, fault: Fault) -> None:
        again = self._source.repeatable or not self._begun
        if isinstance(fault, ChecksumMismatch) and again and not self._mismatches:
            self._mismatches += 1
            log.warning("%s; sending it once more", fault)
            return
        over = attempts.failed_before and self._endpoints.renew(fault)
        self._endpoints.failed(fault)
        ordered = _LEASE if over and isinstance(fault, NodeBusy) else 0
        await attempts.wait_after(fault, repeatable=again, passing=over and again, ordered=ordered)


def _headers(source: Source, about: About) -> dict[str, str]:
    headers = about.headers() | ({} if source.digests is None else source.digests.headers())
    if source.size is not None:
        headers["Content-Length"] = str(source.size)
    return headers


@asynccontextmanager
async def watched(http: Http) -> AsyncIterator[asyncio.Timeout]:
    """Give up when the service takes no bytes for too long; aiohttp watches only what it reads."""
    begin = http.timeouts.connect + http.timeouts.read
    try:
        async with asyncio.timeout(begin) as watch:
            yield watch
    except TimeoutError as error:
        raise ServiceUnreachable("the service takes no more bytes") from error
