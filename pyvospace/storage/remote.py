"""Bytes that come from elsewhere: a GET of ours, begun again where it broke off if the far side can do that."""

import asyncio
import re
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Final, Self

import aiohttp
from yarl import URL

from pyvospace.model.faults import Fault, InvalidArgument, TransferFailed
from pyvospace.model.jobs import Progress
from pyvospace.service.content import storable_type
from pyvospace.service.outgoing import BrokenOffError, Outgoing, shown, translated
from pyvospace.storage.gathered import GatheredBody
from pyvospace.storage.hashing import Announced, announced
from pyvospace.storage.room import Room
from pyvospace.storage.threads import Workers

_PAUSES: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
"""Seconds before each further request for what is missing."""
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_VERSION: Final = ("ETag", "Last-Modified")


class Remote:
    """A file elsewhere, asked for when this is entered.

    Raises
    ------
    TransferFailed
        On entering: it cannot be had, or nobody could tell a whole one from the beginning of one.
    """

    def __init__(self, outgoing: Outgoing, url: URL) -> None:
        self._outgoing = outgoing
        self._url = url
        self._opened = AsyncExitStack()
        self._pauses = iter(_PAUSES)
        self.received = 0
        """Bytes so far."""

    async def __aenter__(self) -> Self:
        """Ask for the file."""
        try:
            await self._begin()
        except BaseException:
            await self._opened.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        await self._opened.aclose()

    async def _begin(self) -> None:
        response = await self._ask({})
        headers = response.headers
        if response.status != HTTPStatus.OK:
            raise TransferFailed(f"{shown(self._url)}: HTTP status {response.status}")
        self.size = response.content_length
        """As announced; None: unknown so far."""
        self.content_type = storable_type(headers.get("Content-Type"))
        try:
            self.announced = announced(headers)
            """Digests that the far side tells."""
        except InvalidArgument as fault:
            raise TransferFailed(f"{shown(self._url)}: {fault.detail}") from None
        chunked = headers.get("Transfer-Encoding", "").strip().lower() == "chunked"
        if self.size is None and not chunked and self.announced == Announced():
            raise TransferFailed(f"{shown(self._url)}: the answer does not tell where the file ends")
        self._content = response.content
        self._validator = _validator(response)
        self._version = {name: headers[name] for name in _VERSION if name in headers}

    async def _ask(self, headers: dict[str, str]) -> aiohttp.ClientResponse:
        await self._opened.aclose()
        return await self._opened.enter_async_context(self._outgoing.request("GET", self._url, headers=headers))

    async def read(self) -> tuple[bytes, bool]:
        """Give what has come, and whether it is the last.

        Raises
        ------
        BrokenOffError
            The connection broke, and the far side does not go on where it did.
        """
        while True:
            try:
                with translated(self._url):
                    piece, last = await self._content.readany(), self._content.at_eof()
            except BrokenOffError as error:
                await self._resume(error)
            else:
                self.received += len(piece)
                return piece, last

    async def _resume(self, error: BrokenOffError) -> None:
        if self._validator is None:
            raise error
        for pause in self._pauses:
            await asyncio.sleep(pause)
            try:
                response = await self._ask({"Range": f"bytes={self.received}-", "If-Range": self._validator})
            except TransferFailed:
                continue
            if response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                size = self._size_of_all(response)
                if size is None:
                    break
                self.size, self._content = size, response.content
                return
        raise error

    def _size_of_all(self, response: aiohttp.ClientResponse) -> int | None:
        """Give the size of the file if an answer holds exactly what is missing of it, else None.

        Not every server minds If-Range, so that what it tells of the version is compared too.
        """
        span = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status != HTTPStatus.PARTIAL_CONTENT or span is None:
            return None
        first, last, size = map(int, span.groups())
        whole = first == self.received and last == size - 1 and self.size in {None, size}
        same = all(response.headers.get(name, told) == told for name, told in self._version.items())
        return size if whole and same else None


def _validator(response: aiohttp.ClientResponse) -> str | None:
    """Give what tells this version of the file from others; None: it cannot be asked for in parts."""
    tag = response.headers.get("ETag", "")
    if response.headers.get("Accept-Ranges", "").lower() != "bytes":
        return None
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


class RemoteBody(GatheredBody):
    """The bytes of a file elsewhere, on their way into a backend.

    Parameters
    ----------
    limit
        See `CheckedBody`.
    idle
        Seconds for which nothing may come, new requests for what is missing included.
    room
        Asked as the bytes come: not every file tells its size.
    """

    def __init__(
        self, remote: Remote, *, workers: Workers, limit: int | None, idle: float, progress: Progress, room: Room
    ) -> None:
        super().__init__(workers=workers, size=remote.size, limit=limit, idle=idle, announced=remote.announced)
        self._remote = remote
        self._progress = progress
        self._room = room

    async def _more(self) -> tuple[bytes, bool]:
        piece, last = await self._remote.read()
        self.size = self._remote.size  # it may have been told only when the file was asked for again
        self._progress.bytes_done = self._remote.received
        if not last:
            await self._room.require(0)
        return piece, last

    def _cut(self, size: int) -> Fault:
        return TransferFailed(f"the body ended after {size} of {self.size} bytes")
