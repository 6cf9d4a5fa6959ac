"""moveNode (VOSpace 2.1, section 6.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvospace.model.crash import crash_point
from pyvospace.server.operations import trees
from pyvospace.uws import jobs
from pyvospace.uws.transfers import unpack

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection
    from pyvospace.model.jobs import Claimed
    from pyvospace.model.uris import NodeUri
    from pyvospace.server.context import Context


async def run(context: Context, claimed: Claimed) -> None:
    """Move a node; the result says where it is then, also if the client knew."""

    async def end(connection: Connection, uri: NodeUri) -> None:
        crash_point("move-mid")
        await jobs.complete(connection, claimed, [("destination", str(uri))])

    wanted = unpack(claimed.request)
    await trees.move(context, wanted.target, wanted.direction, replace=wanted.replaces, end=end)
