"""What the service tells of itself: VOSI, and ``/protocols``, ``/views``, ``/properties`` (section 6.1)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from pyvospace.db import identities, nodes, state
from pyvospace.model import vocabulary
from pyvospace.model.faults import Fault, ServiceBusy
from pyvospace.model.instants import read_instant
from pyvospace.model.transfers import Protocol
from pyvospace.model.vosi import CLOSED_FOR, Availability, Capability, Standing, State
from pyvospace.server.handlers.entries import ENTRIES
from pyvospace.server.handlers.gms import GMS
from pyvospace.server.handlers.recalls import RECALLS
from pyvospace.server.handlers.recursive import DELETIONS, SETTINGS
from pyvospace.server.handlers.requests import context, form, one, parameters, plain, see_other, xml
from pyvospace.server.handlers.transfers import PACKAGES
from pyvospace.server.operations import transfers
from pyvospace.server.policy import Right
from pyvospace.server.views import ACCEPTED, PROVIDED
from pyvospace.service.challenges import challenges, login_url, security_methods
from pyvospace.service.serving import require_staying
from pyvospace.service.standing import PATIENCE, within
from pyvospace.wire import service as wire
from pyvospace.wire import vosi as vosi_wire

if TYPE_CHECKING:
    from aiohttp import web

    from pyvospace.server.context import Service

_STARTED: Final = time.time()
_INTERFACES: Final = (
    (vocabulary.STANDARD_VOSI_CAPABILITIES, "capabilities", "full", False),
    (vocabulary.STANDARD_VOSI_AVAILABILITY, "availability", "full", False),
    (vocabulary.STANDARD_NODES, "nodes", "base", True),
    (vocabulary.STANDARD_TRANSFERS, "transfers", "base", True),
    (vocabulary.STANDARD_SYNC, "synctrans", "full", True),
    (vocabulary.STANDARD_SYNC_20, "synctrans", "full", True),
    (vocabulary.STANDARD_VIEWS, "views", "full", False),
    (vocabulary.STANDARD_PROTOCOLS, "protocols", "full", False),
    (vocabulary.STANDARD_PROPERTIES, "properties", "full", True),
    (vocabulary.STANDARD_FILES, "files", "base", True),
    (vocabulary.PACKAGE_VIEW, PACKAGES, "full", True),
    (vocabulary.STANDARD_ASYNC_DELETE, DELETIONS, "full", True),
    (vocabulary.STANDARD_ASYNC_SETPROPS, SETTINGS, "full", True),
    (vocabulary.STANDARD_SEARCH, "search", "full", True),
    (vocabulary.STANDARD_SEARCHES, "searches", "full", True),
    (vocabulary.STANDARD_RECALLS, RECALLS, "full", True),
    (vocabulary.STANDARD_ENTRIES, ENTRIES, "base", True),
    (vocabulary.STANDARD_VERSIONS, "versions", "base", True),
    (vocabulary.STANDARD_PERMISSIONS, "permissions", "full", True),
    (vocabulary.STANDARD_AUDIT, "audit", "full", True),
    (vocabulary.STANDARD_GMS, GMS, "full", True),
)
"""Standard identifier, path, use (D4 of the clients), and whether it matters who calls."""
_CONTAINS: Final = 1000


async def capabilities(request: web.Request) -> web.StreamResponse:
    """Serve VOSI capabilities; the challenges tell who has sent no credential that one may log in (SSO 2.1)."""
    ctx = context(request)
    ctx.policy.exempt()
    settings = ctx.service.settings
    methods = security_methods(settings)
    found = [Capability(standard, f"{ctx.service.url}/{path}", use, methods if known else ())
             for standard, path, use, known in _INTERFACES]  # fmt: skip
    if url := login_url(settings):
        found.append(Capability(vocabulary.SSO_PASSWORD, url, "full"))
    response = xml(vosi_wire.render_capabilities(found))
    response.headers["Last-Modified"] = formatdate(_STARTED, usegmt=True)
    if "Authorization" not in request.headers:
        for challenge in challenges(settings):
            response.headers.add("WWW-Authenticate", challenge)
    return response


async def availability(request: web.Request) -> web.StreamResponse:
    """Serve VOSI availability: always 200, and true only if nodes and bytes can be served.

    With ``detail=min`` it is the heartbeat of OpenCADC's services: an empty 200, or 503.
    """
    ctx = context(request)
    ctx.policy.exempt()
    found = await _examine(ctx.service)
    if (one(parameters(request), "DETAIL") or "").lower() != "min":
        return xml(vosi_wire.render_availability(found, client=request.remote or ""))
    if not found.available:
        raise ServiceBusy("; ".join(found.notes), retry_after=CLOSED_FOR)
    return plain("")


async def _examine(service: Service) -> Availability:
    """Look whether the database and a storage server are there, and what the operator says."""

    async def look() -> int:
        await service.watch.look()
        return await state.live_storages(service.database)

    try:
        storages = await within(PATIENCE, look())
    except Fault:
        troubles = ["the database does not answer"]
    else:
        troubles = [] if storages else ["no storage server is there"]
    standing = service.watch.current
    available = not troubles and standing.state is not State.OFFLINE
    started = datetime.fromtimestamp(_STARTED, UTC)
    return Availability(
        available=available,
        up_since=max(started, standing.turned or started) if available else None,
        down_at=standing.down_at,
        back_at=standing.back_at,
        notes=tuple(filter(None, [standing.announcement, *troubles])),
    )


async def set_state(request: web.Request) -> web.StreamResponse:
    """Let an administrator set the state of the service, as at OpenCADC."""
    ctx = context(request)
    ctx.policy.check_epoch(await identities.epoch(ctx.database))
    ctx.policy.require_admin()
    asked = await form(request)
    wanted = Standing(
        State.parse(one(asked, "STATE") or ""),
        note=one(asked, "NOTE") or "",
        down_at=_instant(asked, "DOWNAT"),
        back_at=_instant(asked, "BACKAT"),
    )
    await ctx.service.watch.turn(wanted, ctx.caller)
    ctx.policy.settled()
    url = f"{ctx.service.url}/availability"
    return see_other(url)


def _instant(asked: dict[str, list[str]], name: str) -> datetime | None:
    word = one(asked, name)
    return read_instant(word) if word else None


async def ready(request: web.Request) -> web.StreamResponse:
    """Answer if the database does, in whatever state the service is."""
    ctx = context(request)
    ctx.policy.exempt()
    require_staying(request.app)
    await within(PATIENCE, ctx.service.watch.look())
    return plain("ready")


async def live(request: web.Request) -> web.StreamResponse:
    """Answer as long as the loop turns."""
    context(request).policy.exempt()
    return plain("alive")


async def protocols(request: web.Request) -> web.StreamResponse:
    """Serve getProtocols: what the service speaks as a client, and as a server."""
    ctx = context(request)
    ctx.policy.exempt()
    provides = [Protocol(uri) for uri in await transfers.provided(ctx)]
    accepts = [Protocol(uri) for uri in vocabulary.CLIENT_PROTOCOLS]
    return xml(wire.render_protocols(accepts, provides))


async def views(request: web.Request) -> web.StreamResponse:
    """Serve getViews."""
    context(request).policy.exempt()
    return xml(wire.render_views(ACCEPTED, PROVIDED))


async def properties(request: web.Request) -> web.StreamResponse:
    """Serve getProperties; ``contains`` tells what nodes use that the caller may read."""
    ctx = context(request)
    ctx.policy.require_scope(Right.READ, ())
    epoch, used = await nodes.names_in_use(ctx.reader, ctx.caller, limit=_CONTAINS)
    ctx.policy.check_epoch(epoch)
    contains = sorted({*used, *vocabulary.PROVIDED_PROPERTIES})
    accepts, provides = sorted(vocabulary.ACCEPTED_PROPERTIES), sorted(vocabulary.PROVIDED_PROPERTIES)
    return xml(wire.render_properties(accepts, provides, contains))


ALWAYS = frozenset({capabilities, availability, live, ready})
"""What is served in every state, without a database too."""
