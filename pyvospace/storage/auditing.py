"""What a storage server tells the audit log: who has read bytes, and who was refused.

What he has brought stands in the log by the transaction that turns the node to it; it learns here where he came from.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.db.pool import acting
from pyvospace.model.audit import DONE, Action
from pyvospace.model.callers import Caller, Origin
from pyvospace.model.claims import EndpointClaims
from pyvospace.model.faults import Fault
from pyvospace.service.audit import REFUSED, AuditWriter, Entry
from pyvospace.service.faults import REQUEST_ID
from pyvospace.service.proxies import client_address
from pyvospace.storage.archives.serving import PACK, UNPACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp.typedefs import Handler, Middleware

CLAIMS: Final = web.RequestKey("claims", EndpointClaims)
"""What the endpoint says, once it is known to be one of ours."""
_BY_OPERATION: Final[Mapping[str, Action]] = {PACK: Action.READ_ARCHIVE, UNPACK: Action.UNPACK_ARCHIVE}
_BY_METHOD: Final[Mapping[str, Action]] = {
    "GET": Action.READ_BYTES,
    "PUT": Action.STORE_BYTES,
    "POST": Action.STORE_BYTES,
    "PATCH": Action.STORE_BYTES,
    "DELETE": Action.STORE_BYTES,
}
_READ: Final = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})


def auditing(writer: AuditWriter, *, reads: bool) -> Middleware:
    """Make the middleware that notes what is read, if that is wanted, and what is refused."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "token" not in request.match_info:
            return await handler(request)
        origin = Origin(client_address(request), request[REQUEST_ID])
        acting.set(Caller(origin=origin))
        try:
            response = await handler(request)
        except Fault as fault:
            if fault.status in REFUSED:
                writer.add(_entry(request, origin, fault.code))
            raise
        except (ConnectionError, asyncio.CancelledError):  # some of the bytes may have been read
            if reads and request.method == "GET" and CLAIMS in request:
                writer.add(_entry(request, origin, DONE))
            raise
        copied = CLAIMS in request and request[CLAIMS].operation == "replica"  # nobody reads it
        if reads and request.method == "GET" and response.status in _READ and not copied:
            writer.add(_entry(request, origin, DONE))
        return response

    return middleware


def _entry(request: web.Request, origin: Origin, outcome: str) -> Entry:
    action = _BY_METHOD.get(request.method, Action.READ_BYTES)
    return entry_of(request.get(CLAIMS), action, origin, outcome)


def entry_of(claims: EndpointClaims | None, action: Action, origin: Origin, outcome: str) -> Entry:
    """Give what is noted of something done at an endpoint; None: at one that is none of ours."""
    if claims is None:
        return Entry(Caller(credential="unknown endpoint", origin=origin), action, outcome)
    by = f" by token {claims.token_id}" if claims.token_id is not None else ""
    return Entry(
        Caller(id=claims.user_id or 0, credential=f"endpoint{by}", origin=origin),
        _BY_OPERATION.get(claims.operation, action),
        outcome,
        node=claims.node_id,
        details={"job": claims.job_id} if claims.job_id else {},
    )


async def writing(writer: AuditWriter, _app: web.Application) -> AsyncIterator[None]:
    """Write what is gathered as long as the server runs, and what is left at its end."""
    task = asyncio.create_task(writer.run())
    yield
    task.cancel()
    await asyncio.wait([task])
