"""Numbered migrations: ``sql/migrations/NNNN_name.sql``, each applied once, in a transaction of its own."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass

import asyncpg

from pyvospace.db.errors import translated
from pyvospace.db.statements import SQL

log = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_LOCK = 8412
_SESSION = {
    "application_name": "pyvospace migrate",
    # Behind a pooler the role has other defaults, which are meant for single statements.
    **dict.fromkeys(("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"), "0"),
    **dict.fromkeys(("enable_seqscan", "enable_hashjoin", "enable_mergejoin"), "on"),
    "plan_cache_mode": "auto",
}
_TABLE = """
create table if not exists migrations (
    number integer primary key, name text not null, sha256 bytea not null, applied timestamptz not null default now()
)"""


class MigrationError(Exception):
    """The database and the migrations of this release do not fit together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of the text: a step that was applied must never change."""
        return hashlib.sha256(self.sql.encode()).digest()


def known_migrations() -> list[Migration]:
    """Give the migrations of this release, in order."""
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in (SQL / "migrations").iterdir()
        if (match := _NAME.fullmatch(file.name))
    ]
    return sorted(found, key=lambda step: step.number)


async def migrate(dsn: str) -> list[str]:
    """Bring a database up to this release.

    Several processes may do so at once: one works, the others wait and find nothing to do.

    Returns
    -------
    list of str
        Names of the steps that were applied now, in order.

    Raises
    ------
    MigrationError
        A step that was applied has changed since, the database is of a later release, or its encoding is not UTF8.
    """
    with translated():
        connection = await asyncpg.connect(dsn, server_settings=_SESSION)
    try:
        if (encoding := await connection.fetchval("show server_encoding")) != "UTF8":
            raise MigrationError(
                f"the database has the encoding {encoding} and cannot hold every name; make it with UTF8"
            )
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        rows = await connection.fetch("select number, sha256 from migrations")
        return await _apply(connection, {row["number"]: row["sha256"] for row in rows})
    except asyncpg.PostgresError as error:
        hint = getattr(error, "hint", None)
        raise MigrationError(f"{error}. {hint}" if hint else str(error)) from error
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection[asyncpg.Record], applied: dict[int, bytes]) -> list[str]:
    steps = known_migrations()
    if later := applied.keys() - {step.number for step in steps}:
        raise MigrationError(f"the database is of a later release: it has migration {max(later):04}")
    done = []
    for step in steps:
        if step.number in applied:
            if applied[step.number] != step.digest:
                raise MigrationError(f"migration {step.number:04}_{step.name} has changed since it was applied")
            continue
        async with connection.transaction():
            await connection.execute(step.sql)
            await connection.execute(
                "insert into migrations (number, name, sha256) values ($1, $2, $3)", step.number, step.name, step.digest
            )
        log.info("applied migration %04d_%s", step.number, step.name)
        done.append(f"{step.number:04}_{step.name}")
    return done
