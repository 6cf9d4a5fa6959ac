"""What workers of the metadata servers do: one module for each kind of job, each with a function ``run``.

A work ends its job itself, by `pyvospace.uws.jobs.complete` in the transaction of its effect, or raises a Fault. It is
done with the rights that the job's owner has now, and once more if they change meanwhile, or if others held the same
nodes for too long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from pyvospace.model.audit import Action
from pyvospace.model.callers import StaleCallerError
from pyvospace.model.faults import Fault, ServiceBusy
from pyvospace.model.jobs import Kind
from pyvospace.server.context import Context
from pyvospace.server.works import copy, delete, move, recall, search, set_properties
from pyvospace.server.works.owner import owner_of
from pyvospace.server.works.persisting import persist

if TYPE_CHECKING:
    from pyvospace.model.jobs import Claimed
    from pyvospace.server.context import Service
    from pyvospace.uws.runner import Work

_STARTS: Final = 5
"""Starts of a work whose owner turned out to have changed."""

WORKS: Final[Mapping[Kind, Callable[[Context, Claimed], Awaitable[None]]]] = {
    Kind.MOVE: move.run,
    Kind.COPY: copy.run,
    Kind.DELETE: delete.run,
    Kind.SET_PROPERTIES: set_properties.run,
    Kind.SEARCH: search.run,
    Kind.RECALL: recall.run,
}
_ACTIONS: Final[Mapping[Kind, Action]] = {
    Kind.MOVE: Action.MOVE_NODE,
    Kind.COPY: Action.COPY_NODE,
    Kind.DELETE: Action.DELETE_NODE,
    Kind.SET_PROPERTIES: Action.SET_NODE,
    Kind.SEARCH: Action.SEARCH,
    Kind.RECALL: Action.TRANSFER,
}
"""What the audit log calls it if a job is refused."""


def works(service: Service) -> dict[str, Work]:
    """Give what a worker does, by the kind of the job."""
    return {str(kind): partial(_run, service, work) for kind, work in WORKS.items()}


async def _run(service: Service, work: Callable[[Context, Claimed], Awaitable[None]], claimed: Claimed) -> None:
    await persist(partial(_begin, service, work, claimed))


async def _begin(service: Service, work: Callable[[Context, Claimed], Awaitable[None]], claimed: Claimed) -> None:
    for _ in range(_STARTS):
        try:
            context = Context(service, await owner_of(service, claimed))
            await _noting(work, context, claimed)
        except StaleCallerError:
            continue
        return
    raise ServiceBusy("users and groups are changing; try again")


async def _noting(work: Callable[[Context, Claimed], Awaitable[None]], context: Context, claimed: Claimed) -> None:
    try:
        await work(context, claimed)
    except Fault as fault:
        context.note_refusal(fault, _ACTIONS[Kind(claimed.kind)])
        raise
