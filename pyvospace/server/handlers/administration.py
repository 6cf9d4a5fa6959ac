"""Resources of JSON: profile, groups, administration."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.model.faults import UnsupportedMediaType
from pyvospace.server.administration.routes import Answer, Route, serve
from pyvospace.server.administration.table import ROUTES
from pyvospace.server.handlers.requests import JSON, body, context

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler


def handler_of(route: Route) -> Handler:
    """Make the handler of a resource's method."""
    return partial(_handle, route)


async def _handle(route: Route, request: web.Request) -> web.StreamResponse:
    names = {place: request.match_info[place] for place in route.places}
    query: dict[str, list[str]] = {}
    for name, value in request.query.items():
        query.setdefault(name, []).append(value)
    return _written(await serve(context(request), route, names=names, query=query, body=partial(_json, request)))


async def _json(request: web.Request) -> bytes:
    if "Content-Type" in request.headers and request.content_type != JSON:
        raise UnsupportedMediaType(f"send {JSON}, not {request.content_type[:80]}")
    return await body(request)


def _written(answer: Answer) -> web.Response:
    if answer.value is None:
        return web.Response(status=answer.status)
    text = json.dumps(answer.value, ensure_ascii=False).encode()
    return web.Response(status=answer.status, body=text, headers={"Content-Type": JSON, "Cache-Control": "no-store"})


HANDLERS: Final[dict[Route, Handler]] = {route: handler_of(route) for route in ROUTES}
"""By which each is served."""
