"""The trash: what was deleted where a policy keeps it for some days. No standard has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.db import administration, trash
from pyvospace.model.faults import ServiceBusy
from pyvospace.server.operations.paths import follow
from pyvospace.server.operations.trees import find_destination
from pyvospace.server.policy import Right

if TYPE_CHECKING:
    from pyvospace.model.uris import NodeUri
    from pyvospace.server.context import Context

PIECE: Final = 1000
"""Nodes that are removed in one transaction, about."""
_ATTEMPTS: Final = 10
"""Starts of an operation that others keep overtaking."""


async def restore(context: Context, number: int, to: tuple[str, ...] | None) -> NodeUri:
    """Put a node back to where it was; give where it is.

    Parameters
    ----------
    to
        Another place: a container that it goes into under its name, or a path that is not there yet.

    Raises
    ------
    NotFound
        There is no such entry in the caller's trash.
    ContainerNotFound, NodeNotFound
        The container is gone: say where to.
    DuplicateNode
        The name is taken.
    PermissionDenied, NodeLocked
        The caller may not write there.
    QuotaExceeded
        It does not fit into the quota of a container.
    """
    for _ in range(_ATTEMPTS):
        entry = await trash.entry(context.database, context.caller, number)
        if to is None:
            container = context.policy.require(Right.CREATE, found := await follow(context, entry.names, last=False))
            uri = context.uri(found.names)
        else:
            container, uri = await find_destination(context, to, entry.names[-1])
        if await trash.restore(context.database, context.caller, entry, container, uri.name):
            return uri
    raise ServiceBusy("others keep changing the container; try again")


async def purge(context: Context, number: int) -> None:
    """Remove an entry for ever; what is large goes in the background.

    Raises
    ------
    NotFound
        There is no such entry in the caller's trash.
    """
    context.policy.require_writable()
    entry = await trash.entry(context.database, context.caller, number)
    await administration.change(
        context.database, context.caller, lambda connection: trash.give_up(connection, context.caller, entry.id)
    )
    await trash.purge(context.database, entry.id, piece=PIECE)
