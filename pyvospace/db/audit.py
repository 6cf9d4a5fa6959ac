"""Rows of the audit log, besides those that a change writes by itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Final

from pyvospace.db.statements import QueryFile
from pyvospace.model.audit import Filters, Record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import asyncpg

    from pyvospace.db.pool import Database

_PAGE: Final = 2000
"""Rows that are looked at in one statement."""
_BATCH: Final = 10_000
_BEGINNING: Final = datetime(1, 1, 2, tzinfo=UTC)


class _Sql(QueryFile, file="audit.sql"):
    note: ClassVar[str]
    note_bytes: ClassVar[str]
    prune: ClassVar[str]
    confirm: ClassVar[str]
    page: ClassVar[str]
    own_page: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows somebody wants to see."""

    path: tuple[str, ...] | None
    """Of the node there, whatever it was called before, and of what was there before it; None: of any."""
    filters: Filters


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What is known of a question before the first row is read."""

    epoch: int
    moment: datetime
    user_id: int | None
    """Who is asked about; None: there is no such user."""
    node_id: int | None
    """What is at the path now; None: nothing."""


async def note(database: Database, entries: str) -> None:
    """Write refusals, logins and reads that a metadata server has gathered, as JSON."""
    await database.fetchval(_Sql.note, entries)


async def note_bytes(database: Database, storage: UUID, entries: str) -> None:
    """Write what a storage server has gathered."""
    await database.fetchval(_Sql.note_bytes, storage, entries)


async def prune(database: Database, *, days: int) -> int:
    """Take some rows away that are older, oldest first; give their number, which is 0 if there are none left."""
    return int(await database.fetchval(_Sql.prune, days, _BATCH))


async def confirm(database: Database, wanted: Wanted) -> Confirmed:
    """Find out what a question is about."""
    row = await database.fetchrow(_Sql.confirm, wanted.filters.user, wanted.path)
    assert row is not None  # noqa: S101 (for mypy: there is a space)
    return Confirmed(**row)


async def records(
    database: Database, wanted: Wanted, confirmed: Confirmed, *, viewer: int | None
) -> AsyncIterator[list[Record]]:
    """Give rows page by page, oldest first, up to the moment at which the question was confirmed.

    No connection is held between two pages. A page may be empty: so many rows were looked at, and none of them wanted.

    Parameters
    ----------
    viewer
        The user who asks, and sees what is his; None: an administrator, who sees everything.
    """
    filters = wanted.filters
    if viewer is None and filters.user is not None and confirmed.user_id is None:
        return
    end = min(filters.before or confirmed.moment, confirmed.moment)
    place: tuple[datetime, int] | None = (filters.after or _BEGINNING, -1)
    left = filters.limit
    while place is not None and (left is None or left > 0):
        rows = await _page(database, wanted, confirmed, place, end, viewer)
        found = [_record(row) for row in rows if row["id"] is not None][:left]
        left = None if left is None else left - len(found)
        place = (rows[0]["last_at"], rows[0]["last_id"]) if rows[0]["seen"] == _PAGE else None
        yield found


async def _page(  # noqa: PLR0917 (what one statement takes)
    database: Database,
    wanted: Wanted,
    confirmed: Confirmed,
    place: tuple[datetime, int],
    end: datetime,
    viewer: int | None,
) -> list[asyncpg.Record]:
    path = None if wanted.path is None else "/" + "/".join(wanted.path)
    of = wanted.filters
    filters = of.action, of.outcome, path, confirmed.node_id, of.below
    if viewer is None:
        return await database.fetch(_Sql.page, *place, end, confirmed.user_id, _PAGE, *filters)
    return await database.fetch(_Sql.own_page, *place, end, viewer, _PAGE, *filters, of.user)


def _record(row: asyncpg.Record) -> Record:
    return Record(
        at=row["at"],
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        credential=row["credential"],
        remote=row["remote"],
        request=row["request"],
        action=row["action"],
        node_id=row["node_id"],
        path=row["path"],
        owner_id=row["owner_id"],
        outcome=row["outcome"],
        details=json.loads(row["details"]),
    )
