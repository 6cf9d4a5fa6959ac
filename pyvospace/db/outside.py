"""What others tell of users: who somebody is at first sight, and in which groups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile

if TYPE_CHECKING:
    from pyvospace.db.pool import Database


class _Sql(QueryFile, file="outside.sql"):
    tell_groups: ClassVar[str]
    provision: ClassVar[str]
    local_groups: ClassVar[str]


async def tell_groups(
    database: Database, user: int, source: str, uris: Sequence[str], *, told: datetime, until: datetime
) -> None:
    """Believe a source that a user is in these groups and no others until then, unless it has told something newer."""
    await database.fetchval(_Sql.tell_groups, user, source, list(uris), told, until)


async def provision(database: Database, wanted: str, derived: str, *, issuer: str, subject: str) -> str | None:
    """Make a user for a subject of a provider and give his name; None: somebody else was quicker with either.

    Parameters
    ----------
    wanted
        The name that he gets if nobody has one like it; empty: none.
    derived
        The name that he gets else.
    """
    made: str | None = await database.fetchval(_Sql.provision, wanted, derived, issuer, subject)
    return made


async def local_groups(database: Database, user: int, names: Sequence[str] | None = None) -> list[str]:
    """Name the local groups of a user, in order; of `names` only, if they are given."""
    rows = await database.fetch(_Sql.local_groups, user, None if names is None else list(names))
    return [row["name"] for row in rows]
