"""Pushes of large files that go on where they broke off, by TUS 1.0.0."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Final
from urllib.parse import urljoin

from pyvospace.client.conditions import About
from pyvospace.client.digests import Digester, Digests, told_digests
from pyvospace.client.failures import ServiceUnreachable
from pyvospace.client.http import Http, pieces
from pyvospace.client.negotiation import Endpoints
from pyvospace.client.progress import SILENT, Progress
from pyvospace.client.retry import Attempts
from pyvospace.client.sources import PathSource, Source
from pyvospace.client.unfinished import Unfinished
from pyvospace.client.upload import Sending, Stored, watched
from pyvospace.model.faults import (
    Fault,
    InvalidData,
    NodeBusy,
    NotFound,
    OffsetMismatch,
    PermissionDenied,
    PreconditionFailed,
    TransferFailed,
    UploadBusy,
)

log = logging.getLogger(__name__)

_VERSION: Final = {"Tus-Resumable": "1.0.0"}
_WORDS: Final = 1 << 20
_LEASE: Final = 60.0
"""Seconds for which a writer that is gone may keep the upload or the node to itself; it is waited for, as it is no
failure of ours."""
_HELD: Final = (UploadBusy, NodeBusy)
_PASSING: Final = (*_HELD, OffsetMismatch, InvalidData)
_OVER: Final = (NotFound, PermissionDenied)
"""How a service says of an upload that was begun before that its time is over."""


Negotiate = Callable[[], Awaitable[tuple[str | None, tuple[str, ...]]]]
"""Gives where TUS begins, None if the service does not speak it, and endpoints for plain HTTP."""


async def push_in_parts(
    http: Http,
    negotiate: Negotiate,
    source: PathSource,
    usual: Endpoints,
    *,
    what: object,
    about: About,
    md5: bool,
    progress: Progress,
) -> Stored | None:
    """Push a file so that it is resumed where it breaks off, in this run or a later one.

    Parameters
    ----------
    md5
        As for `Upload`.

    Returns
    -------
    Stored or None
        None: the service does not know how; `usual` has endpoints now.
    """
    with Unfinished([str(what), about.metadata(), *source.version]) as unfinished:
        begins = None
        if unfinished.url is None:
            begins, urls = await negotiate()
            if begins is None:
                usual.know(urls)
                return None
        where = _Begins(negotiate, begins)
        return await ResumableUpload(
            http, where.current, source, unfinished, what=what, metadata=about.metadata(), md5=md5, progress=progress
        ).run()


class _Begins:
    """Where uploads begin: once as it was negotiated before, then negotiated anew each time."""

    def __init__(self, negotiate: Negotiate, known: str | None) -> None:
        self._negotiate = negotiate
        self._known = known

    async def current(self) -> str:
        """Give it."""
        begins, self._known = self._known, None
        if begins is None:
            begins, _ = await self._negotiate()
        if begins is None:
            raise TransferFailed("the service does not let uploads be resumed any more")
        return begins


class _Rest(Source):
    """A file from a byte on."""

    def __init__(self, source: PathSource, start: int) -> None:
        self._source = source
        self._start = start
        self.size = (source.size or 0) - start
        self.part = source.part_from(start)

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Read it."""
        async with aclosing(self._source.pieces(self._start)) as found:
            async for piece in found:
                yield piece


class ResumableUpload:
    """A push of one file to one node.

    Parameters
    ----------
    begins
        Gives where uploads begin.
    unfinished
        Remembers this one; entered already.
    metadata
        What is said of the bytes, as TUS says it.
    """

    def __init__(
        self,
        http: Http,
        begins: Callable[[], Awaitable[str]],
        source: PathSource,
        unfinished: Unfinished,
        *,
        what: object,
        metadata: str = "",
        md5: bool = True,
        progress: Progress = SILENT,
    ) -> None:
        self._http = http
        self._md5 = md5
        self._begins = begins
        self._source = source
        self._size = source.size or 0
        self._unfinished = unfinished
        self._what = what
        self._metadata = metadata
        self._progress = progress
        self._attempts = Attempts(http.retry)
        self._url = unfinished.url
        self._new = False
        """The service knows this upload."""
        self._resumed = self._url is not None
        """Another run has begun it, and nobody was told of that yet."""
        self._offset = 0
        self._held_until: float | None = None
        """How long somebody else who keeps the upload is waited for; None: nobody does."""

    async def run(self) -> Stored:
        """Send until the service has it.

        Raises
        ------
        Fault
            It does not take it; ChecksumMismatch if it stored other bytes than were sent, PreconditionFailed if the
            condition does not hold.
        """
        self._progress.expect(self._size)
        while True:
            try:
                stored = await self._try()
            except PreconditionFailed:
                self._unfinished.remember(None)
                await self._drop()
                raise
            except Fault as fault:
                await self._wait(fault)
            else:
                self._unfinished.remember(None)
                return stored

    async def _drop(self) -> None:
        """Tell the service that the bytes are of no use."""
        if self._url is not None:
            with suppress(Fault):
                await self._http.ask("DELETE", self._url, headers=_VERSION, credential=False)

    async def _wait(self, fault: Fault) -> None:
        if self._url is not None and not self._new and isinstance(fault, _OVER):
            log.info("%s; beginning anew", fault)
            self._unfinished.remember(None)
            self._url, self._new, self._resumed = None, True, False
            return
        if isinstance(fault, _HELD) and await self._outwaited(fault):
            return
        self._held_until = None
        await self._attempts.wait_after(fault, passing=isinstance(fault, _PASSING))

    async def _outwaited(self, fault: Fault) -> bool:
        """Wait a little for whoever holds the upload; False: longer than anybody may hold it who is gone."""
        now = asyncio.get_running_loop().time()
        if self._held_until is None:
            self._held_until = now + _LEASE
            log.warning("%s; waiting until it is free", fault)
        if now >= self._held_until or self._http.retry.attempts == 1:
            return False
        await asyncio.sleep(self._http.retry.delay(2))
        return True

    async def _try(self) -> Stored:
        if self._url is None:
            self._url, told = await self._begin(), None
            self._unfinished.remember(self._url)
            self._move(0)
        else:
            told = await self._ask(self._url)
        digester = await self._digest()
        if self._offset < self._size or told is None:
            return await self._send(self._url, digester)
        told.require(digester.digests(), self._what)
        return Stored(self._size, digester.digests().filled(told))

    async def _begin(self) -> str:
        headers = {**_VERSION, "Upload-Length": str(self._size)}
        if self._metadata:
            headers["Upload-Metadata"] = self._metadata
        url = await self._begins()
        self._new = True
        async with self._http.open("POST", url, headers=headers, credential=False) as response:
            location = response.headers.get("Location")
            if location is None:
                raise TransferFailed(f"{self._what}: the service does not say where the upload is")
            return urljoin(url, location)

    async def _ask(self, url: str) -> Digests:
        """Find out how far the upload is; gives the digests of the whole, if it is complete."""
        async with self._http.open(
            "HEAD", url, headers=_VERSION, credential=False, read=self._http.timeouts.finish
        ) as response:
            offset = _offset(response.headers)
            told = told_digests(response.headers)
        if offset > self._offset:
            self._attempts.progressed()
        if offset and self._resumed:
            self._resumed = False
            log.warning("%s: going on behind byte %d of %d", self._what, offset, self._size)
        self._new = True
        self._move(offset)
        return told

    def _move(self, offset: int) -> None:
        self._progress.advance(offset - self._offset)
        self._offset = offset

    async def _digest(self) -> Digester:
        """Have the digests of what was sent before."""
        digester = Digester(md5=self._md5)
        if not self._offset:
            return digester
        async with aclosing(self._source.pieces()) as found:
            async for piece in found:
                await digester.update(piece[: self._offset - digester.size])
                if digester.size == self._offset:
                    break
        return digester

    async def _send(self, url: str, digester: Digester) -> Stored:
        async with watched(self._http) as watch:
            sending = Sending(_Rest(self._source, self._offset), watch, self._http, self._progress, digester)
            try:
                stored = await self._patch(url, sending)
            except BaseException:
                self._progress.advance(-sending.sent)
                if sending.error is not None:
                    raise sending.error from None
                raise
            finally:
                await sending.close()
        return stored

    async def _patch(self, url: str, sending: Sending) -> Stored:
        headers = {
            **_VERSION,
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(self._size - self._offset),
            "Upload-Offset": str(self._offset),
        }
        async with self._http.open(
            "PATCH", url, body=sending.body, headers=headers, credential=False, read=self._http.timeouts.finish
        ) as response:
            if _offset(response.headers) != self._size:
                raise ServiceUnreachable(f"{self._what}: the service took a part only")
            digests, told = (await sending.stored()).digests, told_digests(response.headers)
            told.require(digests, self._what)
            async for _ in pieces(response, limit=_WORDS):
                pass
        return Stored(self._size, digests.filled(told))


def _offset(headers: Mapping[str, str]) -> int:
    text = headers.get("Upload-Offset", "")
    if not text.isascii() or not text.isdigit():
        raise TransferFailed("the service does not say how many bytes are there")
    return int(text)
