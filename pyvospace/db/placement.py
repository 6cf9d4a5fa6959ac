"""Where bytes are, and where more copies of them are to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.claims import Place

if TYPE_CHECKING:
    from pyvospace.db.pool import Database


class _Sql(QueryFile, file="placement.sql"):
    to_read: ClassVar[str]


async def to_read(database: Database, node: int, *, near: str) -> tuple[Place, ...]:
    """Give the servers that have the bytes of a node and are there, the best one for a site first."""
    return tuple(Place(**row) for row in await database.fetch(_Sql.to_read, node, near))
