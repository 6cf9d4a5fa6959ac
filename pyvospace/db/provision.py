"""A new PostgreSQL: its roles and its database."""

from __future__ import annotations

from dataclasses import dataclass, field

import asyncpg

STORAGE_GROUP = "pyvospace_storage"
"""Group role of the storage servers; what its members may do stands in the schema."""


@dataclass(frozen=True, slots=True)
class Login:
    """A role that may log in."""

    name: str
    password: str = field(repr=False)


async def answers(dsn: str) -> bool:
    """Tell whether the server takes work; not while it starts, recovers or stops."""
    try:
        connection = await asyncpg.connect(dsn, timeout=5)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
        return False
    await connection.close()
    return True


async def provision(dsn: str, *, database: str, owner: Login, storage: Login) -> None:
    """Make the owner's role, the role of the storage servers and the database, as far as they are missing.

    Parameters
    ----------
    dsn
        Of a superuser.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await _role(connection, STORAGE_GROUP, "nologin")
        for login in (owner, storage):
            await _role(connection, login.name, "login")
            await connection.execute(f"alter role {_quoted(login.name)} password {_text(login.password)}")
        await connection.execute(f"grant {_quoted(STORAGE_GROUP)} to {_quoted(storage.name)}")
        if not await connection.fetchval("select true from pg_database where datname = $1", database):
            await connection.execute(f"create database {_quoted(database)} owner {_quoted(owner.name)}")
    finally:
        await connection.close()


async def _role(connection: asyncpg.Connection[asyncpg.Record], name: str, kind: str) -> None:
    if not await connection.fetchval("select true from pg_roles where rolname = $1", name):
        await connection.execute(f"create role {_quoted(name)} {kind}")


def _quoted(name: str) -> str:
    """Write an identifier: statements about roles take no parameters."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
