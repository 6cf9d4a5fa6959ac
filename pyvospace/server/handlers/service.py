"""What the service tells of itself: VOSI, and ``/protocols``, ``/views``, ``/properties`` (section 6.1)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from pyvospace.db import nodes, storage
from pyvospace.model import vocabulary
from pyvospace.model.faults import Fault
from pyvospace.model.transfers import Protocol
from pyvospace.model.vocabulary import Direction
from pyvospace.model.vosi import Availability, Capability
from pyvospace.server.handlers.requests import context, plain, xml
from pyvospace.server.operations import transfers
from pyvospace.server.views import ACCEPTED, PROVIDED
from pyvospace.wire import service as wire
from pyvospace.wire import vosi as vosi_wire

if TYPE_CHECKING:
    from aiohttp import web

    from pyvospace.server.context import Context

_STARTED: Final = time.time()
_METHODS: Final = (vocabulary.SSO_TOKEN, vocabulary.SSO_BASIC)
_INTERFACES: Final = (
    (vocabulary.STANDARD_VOSI_CAPABILITIES, "capabilities", "full", ()),
    (vocabulary.STANDARD_VOSI_AVAILABILITY, "availability", "full", ()),
    (vocabulary.STANDARD_NODES, "nodes", "base", _METHODS),
    (vocabulary.STANDARD_TRANSFERS, "transfers", "base", _METHODS),
    (vocabulary.STANDARD_SYNC, "synctrans", "full", _METHODS),
    (vocabulary.STANDARD_SYNC_20, "synctrans", "full", _METHODS),
    (vocabulary.STANDARD_VIEWS, "views", "full", ()),
    (vocabulary.STANDARD_PROTOCOLS, "protocols", "full", ()),
    (vocabulary.STANDARD_PROPERTIES, "properties", "full", _METHODS),
    (vocabulary.STANDARD_FILES, "files", "base", _METHODS),
)
"""Standard identifier, path, use (D4 of the clients) and security methods."""
_CONTAINS: Final = 1000


async def capabilities(request: web.Request) -> web.StreamResponse:
    """Serve VOSI capabilities."""
    ctx = context(request)
    ctx.policy.exempt()
    found = [Capability(standard, f"{ctx.service.url}/{path}", use, methods)
             for standard, path, use, methods in _INTERFACES]  # fmt: skip
    response = xml(vosi_wire.render_capabilities(found))
    response.headers["Last-Modified"] = formatdate(_STARTED, usegmt=True)
    return response


async def availability(request: web.Request) -> web.StreamResponse:
    """Serve VOSI availability: always 200, and true only if nodes and bytes can be served."""
    ctx = context(request)
    ctx.policy.exempt()
    notes = await _troubles(ctx)
    state = Availability(available=not notes, up_since=datetime.fromtimestamp(_STARTED, UTC), notes=notes)
    return xml(vosi_wire.render_availability(state))


async def _troubles(ctx: Context) -> tuple[str, ...]:
    try:
        live = await storage.live_storages(ctx.database)
    except Fault:
        return ("the database does not answer",)
    return () if live else ("no storage server is there",)


async def live(request: web.Request) -> web.StreamResponse:
    """Answer as long as the loop turns."""
    context(request).policy.exempt()
    return plain("alive")


async def protocols(request: web.Request) -> web.StreamResponse:
    """Serve getProtocols: what the service offers as a server; it is no client of others yet."""
    ctx = context(request)
    ctx.policy.exempt()
    directions = (Direction.PULL_FROM_VOSPACE, Direction.PUSH_TO_VOSPACE)
    provides = [Protocol(uri) for direction in directions for uri in sorted(transfers.offered(ctx, direction))]
    return xml(wire.render_protocols((), provides))


async def views(request: web.Request) -> web.StreamResponse:
    """Serve getViews."""
    context(request).policy.exempt()
    return xml(wire.render_views(ACCEPTED, PROVIDED))


async def properties(request: web.Request) -> web.StreamResponse:
    """Serve getProperties; ``contains`` tells what nodes use that the caller may read."""
    ctx = context(request)
    epoch, used = await nodes.names_in_use(ctx.database, ctx.caller, limit=_CONTAINS)
    ctx.policy.check_epoch(epoch)
    contains = sorted({*used, *vocabulary.PROVIDED_PROPERTIES})
    accepts, provides = sorted(vocabulary.ACCEPTED_PROPERTIES), sorted(vocabulary.PROVIDED_PROPERTIES)
    return xml(wire.render_properties(accepts, provides, contains))
