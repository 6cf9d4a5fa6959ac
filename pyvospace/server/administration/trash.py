"""What users have deleted and can restore."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pyvospace.db import trash
from pyvospace.server.administration.quotas import path_of
from pyvospace.server.administration.routes import LIST, Body, Listed, Name, Needs, Route, listed
from pyvospace.server.operations import trash as operations

if TYPE_CHECKING:
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context

_NEWEST: Final = (1 << 63) - 1


class Restoration(Body):
    """Where a deleted node is to go."""

    to: Name | None = None
    """Path or URI: a container that is there, or what the node is to be called. None: where it was."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A node that can be restored."""

    id: int
    uri: str
    """Where it was."""
    type: str
    bytes: int
    """With its versions, and of a container with all that is below it."""
    nodes: int
    owner: str
    deleted_by: str | None
    deleted: datetime
    until: datetime
    """It is removed for ever then."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A node that is back."""

    uri: str


async def list_trash(context: Context, asked: Asked) -> Listed[Deleted]:
    """List what the caller has deleted and what was his, the newest first; to an administrator everything."""
    before = asked.after_number or _NEWEST
    found = await trash.entries(context.database, context.caller, before=before, limit=asked.limit)
    page = listed(found, asked.limit, lambda one: one.id)
    return Listed([_told(context, one) for one in page.items], page.next)


def _told(context: Context, one: trash.Entry) -> Deleted:
    return Deleted(
        one.id,
        str(context.uri(one.names)),
        str(one.type),
        one.bytes,
        one.nodes,
        one.owner,
        one.deleted_by or None,
        one.deleted,
        one.until,
    )


async def restore_node(context: Context, asked: Asked) -> Restored:
    """Put a node back to where it was, or to another place; who deleted it, its owner and administrators may."""
    to = None if asked.body.to is None else path_of(context, asked.body.to)
    return Restored(str(await operations.restore(context, asked.number("entry"), to)))


async def purge_node(context: Context, asked: Asked) -> None:
    """Remove a deleted node for ever, at once."""
    await operations.purge(context, asked.number("entry"))


ROUTES = (
    Route("GET", "/trash", list_trash, Listed[Deleted], query=LIST, needs=Needs.USER),
    Route("POST", "/trash/{entry}", restore_node, Restored, Restoration, needs=Needs.USER),
    Route("DELETE", "/trash/{entry}", purge_node, needs=Needs.USER),
)
