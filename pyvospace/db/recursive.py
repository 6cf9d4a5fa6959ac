"""Changes of whole trees in pieces: each is a transaction of its own, and does what may be done of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db import nodes
from pyvospace.db.statements import QueryFile
from pyvospace.model.audit import audited
from pyvospace.model.callers import StaleCallerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import Changes, StoredNode

    Count = Callable[[Connection, int], Awaitable[None]]
    """Notes, in the transaction of a piece, how many nodes it was."""


class _Sql(QueryFile, file="recursive.sql"):
    is_large: ClassVar[str]
    delete_leaves: ClassVar[str]
    remaining: ClassVar[str]
    folders: ClassVar[str]
    set_below: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Piece:
    """What became of a piece."""

    done: int
    refused: int
    """Nodes that the caller may not change, or that are locked."""
    last: str | None = None
    """Name of the last node; None: it had none."""
    stay: tuple[int, ...] = ()
    """Ids of the first that were refused, if somebody wants to know them."""


async def delete_small(database: Database, caller: Caller, node: StoredNode, *, limit: int, count: Count) -> Piece:
    """Delete a container with all that is below it if that is no more than `limit` nodes and nothing forbids it.

    What goes into the trash may be larger: it is moved as a whole.

    If not, the container itself is what is refused.

    Raises
    ------
    StaleCallerError
        The caller is not who he was; nothing was deleted.
    """
    if await is_large(database, node, limit=limit) and not await nodes.goes_to_trash(database, node):
        return Piece(0, 1)

    async def work(connection: Connection) -> Piece:
        gone = await nodes.delete_free_tree(connection, caller, node)
        if not gone:
            return Piece(0, await remaining(connection, caller, node.parent_id, [node.id]))
        await count(connection, gone)
        return Piece(gone, 0)

    return await database.transact(work, tree=True)


async def is_large(database: Database, node: StoredNode, *, limit: int) -> bool:
    """Say whether a container and all below it are more than so many nodes."""
    return bool(await database.fetchval(_Sql.is_large, node.id, limit))


async def remaining(connection: Connection, caller: Caller, container: int | None, ids: Sequence[int]) -> int:
    """Count the nodes that are still in a container, though the caller wanted them gone."""
    row = await connection.fetchrow(_Sql.remaining, container, ids)
    if row is None:
        raise AssertionError
    check_epoch(caller, row["epoch"])
    return int(row["count"])


async def delete_leaves(
    database: Database, caller: Caller, container: int, leaves: Sequence[StoredNode], *, count: Count
) -> Piece:
    """Delete nodes in a container that are no containers, as far as the caller may.

    Raises
    ------
    StaleCallerError
        He is not who he was; nothing was deleted.
    """
    ids = sorted(leaf.id for leaf in leaves)

    async def work(connection: Connection) -> Piece:
        gone = await connection.fetchval(
            _Sql.delete_leaves, container, ids, caller.id, caller.groups, caller.admin, caller.epoch, caller.who
        )
        left = await remaining(connection, caller, container, ids)
        await count(connection, gone)
        return Piece(gone, left)

    return await database.transact(work, tree=True)


@dataclass(frozen=True, slots=True)
class Folder:
    """A container of a tree."""

    id: int
    children: int
    """How many it has, counted up to a limit."""


async def folders(database: Database, top: StoredNode, *, at_once: int, children: int) -> AsyncIterator[list[Folder]]:
    """Give the containers of a tree, each before those in it, `at_once` at a time; also if it is moved meanwhile.

    Parameters
    ----------
    children
        Children are counted up to this number; those of the top are not counted, it is given as if it had so many.
    """
    yield [Folder(top.id, children)]
    behind = ""
    while True:
        rows = await database.fetch(_Sql.folders, top.id, behind, at_once, children)
        if rows:
            yield [Folder(row["id"], row["children"]) for row in rows]
            behind = rows[-1]["place"]
        if len(rows) < at_once:
            return


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
    """Change the nodes in some containers that the caller may read, as far as he may change them.

    Parameters
    ----------
    behind, limit
        Up to so many nodes in each whose names come behind this one.
    properties
        Most that a node may have.

    Raises
    ------
    StaleCallerError
        He is not who he was; nothing was changed.
    """

    async def work(connection: Connection) -> Piece:
        row = await connection.fetchrow(
            _Sql.set_below,
            containers,
            caller.id,
            caller.groups,
            caller.admin,
            caller.epoch,
            list(changes.removed),
            json.dumps(dict(changes.properties)),
            changes.public,
            changes.group_read,
            changes.group_write,
            changes.inherit,
            changes.locked,
            changes.of_rights,
            behind,
            limit,
            properties,
            caller.who,
            audited(changes, below=True),
        )
        if row is None:
            raise AssertionError
        check_epoch(caller, row["epoch"])
        await count(connection, row["changed"])
        return Piece(row["changed"], row["seen"] - row["changed"], row["last"])

    return await database.transact(work, tree=True)


def check_epoch(caller: Caller, epoch: int) -> None:
    """Raise StaleCallerError if the caller is not who he was."""
    if not caller.anonymous and epoch != caller.epoch:
        raise StaleCallerError
