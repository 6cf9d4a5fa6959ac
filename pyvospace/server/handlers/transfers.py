"""``/synctrans`` and ``/transfers/{job}`` (VOSpace 2.1, section 6.4; UWS 1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.model.audit import Action
from pyvospace.model.faults import Fault, InvalidArgument, NotFound
from pyvospace.model.vocabulary import Phase
from pyvospace.server.handlers.jobs import NewJob
from pyvospace.server.handlers.requests import FORM, context, document, form, one, parameters, see_other, xml
from pyvospace.server.operations import jobs as operations
from pyvospace.server.operations import transfers
from pyvospace.uws import jobs
from pyvospace.uws.transfers import pack
from pyvospace.wire import transfers as wire

if TYPE_CHECKING:
    from aiohttp import web

    from pyvospace.model.transfers import Transfer
    from pyvospace.server.context import Context

PACKAGES: Final = "pkg"


async def post_sync(request: web.Request) -> web.StreamResponse:
    """Serve a synchronous transfer, given by parameters or by a document."""
    asked = await form(request)  # a body of XML is none (T6 of the clients)
    if "TARGET" in asked or "DIRECTION" in asked or request.content_type == FORM:
        return await _by_parameters(request, asked)
    ctx = context(request)
    wanted = wire.parse_transfer(await document(request), ctx.service.limits)
    job = await (_move_or_copy(ctx, wanted) if transfers.is_internal(wanted) else _negotiate(ctx, wanted))
    if wanted.is_package:
        return see_other(f"{operations.job_url(ctx, PACKAGES, job)}/run")
    return see_other(f"{operations.job_url(ctx, operations.TRANSFERS, job)}/results/transferDetails")


async def post_package(request: web.Request) -> web.StreamResponse:
    """Serve a package to a client that posts where packages come from, as OpenCADC's own tests do."""
    ctx = context(request)
    wanted = wire.parse_transfer(await document(request), ctx.service.limits)
    if not wanted.is_package:
        raise InvalidArgument("this is no transfer that fetches a package")
    return see_other(f"{operations.job_url(ctx, PACKAGES, await _negotiate(ctx, wanted))}/run")


async def get_package(request: web.Request) -> web.StreamResponse:
    """Send the client to the package of a job."""
    ctx = context(request)
    row = await operations.find(ctx, operations.TRANSFERS, request.match_info["job"])
    return see_other(await transfers.package_endpoint(ctx, row))


async def get_sync(request: web.Request) -> web.StreamResponse:
    """Serve a synchronous transfer by parameters: 303 to the endpoint (rulings of A-11)."""
    return await _by_parameters(request, parameters(request))


async def _by_parameters(request: web.Request, asked: dict[str, list[str]]) -> web.StreamResponse:
    ctx = context(request)
    negotiated = await transfers.transfer(ctx, transfers.parameter_transfer(asked))
    placed = await transfers.with_endpoints(ctx, negotiated)
    wants = (one(asked, "REQUEST") or "").lower()
    if placed.protocols and (ctx.service.opencadc or request.method == "GET" or wants == "redirect"):
        return see_other(placed.protocols[0].endpoint or "")
    return xml(wire.render_transfer(placed))


async def _negotiate(ctx: Context, wanted: Transfer) -> str:
    """Negotiate; a refusal becomes a job in phase ERROR, which tells why (rulings, "denied transfer")."""
    try:
        return (await transfers.transfer(ctx, wanted)).job.id
    except Fault as fault:
        if not transfers.is_refusal(ctx, fault):
            raise
        # Also of what nobody could decide about, like a target that is no URI: the job tells the caller's own mistake.
        ctx.policy.exempt()
        ctx.note_refusal(fault, Action.TRANSFER)
        return await jobs.refuse(ctx.database, ctx.service.settings, ctx.caller, wanted, fault)


async def _move_or_copy(ctx: Context, wanted: Transfer) -> str:
    """Run a move or a copy at once, and wait for its end for a while (rulings of A-34)."""
    return await operations.do(ctx, operations.TRANSFERS, jobs.kind_of(wanted), pack(wanted))


async def create(request: web.Request) -> NewJob:
    """Read a transfer document that makes a job (sections 6.2.2, 6.2.3 and 6.4)."""
    ctx = context(request)
    wanted = wire.parse_transfer(await document(request), ctx.service.limits)
    return NewJob(jobs.kind_of(wanted), pack(wanted))


async def get_details(request: web.Request) -> web.StreamResponse:
    """Serve the negotiated transfer with its endpoints."""
    ctx = context(request)
    row = await operations.find(ctx, operations.TRANSFERS, request.match_info["job"])
    if row.phase in {Phase.PENDING, Phase.QUEUED}:
        raise NotFound(f"a job in the phase {row.phase} has no results")
    return xml(wire.render_transfer(await transfers.details(ctx, row)))
