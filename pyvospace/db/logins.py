"""Rows of those who log in: sessions, ends of tokens, wrong credentials."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import InvalidArgument

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Scope


class _Sql(QueryFile, file="logins.sql"):
    count_login: ClassVar[str]
    forgive_login: ClassVar[str]
    forget_failures: ClassVar[str]
    add_session: ClassVar[str]
    end_sessions: ClassVar[str]
    end_token: ClassVar[str]
    add_token: ClassVar[str]
    forget_tokens: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Counted:
    """How many attempts there were."""

    numbers: tuple[float, ...]
    """Not forgotten yet, this one included, by key."""
    wait: float
    """Seconds until another one is looked at; 0: this one is."""


async def count(
    database: Database, keys: Sequence[bytes], mosts: Sequence[float], *, hard: int, forget: float
) -> Counted:
    """Count an attempt for several keys.

    Parameters
    ----------
    mosts
        How many attempts each key may have; those behind the first `hard` are counted only, and never refused.
    forget
        Seconds in which as many are forgotten.
    """
    row = await database.fetchrow(_Sql.count_login, list(keys), list(mosts), hard, forget)
    assert row is not None  # noqa: S101 (for mypy: the function gives a row)
    return Counted(tuple(row["numbers"]), row["wait"])


async def forgive(database: Database, keys: Sequence[bytes]) -> None:
    """Take an attempt back, and all those of the first key."""
    await database.fetchval(_Sql.forgive_login, list(keys))


async def add_session(
    connection: Connection, user: int, digest: bytes, *, life: float, most: int
) -> tuple[int, datetime]:
    """Keep the SHA-256 of a token that is given for a password, end the oldest above `most`; give its id and its end.

    Raises
    ------
    InvalidArgument
        There is no such user any more.
    """
    row = await connection.fetchrow(_Sql.add_session, user, digest, life)
    if row is None:
        raise InvalidArgument("the user is gone")
    await connection.fetch(_Sql.end_sessions, user, most)
    return row["id"], row["expires"]


async def add_token(
    connection: Connection,
    user: int,
    name: str,
    digest: bytes,
    *,
    expires: datetime | None,
    scope: Scope | None,
    maker: int | None,
    most: int,
) -> tuple[int, datetime | None] | None:
    """Keep the SHA-256 of a token that a user makes; give its id and its end. None: he has too many.

    Parameters
    ----------
    maker
        The token with which he comes: it is not outlived, unless it was given for a password.
    """
    packed = json.dumps(scope.pack()) if scope else None
    row = await connection.fetchrow(_Sql.add_token, user, name, digest, expires, packed, maker, most)
    return (row["id"], row["expires"]) if row else None


async def end_token(connection: Connection, token: int) -> None:
    """Revoke a token, if it is still there."""
    await connection.fetchval(_Sql.end_token, token)


async def tidy(database: Database, *, batch: int) -> int:
    """Forget wrong credentials and tokens that are over; give the most rows that one of them had."""
    failures = await database.fetch(_Sql.forget_failures, batch)
    return max(len(failures), len(await database.fetch(_Sql.forget_tokens, batch)))
