"""Numbers of the whole service, as the database knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile

if TYPE_CHECKING:
    from pyvospace.db.pool import Database


class _Sql(QueryFile, file="metrics.sql"):
    queue: ClassVar[str]
    places: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Queued:
    """Jobs of one kind that wait for a worker."""

    kind: str
    number: int
    oldest: float
    """Seconds for which the oldest has waited."""


@dataclass(frozen=True, slots=True)
class Place:
    """A storage."""

    id: int
    name: str
    state: str
    free: int
    """Bytes; -1: nobody knows. The same of `total`."""
    total: int
    silent: float
    """Seconds since its last heartbeat."""
    servers: int
    """Those that were heard of lately."""
    obsolete: int
    """Places of bytes that the sweep is to look at."""
    damages: int


async def queue(database: Database) -> list[Queued]:
    """Tell how many jobs wait."""
    return [Queued(**row) for row in await database.fetch(_Sql.queue)]


async def places(database: Database) -> list[Place]:
    """Tell what the storages are like."""
    return [Place(**row) for row in await database.fetch(_Sql.places)]
