"""Rows of users, tokens, groups and the space itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pyvospace.db.errors import translated
from pyvospace.db.pool import Database
from pyvospace.db.statements import QueryFile
from pyvospace.model.callers import NOBODY, Caller, Scope, limited
from pyvospace.model.faults import InvalidArgument, NotFound

if TYPE_CHECKING:
    import asyncpg

    from pyvospace.db.pool import Connection


class _Sql(QueryFile, file="identities.sql"):
    by_token: ClassVar[str]
    touch_token: ClassVar[str]
    by_identity: ClassVar[str]
    add_identity: ClassVar[str]
    remove_identity: ClassVar[str]
    identities: ClassVar[str]
    by_name: ClassVar[str]
    by_id: ClassVar[str]
    add_user: ClassVar[str]
    set_password: ClassVar[str]
    set_disabled: ClassVar[str]
    set_admin: ClassVar[str]
    add_token: ClassVar[str]
    tokens: ClassVar[str]
    revoke_token: ClassVar[str]
    add_group: ClassVar[str]
    remove_group: ClassVar[str]
    add_member: ClassVar[str]
    remove_member: ClassVar[str]
    known: ClassVar[str]
    space: ClassVar[str]
    epoch: ClassVar[str]
    make_space: ClassVar[str]
    set_group_prefixes: ClassVar[str]
    make_root: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Space:
    """The row of the space."""

    authority: str
    group_prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token, for lists."""

    id: int
    name: str
    created: datetime
    expires: datetime | None
    last_used: datetime | None
    """To within an hour; None: never."""
    scope: Scope | None
    """None: all that the user may."""


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """A name under which others know a user."""

    id: int
    kind: str
    """oidc or x509."""
    issuer: str
    subject: str
    created: datetime


def _caller(row: asyncpg.Record) -> Caller:
    return Caller(
        id=row["id"],
        name=row["name"],
        admin=row["admin"],
        groups=tuple(row["groups"]),
        epoch=row["epoch"],
        expires=row["expires"],
    )


async def by_token(database: Database, digest: bytes) -> Caller | None:
    """Find who holds the token with this SHA-256; None: nobody, or not any more."""
    row = await database.fetchrow(_Sql.by_token, digest)
    if row is None:
        return None
    if row["idle"]:
        await database.fetchrow(_Sql.touch_token, row["token_id"])
    caller = replace(_caller(row), token_id=row["token_id"], credential=f"token {row['token_id']} {row['label']}")
    return limited(caller, _scope(row["scope"]))


def _scope(packed: str | None) -> Scope | None:
    return Scope.unpack(json.loads(packed)) if packed else None


async def by_identity(database: Database, kind: str, issuer: str, subject: str) -> tuple[Caller, int] | None:
    """Find who is known by that name to an issuer, and the id of this identity; None: nobody, or he is disabled."""
    row = await database.fetchrow(_Sql.by_identity, kind, issuer, subject)
    return (_caller(row), row["identity"]) if row else None


async def _named(connection: Connection | Database, name: str, sql: str, *values: object) -> Any:
    """Run a statement that makes something of a name; what is wrong with that is told of the name."""
    if isinstance(connection, Database):
        return await connection.fetchval(sql, *values, subject=name)
    with translated(name):
        return await connection.fetchval(sql, *values)


async def add_identity(connection: Connection | Database, user: str, kind: str, issuer: str, subject: str) -> int:
    """Let a user be known by a name to an issuer; give the id of the identity.

    Raises
    ------
    NotFound
        There is no such user.
    AlreadyExists
        Somebody is known by that name already.
    """
    made = await _named(connection, subject, _Sql.add_identity, user, kind, issuer, subject)
    if made is None:
        raise NotFound(f"there is no user {user!r}")
    return int(made)


async def remove_identity(connection: Connection | Database, user: str, identity: int) -> None:
    """Unlink an identity; whoever shows it is refused from the next request on.

    Raises
    ------
    NotFound
        The user has no such identity.
    """
    if await connection.fetchval(_Sql.remove_identity, user, identity) is None:
        raise NotFound(f"{user!r} has no identity {identity}")


async def identities(database: Database, user: str) -> list[IdentityRow]:
    """List the identities of a user, oldest first."""
    return [IdentityRow(**row) for row in await database.fetch(_Sql.identities, user)]


async def by_name(database: Database, name: str) -> tuple[Caller, str | None] | None:
    """Find a user and his password's hash; None: there is none, or he is disabled."""
    row = await database.fetchrow(_Sql.by_name, name)
    return (_caller(row), row["password"]) if row else None


async def by_id(database: Database, user: int, *, token: int | None = None) -> Caller | None:
    """Find a user whose jobs are run; None: he is disabled, or the token by which he made them is revoked."""
    row = await database.fetchrow(_Sql.by_id, user, token)
    return _caller(row) if row else None


async def has_user(database: Database, name: str) -> bool:
    """Say whether there is a user of that name, disabled or not."""
    row = await database.fetchrow(_Sql.known, "", name)
    return bool(row and row["user"])


async def space(database: Database) -> Space | None:
    """Give the row of the space; None before it was made."""
    row = await database.fetchrow(_Sql.space)
    return Space(row["authority"], tuple(row["group_prefixes"])) if row else None


async def epoch(database: Database) -> int:
    """Give the epoch of the catalogue (see `pyvospace.model.callers`)."""
    return int(await database.fetchval(_Sql.epoch))


async def make_space(database: Database, made: Space) -> None:
    """Make the space unless there is one, and let it know its group prefixes."""
    async with database.connection() as connection:
        with translated():
            await connection.execute(_Sql.make_space, made.authority, list(made.group_prefixes))
            await connection.execute(_Sql.set_group_prefixes, list(made.group_prefixes))


async def make_root(database: Database, owner: int) -> None:
    """Make the root container unless there is one."""
    await database.fetchrow(_Sql.make_root, owner)


async def add_user(connection: Connection | Database, name: str, *, password: str | None, admin: bool) -> None:
    """Add a user with the hash of a password, or none.

    Raises
    ------
    AlreadyExists
        There is one of that name.
    InvalidArgument
        The name is not allowed.
    """
    if name == NOBODY:
        raise InvalidArgument(f"{name!r} stands for whoever is not logged in: take another name")
    await _named(connection, name, _Sql.add_user, name, password, admin)


async def change_user(
    connection: Connection | Database,
    name: str,
    *,
    password: str | None = None,
    disabled: bool | None = None,
    admin: bool | None = None,
) -> None:
    """Change what is given.

    Raises
    ------
    NotFound
        There is no such user.
    """
    changes = ((_Sql.set_password, password), (_Sql.set_disabled, disabled), (_Sql.set_admin, admin))
    for sql, value in changes:
        if value is not None and await connection.fetchval(sql, name, value) is None:
            raise NotFound(f"there is no user {name!r}")


async def add_token(
    connection: Connection | Database,
    user: str,
    label: str,
    digest: bytes,
    expires: datetime | None,
    *,
    scope: Scope | None = None,
) -> int:
    """Keep the SHA-256 of a new token.

    Raises
    ------
    NotFound
        There is no such user, or he is disabled.
    """
    packed = json.dumps(scope.pack()) if scope else None
    made = await connection.fetchval(_Sql.add_token, user, label, digest, expires, packed)
    if made is None:
        raise NotFound(f"there is no user {user!r} who could have a token")
    return int(made)


async def tokens(database: Database, user: str) -> list[TokenRow]:
    """List the tokens of a user, oldest first.

    Raises
    ------
    NotFound
        There is no such user.
    """
    found = [token_row(row) for row in await database.fetch(_Sql.tokens, user)]
    if not found and not await has_user(database, user):
        raise NotFound(f"there is no user {user!r}")
    return found


def token_row(row: asyncpg.Record) -> TokenRow:
    """Read a token for a list."""
    return TokenRow(**{**row, "scope": _scope(row["scope"])})


async def revoke_token(connection: Connection | Database, user: str, token: int) -> None:
    """Revoke a token; it is refused from the next request on.

    Raises
    ------
    NotFound
        The user has no such token.
    """
    if await connection.fetchval(_Sql.revoke_token, user, token) is None:
        raise NotFound(f"{user!r} has no token {token}")


async def add_group(connection: Connection | Database, name: str, *, owner: str | None = None) -> None:
    """Add a local group, of a user or of nobody.

    Raises
    ------
    AlreadyExists
        There is one of that name.
    InvalidArgument
        The name is not allowed.
    NotFound
        There is no such user.
    """
    if await _named(connection, name, _Sql.add_group, name, owner) is None:
        raise NotFound(f"there is no user {owner!r}")


async def remove_group(connection: Connection | Database, name: str) -> None:
    """Remove a group; what it was allowed nobody is allowed by it any more.

    Raises
    ------
    NotFound
        There is no such group.
    """
    if await connection.fetchval(_Sql.remove_group, name) is None:
        raise NotFound(f"there is no group {name!r}")


async def change_member(connection: Connection | Database, group: str, user: str, *, add: bool) -> bool:
    """Add a user to a group, or take him out; False: he was there already, or was not.

    Raises
    ------
    NotFound
        There is no such group or user.
    """
    known = await connection.fetchrow(_Sql.known, group, user)
    if not known or not known["group"]:
        raise NotFound(f"there is no group {group!r}")
    if not known["user"]:
        raise NotFound(f"there is no user {user!r}")
    return await connection.fetchval(_Sql.add_member if add else _Sql.remove_member, group, user) is not None
