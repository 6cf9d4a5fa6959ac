"""The edge of every server: each request gets an id, each failure becomes the right answer, each answer its headers.

This is the only place that writes the answer to a failure. What is no `Fault` is a defect: logged with its
traceback, answered as InternalFault without its text.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pyvospace.metrics import REQUESTS_OPEN, Meter
from pyvospace.model.faults import (
    Fault,
    InternalFault,
    InvalidArgument,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    RequestEntityTooLarge,
    ServiceBusy,
    TooManyAttempts,
)
from pyvospace.service.logs import request_id, trace_id, trace_of
from pyvospace.service.proxies import client_address

if TYPE_CHECKING:
    from pyvospace.service.logs import AccessLog

log = logging.getLogger(__name__)

_BY_STATUS = {
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: RequestEntityTooLarge,
    HTTPStatus.BAD_REQUEST: InvalidArgument,
}
_MAX_TEXT = 4000
_CUT: Final = 499
"""Counted for those who left before they had an answer."""
_COUNTED: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REQUEST_ID: Final = web.RequestKey("request_id", str)
CALLER: Final = web.RequestKey("caller", str)
"""Name of the caller; not there if he is anonymous."""

Challenges = Callable[[bool], Iterable[str]]
Describe = Callable[[Fault], str]


def edge(access: AccessLog, *, challenges: Challenges | None = None, describe: Describe | None = None) -> Middleware:
    """Make the outermost middleware.

    Parameters
    ----------
    access
        Gets a line for each request.
    challenges
        Gives the challenges of a 401; True: a credential was sent and refused.
    describe
        Gives what stands behind the words of a fault (the document of LinkFound), or nothing.
    """
    meter = Meter()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.monotonic()
        request[REQUEST_ID] = _IDS.new()
        mark = request_id.set(request[REQUEST_ID])
        trace_id.set(trace_of(request.headers.get("traceparent")) or request[REQUEST_ID])
        REQUESTS_OPEN.inc()
        status = _CUT
        try:
            response = await _answer(request, handler, challenges, describe)
            status = response.status
            access.write(
                remote=client_address(request),
                caller=request.get(CALLER, ""),
                method=request.method,
                path=request.path_qs,
                status=status,
                seconds=time.monotonic() - started,
            )
        finally:
            REQUESTS_OPEN.dec()
            meter.count(*_kind(request), status, time.monotonic() - started)
            request_id.reset(mark)
        return response

    return middleware


def _kind(request: web.Request) -> tuple[str, str]:
    """Give method and route as they are counted: few of each."""
    resource = request.match_info.route.resource
    method = request.method if request.method in _COUNTED else "other"
    return method, resource.canonical if resource is not None else "none"


async def _answer(
    request: web.Request, handler: Handler, challenges: Challenges | None, describe: Describe | None
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Fault as fault:
        return render(fault, challenges=challenges, describe=describe)
    except web.HTTPException as answer:
        if answer.status < HTTPStatus.BAD_REQUEST:
            raise
        return render(_of_http(request, answer), challenges=challenges, describe=describe)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("defect while serving %s %s", request.method, request.path)
        return render(InternalFault(f"see the log for request {request_id.get()}"))


def _of_http(request: web.Request, answer: web.HTTPException) -> Fault:
    if isinstance(answer, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(answer.allowed_methods))
        return MethodNotAllowed(f"{request.method} is not for this resource; it takes {allowed}",
                                allowed=frozenset(answer.allowed_methods))  # fmt: skip
    known = _BY_STATUS.get(HTTPStatus(answer.status))
    if known is NotFound:
        return NotFound("there is no such resource")
    if known:
        return known(answer.reason)
    log.warning("aiohttp answered %d: %s", answer.status, answer.reason)
    return InvalidArgument(answer.reason)


def render_unasked(fault: Fault, headers: Mapping[str, str]) -> web.Response:
    """Write the answer to what never became a request, with the headers of every answer."""
    response = render(fault)
    response.headers.update(headers)
    response.headers["X-Request-Id"] = _IDS.new()
    response.force_close()
    return response


class _Ids:
    """Ids of requests, which no two processes give, forks of one neither."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._process = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def new(self) -> str:
        return f"{self._process}{next(self._numbers):08x}"


_IDS: Final = _Ids()


def render(fault: Fault, *, challenges: Challenges | None = None, describe: Describe | None = None) -> web.Response:
    """Write the answer to a fault: text/plain, the name, a space, the details (VOSpace 2.1, section 6)."""
    if fault.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s", fault)
    text = str(fault)[:_MAX_TEXT] + (describe(fault) if describe else "")
    response = web.Response(
        status=fault.status,
        body=text.encode("utf-8", "replace") + b"\n",
        headers={"Content-Type": "text/plain"},
    )
    if isinstance(fault, ServiceBusy | TooManyAttempts):
        response.headers["Retry-After"] = str(fault.retry_after)
    if isinstance(fault, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(fault.allowed))
    if isinstance(fault, NotAuthenticated) and challenges:
        for challenge in challenges(fault.invalid):
            response.headers.add("WWW-Authenticate", challenge)
    return response
