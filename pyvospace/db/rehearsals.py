"""What would come of changes of whole trees: the same questions as in `pyvospace.db.recursive`, and nothing changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Final

from pyvospace.db import nodes, recursive
from pyvospace.db.recursive import Piece
from pyvospace.db.statements import QueryFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from pyvospace.db.pool import Connection, Database
    from pyvospace.db.recursive import Count
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import Changes, StoredNode

SHOWN: Final = 5
"""Nodes that would stay as they are and are named, at the most."""


class _Sql(QueryFile, file="rehearsals.sql"):
    leaves: ClassVar[str]
    size: ClassVar[str]
    set_below: ClassVar[str]
    names: ClassVar[str]


async def delete_small(database: Database, caller: Caller, node: StoredNode, *, limit: int, count: Count) -> Piece:
    """Say what would come of `recursive.delete_small`."""
    if await recursive.is_large(database, node, limit=limit):
        return Piece(0, 1, stay=(node.id,))
    return await _delete_tree(database, caller, node, count)


async def _delete_tree(database: Database, caller: Caller, node: StoredNode, count: Count) -> Piece:
    async def work(connection: Connection) -> Piece:
        path = await nodes.free_tree(connection, caller, node)
        if path is None:
            return Piece(0, await recursive.remaining(connection, caller, node.parent_id, [node.id]), stay=(node.id,))
        number = int(await connection.fetchval(_Sql.size, path))
        await count(connection, number)
        return Piece(number, 0)

    return await database.transact(work, tree=True)


async def delete_emptied(database: Database, caller: Caller, node: StoredNode, *, count: Count) -> Piece:
    """Say whether a container would go of which all that is in it would have gone before."""

    async def work(connection: Connection) -> Piece:
        if not await nodes.is_removable(connection, caller, node):
            return Piece(0, await recursive.remaining(connection, caller, node.parent_id, [node.id]), stay=(node.id,))
        await count(connection, 1)
        return Piece(1, 0)

    return await database.transact(work, tree=True)


async def delete_leaves(
    database: Database, caller: Caller, container: int, leaves: Sequence[StoredNode], *, count: Count
) -> Piece:
    """Say what would come of `recursive.delete_leaves`."""
    ids = [leaf.id for leaf in leaves]

    async def work(connection: Connection) -> Piece:
        row = await connection.fetchrow(_Sql.leaves, container, ids, caller.id, caller.groups, caller.admin, SHOWN)
        return await _piece(connection, caller, row, count)

    return await database.transact(work, tree=True)


async def set_below(
    database: Database,
    caller: Caller,
    containers: Sequence[int],
    changes: Changes,
    *,
    behind: str,
    limit: int,
    properties: int,
    count: Count,
) -> Piece:
    """Say what would come of `recursive.set_below`."""

    async def work(connection: Connection) -> Piece:
        row = await connection.fetchrow(
            _Sql.set_below,
            containers,
            caller.id,
            caller.groups,
            caller.admin,
            list(changes.removed),
            json.dumps(dict(changes.properties)),
            changes.of_rights,
            behind,
            limit,
            properties,
            SHOWN,
        )
        return await _piece(connection, caller, row, count)

    return await database.transact(work, tree=True)


async def _piece(connection: Connection, caller: Caller, row: asyncpg.Record | None, count: Count) -> Piece:
    if row is None:
        raise AssertionError
    recursive.check_epoch(caller, row["epoch"])
    await count(connection, row["done"])
    return Piece(row["done"], row["seen"] - row["done"], row["last"], tuple(row["stay"] or ()))


async def names(database: Database, ids: Sequence[int]) -> list[tuple[str, ...]]:
    """Give the paths of nodes."""
    return [tuple(row["names"]) for row in await database.fetch(_Sql.names, list(ids))]
