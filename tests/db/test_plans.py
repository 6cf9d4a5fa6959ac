"""How PostgreSQL carries out our statements: by index, also if it planned them when the tables were empty.

Servers keep their plans for long (`pyvospace.db.pool`), so that a plan which reads a whole table is found here or by
the first space that has grown.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pyvospace.db import copies, nodes
from pyvospace.db.pool import Database
from pyvospace.db.statements import read_statements
from pyvospace.model.vocabulary import NodeType
from tests.db.world import OPEN, Storage, World, pull, push

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection

SMALL = {"space", "storages", "servers", "endpoint_keys"}
"""Tables of a few rows."""
OF_ADMINISTRATORS = {"users", "groups", "tokens"}
"""Statements that list everything, for a person who asked for it."""
SWEEPS = {"forget_leases"}
"""Reads all leases, of which there are no more than uploads under way."""
STATEMENTS = [
    (file, name, text)
    for file in (
        "nodes.sql",
        "listings.sql",
        "entries.sql",
        "copies.sql",
        "recursive.sql",
        "search.sql",
        "state.sql",
        "jobs.sql",
        "identities.sql",
        "audit.sql",
        "keys.sql",
    )
    for name, text in read_statements(file).items()
    if not text.startswith(("select pg_advisory", "select storage_api")) and name not in OF_ADMINISTRATORS | SWEEPS
]


async def plan(connection: Connection, text: str) -> dict[str, Any]:
    """Give the plan that the session keeps: what the parameters are does not matter to it."""
    prepared = await connection.prepare(text)
    arguments = ", ".join("null" for _ in prepared.get_parameters())
    row = await connection.fetchval(
        f"explain (format json) execute {prepared.get_name()}{f'({arguments})' if arguments else ''}"
    )
    (found,) = json.loads(row)
    assert isinstance(found["Plan"], dict)
    return found["Plan"]


def steps(of: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield of
    for below in of.get("Plans", ()):
        yield from steps(below)


async def fill(database: Database) -> None:
    """Make a space that has grown."""
    await database.fetchrow("""
        with made as (
            insert into nodes (parent_id, name, type, owner_id)
            select 1, 'box ' || i, 'ContainerNode', 1 from generate_series(1, 300) i returning id
        )
        insert into containers (id, path) select id, ('1.' || id)::ltree from made""")
    await database.fetchrow("""
        insert into nodes (parent_id, name, type, owner_id)
        select c.id, 'file ' || i, 'DataNode', 1 from containers c, generate_series(1, 50) i""")
    await database.fetchrow("insert into users (name) select 'user' || i from generate_series(1, 1000) i")
    await database.fetchrow(
        "insert into tokens (user_id, name, hash) select id, 'x', sha256(id::text::bytea) from users"
    )
    await database.fetchrow("""
        insert into jobs (id, owner_id, phase, kind, request, name, expires, destruction)
        select lpad(to_hex(i), 40, '0'), 1, 'COMPLETED', 'push', '{}', 'x', now(), now() + interval '1 day'
          from generate_series(1, 5000) i""")
    await database.fetchrow("""
        insert into writers (parent_id, name, job_id, attempt, until)
        select id, 'file 1', 'x', id, now() from containers""")


async def empty_and_analyzed(database: Database) -> None:
    await database.fetchrow("analyze")


async def filled_and_not_analyzed(database: Database) -> None:
    await fill(database)


async def filled_and_analyzed(database: Database) -> None:
    await fill(database)
    await database.fetchrow("analyze")


async def filled_after_analysis(database: Database) -> None:
    await database.fetchrow("analyze")
    await fill(database)


async def new(_: Database) -> None:
    pass


STATES = [new, empty_and_analyzed, filled_and_not_analyzed, filled_after_analysis, filled_and_analyzed]


@pytest.mark.parametrize("state", STATES)
async def test_every_statement_goes_by_index(world: World, state: Callable[[Database], Awaitable[None]]) -> None:
    await state(world.database)
    async with world.database.connection() as connection:
        for file, name, text in STATEMENTS:
            for step in steps(await plan(connection, text)):
                where = f"{file}: {name}: {step}"
                assert step["Node Type"] not in {"Hash Join", "Merge Join"}, where
                if step["Node Type"] == "Seq Scan":
                    assert step["Relation Name"] in SMALL, where


@pytest.mark.parametrize("state", STATES)
async def test_page_begins_where_the_last_one_ended(world: World, state: Callable[[Database], Awaitable[None]]) -> None:
    await state(world.database)
    async with world.database.connection() as connection:
        found = list(steps(await plan(connection, read_statements("nodes.sql")["children"])))
    assert not [step for step in found if "Sort" in step["Node Type"]]
    (scan,) = [step for step in found if step.get("Alias") == "n"]
    assert scan["Index Name"] == "nodes_name"
    assert "(name >= $6)" in scan["Index Cond"]


async def test_page_of_names_backwards_begins_where_the_last_one_ended(world: World) -> None:
    await fill(world.database)
    async with world.database.connection() as connection:
        found = list(steps(await plan(connection, read_statements("listings.sql")["backwards"])))
    (scan,) = [step for step in found if step.get("Alias") == "n"]
    assert (scan["Index Name"], scan["Scan Direction"]) == ("nodes_name", "Backward")
    assert "(name <= $3)" in scan["Index Cond"]


@pytest.mark.parametrize("state", STATES)
async def test_immutable_nodes_are_looked_for_in_the_tree_alone(
    world: World, state: Callable[[Database], Awaitable[None]]
) -> None:
    """There may be more of them elsewhere than of anything else."""
    await state(world.database)
    async with world.database.connection() as connection:
        for name in ("obstacle", "fixed_below"):
            found = list(steps(await plan(connection, read_statements("nodes.sql")[name])))
            (scan,) = [step for step in found if step.get("Index Name") == "nodes_immutable"]
            assert scan["Index Cond"] == "(parent_id = c.id)", name


async def test_functions_and_foreign_keys_go_by_index(world: World, storage: Storage) -> None:
    """What a statement hides from `explain` shows in the counters of the tables."""
    await fill(world.database)
    caller = await world.caller()
    before = await scans(world, storage)
    await world.add("box")
    for name in ("box/new", "box/old"):
        claims = await push(world, name, caller)
        await storage.upload(claims)
        await storage.upload(claims)
        await storage.catalogue.current(claims)
        reading = await pull(world, name, caller)
        await storage.catalogue.delivered(await storage.catalogue.claim_download(reading))
    claim = await storage.catalogue.claim_upload(await push(world, "box/old", caller), size=None)
    await storage.catalogue.renew(claim)
    await storage.catalogue.release(claim, reason="test")
    await storage.catalogue.unknown(["a", "b"], margin=0)
    await storage.catalogue.take_obsolete(grace=0, limit=10)
    await storage.catalogue.claim_sweep(interval=0)
    await world.add("box/inner")
    await world.add("box/inner/data", NodeType.DATA, OPEN)
    tree, home = await world.node("box/inner"), await world.node("home")
    assert await copies.copy(world.database, caller, tree, home, "copy") == 2
    assert await world.move("box/inner", "home", "inner")
    assert await world.move("home/inner", "home", "renamed")
    assert await nodes.names_in_use(world.database, caller, limit=10)
    await world.remove("home/renamed")
    await world.remove("box/old")
    await world.remove("box")
    assert await scans(world, storage) == before


async def scans(world: World, storage: Storage) -> dict[str, int]:
    """Count how often each table that grows was read as a whole."""
    for database in (storage.database, world.database):  # each has used one connection only
        await database.fetchval("select pg_stat_force_next_flush()")
    rows = await world.database.fetch("select relname, seq_scan from pg_stat_user_tables")
    return {row["relname"]: row["seq_scan"] for row in rows if row["relname"] not in SMALL}
