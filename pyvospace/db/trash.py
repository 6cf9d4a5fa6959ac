"""The trash: nodes that were deleted and can be restored, where policies of containers say so.

A tree goes there and comes back by the means of a move, so that its size matters little and all that belongs to it
stays. No path leads to the container 0 and no way from the root, so that every statement which asks for the way finds
nothing. What is removed for ever is first given up, which nobody can take back, and then deleted piece by piece: who is
killed in between leaves the rest to others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final

from pyvospace.db import nodes
from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import NotFound
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    import asyncpg

    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import StoredNode

_CONTAINER: Final = 0
"""Whose children what was deleted are."""


class _Sql(QueryFile, file="trash.sql"):
    entries: ClassVar[str]
    entry: ClassVar[str]
    hold: ClassVar[str]
    restore: ClassVar[str]
    give_up: ClassVar[str]
    give_up_due: ClassVar[str]
    take: ClassVar[str]
    purge_leaves: ClassVar[str]
    purge_rest: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """A node that was deleted and can be restored."""

    id: int
    node_id: int
    names: tuple[str, ...]
    """That led to it."""
    type: NodeType
    owner: str
    deleted_by: str
    """Name of a user; empty: of nobody who had shown who he is."""
    deleted: datetime
    until: datetime
    """It can be restored until then."""
    bytes: int
    """With its versions, and of a container with all that is below it."""
    nodes: int
    """The node, and all that is below it."""


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(**{**row, "names": tuple(row["names"]), "type": NodeType(row["type"])})


async def entries(database: Database, caller: Caller, *, before: int, limit: int) -> list[Entry]:
    """List what the caller has deleted, and what he owns, or to an administrator everything; the newest first."""
    return [_entry(row) for row in await database.fetch(_Sql.entries, caller.id, caller.admin, before, limit)]


async def entry(database: Database, caller: Caller, number: int) -> Entry:
    """Give an entry of the caller.

    Raises
    ------
    NotFound
        There is none, or it is not his.
    """
    row = await database.fetchrow(_Sql.entry, caller.id, caller.admin, number)
    if row is None:
        raise _missing(number)
    return _entry(row)


def _missing(number: int) -> NotFound:
    return NotFound(f"there is no entry {number} in your trash")


async def restore(database: Database, caller: Caller, found: Entry, container: StoredNode, name: str) -> bool:
    """Put a node from the trash into a container, with all that is below it; False: something is not what it was.

    Raises
    ------
    NotFound
        Somebody was quicker, or the time is over.
    DuplicateNode
        The name is taken there.
    InvalidArgument
        Paths would have too many names there.
    QuotaExceeded
        It does not fit into a quota of a container.
    """

    async def work(connection: Connection) -> bool:
        if found.type is NodeType.CONTAINER:
            await nodes.take_turn(connection)
        if not await nodes.share(connection, container.id):
            return False
        held = await connection.fetchrow(_Sql.hold, found.id)
        if held is None:
            raise _missing(found.id)
        if held["epoch"] != caller.epoch or not await nodes.is_enterable(connection, caller, container):
            return False
        if found.type is NodeType.CONTAINER:
            await nodes.turn(connection, found.node_id, _CONTAINER, container)
        await connection.execute(_Sql.restore, found.id, container.id, name, caller.id, caller.who)
        return True

    return await database.transact(work, tree=found.type is NodeType.CONTAINER, subject=name)


async def give_up(connection: Connection, caller: Caller, number: int) -> None:
    """Begin to remove an entry: it cannot be restored from here on."""
    await connection.execute(_Sql.give_up, number, caller.id, caller.who)


async def give_up_due(database: Database, *, limit: int) -> list[int]:
    """Begin so with some of the entries whose time is over; give those, and some that are given up already."""
    return [row["id"] for row in await database.fetch(_Sql.give_up_due, limit)]


async def purge(database: Database, number: int, *, piece: int) -> bool:
    """Remove up to about `piece` nodes of an entry that is given up; False: nothing of it is left, or others do it."""

    async def work(connection: Connection) -> bool:
        await nodes.take_turn(connection)
        node = await connection.fetchval(_Sql.take, number)
        if node is None:
            return False
        path = await nodes.place_of(connection, node)
        if path is not None:
            if await connection.fetchval(_Sql.purge_leaves, path, piece) == piece:
                return True
            await nodes.lock_tree(connection, path)
        await connection.fetchval(_Sql.purge_rest, node, path)
        return False

    return await database.transact(work, tree=True)
