"""The audit log as a table: what may be done to it, what triggers write, what is found in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pyvospace.db import administration, audit, identities, state
from pyvospace.db.audit import Wanted
from pyvospace.db.pool import Database
from pyvospace.model.audit import ALL, Action, Filters, Record
from pyvospace.model.callers import Origin
from pyvospace.model.faults import InternalFault
from pyvospace.model.vocabulary import NodeType
from pyvospace.model.vosi import Standing, State
from tests.db.world import Storage, World, path, push, stored_file

SQL_FILES = Path(__file__).parents[2] / "sql"
BULK = """
    insert into audit (user_id, name, credential, remote, request, action, path, owner_id)
    select 7, 'somebody', 'password', '192.0.2.1', 'r', 'getNode', '/bulk/' || i, 8 from generate_series(1, $1::int) i
    returning id"""


async def rows(database: Database, **wanted: object) -> list[dict[str, Any]]:
    found = await database.fetch("select * from audit order by at, id")
    read = [{**row, "details": json.loads(row["details"])} for row in found]
    return [row for row in read if all(row[name] == value for name, value in wanted.items())]


async def records(database: Database, wanted: Wanted | None = None, *, viewer: int | None = None) -> list[list[Record]]:
    asked = wanted or Wanted(None, ALL)
    confirmed = await audit.confirm(database, asked)
    return [page async for page in audit.records(database, asked, confirmed, viewer=viewer)]


@pytest.mark.parametrize(
    "statement",
    [
        "update audit set name = 'nobody'",
        "update audit set name = 'nobody' where false",
        "delete from audit",
        "truncate audit",
        "insert into audit select * from audit returning 1",
    ],
)
async def test_nothing_is_changed(world: World, statement: str) -> None:
    """Not even by the role that owns the table, as which the metadata servers log in."""
    before = await rows(world.database)
    assert before
    async with world.database.connection() as connection:
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("set session_replication_role = replica")
    assert await rows(world.database) == before


async def test_storage_servers_see_nothing(world: World, storage: Storage) -> None:
    for statement in ("select * from public.audit", "delete from public.audit", "select public.prune_audit(1, 10)"):
        async with storage.database.connection() as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    entry = {"at": datetime.now(UTC).isoformat(), "user_id": 0, "who": ["", "x", "", "", ""], "details": {}}
    told = [{**entry, "action": action, "outcome": "done"} for action in ("createNode", "readBytes")]
    await audit.note_bytes(storage.database, storage.id, json.dumps(told))
    assert [row["action"] for row in await rows(world.database, credential="x")] == ["readBytes"]


async def test_old_rows_are_pruned(world: World) -> None:
    """And that they were is a row."""
    async with world.database.connection() as connection:
        await connection.execute("""
            insert into audit (at, user_id, name, credential, remote, request, action)
            select now() - make_interval(days => i), 0, 'old', '', '', '', 'getNode' from generate_series(1, 4) i""")
    assert await audit.prune(world.database, days=2) == 3
    assert await audit.prune(world.database, days=2) == 0
    assert len(await rows(world.database, name="old")) == 1
    (row,) = await rows(world.database, action="pruneAudit")
    assert (row["details"]["rows"], row["credential"]) == (3, "service")
    with pytest.raises(InternalFault):
        await audit.prune(world.database, days=0)


async def test_administration_is_told_with_who_does_it(world: World) -> None:
    """By triggers, so that no way around is known; of secrets it is only said that they changed."""
    database = world.database
    by = replace(await world.caller(), credential="token 1 laptop", origin=Origin("192.0.2.7", "r1"))
    owner = (await world.caller("owner")).id
    secret = b"s" * 32
    await administration.change(database, by, lambda c: identities.add_group(c, "crew"))
    for add in (True, False):
        by = replace(by, epoch=(await world.caller()).epoch)
        await administration.change(database, by, lambda c: identities.change_member(c, "crew", "owner", add=add))  # noqa: B023
    by = replace(by, epoch=(await world.caller()).epoch)
    await administration.change(database, by, lambda c: identities.add_token(c, "owner", "x", secret, None))
    await administration.change(database, by, lambda c: identities.change_user(c, "owner", password="hash of it"))
    by = replace(by, epoch=(await world.caller()).epoch)
    assert await state.turn(database, Standing(State.READ_ONLY, "disks"), by=by)
    found = await rows(database, request="r1")
    assert [row["action"] for row in found] == [
        "addGroup", "addMember", "removeMember", "addToken", "changeUser", "setSpace",
    ]  # fmt: skip
    assert {(row["user_id"], row["name"], row["credential"], row["remote"]) for row in found} == {
        (by.id, "admin", "token 1 laptop", "192.0.2.7")
    }
    assert [row["owner_id"] for row in found] == [None, owner, owner, owner, owner, None]
    assert found[4]["details"]["changed"] == ["password"]
    assert "hash" not in json.dumps([row["details"] for row in found])
    assert found[5]["details"]["to"]["note"] == "disks"


async def test_what_nobody_told_has_the_role(database_dsn: str, world: World) -> None:
    """Somebody at the database itself."""
    alone = await asyncpg.connect(database_dsn)
    await alone.execute("insert into groups (name) values ('by-hand')")
    await alone.close()
    told = [row["credential"] for row in await rows(world.database, action="addGroup")]
    assert told[-1].startswith("database role ")


async def test_bytes_are_told_by_who_brings_them(world: World, storage: Storage) -> None:
    caller = await world.caller("owner")
    await world.add("box")
    claims = await push(world, "box/new", caller)
    claim = await storage.catalogue.claim_upload(claims, size=5)
    assert not await rows(world.database, action="storeBytes")
    async with storage.catalogue.transaction(claim) as transaction:
        await transaction.store(stored_file(b"one"))
    (row,) = await rows(world.database, action="storeBytes")
    assert (row["user_id"], row["name"], row["path"], row["owner_id"]) == (caller.id, "owner", "/box/new", caller.id)
    assert (row["credential"], row["details"]["job"]) == ("endpoint", claims.job_id)


async def test_trees_are_told_once(world: World) -> None:
    for where in ("a", "a/b", "c"):
        await world.add(where)
    await world.add("a/b/data", NodeType.DATA)
    await world.move("a/b", "c", "moved")
    await world.remove("c")
    (moved,) = await rows(world.database, action="moveNode")
    assert (moved["path"], moved["details"]) == ("/a/b", {"to": "/c/moved"})
    (gone,) = await rows(world.database, action="deleteNode")
    assert (gone["path"], gone["details"]) == ("/c", {"nodes": 3})


async def test_pages_are_small(world: World) -> None:
    async with world.database.connection() as connection:
        await connection.execute(BULK, 10_000)
    pages = await records(world.database, Wanted(("bulk",), Filters(below=True)))
    assert sum(map(len, pages)) == 10_000
    assert max(map(len, pages)) <= 2000
    assert [row.path for page in pages for row in page] == [f"/bulk/{i}" for i in range(1, 10_001)]
    assert sum(map(len, await records(world.database, Wanted(("bulk",), Filters(below=True, limit=2500))))) == 2500


async def test_everybody_sees_his_own(world: World) -> None:
    """What he did, and what others did to what is his; administrators see everything."""
    owner, stranger = await world.caller("owner"), await world.caller("stranger")
    await world.add("box", owner="owner")
    seen = {row.action for page in await records(world.database, viewer=owner.id) for row in page}
    assert Action.CREATE_NODE in seen
    assert not [row for page in await records(world.database, viewer=stranger.id) for row in page if row.path]
    everything = [row for page in await records(world.database) for row in page]
    assert len(everything) == len(await rows(world.database))
    (made,) = [row for row in everything if row.path == "/box"]
    assert {"remote", "credential", "request", "node"} <= made.told("a~b", None).keys()
    assert not {"remote", "credential", "request"} & made.told("a~b", owner.id).keys()
    assert "node" in made.told("a~b", owner.id)
    assert "node" not in made.told("a~b", made.user_id)


async def test_what_is_hidden_stays_so(world: World) -> None:
    """Who was told that something is not there does not learn here that it is; its owner learns who has tried."""
    owner, stranger = await world.caller("owner"), await world.caller("stranger")
    await world.add("box", owner="owner")
    entry = {
        "at": datetime.now(UTC).isoformat(), "user_id": stranger.id, "who": ["stranger", "", "", "", ""],
        "action": "getNode", "outcome": "NodeNotFound", "details": {},
    }  # fmt: skip
    told = [{**entry, "names": path(name), "shown": f"/{name}"} for name in ("box", "nothing")]
    await audit.note(world.database, json.dumps(told))
    of_owner = [row for page in await records(world.database, viewer=owner.id) for row in page]
    assert [row.path for row in of_owner if row.outcome == "NodeNotFound"] == ["/box"]
    assert not [row for page in await records(world.database, viewer=stranger.id) for row in page if row.path]


async def test_names_that_were_tried_are_kept_if_they_are_users(world: World) -> None:
    entry = {
        "at": datetime.now(UTC).isoformat(), "user_id": 0, "who": ["", "basic", "192.0.2.1", "r", ""],
        "action": "login", "outcome": "NotAuthenticated", "details": {},
    }  # fmt: skip
    await audit.note(world.database, json.dumps([{**entry, "tried": one} for one in ("owner", "my password")]))
    found = await rows(world.database, action="login")
    assert [row["details"] for row in found] == [{"user": "owner"}, {}]
    assert [row["owner_id"] for row in found] == [(await world.caller("owner")).id, None]
    assert "my password" not in str(await rows(world.database))


async def test_actions_are_those_of_the_list(world: World) -> None:
    """What statements, functions and triggers write."""
    texts = [file.read_text() for part in ("queries", "migrations") for file in sorted((SQL_FILES / part).iterdir())]
    found = {name for text in texts for name in re.findall(r"'([a-z]+(?:Node|Bytes|Archive|Audit))'", text)}
    for text in texts:
        for arguments in re.findall(r"audit_administration\((.*?)\)", text):
            found.update(re.findall(r"'(\w+)'", arguments))
    assert len(found) > 25
    assert found <= set(Action)
    assert {row["action"] for row in await rows(world.database)} <= set(Action)


async def test_time_is_a_filter(world: World) -> None:
    now = datetime.now(UTC)
    assert not sum(map(len, await records(world.database, Wanted(None, Filters(before=now - timedelta(hours=1))))))
    assert not sum(map(len, await records(world.database, Wanted(None, Filters(after=now + timedelta(hours=1))))))
    assert sum(map(len, await records(world.database, Wanted(None, Filters(after=now - timedelta(hours=1))))))
