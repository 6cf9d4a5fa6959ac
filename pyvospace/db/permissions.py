"""Rows about who may do what, for those who ask why."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.stored import Rights

if TYPE_CHECKING:
    from pyvospace.db.pool import Reader


class _Sql(QueryFile, file="permissions.sql"):
    owned_groups: ClassVar[str]
    way: ClassVar[str]


async def owned_groups(reader: Reader, user: int) -> list[str]:
    """Give the URIs of the local groups that belong to a user."""
    return [row["uri"] for row in await reader.fetch(_Sql.owned_groups, user)]


async def way(reader: Reader, names: tuple[str, ...]) -> list[Rights]:
    """Give the rights of the nodes on a path, from the root down, as far as they are there."""
    return [
        Rights(
            row["owner_id"],
            row["public"],
            tuple(row["group_read"]),
            tuple(row["group_write"]),
            row["locked"],
            row["immutable"],
        )
        for row in await reader.fetch(_Sql.way, names)
    ]
