"""Rows of SSH keys, and of the tokens by which a door acts for their users."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.errors import translated
from pyvospace.db.pool import Database
from pyvospace.db.statements import QueryFile
from pyvospace.model.callers import Scope
from pyvospace.model.faults import NotFound

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection


class _Sql(QueryFile, file="ssh_keys.sql"):
    add: ClassVar[str]
    remove: ClassVar[str]
    list: ClassVar[str]
    find: ClassVar[str]
    open: ClassVar[str]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key, for lists."""

    id: int
    name: str
    fingerprint: str
    created: datetime
    last_used: datetime | None
    """To within an hour; None: never."""
    scope: Scope | None
    """None: all that the user may."""


async def add(
    connection: Connection | Database, user: str, name: str, fingerprint: str, *, scope: Scope | None = None
) -> int:
    """Let a key speak for a user; give its id.

    Raises
    ------
    NotFound
        There is no such user.
    AlreadyExists
        It speaks for somebody already.
    """
    packed = json.dumps(scope.pack()) if scope else None
    values = user, name, fingerprint, packed
    if isinstance(connection, Database):
        made = await connection.fetchval(_Sql.add, *values, subject=fingerprint)
    else:
        with translated(fingerprint):
            made = await connection.fetchval(_Sql.add, *values)
    if made is None:
        raise NotFound(f"there is no user {user!r}")
    return int(made)


async def remove(connection: Connection | Database, user: str, key: int) -> None:
    """Let a key speak for nobody; sessions that were opened with it may nothing any more.

    Raises
    ------
    NotFound
        The user has no such key.
    """
    if await connection.fetchval(_Sql.remove, user, key) is None:
        raise NotFound(f"{user!r} has no key {key}")


async def of_user(database: Database, user: str) -> list[KeyRow]:
    """List the keys of a user, oldest first."""
    return [
        KeyRow(**{**row, "scope": Scope.unpack(json.loads(row["scope"])) if row["scope"] else None})
        for row in await database.fetch(_Sql.list, user)
    ]


async def find(database: Database, user: str, fingerprint: str) -> int | None:
    """Give the id of a key that speaks for a user; None: it does not."""
    return await database.fetchval(_Sql.find, user, fingerprint)  # type: ignore[no-any-return]


async def open_session(database: Database, key: int, digest: bytes, *, life: float) -> bool:
    """Keep the SHA-256 of a token for sessions with a key; False: it speaks for nobody any more."""
    return await database.fetchval(_Sql.open, key, digest, life) is not None
