from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace

import asyncpg
import pytest

from pyvospace.db import migrations
from pyvospace.db.migrations import Migration, MigrationError, known_migrations, migrate
from pyvospace.db.statements import SQL, read_statements
from pyvospace.model.faults import ServiceBusy
from pyvospace.supervisor.data import DATABASE
from tests.support.postgres import PostgresServer

SCHEMA = (SQL / "schema.sql").read_text(encoding="utf-8")
QUERIES = sorted(file.name for file in (SQL / "queries").iterdir())

CATALOGS = {
    "extensions": "select extname from pg_extension",
    "schemas": "select nspname, nspacl::text from pg_namespace where nspname !~ '^pg_(toast|temp)'",
    "relations": """
        select n.nspname, c.relname, c.relkind, c.relpersistence, c.relacl::text, c.reloptions::text,
               case when c.relkind = 'v' then pg_get_viewdef(c.oid) end
          from pg_class c join pg_namespace n on n.oid = c.relnamespace""",
    "columns": """
        select n.nspname, c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.attidentity, a.attgenerated, a.attacl::text, l.collname, pg_get_expr(d.adbin, d.adrelid)
          from pg_attribute a
          join pg_class c on c.oid = a.attrelid
          join pg_namespace n on n.oid = c.relnamespace
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
          left join pg_collation l on l.oid = a.attcollation
         where a.attnum > 0 and not a.attisdropped""",
    "constraints": """
        select n.nspname, c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid)
          from pg_constraint c join pg_namespace n on n.oid = c.connamespace""",
    "indexes": "select schemaname as nspname, tablename, indexname, indexdef from pg_indexes",
    "sequences": """
        select schemaname as nspname, sequencename, data_type::text, start_value, min_value, max_value, increment_by,
               cycle, cache_size, last_value
          from pg_sequences""",
    "functions": """
        select n.nspname, pg_get_functiondef(p.oid), p.proacl::text
          from pg_proc p join pg_namespace n on n.oid = p.pronamespace where p.prokind = 'f'""",
    "triggers": """
        select n.nspname, pg_get_triggerdef(t.oid), t.tgenabled
          from pg_trigger t
          join pg_class c on c.oid = t.tgrelid
          join pg_namespace n on n.oid = c.relnamespace
         where not t.tgisinternal""",
}
"""What makes a schema, from the catalogs of PostgreSQL."""
SYSTEM = {"pg_catalog", "pg_toast", "information_schema"}


@pytest.fixture
def empty(postgres_server: PostgresServer) -> Iterator[str]:
    """DSN of a database without anything in it."""
    name = "empty"
    postgres_server.execute(f"create database {name} owner {DATABASE}")
    yield postgres_server.dsn(name)
    postgres_server.execute(f"drop database {name} with (force)")


async def execute(dsn: str, statement: str, *args: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await (connection.fetch(statement, *args) if args else connection.fetch(statement))
    finally:
        await connection.close()


async def run_script(dsn: str, script: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def described(dsn: str) -> dict[str, set[tuple[object, ...]]]:
    found = {}
    for what, statement in CATALOGS.items():
        rows = [row for row in await execute(dsn, statement) if row.get("nspname") not in SYSTEM]
        found[what] = {tuple(row.values()) for row in rows if "migrations" not in str(row)}
    return found


async def test_schema_is_what_the_migrations_make(database_dsn: str, empty: str) -> None:
    await run_script(empty, SCHEMA)
    migrated, written = await described(database_dsn), await described(empty)
    assert all(migrated.values())
    for what in CATALOGS:
        assert migrated[what] == written[what]


async def test_migrations_are_numbered_from_one(database_dsn: str) -> None:
    assert [step.number for step in known_migrations()] == [*range(1, len(known_migrations()) + 1)]
    rows = await execute(database_dsn, "select number, name, sha256 from migrations order by number")
    assert [tuple(row) for row in rows] == [(step.number, step.name, step.digest) for step in known_migrations()]


async def test_second_time_does_nothing(database_dsn: str) -> None:
    before = await execute(database_dsn, "select * from migrations")
    assert await migrate(database_dsn) == []
    assert await execute(database_dsn, "select * from migrations") == before


async def test_one_of_many_processes_does_the_work(empty: str) -> None:
    done = await asyncio.gather(*(migrate(empty) for _ in range(6)))
    assert sorted(done) == [[]] * 5 + [[f"{step.number:04}_{step.name}" for step in known_migrations()]]


async def test_changed_step_is_refused(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = known_migrations()
    monkeypatch.setattr(migrations, "known_migrations", lambda: [replace(first, sql=first.sql + "\n"), *rest])
    with pytest.raises(MigrationError, match="0001_initial has changed"):
        await migrate(database_dsn)


async def test_database_of_a_later_release_is_refused(database_dsn: str) -> None:
    await execute(database_dsn, "insert into migrations values (9000, 'later', '')")
    with pytest.raises(MigrationError, match="later release: it has migration 9000"):
        await migrate(database_dsn)


async def test_step_that_fails_leaves_nothing_behind(database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = len(known_migrations()) + 1
    steps = [
        *known_migrations(),
        Migration(number, "good", "create table good ()"),
        Migration(number + 1, "bad", "create table bad (); select 1 / 0"),
    ]
    monkeypatch.setattr(migrations, "known_migrations", lambda: steps)
    with pytest.raises(MigrationError, match="division by zero"):
        await migrate(database_dsn)
    (row,) = await execute(database_dsn, "select to_regclass('good') as good, to_regclass('bad') as bad")
    assert (row["good"], row["bad"]) == ("good", None)
    steps[-1] = Migration(number + 1, "better", "create table better ()")
    assert await migrate(database_dsn) == [f"{number + 1:04}_better"]


async def test_other_encodings_are_refused(postgres_server: PostgresServer) -> None:
    name = "latin"
    postgres_server.execute(f"create database {name} owner {DATABASE} encoding 'LATIN1' locale 'C' template template0")
    try:
        with pytest.raises(MigrationError, match="encoding LATIN1"):
            await migrate(postgres_server.dsn(name))
    finally:
        postgres_server.execute(f"drop database {name} with (force)")


async def test_server_that_is_away_is_busy() -> None:
    with pytest.raises(ServiceBusy):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")


@pytest.mark.parametrize("file", QUERIES)
async def test_every_statement_can_be_prepared(database_dsn: str, file: str) -> None:
    connection = await asyncpg.connect(database_dsn)
    for text in read_statements(file).values():
        await connection.prepare(text)
    await connection.close()


def _explained(lines: list[str], at: int) -> bool:
    return lines[at - 1].lstrip().startswith("-- ")


def test_everything_in_the_schema_is_explained() -> None:
    lines = SCHEMA.splitlines()
    bare = [
        line
        for at, line in enumerate(lines)
        if re.match(r"create (table|view|function|type) ", line) and not _explained(lines, at)
    ]
    assert bare == []


def test_every_column_is_explained() -> None:
    lines = SCHEMA.splitlines()
    bare, columns, table = [], 0, ""
    for at, line in enumerate(lines):
        if match := re.match(r"create table (\w+) \($", line):
            table = match[1]
        elif line.startswith(")"):
            table = ""
        elif table and re.match(r"    (?!check|primary key|unique|foreign key|constraint)[a-z]", line):
            columns += 1
            if not _explained(lines, at):
                bare.append(f"{table}: {line.strip()}")
    assert bare == []
    assert columns > 60
