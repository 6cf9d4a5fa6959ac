"""Versions: what data nodes held before. The functions that bring new bytes make them, as policies say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.audit import Action
from pyvospace.model.faults import NodeBusy, NodeNotFound

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import StoredNode


class _Sql(QueryFile, file="versions.sql"):
    versions: ClassVar[str]
    place: ClassVar[str]
    hold_homes: ClassVar[str]
    lock: ClassVar[str]
    has: ClassVar[str]
    restore: ClassVar[str]
    remove: ClassVar[str]
    note: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Version:
    """What a data node held before."""

    number: int
    """Counted from 1 in the order in which they were replaced."""
    size: int
    md5: bytes
    content_type: str | None
    stored_by: str
    """Name of the user who brought the bytes; empty: nobody knows."""
    modified: datetime
    """When they came."""
    replaced: datetime
    """When other bytes came in their place."""


@dataclass(frozen=True, slots=True)
class Place:
    """A server that has the bytes."""

    url: str
    storage: str


async def versions(database: Database, node: StoredNode, *, before: int, limit: int) -> list[Version]:
    """List the versions of a node whose numbers are less than `before`, the newest first."""
    return [Version(**row) for row in await database.fetch(_Sql.versions, node.id, before, limit)]


async def place(database: Database, node: StoredNode, number: int, *, near: str) -> Place | None:
    """Give a server at which a version can be read; None: none is there.

    Raises
    ------
    NodeNotFound
        There is no such version.
    """
    row = await database.fetchrow(_Sql.place, node.id, number, near)
    if row is None:
        raise _missing(number)
    return Place(row["url"], row["storage"]) if row["url"] else None


def _missing(number: int) -> NodeNotFound:
    return NodeNotFound(f"there is no version {number}")


async def restore(database: Database, caller: Caller, node: StoredNode, number: int) -> bool:
    """Let a version be what the node holds, and what it holds a version; False: something is not what it was.

    No more and no fewer bytes are kept than before, so that no quota can be in the way.

    Raises
    ------
    NodeNotFound
        There is no such version.
    NodeBusy
        Somebody is bringing other bytes.
    """

    async def work(connection: Connection) -> bool:
        return await _change(connection, caller, node, number, Action.RESTORE_VERSION)

    return await database.transact(work)


async def remove(database: Database, caller: Caller, node: StoredNode, number: int) -> bool:
    """Remove a version for ever; False: something is not what it was.

    Raises
    ------
    NodeNotFound
        There is no such version.
    """

    async def work(connection: Connection) -> bool:
        return await _change(connection, caller, node, number, Action.DELETE_VERSION)

    return await database.transact(work)


async def _change(connection: Connection, caller: Caller, node: StoredNode, number: int, action: Action) -> bool:
    await connection.execute(_Sql.hold_homes)
    held = await connection.fetchrow(
        _Sql.lock, node.id, node.parent_id, node.name, caller.id, caller.groups, caller.admin, caller.epoch
    )
    if held is None:
        return False
    if not await connection.fetchval(_Sql.has, node.id, number):
        raise _missing(number)
    if action is Action.DELETE_VERSION:
        await connection.execute(_Sql.remove, node.id, number)
    elif held["busy"]:
        raise NodeBusy("somebody is bringing other bytes at this moment")
    else:
        await connection.execute(_Sql.restore, node.id, number, caller.id)
    await connection.execute(_Sql.note, caller.id, caller.who, str(action), node.id, number)
    return True
