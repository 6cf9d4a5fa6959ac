"""The places of bytes, as administrators see and change them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import InvalidArgument, NotFound

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection, Database


class _Sql(QueryFile, file="places.sql"):
    page: ClassVar[str]
    servers: ClassVar[str]
    holdings: ClassVar[str]
    rename: ClassVar[str]
    lock: ClassVar[str]
    turn: ClassVar[str]
    let_go_copies: ClassVar[str]
    let_go_jobs: ClassVar[str]
    let_go_rest: ClassVar[str]
    forget: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Storage:
    """A place of bytes, as its servers have told last."""

    id: int
    uuid: str
    name: str
    url: str
    state: str
    """active, draining (its bytes go elsewhere) or retired."""
    labels: Sequence[str]
    cold: bool
    free: int | None
    """Bytes that still fit; None: unknown."""
    total: int | None
    last_seen: datetime
    live: bool
    """A server of it was heard of lately."""
    busy: int
    """Transfers under way."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server of a place; processes behind one URL are one."""

    url: str
    name: str
    site: str
    busy: int
    last_seen: str
    """Instant of its last heartbeat; `-infinity`: it has said that it goes."""
    live: bool


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a place keeps."""

    homes: int
    """Contents of nodes that are at home there."""
    home_bytes: int
    versions: int
    """The same of older contents."""
    version_bytes: int
    copies: int
    """Copies of what is at home elsewhere."""
    copy_bytes: int
    to_move: int
    """What has to go elsewhere before the place can be retired."""
    waiting: int
    """Copies that are to be made there, those under way included."""
    under_way: int
    bytes_done: int
    """Bytes that have come of those under way."""
    failing: int
    """Copies that could not be made the last time."""
    message: str | None
    """Why, of one of them."""
    damaged: int
    """Locations whose bytes are missing or wrong."""


async def page(database: Database, *, after: int, limit: int) -> list[Storage]:
    """List places, oldest first."""
    return [Storage(**row) for row in await database.fetch(_Sql.page, after, limit)]


async def show(database: Database, storage: int) -> tuple[Storage, list[Server], Holdings]:
    """Give all that is known of a place.

    Raises
    ------
    NotFound
        There is none of that number.
    """
    found = [one for one in await page(database, after=storage - 1, limit=1) if one.id == storage]
    if not found:
        raise NotFound(f"there is no storage {storage}")

    async def count(connection: Connection) -> Holdings:
        row = await connection.fetchrow(_Sql.holdings, storage)
        if row is None:
            raise NotFound(f"there is no storage {storage}")
        return Holdings(**row)

    servers = [
        Server(**{**row, "last_seen": str(row["last_seen"])}) for row in await database.fetch(_Sql.servers, storage)
    ]
    return found[0], servers, await database.transact(count, tree=True)


async def rename(connection: Connection, storage: int, name: str) -> None:
    """Call a place something else, until its server says again what its name is.

    Raises
    ------
    NotFound
        There is none of that number.
    """
    if await connection.fetchval(_Sql.rename, storage, name) is None:
        raise NotFound(f"there is no storage {storage}")


async def turn(connection: Connection, storage: int, state: str, *, lost_after: float) -> None:
    """Put a place into a state.

    Raises
    ------
    NotFound
        There is none of that number.
    InvalidArgument
        It is to be retired and is the only place of bytes.
    """
    row = await connection.fetchrow(_Sql.lock, storage, lost_after)
    if row is None:
        raise NotFound(f"there is no storage {storage}")
    if state == "retired":
        if row["needed"]:
            raise InvalidArgument(f"the storage {storage} keeps bytes that are nowhere else: drain it first")
        await connection.execute(_Sql.let_go_copies, storage)
    await connection.execute(_Sql.turn, storage, state)


async def forget(connection: Connection, storage: int) -> None:
    """Forget a place for ever.

    Raises
    ------
    NotFound
        There is none of that number.
    InvalidArgument
        It was heard of lately, keeps bytes, or jobs are on their way to it.
    """
    row = await connection.fetchrow(_Sql.lock, storage, 0.0)
    if row is None:
        raise NotFound(f"there is no storage {storage}")
    if row["live"]:
        raise InvalidArgument(f"the storage {storage} is there: stop its servers first")
    if row["holds"]:
        raise InvalidArgument(f"the storage {storage} keeps bytes")
    await connection.execute(_Sql.let_go_rest, storage)
    await connection.execute(_Sql.let_go_jobs, storage)
    if await connection.fetchval(_Sql.forget, storage) is None:
        raise InvalidArgument(f"jobs are on their way to the storage {storage}: abort them first")
