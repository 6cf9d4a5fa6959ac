"""Containers that are given to somebody, with a quota of their own; and lists of quotas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.db.usage import Usage
from pyvospace.model.faults import NotFound

if TYPE_CHECKING:
    from pyvospace.db.pool import Database


class _Sql(QueryFile, file="allocations.sql"):
    allocations: ClassVar[str]
    quotas: ClassVar[str]
    user_id: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Allocation:
    """A container that is given to somebody."""

    id: int
    path: tuple[str, ...]
    owner: str
    group_read: tuple[str, ...]
    group_write: tuple[str, ...]
    bytes: int | None
    """That there may be in it; None, as for the nodes: any number."""
    nodes: int | None
    used: Usage


@dataclass(frozen=True, slots=True)
class QuotaRow:
    """A quota, in a list."""

    id: int
    kind: str
    """container, user or group."""
    name: str
    """Path, name or URI."""
    bytes: int | None
    nodes: int | None
    used: Usage


async def allocations(database: Database, *, roots: Sequence[int], after: int, limit: int) -> list[Allocation]:
    """List containers that have a quota of their own, or are in one of the roots, in the order of their ids."""
    return [
        Allocation(
            row["id"],
            tuple(row["names"]),
            row["owner"],
            tuple(row["group_read"]),
            tuple(row["group_write"]),
            row["bytes"],
            row["nodes"],
            Usage(row["used_bytes"], row["used_nodes"]),
        )
        for row in await database.fetch(_Sql.allocations, after, limit, list(roots))
    ]


async def quotas(database: Database, *, after: int, limit: int) -> list[QuotaRow]:
    """List quotas, oldest first."""
    return [
        QuotaRow(
            row["id"],
            row["kind"],
            row["name"],
            row["bytes"],
            row["nodes"],
            Usage(row["used_bytes"] or 0, row["used_nodes"] or 0),
        )
        for row in await database.fetch(_Sql.quotas, after, limit)
    ]


async def user_id(database: Database, name: str) -> int:
    """Give the id of a user, disabled or not.

    Raises
    ------
    NotFound
        There is none of that name.
    """
    found: int | None = await database.fetchval(_Sql.user_id, name)
    if found is None:
        raise NotFound(f"there is no user {name!r}")
    return found
