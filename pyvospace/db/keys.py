"""Keys that sign endpoints: made here, read by storage servers through their view."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, ClassVar

from pyvospace.db.statements import QueryFile

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection, Database


class _Sql(QueryFile, file="keys.sql"):
    newest: ClassVar[str]
    lock: ClassVar[str]
    insert: ClassVar[str]
    forget: ClassVar[str]
    visible: ClassVar[str]


async def signing_key(database: Database, *, rotation: float, life: float) -> tuple[str, bytes]:
    """Give the key that signs now, and make a new one if the newest is too old.

    Parameters
    ----------
    rotation
        Seconds after which a key signs no more.
    life
        Longest life of an endpoint in seconds: a key is kept that long after it signed last.
    """

    async def work(connection: Connection) -> tuple[str, bytes]:
        await connection.execute(_Sql.lock)
        row = await connection.fetchrow(_Sql.newest, rotation)
        if row:
            return row["id"], row["secret"]
        name, secret = secrets.token_hex(8), secrets.token_bytes(32)
        await connection.execute(_Sql.insert, name, secret)
        await connection.execute(_Sql.forget, rotation + life + 3600)
        return name, secret

    row = await database.fetchrow(_Sql.newest, rotation)
    return (row["id"], row["secret"]) if row else await database.transact(work)


async def verification_keys(database: Database) -> dict[str, bytes]:
    """Give all keys by name, as the role of storage servers may see them."""
    return {row["id"]: row["secret"] for row in await database.fetch(_Sql.visible)}
