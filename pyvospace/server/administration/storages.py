"""The places of bytes: what is there, and how they come and go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pyvospace.db import administration, places
from pyvospace.db.places import Holdings, Server, Storage
from pyvospace.model.faults import InvalidArgument
from pyvospace.server.administration.routes import LIST, Body, Listed, Name, Route, listed

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection
    from pyvospace.server.administration.routes import Asked
    from pyvospace.server.context import Context


class StorageChanges(Body):
    """What is to be changed of a place."""

    name: Name | None = None
    state: Literal["active", "draining", "retired"] | None = None


@dataclass(frozen=True, slots=True)
class StorageDetails:
    """A place with its servers and what it keeps."""

    storage: Storage
    servers: Sequence[Server]
    holdings: Holdings


async def list_storages(context: Context, asked: Asked) -> Listed[Storage]:
    """List places of bytes, with what is free there and when they were last heard of."""
    found = await places.page(context.database, after=asked.after_number, limit=asked.limit)
    return listed(found, asked.limit, lambda one: one.id)


async def get_storage(context: Context, asked: Asked) -> StorageDetails:
    """Tell all about one place: its servers, what it keeps, and what is still to be moved or copied."""
    return StorageDetails(*await places.show(context.database, asked.number("storage")))


async def change_storage(context: Context, asked: Asked) -> None:
    """Call a place something else, or let its bytes go elsewhere, come back, or be asked for no more."""
    number, wanted = asked.number("storage"), asked.body
    if wanted.name is None and wanted.state is None:
        raise InvalidArgument("nothing is to be changed: give a name or a state")

    async def work(connection: Connection) -> None:
        if wanted.name is not None:
            await places.rename(connection, number, wanted.name)
        if wanted.state is not None:
            lost_after = context.service.settings.placement.lost_after
            await places.turn(connection, number, wanted.state, lost_after=lost_after)

    await administration.change(context.database, context.caller, work, tree=True)


async def forget_storage(context: Context, asked: Asked) -> None:
    """Forget a place that is gone and keeps no bytes."""
    number = asked.number("storage")
    await administration.change(
        context.database, context.caller, lambda connection: places.forget(connection, number), tree=True
    )


ROUTES = (
    Route("GET", "/admin/storages", list_storages, Listed[Storage], query=LIST),
    Route("GET", "/admin/storages/{storage}", get_storage, StorageDetails),
    Route("PATCH", "/admin/storages/{storage}", change_storage, body=StorageChanges),
    Route("DELETE", "/admin/storages/{storage}", forget_storage),
)
