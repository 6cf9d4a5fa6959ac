"""TUS 1.0.0: ``/tus/{token}`` begins uploads, ``/tus/{secret}`` is one of them.

The token is that of the endpoint of the transfer. The secret is a capability of its own: whoever has it may go on with
this one upload, as long as the user who began it may write to the node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.model.claims import EndpointClaims
from pyvospace.model.faults import (
    ChecksumMismatch,
    Fault,
    InvalidArgument,
    MethodNotAllowed,
    OffsetMismatch,
    PermissionDenied,
    PreconditionFailed,
    UnsupportedMediaType,
)
from pyvospace.model.partials import NewPartial
from pyvospace.service.faults import render
from pyvospace.storage.auditing import CLAIMS
from pyvospace.storage.hashing import Digests
from pyvospace.storage.partials import tus_headers as tus

if TYPE_CHECKING:
    from pyvospace.model.partials import Partial
    from pyvospace.storage.handlers import Verifier
    from pyvospace.storage.ongoing import Ongoing
    from pyvospace.storage.partials.uploads import Uploads

SECRET: Final = "[0-9a-f]{64}"  # noqa: S105 (its form)
TUS: Final = web.RequestKey("tus", bool)
"""Set if the answer is to say which version is spoken."""
_EXTENSIONS: Final = "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,concatenation"
_MISMATCH: Final = 460, "Checksum Mismatch"
_OVERRIDE: Final = "X-HTTP-Method-Override"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Tus:
    """The handlers of one server.

    Parameters
    ----------
    base
        Public URL of the server.
    """

    def __init__(self, uploads: Uploads, verifier: Verifier, ongoing: Ongoing, base: str) -> None:
        self._uploads = uploads
        self._verifier = verifier
        self._ongoing = ongoing
        self._base = base
        self._methods: Mapping[str, Answer] = {
            "HEAD": self._head,
            "PATCH": self._patch,
            "DELETE": self._delete,
            "OPTIONS": self.options,
        }

    async def options(self, request: web.Request) -> web.StreamResponse:
        """Tell what is spoken here."""
        request[TUS] = True
        headers = {
            "Tus-Version": tus.VERSION,
            "Tus-Extension": _EXTENSIONS,
            "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
        }
        if self._uploads.most is not None:
            headers["Tus-Max-Size"] = str(self._uploads.most)
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=headers)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Begin an upload, with its first bytes if they are in the body."""
        request[TUS] = True
        if request.headers.get(_OVERRIDE, "POST").upper() == "OPTIONS":
            return await self.options(request)
        _require_version(request)
        with self._ongoing:
            return await self._create(request)

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Go on with an upload, or tell of it."""
        request[TUS] = True
        method = request.headers.get(_OVERRIDE, request.method).upper() if request.method == "POST" else request.method
        if method not in self._methods:
            raise MethodNotAllowed(f"{method} is not for uploads", allowed=frozenset(self._methods))
        if method != "OPTIONS":
            _require_version(request)
        with self._ongoing:
            try:
                return await self._methods[method](request)
            except ChecksumMismatch as fault:
                answer = render(fault)
                answer.set_status(*_MISMATCH)
                return answer

    async def _create(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        claims = request[CLAIMS] = await self._verifier.verify(request.match_info["token"])
        if claims.operation != "put":
            raise PermissionDenied("this endpoint is not for bytes of a file")
        concat = tus.concatenation(headers.get("Upload-Concat"))
        told = headers.get("Upload-Metadata", "")
        new = NewPartial(
            size=tus.length(headers, final=concat.parts is not None),
            content_type=tus.facts(told).content_type,
            metadata=told,
            part=concat.part,
            parts=concat.parts,
            concat=headers.get("Upload-Concat", ""),
        )
        with_body = request.body_exists and request.content_length != 0
        if with_body:
            _require_offset_type(request)
        checksum = tus.checksum(headers.get("Upload-Checksum"))
        secret, partial = await self._uploads.begin(claims, new)
        try:
            if with_body:
                partial = await self._uploads.append(request, partial, checksum=checksum)
            partial = await self._finished(partial)
        except BaseException:
            # Nobody will ever hear of it.
            with suppress(Fault, OSError):
                await self._uploads.drop(partial.id)
            raise
        answer = _answer(HTTPStatus.CREATED, partial)
        answer.headers["Location"] = f"{self._base}/tus/{secret}"
        return answer

    async def _head(self, request: web.Request) -> web.StreamResponse:
        partial = await self._find(request)
        await self._uploads.interrupt(partial.id)
        return _answer(HTTPStatus.OK, await self._finished(await self._find(request)))

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        _require_offset_type(request)
        headers = request.headers
        offset, told = tus.number(headers, "Upload-Offset"), tus.number(headers, "Upload-Length")
        if offset is None:
            raise InvalidArgument("say Upload-Offset")
        checksum = tus.checksum(headers.get("Upload-Checksum"))
        partial = await self._find(request)
        if partial.final:
            raise PermissionDenied("this upload is put together from others")
        if partial.received != offset:
            raise OffsetMismatch(f"{partial.received} bytes are there")
        if not partial.finished:
            partial = await self._uploads.append(request, partial, told=told, checksum=checksum, split=checksum is None)
        return _answer(HTTPStatus.NO_CONTENT, await self._finished(partial))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        await self._uploads.drop((await self._find(request)).id)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _find(self, request: web.Request) -> Partial:
        partial = await self._uploads.find(request.match_info["token"])
        request[CLAIMS] = claims_of(partial)
        return partial

    async def _finished(self, partial: Partial) -> Partial:
        """Turn the node to an upload whose last byte has come, now or before a crash."""
        return await self._uploads.finish(partial) if partial.complete else partial


async def announce_version(request: web.Request, response: web.StreamResponse) -> None:
    """Say on every answer which version is spoken (signal ``on_response_prepare``)."""
    if TUS in request:
        response.headers["Tus-Resumable"] = tus.VERSION
        if response.status == HTTPStatus.PRECONDITION_FAILED:
            response.headers["Tus-Version"] = tus.VERSION


def claims_of(partial: Partial) -> EndpointClaims:
    """Tell the audit log whose upload it is."""
    return EndpointClaims(
        operation="put",
        node_id=partial.node_id,
        job_id=partial.job_id,
        user_id=partial.user_id,
        expires=partial.expires,
    )


def _require_version(request: web.Request) -> None:
    if request.headers.get("Tus-Resumable") != tus.VERSION:
        raise PreconditionFailed(f"Tus-Resumable is to be {tus.VERSION}")


def _require_offset_type(request: web.Request) -> None:
    if request.content_type != tus.OFFSET_TYPE:
        raise UnsupportedMediaType(f"bytes of an upload are {tus.OFFSET_TYPE}")


def _answer(status: HTTPStatus, partial: Partial) -> web.Response:
    received = partial.size if partial.finished else partial.received
    headers = {
        "Upload-Offset": str(received),
        "Upload-Expires": format_datetime(partial.expires.astimezone(UTC), usegmt=True),
    }
    if status is HTTPStatus.OK:
        headers |= _described(partial)
    if partial.finished and partial.md5 is not None and partial.sha256 is not None:
        headers |= Digests(partial.md5, partial.sha256).headers()
    return web.Response(status=status, headers=headers)


def _described(partial: Partial) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if partial.size is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(partial.size)
    if partial.metadata:
        headers["Upload-Metadata"] = partial.metadata
    if partial.concat:
        headers["Upload-Concat"] = partial.concat
    return headers
