"""A pooler in transaction mode before PostgreSQL (PgBouncer): each transaction may meet another session.

So nothing may outlive a transaction, no prepared statement and no setting. What sessions are to be like becomes the
defaults of the role; what needs a session of its own goes past the pooler.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final

import asyncpg

from pyvospace.db.statements import QueryFile

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection

log = logging.getLogger(__name__)


class _Sql(QueryFile, file="poolers.sql"):
    lock: ClassVar[str]
    defaults: ClassVar[str]
    alteration: ClassVar[str]
    normal: ClassVar[str]
    current: ClassVar[str]


FOLLOWED: Final = ("application_name", "timezone")
"""What poolers let a client say when it connects, and pass on to each session."""


async def set_defaults(direct: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Make settings the defaults of our role in our database; give them as PostgreSQL writes them.

    Parameters
    ----------
    direct
        The DSN of PostgreSQL itself.
    """
    connection = await asyncpg.connect(direct, server_settings={"application_name": "pyvospace pooler"})
    try:
        async with connection.transaction():
            await connection.execute(_Sql.lock)
            known = {_lowered(row["setting"]) for row in await connection.fetch(_Sql.defaults)}
            for name, value in wanted.items():
                if f"{name}={value}" not in known:
                    await connection.execute(await connection.fetchval(_Sql.alteration, name, value))
        return {name: await connection.fetchval(_Sql.normal, name, value) for name, value in wanted.items()}
    finally:
        await connection.close()


def _lowered(setting: str) -> str:
    """PostgreSQL writes the name of the time zone in its own way."""
    name, _, value = setting.partition("=")
    return f"{name.lower()}={value}"


async def compare(pooled: Connection, defaults: Mapping[str, str]) -> None:
    """Tell if the pooler has a session that began before they were the defaults."""
    if not defaults:
        return
    rows = await pooled.fetch(_Sql.current, list(defaults))
    if other := sorted(row["name"] for row in rows if row["value"] != defaults[row["name"]]):
        names = ", ".join(other)
        log.warning("sessions of the pooler have other settings than their role has now (%s): RECONNECT", names)
