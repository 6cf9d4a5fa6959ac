"""Rows of local groups that belong to users, and what is known of anybody's groups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import NotFound

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection, Database


class _Sql(QueryFile, file="groups.sql"):
    groups: ClassVar[str]
    group: ClassVar[str]
    members: ClassVar[str]
    hand_on: ClassVar[str]
    owned: ClassVar[str]
    of_another: ClassVar[str]
    of_user: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Group:
    """A local group."""

    name: str
    owner: str | None
    """Who may change its members, besides administrators."""
    members: int
    owned: bool
    """It belongs to whoever asks."""
    joined: bool
    """He is a member."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A group that a user is in, or is told to be in."""

    uri: str
    source: str
    """``local``, or who tells it."""
    until: datetime | None
    """Not believed from here on; None: no end."""


async def groups(database: Database, *, after: str, limit: int, user: int, every: bool) -> list[Group]:
    """List groups by name, as they are for a user: all, or those that he owns or is in."""
    return [Group(**row) for row in await database.fetch(_Sql.groups, after, limit, user, every)]


async def group(database: Database, name: str, *, user: int) -> Group | None:
    """Give a group as it is for a user; None: there is none."""
    row = await database.fetchrow(_Sql.group, name, user)
    return Group(**row) if row else None


async def members(database: Database, name: str, *, after: str, limit: int) -> list[str]:
    """Name members of a group, in order."""
    return [row["name"] for row in await database.fetch(_Sql.members, name, after, limit)]


async def hand_on(connection: Connection, name: str, owner: str | None) -> None:
    """Give a group to a user, or to nobody.

    Raises
    ------
    NotFound
        There is no such user.
    """
    if await connection.fetchval(_Sql.hand_on, name, owner) is None:
        raise NotFound(f"there is no user {owner!r}")


async def owned(connection: Connection, user: str) -> int:
    """Count the groups of a user."""
    return int(await connection.fetchval(_Sql.owned, user))


async def was_of_another(connection: Connection, name: str, user: str) -> bool:
    """Say whether a group of that name was removed that was not the user's."""
    return bool(await connection.fetchval(_Sql.of_another, name, user))


async def of_user(database: Database, user: int) -> list[Membership]:
    """Give the groups of a user, and who says so."""
    return [Membership(**row) for row in await database.fetch(_Sql.of_user, user)]
