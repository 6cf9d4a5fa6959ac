"""Where bytes are, and where more copies of them are to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.claims import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller


class _Sql(QueryFile, file="placement.sql"):
    to_read: ClassVar[str]
    to_keep: ClassVar[str]
    keep_page: ClassVar[str]
    move_homes: ClassVar[str]
    recall: ClassVar[str]
    wake: ClassVar[str]
    recall_page: ClassVar[str]
    recalls_left: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the bytes of a storage, that were looked at."""

    last: str | None
    """Where to go on; None: these were the last."""
    homes: Sequence[int]
    """Storages of those whose home has to change."""
    places: Sequence[str]
    """Their locations there, in the same order."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """Bytes that were asked for at cold storages."""

    nodes: int
    bytes: int
    last: str | None = None
    """Path of the container to go on behind; None: this was the last."""


async def to_read(database: Database, node: int, *, near: str) -> tuple[Place, ...]:
    """Give the servers that have the bytes of a node and are there, the best one for a site first."""
    return tuple(Place(**row) for row in await database.fetch(_Sql.to_read, node, near))


async def to_keep(database: Database, *, every: float, lost_after: float) -> int | None:
    """Take a storage whose bytes are to be looked at now; None: there is none."""
    found: int | None = await database.fetchval(_Sql.to_keep, every, lost_after)
    return found


async def keep_page(database: Database, storage: int, *, behind: str, limit: int, lost_after: float) -> Page:
    """Have copies made that are missing, and turn away from spare ones."""
    row = await database.fetchrow(_Sql.keep_page, storage, behind, limit, lost_after)
    if row is None:
        raise AssertionError
    return Page(row["last"], row["homes"], row["places"])


async def move_homes(database: Database, page: Page, *, lost_after: float) -> int:
    """Make copies the homes of bytes; 0: somebody is in the way, or nothing is to be done any more."""

    async def work(connection: Connection) -> int:
        return int(await connection.fetchval(_Sql.move_homes, page.homes, page.places, lost_after))

    return await database.transact(work)


async def recall(database: Database, node: int, *, days: float) -> bool | None:
    """Have the bytes of a node brought back; None: they are in no cold storage, False: there is no room for them."""
    found: bool | None = await database.fetchval(_Sql.recall, node, days)
    return found


async def wake(database: Database) -> None:
    """Give transfers whose bytes have come back their endpoints."""
    await database.fetchval(_Sql.wake)


async def recall_page(
    database: Database, caller: Caller, container: int, *, behind: str | None, limit: int, days: float
) -> Recalled:
    """Have the bytes of some containers of a tree brought back."""
    row = await database.fetchrow(
        _Sql.recall_page, container, behind, days, limit, caller.id, caller.groups, caller.admin
    )
    return Recalled(0, 0) if row is None else Recalled(row["nodes"], int(row["bytes"]), row["last"])


async def recalls_left(database: Database, node: int) -> Recalled:
    """Count what is still to come back of a node, or of the tree below it."""
    row = await database.fetchrow(_Sql.recalls_left, node)
    return Recalled(0, 0) if row is None else Recalled(row["nodes"], int(row["bytes"]))
