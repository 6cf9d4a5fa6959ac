"""What the audit log is told of requests besides what they change: that they were refused, logins, reads."""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.model.audit import Action
from pyvospace.model.callers import ANONYMOUS, Origin
from pyvospace.model.faults import Fault, NotAuthenticated, TooManyAttempts
from pyvospace.server.handlers import entries, files, logins, nodes, search, transfers, versions
from pyvospace.server.handlers.requests import CONTEXT, TRIED
from pyvospace.service.audit import REFUSED, Entry
from pyvospace.service.faults import REQUEST_ID
from pyvospace.service.proxies import client_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.typedefs import Handler, Middleware

    from pyvospace.model.callers import Caller
    from pyvospace.server.context import Service

_ACTIONS: Final[Mapping[object, Action]] = {
    nodes.put: Action.CREATE_NODE,
    nodes.post: Action.SET_NODE,
    nodes.delete: Action.DELETE_NODE,
    nodes.get: Action.GET_NODE,
    entries.get: Action.GET_NODE,
    files.get: Action.READ_BYTES,
    files.put: Action.STORE_BYTES,
    versions.post: Action.RESTORE_VERSION,
    versions.delete: Action.DELETE_VERSION,
    transfers.post_sync: Action.TRANSFER,
    transfers.get_sync: Action.TRANSFER,
    transfers.post_package: Action.TRANSFER,
    transfers.create: Action.TRANSFER,
    search.get: Action.SEARCH,
    logins.log_in: Action.LOG_IN,
}
"""What a handler is asked for; what is not among them is a request."""
_READS: Final = frozenset({Action.GET_NODE, Action.SEARCH, Action.TRANSFER})
"""Of these, what tells something and changes nothing."""
_SEEN: Final = 10_000
"""Callers whose login was noted, so that their next request is none."""


def auditing(service: Service) -> Middleware:
    """Make the middleware that notes what is refused, who logs in, and what is read if that is wanted."""
    seen: OrderedDict[tuple[int, str, str], None] = OrderedDict()
    all_reads = service.settings.audit.reads == "all"

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except Fault as fault:
            if fault.status in REFUSED:
                service.audit.add(_refused(request, fault))
            raise
        context = request.get(CONTEXT)
        if context is None or (context.caller.anonymous and not all_reads):
            return response
        caller = context.caller
        who = caller.id, caller.credential, caller.origin.remote
        if who not in seen and not caller.anonymous:
            seen[who] = None
            if len(seen) > _SEEN:
                seen.popitem(last=False)
            service.audit.add(Entry(caller, Action.LOG_IN))
        if all_reads and (action := _action(request)) in _READS:
            service.audit.add(Entry(caller, action, names=context.policy.place))
        return response

    return middleware


def _action(request: web.Request) -> Action:
    return _ACTIONS.get(request.match_info.handler, Action.REQUEST)


def _refused(request: web.Request, fault: Fault) -> Entry:
    context = request.get(CONTEXT)
    if context is None:
        return _strange(request, fault)
    action = _action(request)
    # The pattern of the resource, not what the client made of it: that may be a secret.
    resource = request.match_info.route.resource
    what = {"request": f"{request.method} {resource.canonical}"} if resource and action is Action.REQUEST else {}
    return Entry(context.caller, action, fault.code, names=context.policy.place, tried=request.get(TRIED), details=what)


def _strange(request: web.Request, fault: Fault) -> Entry:
    """Tell of somebody who has not been let in."""
    scheme, _, credential = request.headers.get("Authorization", "certificate").partition(" ")
    wrong = isinstance(fault, (NotAuthenticated, TooManyAttempts))
    return Entry(
        _nobody(request, scheme.lower() if scheme.lower() in {"basic", "bearer", "certificate"} else "unknown"),
        Action.LOG_IN if wrong else _action(request),
        fault.code,
        tried=_name(credential) if scheme.lower() == "basic" else None,
    )


def _nobody(request: web.Request, credential: str) -> Caller:
    return replace(ANONYMOUS, credential=credential, origin=Origin(client_address(request), request[REQUEST_ID]))


def _name(credential: str) -> str | None:
    try:
        return base64.b64decode(credential.strip(), validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError):
        return None
