"""Copies of nodes, with all that is below them: bytes get one more name, they are not copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pyvospace.db import usage
from pyvospace.db.statements import QueryFile
from pyvospace.db.usage import Usage
from pyvospace.model.faults import InvalidArgument, PermissionDenied
from pyvospace.model.uris import MAX_DEPTH

if TYPE_CHECKING:
    import asyncpg

    from pyvospace.db.nodes import Then
    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import StoredNode


class _Sql(QueryFile, file="copies.sql"):
    lock_bytes: ClassVar[str]
    copy: ClassVar[str]


async def copy(
    database: Database,
    caller: Caller,
    source: StoredNode,
    container: StoredNode,
    name: str,
    *,
    then: Then | None = None,
) -> int | None:
    """Copy a node, with all that is below it, into a container under a name; the copy belongs to the caller.

    It is taken as the tree is at one moment, and nobody who changes the tree meanwhile waits for it. A container may be
    copied into itself.

    Parameters
    ----------
    then
        What belongs to the same transaction: of a job, which may wait for others as long as whole trees take.

    Raises
    ------
    DuplicateNode
        The name is taken there.
    PermissionDenied
        The caller may not read everything below: nothing is copied.
    InvalidArgument
        Paths would become too long.
    QuotaExceeded
        It does not fit.

    Returns
    -------
    int or None
        How many nodes were made; None: something is not any more what it was.
    """

    async def work(connection: Connection) -> int | None:
        made = await _copy(connection, caller, source, container, name)
        if made is not None and then is not None:
            await then(connection)
        return made

    return await database.transact(work, tree=source.is_container or then is not None, subject=name)


async def _copy(
    connection: Connection, caller: Caller, source: StoredNode, container: StoredNode, name: str
) -> int | None:
    # In a statement before the one that reads: it must hold when that one's snapshot is taken.
    await connection.execute(_Sql.lock_bytes)
    row = await connection.fetchrow(
        _Sql.copy,
        source.id,
        source.parent_id,
        source.name,
        container.id,
        name,
        caller.id,
        caller.groups,
        caller.admin,
        caller.epoch,
        caller.who,
    )
    if row is None:
        return None
    made = _made(row)
    if row["limited"]:
        await usage.require_quotas(connection, caller, container.id, Usage(row["bytes"] or 0, made))
    return made


def _made(row: asyncpg.Record) -> int:
    if row["refusal"] == PermissionDenied.code:
        raise PermissionDenied("you may not read everything in there")
    if row["refusal"] == InvalidArgument.code:
        raise InvalidArgument(f"Paths in there would have more than {MAX_DEPTH} names")
    return int(row["number"])
