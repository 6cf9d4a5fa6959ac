"""``/async-delete``: delete what may be deleted of a tree (OpenCADC; R-EXT-003)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyvospace.db import nodes, recursive, rehearsals
from pyvospace.model.crash import crash_point
from pyvospace.model.faults import NodeNotFound, PermissionDenied
from pyvospace.model.stored import ROOT_ID
from pyvospace.server.operations.paths import approach
from pyvospace.server.policy import Right
from pyvospace.server.works.tally import PIECE, Tally

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection
    from pyvospace.model.jobs import Claimed
    from pyvospace.model.stored import StoredNode
    from pyvospace.server.context import Context


async def run(context: Context, claimed: Claimed) -> None:
    """Delete a node and what is below it, as far as the owner of the job may; count both."""
    deletion = _Deletion(context, claimed)
    await deletion.tally.settle(_work(context, claimed, deletion), Right.DELETE)


async def _work(context: Context, claimed: Claimed, deletion: _Deletion) -> None:
    try:
        node = await _target(context, claimed)
    except NodeNotFound:
        if not deletion.tally.done:
            raise
        return  # the worker before had come to the end, but for the last word
    await deletion.delete(node)


async def _target(context: Context, claimed: Claimed) -> StoredNode:
    path = context.own_path(claimed.request["parameters"]["target"])
    found = await approach(context, path)
    context.policy.require_scope(Right.DELETE, found.names)
    node = context.policy.require(Right.SEE, found)
    if node.id == ROOT_ID:
        raise PermissionDenied("the root cannot be deleted")
    return node


class _Deletion:
    """Deletes depth first. What is small goes at once, what is large or in the way is looked into."""

    def __init__(self, context: Context, claimed: Claimed) -> None:
        self.tally = Tally(context, claimed)
        self._context = context
        self._rows = rehearsals if self.tally.rehearsal else recursive

    async def delete(self, node: StoredNode) -> None:
        """Delete a node as far as possible."""
        if node.is_container:
            await self._delete_tree(node)
        else:
            await self._delete_leaves(node.parent_id or ROOT_ID, [node])

    async def _delete_tree(self, node: StoredNode) -> bool:
        """Delete a container; say whether it went."""
        small = partial(self._rows.delete_small, self._context.database, node=node, limit=PIECE, count=self._count)
        found = await self.tally.piece(lambda caller: small(caller=caller))
        if not found.refused:
            return True
        emptied = node.readable and await self._delete_children(node)
        if not self.tally.rehearsal:
            found = await self.tally.piece(lambda caller: small(caller=caller))
        elif emptied:
            last = partial(rehearsals.delete_emptied, self._context.database, node=node, count=self._count)
            found = await self.tally.piece(lambda caller: last(caller=caller))
        self.tally.refused(found)
        return not found.refused

    async def _delete_children(self, node: StoredNode) -> bool:
        """Delete what is in a container; say whether all of it went."""
        context, all_gone = self._context, True
        pages = nodes.all_children(context.database, context.caller, node, start="", limit=None, page=PIECE)
        async for page in pages:
            all_gone &= await self._delete_leaves(node.id, [child for child in page if not child.is_container])
            for child in page:
                if child.is_container:
                    all_gone &= await self._delete_tree(child)
        return all_gone

    async def _delete_leaves(self, container: int, leaves: list[StoredNode]) -> bool:
        if not leaves:
            return True
        delete = partial(self._rows.delete_leaves, self._context.database, leaves=leaves, count=self._count)
        found = await self.tally.piece(lambda caller: delete(caller=caller, container=container))
        self.tally.refused(found)
        return not found.refused

    async def _count(self, connection: Connection, number: int) -> None:
        if self.tally.done:
            crash_point("delete-mid")
        await self.tally.count(connection, number)
