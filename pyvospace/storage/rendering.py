"""Views that a structured type computes of the bytes of a node, on their way to a client.

The type's code runs in threads, a small step at a time, and has so much time in all. Nothing of a view is kept.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import format_datetime
from functools import partial
from http import HTTPStatus
from typing import Final, ParamSpec, TypeVar

from aiohttp import web

from pyvospace.model.claims import DownloadClaim, RenderClaim
from pyvospace.model.faults import Fault, InvalidData, ViewNotSupported
from pyvospace.model.ranges import ByteRange
from pyvospace.service.content import content_disposition
from pyvospace.storage.backend import FileBytes, Redirect, StorageBackend, StreamBytes
from pyvospace.storage.deliver import SAFE, Delivery, close_source, open_bytes
from pyvospace.storage.outflow import streaming
from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import run
from pyvospace.structures import Bytes, Rendering, StructuredView
from pyvospace.structures.installed import check_params, find_view, structured_types

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_WINDOW: Final = 256 << 10
"""Bytes that are read at once from a backend that has no files."""
_SLICE: Final = 0.02
"""Seconds after which the thread goes back to its pool, so that all views get their turn."""


class _File:
    """Bytes in a file."""

    def __init__(self, source: FileBytes, size: int) -> None:
        self._fd = source.file.fileno()
        self._offset = source.offset
        self.size = size

    def read(self, start: int, length: int) -> bytes:
        """Read them, in a thread."""
        end = min(start + length, self.size)
        pieces = []
        while start < end and (piece := os.pread(self._fd, end - start, self._offset + start)):
            pieces.append(piece)
            start += len(piece)
        if start < end:
            raise EOFError(f"a file ended {end - start} bytes early")
        return b"".join(pieces)


class _Stream:
    """Bytes that a backend gives in pieces: a window of them is kept."""

    def __init__(self, backend: StorageBackend, claim: DownloadClaim) -> None:
        self._backend = backend
        self._claim = claim
        self._loop = asyncio.get_running_loop()
        self._start = 0
        self._window = b""
        self.size = claim.size

    def read(self, start: int, length: int) -> bytes:
        """Read them, in a thread, while the loop fetches them."""
        end = min(start + length, self.size)
        if start >= end:
            return b""
        if start < self._start or end > self._start + len(self._window):
            span = ByteRange(start, min(max(end, start + _WINDOW), self.size))
            self._window = asyncio.run_coroutine_threadsafe(self._fetch(span), self._loop).result()
            self._start = start
        return self._window[start - self._start : end - self._start]

    async def _fetch(self, span: ByteRange) -> bytes:
        source = await open_bytes(self._backend, self._claim, span)
        if not isinstance(source, StreamBytes):
            raise TypeError("a backend gives all of its bytes in the same way")
        try:
            found = b"".join([piece async for piece in source.pieces])
        finally:
            await close_source(source)
        if len(found) != span.length:
            raise EOFError(f"{len(found)} bytes were there instead of {span.length}")
        return found


@asynccontextmanager
async def _reading(backend: StorageBackend, claim: DownloadClaim) -> AsyncIterator[Bytes]:
    """Open the bytes of a claim for reading at any place."""
    source = await open_bytes(backend, claim, ByteRange(0, min(claim.size, _WINDOW)))
    if isinstance(source, Redirect):
        raise ViewNotSupported("this storage hands out its bytes by other servers only")
    try:
        yield _File(source, claim.size) if isinstance(source, FileBytes) else _Stream(backend, claim)
    finally:
        await close_source(source)


class _Steps:
    """Runs the code of a type in threads, and looks at the clock."""

    def __init__(self, workers: Workers, seconds: float) -> None:
        self._pool = workers.rendering
        self._seconds = seconds
        self._left = seconds

    async def take(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Take a step.

        Raises
        ------
        ViewNotSupported
            There were so many that the time is over.
        InvalidData
            The type failed: so far nobody could do better with these bytes.
        """
        if self._left <= 0:
            raise ViewNotSupported(f"the view would take more than {self._seconds:g} seconds to compute")
        try:
            taken, result = await run(self._pool, _timed, partial(function, *args, **kwargs))
        except (Fault, OSError, EOFError):
            raise
        except Exception as error:
            log.exception("a structured type failed")
            raise InvalidData("the view cannot be computed of these bytes") from error
        self._left -= taken
        return result

    async def next(self, pieces: Iterator[bytes]) -> bytes:
        """Give the next piece that is not empty; an empty one at the end."""
        while (piece := await self.take(_advance, pieces)) is not None:
            if piece:
                return piece
        return b""


def _advance(pieces: Iterator[bytes]) -> bytes | None:
    """Give the next piece, an empty one after a while without any; None: there are no more."""
    until = time.monotonic() + _SLICE
    for piece in pieces:
        if piece or time.monotonic() > until:
            return piece
    return None


def _timed(function: Callable[[], T]) -> tuple[float, T]:
    begun = time.monotonic()
    result = function()
    return time.monotonic() - begun, result


class Renderer:
    """Answers GET and HEAD of endpoints for views that are computed.

    Parameters
    ----------
    idle
        Seconds that a client may take no byte.
    seconds
        Computing time that one view may take.
    """

    def __init__(self, backend: StorageBackend, workers: Workers, *, idle: float, seconds: float) -> None:
        self._backend = backend
        self._workers = workers
        self._idle = idle
        self._seconds = seconds

    async def answer(self, request: web.Request, claim: RenderClaim) -> Delivery:
        """Answer with the whole view: there are no ranges of what is computed anew each time."""
        view = find_view(claim.structure, claim.view)
        if view is None or claim.download.location is None:
            raise ViewNotSupported(claim.view)
        params = check_params(view, claim.params)
        steps = _Steps(self._workers, self._seconds)
        async with _reading(self._backend, claim.download) as source:
            kind = structured_types()[claim.structure or ""]
            rendering = await steps.take(kind.render, view, params, source)
            try:
                # What is wrong shows at the first piece, mostly: as long as it can be told.
                first = await steps.next(rendering.pieces)
                response = _headed(claim.download, view, rendering)
                if request.method == "HEAD":
                    return Delivery(response)
                await self._send(request, response, _all(steps, first, rendering.pieces))
            finally:
                await _close(self._workers, rendering.pieces)
        return Delivery(response, complete=True)

    async def _send(self, request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> None:
        given_up = (Fault, OSError, EOFError)
        async with streaming(request, response, idle=self._idle, what="a view", given_up=given_up):
            async for piece in pieces:
                await response.write(piece)


async def _all(steps: _Steps, first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    piece = first
    while piece:
        yield piece
        piece = await steps.next(pieces)


async def _close(workers: Workers, pieces: Iterator[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        await run(workers.rendering, close)


def _headed(claim: DownloadClaim, view: StructuredView, rendering: Rendering) -> web.StreamResponse:
    stem = os.path.splitext(claim.name)[0]  # noqa: PTH122 (no path)
    name = stem + (rendering.suffix or view.suffix)
    headers = {
        **SAFE,
        "Accept-Ranges": "none",
        "Content-Type": view.media_type,
        "Content-Disposition": content_disposition(name, view.media_type),
        "Last-Modified": format_datetime(claim.modified.astimezone(UTC), usegmt=True),
    }
    response = web.StreamResponse(status=HTTPStatus.OK, headers=headers)
    if rendering.size is not None:
        response.content_length = rendering.size
    return response
