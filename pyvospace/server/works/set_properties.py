"""``/async-setprops``: set properties of a node and of all that is below it (OpenCADC; R-EXT-004)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pyvospace.db import recursive, rehearsals
from pyvospace.db.recursive import Piece
from pyvospace.model.crash import crash_point
from pyvospace.model.faults import NotAuthenticated, PermissionDenied
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType
from pyvospace.server.operations import nodes
from pyvospace.server.policy import Right
from pyvospace.server.properties import changes_of_all
from pyvospace.server.works.tally import PIECE, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyvospace.db.pool import Connection
    from pyvospace.db.recursive import Folder
    from pyvospace.model.callers import Caller
    from pyvospace.model.jobs import Claimed
    from pyvospace.model.stored import Changes, StoredNode
    from pyvospace.server.context import Context

_FOLDERS: Final = 500
"""Containers that are looked up at once."""
_ALL: Final = 2**31 - 1


def pack(document: Node) -> dict[str, Any]:
    """Give the JSON of a document: what stands in it besides properties is none of this operation."""
    properties = [[one.uri, one.value, one.read_only] for one in document.properties]
    return {"uri": str(document.uri), "type": str(document.type), "properties": properties}


def unpack(packed: dict[str, Any]) -> Node:
    """Read what `pack` gave."""
    properties = tuple(Property(uri, value, read_only=fixed) for uri, value, fixed in packed["properties"])
    return Node(NodeUri.parse(packed["uri"]), NodeType(packed["type"]), properties)


async def run(context: Context, claimed: Claimed) -> None:
    """Set properties of a node and of all below it, as far as the owner of the job may; count both.

    Locks are no hindrance. A worker that takes over begins anew: what is set already is set once more.
    """
    document = unpack(claimed.request["node"])
    changes = changes_of_all(document.properties)
    path = context.own_path(str(document.uri))
    right = Right.OWN if changes.of_rights else Right.SET
    context.policy.require_scope(right, path)
    node = await nodes.get(context, path)
    claimed.progress.files_done = 0
    setting = _Setting(context, claimed, changes)
    await setting.tally.settle(setting.set_all(path, document, node), right)


class _Setting:
    """Sets the same of many nodes."""

    def __init__(self, context: Context, claimed: Claimed, changes: Changes) -> None:
        self.tally = Tally(context, claimed)
        self._context = context
        self._changes = changes

    async def set_all(self, path: tuple[str, ...], document: Node, node: StoredNode) -> None:
        """Set the properties of the node, and of all that is below it."""
        await self._set_top(path, document, node)
        if node.is_container:
            await self._set_below(node)

    async def _set_top(self, path: tuple[str, ...], document: Node, node: StoredNode) -> None:
        change = nodes.check_properties if self.tally.rehearsal else nodes.set_properties

        async def work(caller: Caller) -> Piece:
            try:
                await change(replace(self._context, caller=caller), path, document)
            except (PermissionDenied, NotAuthenticated):
                return Piece(0, 1, stay=(node.id,) if self.tally.rehearsal else ())
            return Piece(1, 0)

        self.tally.refused(await self.tally.piece(work))

    async def _set_below(self, top: StoredNode) -> None:
        async for found in recursive.folders(self._context.database, top, at_once=_FOLDERS, children=PIECE + 1):
            for folder in found:
                if folder.children > PIECE:
                    await self._set_page_by_page(folder)
            for some in _pieces(found):
                await self._set(some, behind="", limit=_ALL)

    async def _set_page_by_page(self, folder: Folder) -> None:
        behind: str | None = ""
        while behind is not None:
            behind = (await self._set([folder], behind=behind, limit=PIECE)).last

    async def _set(self, folders: Sequence[Folder], *, behind: str, limit: int) -> Piece:
        work = partial(
            (rehearsals if self.tally.rehearsal else recursive).set_below,
            self._context.database,
            containers=[folder.id for folder in folders],
            changes=self._changes,
            behind=behind,
            limit=limit,
            properties=self._context.service.settings.limits.properties,
            count=self._count,
        )
        found = await self.tally.piece(lambda caller: work(caller=caller))
        self.tally.refused(found)
        return found

    async def _count(self, connection: Connection, number: int) -> None:
        if self.tally.done > 1:
            crash_point("properties-mid")
        await self.tally.count(connection, number)


def _pieces(folders: Sequence[Folder]) -> list[list[Folder]]:
    """Put containers with few children together, in order; those with many are not among them."""
    pieces: list[list[Folder]] = []
    size = PIECE
    for folder in folders:
        if not 0 < folder.children <= PIECE:
            continue
        if size + folder.children > PIECE:
            pieces.append([])
            size = 0
        pieces[-1].append(folder)
        size += folder.children
    return pieces
