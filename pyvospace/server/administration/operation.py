"""The service itself: its state, everybody's jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from pyvospace.db import administration
from pyvospace.db.administration import JobSummary
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.instants import read_instant
from pyvospace.model.vocabulary import Phase
from pyvospace.model.vosi import Standing, State
from pyvospace.server.administration.routes import LIST, Body, Listed, Route, Text, listed
from pyvospace.uws import jobs

if TYPE_CHECKING:
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context


STATE: Final = "/admin/state"
"""Also of a service that is offline."""


class StateChange(Body):
    """The state that is to be; what is not said is taken away."""

    state: Literal["read-write", "read-only", "offline"]
    note: Text = ""
    down_at: Text | None = None
    back_at: Text | None = None


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The state of the service."""

    state: str
    note: str
    down_at: datetime | None
    back_at: datetime | None


async def get_state(context: Context, _asked: Asked) -> ServiceState:
    """Tell the state of the service."""
    await context.service.watch.look()
    now = context.service.watch.current
    return ServiceState(now.state.word, now.note, now.down_at, now.back_at)


async def put_state(context: Context, asked: Asked) -> ServiceState:
    """Put the service into a state: every process follows at once."""
    wanted: StateChange = asked.body
    down, back = (read_instant(text) if text else None for text in (wanted.down_at, wanted.back_at))
    standing = Standing(State.parse(wanted.state), note=wanted.note, down_at=down, back_at=back)
    await context.service.watch.turn(standing, context.caller)
    return await get_state(context, asked)


async def list_jobs(context: Context, asked: Asked) -> Listed[JobSummary]:
    """List the jobs of all users, or of one, or in one phase, by their ids."""
    user, phase = asked.query.get("user"), asked.query.get("phase")
    if phase is not None and phase not in set(Phase):
        raise InvalidArgument(f"phase: there are {', '.join(Phase)}")
    if user is not None:
        await administration.user(context.database, user)
    found = await administration.jobs(context.database, user=user, phase=phase, after=asked.after, limit=asked.limit)
    return listed(found, asked.limit, lambda one: one.id)


async def abort_job(context: Context, asked: Asked) -> None:
    """Abort anybody's job; one that has ended stays as it is."""
    await administration.change(
        context.database, context.caller, lambda connection: jobs.abort_any(connection, asked.names["job"])
    )


ROUTES = (
    Route("GET", STATE, get_state, ServiceState),
    Route("PUT", STATE, put_state, ServiceState, StateChange),
    Route("GET", "/admin/jobs", list_jobs, Listed[JobSummary], query=(*LIST, "user", "phase")),
    Route("POST", "/admin/jobs/{job}/abort", abort_job),
)
