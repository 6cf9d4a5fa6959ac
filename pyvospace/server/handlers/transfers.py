"""``/synctrans`` and ``/transfers/{job}`` (VOSpace 2.1, section 6.4; UWS 1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvospace.model.faults import Fault, InvalidArgument, NotFound, OperationNotSupported
from pyvospace.model.instants import write_instant
from pyvospace.model.jobs import Job, Result
from pyvospace.model.vocabulary import Direction, Phase
from pyvospace.server.handlers.requests import (
    FORM,
    context,
    document,
    form,
    one,
    parameters,
    plain,
    see_other,
    xml,
)
from pyvospace.server.operations import transfers
from pyvospace.uws import jobs
from pyvospace.uws.transfers import unpack
from pyvospace.wire import transfers as wire
from pyvospace.wire import uws as uws_wire

if TYPE_CHECKING:
    from aiohttp import web

    from pyvospace.db.jobs import JobRow
    from pyvospace.model.transfers import Transfer
    from pyvospace.server.context import Context


async def post_sync(request: web.Request) -> web.StreamResponse:
    """Serve a synchronous transfer, given by parameters or by a document."""
    asked = await form(request)  # a body of XML is none (T6 of the clients)
    if "TARGET" in asked or "DIRECTION" in asked or request.content_type == FORM:
        return await _by_parameters(request, asked)
    ctx = context(request)
    wanted = wire.parse_transfer(await document(request), ctx.service.limits)
    return see_other(f"{_job_url(ctx, await _negotiate(ctx, wanted))}/results/transferDetails")


async def get_sync(request: web.Request) -> web.StreamResponse:
    """Serve a synchronous transfer by parameters: 303 to the endpoint (rulings of A-11)."""
    return await _by_parameters(request, parameters(request))


async def _by_parameters(request: web.Request, asked: dict[str, list[str]]) -> web.StreamResponse:
    ctx = context(request)
    negotiated = await transfers.transfer(ctx, transfers.parameter_transfer(asked))
    wants = (one(asked, "REQUEST") or "").lower()
    protocols = negotiated.transfer.protocols
    if protocols and (ctx.service.opencadc or request.method == "GET" or wants == "redirect"):
        return see_other(protocols[0].endpoint or "")
    return xml(wire.render_transfer(negotiated.transfer))


async def _negotiate(ctx: Context, wanted: Transfer) -> str:
    """Negotiate; a refusal becomes a job in phase ERROR, which tells why (rulings, "denied transfer")."""
    try:
        return (await transfers.transfer(ctx, wanted)).job.id
    except Fault as fault:
        if not transfers.is_refusal(ctx, fault):
            raise
        # Also of what nobody could decide about, like a target that is no URI: the job tells the caller's own mistake.
        ctx.policy.exempt()
        return await jobs.refuse(ctx.database, ctx.service.settings, ctx.caller, wanted, fault)


async def post_jobs(request: web.Request) -> web.StreamResponse:
    """Refuse jobs that the client would have to start."""
    context(request).policy.exempt()
    raise OperationNotSupported("move, copy and other jobs at /transfers are not offered; bytes go by /synctrans")


async def _job(request: web.Request) -> JobRow:
    ctx = context(request)
    row = await jobs.find(ctx.database, ctx.caller, request.match_info["job"])
    ctx.policy.check_epoch(row.epoch)
    return row


def _job_url(ctx: Context, job: str) -> str:
    return f"{ctx.service.url}/transfers/{job}"


async def get_job(request: web.Request) -> web.StreamResponse:
    """Serve the job."""
    return xml(uws_wire.render_job(_document(context(request), await _job(request))))


def _document(ctx: Context, row: JobRow) -> Job:
    return Job(
        id=row.id,
        phase=row.phase,
        owner=row.owner,
        created=row.created,
        destruction=row.destruction,
        started=row.started,
        ended=row.ended,
        fault=row.fault,
        message=row.message,
        results=_results(ctx, row),
        transfer=unpack(row.transfer),
    )


def _results(ctx: Context, row: JobRow) -> tuple[Result, ...]:
    found = [Result("transferDetails", f"{_job_url(ctx, row.id)}/results/transferDetails")]
    if row.node_uri:
        found.append(Result("dataNode", row.node_uri))
        if row.transfer["direction"] == Direction.PUSH_TO_VOSPACE:
            found.append(Result("target", row.node_uri))
    return tuple(found)


async def get_details(request: web.Request) -> web.StreamResponse:
    """Serve the negotiated transfer with its endpoints."""
    row = await _job(request)
    return xml(wire.render_transfer(await transfers.details(context(request), row)))


async def get_part(request: web.Request) -> web.StreamResponse:
    """Serve a part of a job (UWS 1.1, section 2.2.1)."""
    row = await _job(request)
    part = request.match_info["part"]
    if part == "results":
        return xml(uws_wire.render_results(_results(context(request), row)))
    if part == "parameters":
        return xml(uws_wire.render_parameters(()))
    if part == "error":
        if row.fault is None:
            raise NotFound("the job has no error")
        return plain(row.fault)
    atoms = {
        "phase": str(row.phase),
        "owner": row.owner or "",
        "quote": "",
        "executionduration": "0",
        "destruction": write_instant(row.destruction),
    }
    if part not in atoms:
        raise NotFound(f"a job has no part {part[:80]!r}")
    return plain(atoms[part])


async def post_phase(request: web.Request) -> web.StreamResponse:
    """Abort a job (UWS 1.1, section 2.2.3.6); a negotiated transfer runs already."""
    asked = await form(request)
    row = await _job(request)
    phase = (one(asked, "PHASE") or "").upper()
    if phase == "ABORT":
        await jobs.abort(context(request).database, row)
    elif phase != "RUN":
        raise InvalidArgument(f"PHASE: {phase[:80]!r} is neither RUN nor ABORT")
    elif row.phase is not Phase.EXECUTING:
        raise InvalidArgument(f"a job in phase {row.phase} cannot be run")
    return see_other(_job_url(context(request), row.id))
