"""Jobs as their owners see them: making, running and telling of them (UWS 1.1; VOSpace 2.1, section 6.4)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pyvospace.db import identities
from pyvospace.model.audit import Action
from pyvospace.model.faults import Fault, PermissionDenied, ServiceBusy
from pyvospace.model.jobs import Job, Kind, Progress, Result
from pyvospace.model.vocabulary import Direction, Phase
from pyvospace.model.vosi import CLOSED_FOR
from pyvospace.server.operations import service_driven, transfers
from pyvospace.uws import jobs
from pyvospace.uws.transfers import unpack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from pyvospace.db.jobs import JobRow, Prepared
    from pyvospace.model.transfers import Transfer
    from pyvospace.server.context import Context

TRANSFERS: Final = "transfers"
"""The list of all jobs that a transfer document makes."""
_BY_CLIENT: Final = frozenset({Kind.PUSH, Kind.PULL})
_TRANSFERS: Final = _BY_CLIENT | {Kind.PULL_TO, Kind.PUSH_FROM, Kind.MOVE, Kind.COPY}
_UNBEGUN: Final = frozenset({Phase.PENDING, Phase.QUEUED})

PREPARATIONS: Final[Mapping[Kind, Callable[[Context, Transfer], Awaitable[Prepared]]]] = {
    Kind.PULL_TO: service_driven.prepare_pull_to,
    Kind.PUSH_FROM: service_driven.prepare_push_from,
}
"""What is looked at when its owner runs a job, before workers get it."""


def job_url(context: Context, list_: str, job: str) -> str:
    """Give the URL of a job."""
    return f"{context.service.url}/{list_}/{job}"


async def find(context: Context, list_: str, job: str) -> JobRow:
    """Give a job to its owner (see `uws.jobs.find`).

    A request that looks several times is not started over once its caller is confirmed: it has changed something by
    then, or has waited for a change that it would miss.
    """
    row = await jobs.find(context.database, context.service.settings.jobs, context.caller, list_, job)
    if context.policy.confirmed:
        context.policy.settled()
    else:
        context.policy.check_epoch(row.epoch)
    return row


async def create(context: Context, list_: str, kind: Kind, request: dict[str, Any], *, run_id: str | None) -> str:
    """Keep a job that waits for its owner to run it; give its id.

    Whether he may do what it does is seen when he runs it.
    """
    context.policy.exempt()
    _require_open(context, kind)
    settings = context.service.settings.jobs
    return await jobs.create(
        context.database, settings, context.caller, list_=list_, kind=kind, request=request, run_id=run_id
    )


async def do(context: Context, list_: str, kind: Kind, request: dict[str, Any]) -> str:
    """Make a job that is done at once; give its id when it has ended, or has taken as long as anybody waits.

    This process does it, unless it has enough to do: then any worker does.
    """
    service = context.service
    seconds = service.settings.jobs.wait
    if service.runner.full:
        job = await create(context, list_, kind, request, run_id=None)
        await start(context, await find(context, list_, job))
        await await_end(context, list_, job, seconds=seconds)
        return job
    _require_open(context, kind)
    claimed = await jobs.begin(
        context.database, service.settings.jobs, context.caller, list_=list_, kind=kind, request=request
    )
    if claimed is None:
        context.policy.check_epoch(await identities.epoch(context.database))
        raise ServiceBusy("the service is closed to changes", retry_after=CLOSED_FOR)
    context.policy.settled()
    await service.runner.do(claimed, seconds=seconds)
    return claimed.id


async def start(context: Context, row: JobRow) -> None:
    """Run a job: negotiate it, or hand it to the workers.

    Raises
    ------
    PermissionDenied
        It does not wait to be run.
    NotAuthenticated, ServiceBusy
        It waits on: come again.
    """
    if row.phase is not Phase.PENDING:
        raise PermissionDenied(f"a job in the phase {row.phase} cannot be run")
    _require_open(context, row.kind)
    if row.kind not in _TRANSFERS:
        await jobs.queue(context.database, row)
        return
    wanted = unpack(row.request)
    try:
        await _start_transfer(context, row, wanted)
    except Fault as fault:
        if isinstance(fault, jobs.RunAlreadyError) or not transfers.is_refusal(context, fault):
            raise
        context.policy.exempt()
        context.note_refusal(fault, Action.TRANSFER)
        await jobs.refuse(context.database, context.service.settings, context.caller, wanted, fault, job=row.id)


def _require_open(context: Context, kind: Kind) -> None:
    if kind.changes_nodes:
        context.policy.require_writable()


async def _start_transfer(context: Context, row: JobRow, wanted: Transfer) -> None:
    if row.kind in _BY_CLIENT:
        await transfers.transfer(context, wanted, job=row.id)
    else:
        prepare = PREPARATIONS.get(row.kind)
        await jobs.queue(context.database, row, await prepare(context, wanted) if prepare else None)


async def await_phase(context: Context, list_: str, job: str, *, seconds: float, phase: str | None = None) -> JobRow:
    """Give a job as soon as its phase changes, or after some seconds (see `uws.jobs.await_phase`)."""
    service = context.service
    return await jobs.await_phase(
        context.database,
        service.settings.jobs,
        service.waiting,
        lambda: find(context, list_, job),
        job=job,
        seconds=seconds,
        phase=phase,
    )


async def await_end(context: Context, list_: str, job: str, *, seconds: float) -> None:
    """Return when a job has ended, or after some seconds."""
    until = asyncio.get_running_loop().time() + seconds
    while (left := until - asyncio.get_running_loop().time()) > 0:
        row = await await_phase(context, list_, job, seconds=left)
        if row.phase not in jobs.ACTIVE or context.service.waiting.closed:
            return


def describe(context: Context, row: JobRow) -> Job:
    """Tell of a job what its document says."""
    end = row.ended or row.now
    seconds = (end - row.started).total_seconds() if row.started else 0.0
    executing = row.phase is Phase.EXECUTING
    transfer = unpack(row.request) if row.kind in _TRANSFERS else None
    counted = row.progress != Progress()
    return Job(
        id=row.id,
        phase=row.phase,
        owner=row.owner,
        created=row.created,
        execution_duration=row.execution_duration,
        destruction=row.destruction,
        started=row.started,
        ended=row.ended,
        quote=_expected_end(row, transfer, seconds) if executing else None,
        run_id=row.run_id,
        fault=row.fault,
        message=row.message,
        results=results(context, row),
        transfer=transfer,
        parameters=parameters(row),
        progress=row.progress if counted else None,
        rate=row.progress.rate(seconds) if counted else None,
    )


def _expected_end(row: JobRow, transfer: Transfer | None, seconds: float) -> datetime | None:
    """Guess when a job ends by how far it came in so many seconds; of a share this is known."""
    if transfer is not None and transfer.is_share:
        return row.expires
    left = row.progress.left(seconds)
    return None if left is None else row.now + left


def parameters(row: JobRow) -> tuple[tuple[str, str], ...]:
    """Give the parameters that a job was made of; a transfer has none, it is in jobInfo (R-UWS-079)."""
    kept: dict[str, str | list[str]] = row.request.get("parameters", {})
    return tuple(
        (name, value) for name, values in kept.items() for value in ([values] if isinstance(values, str) else values)
    )


def results(context: Context, row: JobRow) -> tuple[Result, ...]:
    """Give the results of a job; there are none before it executes (R-UWS-005)."""
    kept = tuple(Result(name, href) for name, href in row.results)
    if row.kind not in _TRANSFERS or row.kind in {Kind.MOVE, Kind.COPY} or row.phase in _UNBEGUN | {Phase.ARCHIVED}:
        return kept
    found = [Result("transferDetails", f"{job_url(context, row.list, row.id)}/results/transferDetails")]
    if row.node_uri:
        found.append(Result("dataNode", row.node_uri))
        if row.request["direction"] in {Direction.PUSH_TO_VOSPACE, Direction.PULL_TO_VOSPACE}:
            found.append(Result("target", row.node_uri))
    return (*found, *kept)
