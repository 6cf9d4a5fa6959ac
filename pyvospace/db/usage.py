"""What is used and how much may be: bytes and numbers of nodes, of containers, users and groups.

The counters are kept by triggers, in the transaction of what they count, as changes that are only ever added; `fold`
takes them into sums now and then. Whoever asks adds both up: the answer is right at every moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile

if TYPE_CHECKING:
    import asyncpg

    from pyvospace.db.pool import Connection, Database


class _Sql(QueryFile, file="usage.sql"):
    try_lock: ClassVar[str]
    lock: ClassVar[str]
    fold: ClassVar[str]
    of_container: ClassVar[str]
    of_owner: ClassVar[str]
    check: ClassVar[str]
    correct_container: ClassVar[str]
    correct_owner: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a container: what is below it; of a user: what he owns; of a group: what its members own."""

    bytes: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Miscount:
    """A counter that is not the sum of the tree."""

    of_container: bool
    """Or else of a user."""
    id: int
    counted: Usage
    real: Usage


def _usage(row: asyncpg.Record | None) -> Usage:
    return Usage(row["bytes"] or 0, row["nodes"] or 0) if row else Usage(0, 0)


async def of_container(database: Database, container: int) -> Usage:
    """Give what is below a container; nothing if it is not there."""
    return _usage(await database.fetchrow(_Sql.of_container, container))


async def of_user(database: Database, user: int) -> Usage:
    """Give what a user owns."""
    return _usage(await database.fetchrow(_Sql.of_owner, user))


async def fold(database: Database, *, limit: int, wait: bool = False) -> int | None:
    """Take up to `limit` changes into the sums; give how many they were, None: somebody changes trees.

    Parameters
    ----------
    wait
        For whoever changes trees.
    """

    async def work(connection: Connection) -> int | None:
        if wait:
            await connection.execute(_Sql.lock)
        elif not await connection.fetchval(_Sql.try_lock):
            return None
        return int(await connection.fetchval(_Sql.fold, limit))

    return await database.transact(work)


async def check_usage(connection: Connection | Database) -> list[Miscount]:
    """Compare all counters with the tree, as of one moment; it reads every node."""
    return [
        Miscount(
            row["of_container"],
            row["id"],
            Usage(row["bytes"], row["nodes"]),
            Usage(row["real_bytes"], row["real_nodes"]),
        )
        for row in await connection.fetch(_Sql.check)
    ]


async def repair_usage(database: Database) -> list[Miscount]:
    """Correct all counters, while others go on; give what was wrong.

    What was wrong at the moment of the check is wrong by as much later on: changes are added to it, and sums are
    changed by who holds the lock that we have.
    """

    async def work(connection: Connection) -> list[Miscount]:
        await connection.execute(_Sql.lock)
        found = await check_usage(connection)
        for one in found:
            await connection.execute(
                _Sql.correct_container if one.of_container else _Sql.correct_owner,
                one.id,
                one.real.bytes - one.counted.bytes,
                one.real.nodes - one.counted.nodes,
            )
        return found

    return await database.transact(work, tree=True)
