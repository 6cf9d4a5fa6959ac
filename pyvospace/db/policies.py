"""Policies of containers: what is done with the bytes of a container and of all below it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import InvalidArgument, NodeNotFound
from pyvospace.model.stored import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller


class _Sql(QueryFile, file="policies.sql"):
    policies: ClassVar[str]
    above: ClassVar[str]
    hold: ClassVar[str]
    lock: ClassVar[str]
    put: ClassVar[str]
    remove: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a container says; None: what the container above says."""

    label: str | None = None
    """New bytes go to storages with this label; empty: to any."""
    replicas: int | None = None
    """Copies of bytes, the first included."""
    versions: int | None = None
    """Older contents that a data node keeps."""
    trash_days: int | None = None
    """Days for which deleted nodes can be restored; 0: they are gone at once."""
    tier_days: int | None = None
    """Days after which bytes that nobody writes go to a cold storage; 0: never."""


NAMES: Final = tuple(one.name for one in fields(Policy))
DEFAULT: Final = Policy("", 1, 0, 0, 0)
"""What the root says unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A container with a policy of its own."""

    id: int
    path: tuple[str, ...]
    policy: Policy


def _policy(row: asyncpg.Record) -> Policy:
    return Policy(**{name: row[name] for name in NAMES})


async def policies(database: Database, *, after: int, limit: int) -> list[PolicyRow]:
    """List containers that have a policy of their own, in the order of their ids."""
    rows = await database.fetch(_Sql.policies, after, limit)
    return [PolicyRow(row["id"], tuple(row["names"]), _policy(row)) for row in rows]


async def above(
    connection: Connection | Database, container: int
) -> tuple[Policy, list[tuple[tuple[str, ...], Policy]]]:
    """Give the policy of a container itself, and those that hold for it, the root's first, with their paths."""
    rows = await connection.fetch(_Sql.above, container)
    own = next((_policy(row) for row in rows if row["own"]), Policy())
    return own, [(tuple(row["names"]), _policy(row)) for row in rows]


async def change(
    connection: Connection, caller: Caller, container: int, said: Mapping[str, Any], *, free: bool
) -> None:
    """Let the policy of a container say something else, of its own or (None) nothing.

    Parameters
    ----------
    said
        Values by the names of `Policy`; what is not named stays.
    free
        Also if the container does not belong to the caller.

    Raises
    ------
    NodeNotFound
        The container is gone, or has another owner by now.
    InvalidArgument
        The root would leave something open.
    """
    if await connection.fetchval(_Sql.hold, container, caller.id, free) is None:
        raise NodeNotFound("there is no such container of yours any more")
    await connection.execute(_Sql.lock)
    own, _ = await above(connection, container)
    wanted = replace(own, **said)
    if wanted == Policy():
        await connection.execute(_Sql.remove, container)
        return
    if container == ROOT_ID and None in asdict(wanted).values():
        raise InvalidArgument("there is no container above the root to inherit from: say what it is to be")
    await connection.execute(_Sql.put, container, *asdict(wanted).values())


async def remove(connection: Connection, caller: Caller, container: int, *, free: bool) -> None:
    """Take back what a container says itself; the root says the usual then.

    Raises
    ------
    NodeNotFound
        As `change`.
    """
    said = DEFAULT if container == ROOT_ID else Policy()
    await change(connection, caller, container, asdict(said), free=free)
