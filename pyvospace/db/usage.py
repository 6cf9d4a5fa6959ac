"""What is used and how much may be: bytes and numbers of nodes, of containers, users and groups.

The counters are kept by triggers, in the transaction of what they count, as changes that are only ever added; `fold`
takes them into sums now and then. Whoever asks adds both up: the answer is right at every moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.errors import translated
from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import NodeNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller


class _Sql(QueryFile, file="usage.sql"):
    try_lock: ClassVar[str]
    lock: ClassVar[str]
    has_changed: ClassVar[str]
    fold: ClassVar[str]
    sweep: ClassVar[str]
    of_container: ClassVar[str]
    of_owner: ClassVar[str]
    check: ClassVar[str]
    correct_container: ClassVar[str]
    correct_owner: ClassVar[str]
    of_group: ClassVar[str]
    require_quotas: ClassVar[str]
    lock_quotas: ClassVar[str]
    quotas: ClassVar[str]
    add_quota: ClassVar[str]
    change_quota: ClassVar[str]
    remove_quota: ClassVar[str]
    warn: ClassVar[str]


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


@dataclass(frozen=True, slots=True)
class Subject:
    """What a quota is for: one of these."""

    container: int | None = None
    """What is below it."""
    user: int | None = None
    """What he owns."""
    group: str | None = None
    """Its URI: what its members own together."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much there may be, and is."""

    subject: Subject
    name: str
    """Path of the container, name of the user, URI of the group."""
    bytes: int | None
    """None, as for the nodes: any number."""
    nodes: int | None
    used: Usage


@dataclass(frozen=True, slots=True)
class Crossing:
    """A quota that is used by another of the per cents at which the operator wants to be told."""

    quota: Quota
    before: int
    now: int


@dataclass(frozen=True, slots=True)
class Folded:
    """What a fold has done."""

    changes: int
    quotas: Sequence[int]
    """Ids of those that may be nearer now."""


def _quota(row: asyncpg.Record) -> Quota:
    return Quota(
        Subject(row["container_id"], row["user_id"], row["group_uri"]),
        row["name"],
        row["bytes"],
        row["nodes"],
        Usage(row["used_bytes"], row["used_nodes"]),
    )


def _usage(row: asyncpg.Record | None) -> Usage:
    return Usage(row["bytes"] or 0, row["nodes"] or 0) if row else Usage(0, 0)


async def of_container(database: Database, container: int) -> Usage:
    """Give what is below a container; nothing if it is not there."""
    return _usage(await database.fetchrow(_Sql.of_container, container))


async def of_user(database: Database, user: int) -> Usage:
    """Give what a user owns."""
    return _usage(await database.fetchrow(_Sql.of_owner, user))


async def of_group(database: Database, uri: str) -> Usage:
    """Give what the members of a group own together."""
    return _usage(await database.fetchrow(_Sql.of_group, uri))


async def quotas(connection: Connection | Database, subject: Subject | None = None) -> list[Quota]:
    """Give the quota of somebody or something, if it has one; or all there are."""
    wanted = subject or Subject()
    rows = await connection.fetch(_Sql.quotas, wanted.container, wanted.user, wanted.group)
    return [_quota(row) for row in rows]


async def set_quota(
    connection: Connection,
    subject: Subject,
    *,
    bytes: int | None,  # noqa: A002 (what it is called everywhere else)
    nodes: int | None,
) -> None:
    """Set, change or (both None) remove a quota. What is there already may be more: nothing more comes then.

    Raises
    ------
    NodeNotFound
        There is no such container.
    """
    await connection.execute(_Sql.lock_quotas)
    row = await connection.fetchrow(_Sql.quotas, subject.container, subject.user, subject.group)
    if bytes is None and nodes is None:
        if row is not None:
            await connection.execute(_Sql.remove_quota, row["id"])
    elif row is not None:
        await connection.execute(_Sql.change_quota, row["id"], bytes, nodes)
    else:
        added = await connection.execute(_Sql.add_quota, subject.container, subject.user, subject.group, bytes, nodes)
        if added.endswith(" 0"):
            raise NodeNotFound("there is no such container any more")


async def set_bytes(connection: Connection, subject: Subject, most: int | None) -> None:
    """Set, change or remove the limit of bytes; that of nodes stays."""
    await connection.execute(_Sql.lock_quotas)
    known = await quotas(connection, subject)
    await set_quota(connection, subject, bytes=most, nodes=known[0].nodes if known else None)


async def require_quotas(connection: Connection, owner: Caller, container: int, more: Usage) -> None:
    """Fail unless what this transaction has brought into a container, for its owner, fits into all quotas.

    These quotas are locked until the transaction ends: nothing else is to be locked after them.

    Raises
    ------
    QuotaExceeded
        It does not: roll back.
    """
    await connection.execute(_Sql.require_quotas, container, owner.id, more.bytes, more.nodes)


async def crossings(database: Database, quotas: Sequence[int], percents: Sequence[int]) -> list[Crossing]:
    """Note how far some quotas, and those that nobody has looked at, are used; give those that crossed a threshold."""
    rows = await database.fetch(_Sql.warn, list(quotas), list(percents))
    return [Crossing(_quota(row), row["before"], row["warned"]) for row in rows]


async def has_changed(database: Database) -> bool:
    """Say whether there is anything to fold."""
    return bool(await database.fetchval(_Sql.has_changed))


async def fold(database: Database, *, limit: int, wait: bool = False) -> Folded | None:
    """Take up to `limit` changes into the sums; None: somebody changes trees at this moment.

    Parameters
    ----------
    wait
        For whoever changes trees.
    """

    async def work(connection: Connection) -> Folded | None:
        if wait:
            await connection.execute(_Sql.lock)
        elif not await connection.fetchval(_Sql.try_lock):
            return None
        row = await connection.fetchrow(_Sql.fold, limit)
        if row is None:
            raise AssertionError
        return Folded(row["changes"], row["quotas"])

    return await database.transact(work)


async def sweep_changes(database: Database) -> None:
    """Sweep out the rows of changes that were folded, which autovacuum would leave for a minute."""
    async with database.connection() as connection:
        with translated():
            await connection.execute(_Sql.sweep)


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


async def correct_usage(connection: Connection) -> list[Miscount]:
    """Correct all counters in a transaction, while others go on; give what was wrong.

    What was wrong at the moment of the check is wrong by as much later on: changes are added to it, and sums are
    changed by who holds the lock that we have.
    """
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


async def repair_usage(database: Database) -> list[Miscount]:
    """Correct all counters; give what was wrong."""
    return await database.transact(correct_usage, tree=True)
