"""Jobs as resources (UWS 1.1, section 2.2): one set of handlers for every list of jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from pyvospace.db import jobs as rows
from pyvospace.model.faults import Fault, InvalidArgument, NotAuthenticated, NotFound, PermissionDenied
from pyvospace.model.instants import read_instant, write_instant
from pyvospace.model.jobs import Job, Kind
from pyvospace.model.vocabulary import Phase
from pyvospace.server.handlers.listing import send
from pyvospace.server.handlers.requests import context, form, one, parameters, plain, see_other, xml
from pyvospace.server.operations import jobs as operations
from pyvospace.uws import jobs
from pyvospace.wire import uws as wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from pyvospace.db.jobs import JobReference, JobRow
    from pyvospace.server.context import Context

PARTS: Final = "phase|results|error|owner|quote|executionduration|destruction|parameters"
CHANGED_PARTS: Final = "phase|executionduration|destruction"
_DIGITS: Final = 9
"""Of a number of seconds or jobs, at the most."""
_RUN_ID: Final = 255
_PATIENCE: Final = 0.1
"""Seconds for which the answer to PHASE=RUN waits for a job that is done at once: vos looks again after two seconds."""
_NEVER: Final = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a request wants done."""

    kind: Kind
    request: dict[str, Any]
    """As the job keeps it. Parameters to be shown in the job document stand in it under ``parameters``."""


Creator = Callable[[web.Request], Awaitable[NewJob]]
"""Reads a request that makes a job."""


class JobList:
    """The handlers of one list of jobs.

    Parameters
    ----------
    name
        Last segment of its URL.
    create
        Reads what a POST to the list asks for.
    """

    def __init__(self, name: str, create: Creator) -> None:
        self.name = name
        self._create = create

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve the list of the caller's jobs (section 2.2.2.1)."""
        ctx = context(request)
        ctx.policy.exempt()
        if ctx.caller.anonymous:
            raise NotAuthenticated("log in to see your jobs")
        asked = parameters(request)
        archive = ctx.service.settings.jobs.archive
        token = ctx.caller.token_id if ctx.caller.scope else None
        scope = ctx.caller.scope if ctx.caller.token_id is None else None
        wanted = rows.Wanted(ctx.caller.id, self.name, _phases(asked), _after(asked), archive, token, scope)
        last = one(asked, "LAST")
        if last is not None and _number("LAST", last) < 1:
            raise InvalidArgument("LAST: at least one job")
        newest = None if last is None else int(last)
        pages = rows.pages(ctx.database, wanted, page=ctx.service.settings.limits.page, newest=newest)
        return await send(request, self._pieces(ctx, pages))

    async def _pieces(self, ctx: Context, pages: AsyncIterator[list[JobReference]]) -> AsyncGenerator[bytes]:
        yield wire.jobs_head()
        async for page in pages:
            yield self._references(ctx, page)
        yield wire.jobs_tail()

    def _references(self, ctx: Context, page: list[JobReference]) -> bytes:
        told = [Job(row.id, row.phase, ctx.caller.name, row.created, run_id=row.run_id) for row in page]
        return wire.render_references(told, f"{ctx.service.url}/{self.name}")

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Make a job, and run it if the URL says PHASE=RUN (VOSpace 2.1, section 6.4).

        One that cannot be run now, or not as the request wants, is not kept.
        """
        ctx = context(request)
        new = await self._create(request)
        asked = await form(request)
        _wanted_phase(asked, {"", "RUN"})
        job = await operations.create(ctx, self.name, new.kind, new.request, run_id=_run_id(asked))
        if asked.keys() & {"PHASE", "DESTRUCTION", "EXECUTIONDURATION"}:
            try:
                await self._set_up(ctx, await self._find(ctx, job), asked)
            except Exception:
                await rows.delete(ctx.database, job)
                raise
        return self._to_job(ctx, job)

    async def _set_up(self, ctx: Context, row: JobRow, asked: Mapping[str, list[str]]) -> None:
        for name in asked.keys() & {"DESTRUCTION", "EXECUTIONDURATION"}:
            await _CHANGES[name](ctx, row, one(asked, name) or "")
        if one(asked, "PHASE"):
            await self._start(ctx, row)

    async def job(self, request: web.Request) -> web.StreamResponse:
        """Serve the job, at once or when its phase changes (section 2.2.1.2)."""
        ctx, job = context(request), request.match_info["job"]
        asked = parameters(request)
        wait = one(asked, "WAIT")
        if wait is None:
            row = await self._find(ctx, job)
        else:
            phase = one(asked, "PHASE")
            believed = None if phase is None else _known(phase.upper())
            row = await operations.await_phase(ctx, self.name, job, seconds=_seconds(wait), phase=believed)
        return xml(wire.render_job(operations.describe(ctx, row)))

    async def part(self, request: web.Request) -> web.StreamResponse:
        """Serve a part of the job (section 2.2.1)."""
        ctx = context(request)
        row = await self._find(ctx, request.match_info["job"])
        return _part(ctx, row, request.match_info["part"])

    async def post_job(self, request: web.Request) -> web.StreamResponse:
        """Change the job, or delete it with ACTION=DELETE (sections 2.2.3.2 to 2.2.3.6)."""
        ctx = context(request)
        row = await self._find(ctx, request.match_info["job"])
        asked = await form(request)
        action = (one(asked, "ACTION") or "").upper()
        if action == "DELETE":
            return await self._delete(ctx, row)
        if action or not asked.keys() & _CHANGES.keys():
            raise InvalidArgument(f"send ACTION=DELETE or one of {', '.join(_CHANGES)}")
        for name, change in _CHANGES.items():
            if name in asked:
                await change(ctx, row, one(asked, name) or "")
        if asked.get("PHASE"):
            await self._run_or_abort(ctx, row, asked)
        return self._to_job(ctx, row.id)

    async def post_part(self, request: web.Request) -> web.StreamResponse:
        """Change one part of the job."""
        ctx, part = context(request), request.match_info["part"].upper()
        row = await self._find(ctx, request.match_info["job"])
        asked = await form(request)
        value = one(asked, part)
        if value is None:
            raise InvalidArgument(f"send {part}=…")
        if part == "PHASE":
            await self._run_or_abort(ctx, row, asked)
        else:
            await _CHANGES[part](ctx, row, value)
        return self._to_job(ctx, row.id)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Destroy the job."""
        ctx = context(request)
        return await self._delete(ctx, await self._find(ctx, request.match_info["job"]))

    async def _delete(self, ctx: Context, row: JobRow) -> web.StreamResponse:
        await rows.delete(ctx.database, row.id)
        return see_other(f"{ctx.service.url}/{self.name}")

    async def _find(self, ctx: Context, job: str) -> JobRow:
        return await operations.find(ctx, self.name, job)

    async def _run_or_abort(self, ctx: Context, row: JobRow, asked: Mapping[str, list[str]]) -> None:
        if _wanted_phase(asked, {"RUN", "ABORT"}) == "RUN":
            await self._start(ctx, row)
        else:
            await jobs.abort(ctx.database, row)

    async def _start(self, ctx: Context, row: JobRow) -> None:
        """Run the job; one that is done at once is done when this returns."""
        await operations.start(ctx, row)
        if row.kind not in {Kind.PUSH, Kind.PULL}:
            with suppress(Fault):  # it was run, whatever can be seen of that
                await operations.await_end(ctx, self.name, row.id, seconds=_PATIENCE)

    def _to_job(self, ctx: Context, job: str) -> web.StreamResponse:
        return see_other(operations.job_url(ctx, self.name, job))


async def _set_destruction(ctx: Context, row: JobRow, value: str) -> None:
    longest, moment = ctx.service.settings.jobs.longest, read_instant(value, of="DESTRUCTION")
    if not await rows.set_destruction(ctx.database, row.id, moment, longest=longest):
        raise PermissionDenied("the time of this job is over")


async def _set_duration(ctx: Context, row: JobRow, value: str) -> None:
    if not await rows.set_duration(ctx.database, row.id, _number("EXECUTIONDURATION", value)):
        raise PermissionDenied(f"a job in the phase {row.phase} does not execute any more")


async def _set_run_id(ctx: Context, row: JobRow, value: str) -> None:
    if not await rows.set_run_id(ctx.database, row.id, _run_id({"RUNID": [value]}) or ""):
        raise PermissionDenied(f"a job in the phase {row.phase} keeps its name")


async def _leave(_ctx: Context, _row: JobRow, _value: str) -> None:
    """Leave the phase for last: what else is asked for is to hold when the job runs."""


_CHANGES: Final[Mapping[str, Callable[[Context, JobRow, str], Awaitable[None]]]] = {
    "DESTRUCTION": _set_destruction,
    "EXECUTIONDURATION": _set_duration,
    "RUNID": _set_run_id,
    "PHASE": _leave,
}
"""What can be changed of a job."""


def _part(ctx: Context, row: JobRow, part: str) -> web.Response:
    if part == "results":
        return xml(wire.render_results(operations.results(ctx, row)))
    if part == "parameters":
        return xml(wire.render_parameters(operations.parameters(row)))
    if part == "error":
        if row.fault is None:
            raise NotFound("the job has no error")
        return plain(row.fault)
    told = operations.describe(ctx, row)
    atoms = {
        "phase": str(row.phase),
        "owner": row.owner or "",
        "quote": write_instant(told.quote) if told.quote else "",
        "executionduration": str(row.execution_duration),
        "destruction": write_instant(row.destruction),
    }
    return plain(atoms[part])


def _phases(asked: Mapping[str, list[str]]) -> list[str]:
    """Read which phases are wanted; without a word all but ARCHIVED (section 2.2.2.1)."""
    words = {word.upper() for value in asked.get("PHASE", []) for word in value.split(",")}
    return [_known(word) for word in words] or [str(phase) for phase in Phase if phase is not Phase.ARCHIVED]


def _known(word: str) -> str:
    if word not in set(Phase):
        raise InvalidArgument(f"PHASE: {word[:80]!r} is no phase of a job")
    return word


def _after(asked: Mapping[str, list[str]]) -> datetime:
    text = one(asked, "AFTER")
    return _NEVER if text is None else read_instant(text, of="AFTER")


def _wanted_phase(asked: Mapping[str, list[str]], known: set[str]) -> str:
    phase = (one(asked, "PHASE") or "").upper()
    if phase not in known:
        raise InvalidArgument(f"PHASE: {phase[:80]!r} is none of {', '.join(sorted(filter(None, known)))}")
    return phase


def _run_id(asked: Mapping[str, list[str]]) -> str | None:
    text = one(asked, "RUNID")
    if text is not None and (len(text) > _RUN_ID or not text.isprintable()):
        raise InvalidArgument(f"RUNID: up to {_RUN_ID} printable characters")
    return text


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidArgument(f"{name}: {text[:80]!r} is no number")
    return int(text)


def _seconds(text: str) -> float:
    """Read a time to wait; any negative number means without end (section 2.2.1.2)."""
    negative = text.startswith("-")
    seconds = _number("WAIT", text.removeprefix("-"))
    return -1.0 if negative else float(seconds)
