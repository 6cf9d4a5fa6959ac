"""Bytes on their way from a backend to a client: headers, conditions, ranges, sendfile."""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from pyvospace.metrics import SENT
from pyvospace.model.claims import DownloadClaim, StoredFile
from pyvospace.model.faults import InternalFault, PreconditionFailed, RangeNotSatisfiable
from pyvospace.model.ranges import UNSATISFIABLE, ByteRange, Conditions, Version, parse_ranges
from pyvospace.model.together import Together
from pyvospace.service.content import content_disposition, content_type
from pyvospace.storage.backend import Download, FileBytes, Redirect, StorageBackend, StreamBytes
from pyvospace.storage.front import Front
from pyvospace.storage.hashing import Digests
from pyvospace.storage.jobs import ClaimedDownload
from pyvospace.storage.outflow import send_file, streaming
from pyvospace.storage.suspicions import suspicions
from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import run

log = logging.getLogger(__name__)

CONTENT_RANGE: Final = web.RequestKey("content_range", str)
"""For the answer 416, whoever writes it."""

_SMALL: Final = 64 << 10
"""Up to this size one write of head and body is cheaper than sendfile."""
SAFE: Final = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """An answer, and whether with it the client has the bytes up to the last."""

    response: web.StreamResponse
    complete: bool = False


class Deliverer:
    """Answers GET and HEAD of an endpoint for reading.

    Parameters
    ----------
    empty
        Status for a node that never had bytes: 200, or 204 as OpenCADC has it.
    idle
        Seconds that a client may take no byte.
    front
        What can send files in our place.
    """

    def __init__(
        self, backend: StorageBackend, workers: Workers, *, empty: HTTPStatus, idle: float, front: Front | None = None
    ) -> None:
        self._front = front
        self._backend = backend
        self._workers = workers
        self._empty = empty
        self._idle = idle
        self._small_files = Together(backend.read_small) if backend.reads_small_at_once else None

    async def answer(self, request: web.Request, claim: DownloadClaim) -> Delivery:
        """Answer with all bytes, a range, nothing new, or nothing at all."""
        digests = _digests(claim)
        headers = _describe(claim, digests)
        if claim.location is None or digests is None:
            status = self._empty if request.method == "GET" else HTTPStatus.OK
            return Delivery(_headed(status, headers, 0), complete=request.method == "GET")
        version = Version(digests.sha256.hex(), claim.modified)
        conditions = conditions_of(request)
        match conditions.evaluate(version, reading=True):
            case HTTPStatus.NOT_MODIFIED:
                return Delivery(web.Response(status=HTTPStatus.NOT_MODIFIED, headers=_without_content(headers)))
            case HTTPStatus.PRECONDITION_FAILED:
                raise PreconditionFailed("the bytes are not those of the condition")
        if request.method == "HEAD":
            return Delivery(_headed(HTTPStatus.OK, headers, claim.size))
        wanted = _wanted(request, conditions, version, claim.size)
        if len(wanted) > 1:
            return await self._send_several(request, claim, headers, wanted)
        return await self._send(request, claim, headers, wanted[0] if wanted else None)

    async def _send_several(
        self, request: web.Request, claim: DownloadClaim, headers: dict[str, str], wanted: Sequence[ByteRange]
    ) -> Delivery:
        """Send several ranges as multipart/byteranges (RFC 9110, section 14.6)."""
        boundary = secrets.token_hex(16)
        heads = [
            f"\r\n--{boundary}\r\nContent-Type: {headers['Content-Type']}\r\n"
            f"Content-Range: {span.content_range(claim.size)}\r\n\r\n".encode("latin-1")
            for span in wanted
        ]
        end = f"\r\n--{boundary}--\r\n".encode()
        headers["Content-Type"] = f"multipart/byteranges; boundary={boundary}"
        length = sum(map(len, heads)) + sum(span.length for span in wanted) + len(end)
        response = _headed(HTTPStatus.PARTIAL_CONTENT, headers, length)
        given_up = (ConnectionError, TimeoutError)
        async with streaming(request, response, idle=self._idle, what="a download", given_up=given_up):
            for head, span in zip(heads, wanted, strict=True):
                await response.write(head)
                await self._send_part(response, claim, span)
            await response.write(end)
        SENT.inc(sum(span.length for span in wanted))
        return Delivery(response)

    async def _send_part(self, response: web.StreamResponse, claim: DownloadClaim, span: ByteRange) -> None:
        source = await open_bytes(self._backend, claim, span)
        if isinstance(source, Redirect):
            raise EOFError("the storage does not let its own servers read")  # noqa: TRY004 (cut off like any other)
        try:
            pieces = file_pieces(self._workers, source, span) if isinstance(source, FileBytes) else source.pieces
            if (sent := await _send_pieces(response, pieces)) != span.length:
                raise EOFError(f"{sent} bytes were there instead of {span.length}")
        finally:
            await close_source(source)

    async def _send(
        self, request: web.Request, claim: DownloadClaim, headers: dict[str, str], wanted: ByteRange | None
    ) -> Delivery:
        status, span = _frame(headers, claim, wanted)
        if (whole := await self._read_small(claim)) is not None:
            body = whole[span.start : span.stop]
            return _delivered(web.Response(status=status, headers=headers, body=body), claim, span)
        source = await open_bytes(self._backend, claim, wanted, redirectable=True)
        if isinstance(source, Redirect):
            return Delivery(_redirect(source), complete=True)
        response: web.StreamResponse | None = None
        try:
            if isinstance(source, FileBytes) and span.length <= _SMALL:
                response = await self._small(status, headers, source, span)
            elif self._front is not None:
                response = self._front.hand_over(request, source, wanted, headers)
            if response is None:
                response = _headed(status, headers, span.length)
                await self._stream(request, response, source, span)
        except (EOFError, OSError, InternalFault) as error:
            if not isinstance(error, (ConnectionError, TimeoutError)):
                suspicions(self._backend).add(claim.location or "")
            raise
        finally:
            await close_source(source)
        return _delivered(response, claim, span)

    async def _read_small(self, claim: DownloadClaim) -> bytes | None:
        """Read a small file with others that are asked for now; None: it has to be opened by itself."""
        if self._small_files is None or claim.size > _SMALL:
            return None
        return await self._small_files.do(ClaimedDownload.of(claim))

    async def _small(
        self, status: HTTPStatus, headers: dict[str, str], source: FileBytes, span: ByteRange
    ) -> web.Response:
        data = await run(self._workers.quick, _read, source.file.fileno(), source.offset + span.start, span.length)
        if len(data) != span.length:
            log.error("a file ended %d bytes early", span.length - len(data))
            raise InternalFault("the bytes cannot be read")
        return web.Response(status=status, headers=headers, body=data)

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, source: FileBytes | StreamBytes, span: ByteRange
    ) -> None:
        """Send head and bytes."""
        given_up = (ConnectionError, TimeoutError)
        async with streaming(request, response, idle=self._idle, what="a download", given_up=given_up) as transport:
            await self._send_bytes(request, transport, response, source, span)

    async def _send_bytes(
        self,
        request: web.Request,
        transport: asyncio.Transport,
        response: web.StreamResponse,
        source: FileBytes | StreamBytes,
        span: ByteRange,
    ) -> None:
        if isinstance(source, StreamBytes):
            sent = await _send_pieces(response, source.pieces)
        elif transport.get_extra_info("sslcontext") is not None:
            sent = await _send_pieces(response, file_pieces(self._workers, source, span))
        else:
            await _flush(request, transport)
            offset = source.offset + span.start
            await send_file(transport, source.file.fileno(), offset, span.length, workers=self._workers)
            return
        if sent != span.length:
            raise EOFError(f"{sent} bytes were there instead of {span.length}")


def conditions_of(request: web.Request) -> Conditions:
    """Collect the conditional headers of a request."""
    headers = request.headers
    return Conditions(
        if_match=headers.get("If-Match"),
        if_none_match=headers.get("If-None-Match"),
        if_modified_since=headers.get("If-Modified-Since"),
        if_unmodified_since=headers.get("If-Unmodified-Since"),
        if_range=headers.get("If-Range"),
    )


def answer_head(stored: StoredFile | None) -> web.StreamResponse:
    """Answer HEAD of an endpoint for writing: what is there now, for clients that skip equal bytes."""
    headers = dict(SAFE)
    if stored is not None:
        headers |= Digests(stored.md5, stored.sha256).headers()
        headers["Content-Type"] = content_type(stored.content_type)
    return _headed(HTTPStatus.OK, headers, stored.size if stored is not None else 0)


def _frame(headers: dict[str, str], claim: DownloadClaim, wanted: ByteRange | None) -> tuple[HTTPStatus, ByteRange]:
    """Give the status of an answer and what it brings, and say so in its headers."""
    if wanted is None:
        return HTTPStatus.OK, ByteRange(0, claim.size)
    headers["Content-Range"] = wanted.content_range(claim.size)
    return HTTPStatus.PARTIAL_CONTENT, wanted


def _delivered(response: web.StreamResponse, claim: DownloadClaim, span: ByteRange) -> Delivery:
    SENT.inc(span.length)
    return Delivery(response, complete=span.stop == claim.size)


def _digests(claim: DownloadClaim) -> Digests | None:
    if claim.md5 is None or claim.sha256 is None:
        return None
    return Digests(claim.md5, claim.sha256)


def _describe(claim: DownloadClaim, digests: Digests | None) -> dict[str, str]:
    kind = content_type(claim.content_type)
    headers = {
        **SAFE,
        "Accept-Ranges": "bytes",
        "Content-Type": kind,
        "Content-Disposition": content_disposition(claim.name, kind),
        "Last-Modified": format_datetime(claim.modified.astimezone(UTC), usegmt=True),
    }
    return headers | digests.headers() if digests is not None else headers


def _without_content(headers: dict[str, str]) -> dict[str, str]:
    """Leave what 304 is to have (RFC 9110, section 15.4.5)."""
    return {name: value for name, value in headers.items() if name in SAFE or name in {"ETag", "Last-Modified"}}


def _wanted(request: web.Request, conditions: Conditions, version: Version, size: int) -> Sequence[ByteRange]:
    """Give the ranges that the client wants; none: everything."""
    header = request.headers.get("Range")
    wanted = parse_ranges(header, size) if header is not None and conditions.allows_range(version) else ()
    if wanted is UNSATISFIABLE:
        request[CONTENT_RANGE] = f"bytes */{size}"
        raise RangeNotSatisfiable(f"the file has {size} bytes")
    return wanted or ()


def _headed(status: HTTPStatus, headers: dict[str, str], length: int) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    if status is not HTTPStatus.NO_CONTENT:
        response.content_length = length
    return response


def _redirect(source: Redirect) -> web.Response:
    headers = {**SAFE, "Cache-Control": "private, no-store", "Location": source.url}
    return web.Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers=headers)


async def _send_pieces(response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> int:
    sent = 0
    async for piece in pieces:
        await response.write(piece)
        sent += len(piece)
    return sent


async def _flush(request: web.Request, transport: asyncio.Transport) -> None:
    """Wait until the head, and the answers before it, have left: the file is to come behind them."""
    if transport.get_write_buffer_size():
        transport.set_write_buffer_limits(high=0)
        try:
            await request.writer.drain()
        finally:
            transport.set_write_buffer_limits()


def _read(fd: int, position: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := os.pread(fd, size - len(data), position + len(data))):
        data += piece
    return data


async def open_bytes(
    backend: StorageBackend, claim: DownloadClaim, wanted: ByteRange | None, *, redirectable: bool = False
) -> Download:
    """Open the bytes of a claim, to be closed by `close_source`.

    Raises
    ------
    InternalFault
        They cannot be read.
    """
    try:
        return await backend.download(ClaimedDownload.of(claim, redirectable=redirectable), wanted)
    except OSError as error:
        # Damage is for the administrator to see and for nobody to read.
        log.error("bytes at %s cannot be read: %s", claim.location, error)  # noqa: TRY400 (the text says it all)
        suspicions(backend).add(claim.location or "")
        raise InternalFault("the bytes cannot be read") from error


async def file_pieces(workers: Workers, source: FileBytes, span: ByteRange) -> AsyncIterator[bytes]:
    """Read a span of a file; it may end early."""
    fd, position, left = source.file.fileno(), source.offset + span.start, span.length
    with workers:
        while left:
            # Half a batch: TLS holds it once more, encrypted.
            size = min(workers.batch_size() // 2, left)
            piece = await run(workers.quick, os.pread, fd, size, position)
            if not piece:
                return
            position += len(piece)
            left -= len(piece)
            yield piece


async def close_source(source: FileBytes | StreamBytes) -> None:
    """Close in a thread: the last descriptor of a deleted file may take its time."""
    if isinstance(source, FileBytes):
        await asyncio.shield(asyncio.to_thread(source.file.close))
    elif hasattr(source.pieces, "aclose"):
        await source.pieces.aclose()
