"""Put transactions as OpenCADC's byte servers have them, at ``/files/{token}/{name}``.

A transaction is begun, appended to, asked about, taken back by whole requests, aborted or committed. Its id is a
capability of its own: an upload of many segments may outlast the token in the URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.model.faults import Fault, InvalidArgument, InvalidData, PreconditionFailed
from pyvospace.model.partials import NewPartial
from pyvospace.service.content import facts_of
from pyvospace.storage.auditing import CLAIMS
from pyvospace.storage.deliver import SAFE
from pyvospace.storage.hashing import Digests, announced
from pyvospace.storage.partials.tus import claims_of
from pyvospace.storage.partials.tus_headers import as_metadata, number

if TYPE_CHECKING:
    from pyvospace.model.claims import EndpointClaims
    from pyvospace.model.partials import Partial
    from pyvospace.storage.partials.uploads import Uploads

OPERATION: Final = "x-put-txn-op"
START: Final = "start"
ID: Final = "x-put-txn-id"
_TOTAL: Final = "x-total-length"
_LEAST: Final = "x-put-segment-minbytes"
_MOST: Final = "x-put-segment-maxbytes"
_SEGMENT: Final = 5 << 30
"""Bytes that one append may bring: more would be one object of an object store."""
_SAID_EVERY: Final = 20.0
_EMPTY: Final = "1B2M2Y8AsgTpgAmY7PhCfg=="
"""MD5 of no bytes."""


def is_transaction(request: web.Request) -> bool:
    """Say whether a request is about a transaction."""
    return OPERATION in request.headers or ID in request.headers


class Transactions:
    """The handlers of one server."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def start(self, request: web.Request, claims: EndpointClaims) -> web.StreamResponse:
        """Begin one, with its first bytes if there are any."""
        if "If-Match" in request.headers or "If-None-Match" in request.headers:
            raise InvalidArgument("a transaction has no conditions")
        total = number(request.headers, _TOTAL)
        digests = announced(request.headers)
        kind, told = facts_of(request.headers).content_type, as_metadata(request.headers)
        new = NewPartial(size=total, content_type=kind, metadata=told)
        secret, partial = await self._uploads.begin(claims, new)
        try:
            if request.content_length != 0:
                partial = await self._append(request, partial)
            if partial.md5 is not None and partial.sha256 is not None:
                digests.verify(Digests(partial.md5, partial.sha256))
        except BaseException:
            # Nobody will ever hear of it.
            with suppress(Fault, OSError):
                await self._uploads.drop(partial.id)
            raise
        return _answer(HTTPStatus.ACCEPTED, secret, partial)

    async def go_on(self, request: web.Request) -> web.StreamResponse:
        """Do what a request wants that has the id of a transaction."""
        secret = request.headers.get(ID, "")
        partial = await self._uploads.find(secret)
        request[CLAIMS] = claims_of(partial)
        match request.method, request.headers.get(OPERATION, "").lower():
            case "PUT", "":
                return _answer(HTTPStatus.ACCEPTED, secret, await self._append(request, partial))
            case "PUT", "commit" if not request.body_exists or request.content_length == 0:
                return await self._commit(request, partial)
            case "HEAD", "":
                return _answer(HTTPStatus.OK, secret, partial)
            case "POST", "":
                return _answer(HTTPStatus.NO_CONTENT, secret, partial)
            case "POST", "revert":
                return _answer(HTTPStatus.ACCEPTED, secret, await self._uploads.revert(partial))
            case "POST", "abort":
                await self._uploads.drop(partial.id)
                return web.Response(status=HTTPStatus.NO_CONTENT)
        raise InvalidArgument(f"{request.method} with this id is not for {request.headers.get(OPERATION, '')[:40]!r}")

    async def _append(self, request: web.Request, partial: Partial) -> Partial:
        if (request.content_length or 0) > _SEGMENT and partial.received:
            raise InvalidArgument(f"a segment has up to {_SEGMENT} bytes")
        try:
            return await self._uploads.append(request, partial, hashed=True)
        except InvalidData as cut:
            raise PreconditionFailed(cut.detail) from cut

    async def _commit(self, request: web.Request, partial: Partial) -> web.Response:
        if partial.size is not None and partial.received != partial.size:
            raise PreconditionFailed(f"{partial.received} bytes have come of {partial.size}")
        known = Digests(partial.md5 or b"", partial.sha256 or b"")
        announced(request.headers).verify(known)
        if not partial.finished:
            async with _kept_waiting(request):
                partial = await self._uploads.finish(await self._uploads.close(partial))
        return web.Response(status=HTTPStatus.CREATED, headers=_digests(partial))


@asynccontextmanager
async def _kept_waiting(request: web.Request) -> AsyncIterator[None]:
    """Say from time to time that we are still at it: vos gives up a server that says nothing for two minutes.

    A client passes over any number of such answers (RFC 9110, section 15.2).
    """

    async def say() -> None:
        while request.transport is not None:
            await asyncio.sleep(_SAID_EVERY)
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    saying = asyncio.create_task(say()) if request.version >= (1, 1) else None
    try:
        yield
    finally:
        if saying is not None:
            saying.cancel()
            await asyncio.wait([saying])


def _answer(status: HTTPStatus, secret: str, partial: Partial) -> web.StreamResponse:
    headers = {**SAFE, ID: secret, _LEAST: "1", _MOST: str(_SEGMENT), **_digests(partial)}
    if status is not HTTPStatus.OK:
        return web.Response(status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = partial.received
    return response


def _digests(partial: Partial) -> dict[str, str]:
    """Tell the digests of all bytes so far."""
    if not partial.received:
        return {"Digest": f"md5={_EMPTY}"}
    if partial.md5 is None or partial.sha256 is None:
        return {}
    return Digests(partial.md5, partial.sha256).headers()
