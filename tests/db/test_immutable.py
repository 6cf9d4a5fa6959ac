"""Immutable trees: marked whole, whatever goes on in them meanwhile, and kept by every statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg
import pytest

from pyvospace.db import nodes
from pyvospace.model.faults import PermissionDenied
from pyvospace.model.stored import Changes, StoredNode
from pyvospace.model.vocabulary import NodeType
from tests.db.world import OPEN, World
from tests.support.tree_check import damages

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection

MARK, FREE = Changes(immutable=True), Changes(immutable=False)


@pytest.fixture
async def tree(world: World) -> AsyncIterator[World]:
    """A tree of containers with data in it, whose damages the test fails for."""
    for where in ("t", "t/a", "t/a/b", "other"):
        await world.add(where)
    for where in ("t/data", "t/a/b/data"):
        await world.add(where, NodeType.DATA)
    yield world
    assert await damages(world.database) == []


async def create(world: World, where: str) -> StoredNode | None:
    admin = await world.caller()
    return await nodes.insert(
        world.database, admin, tuple(where.split("/")), kind=NodeType.CONTAINER, changes=OPEN, owner=admin.id
    )


async def test_the_tree_is_marked_and_freed_as_a_whole(tree: World) -> None:
    everything = ("t", "t/a", "t/a/b", "t/data", "t/a/b/data")
    for changes, expected in ((MARK, True), (FREE, False)):
        assert (await tree.change("t", changes)).immutable is expected
        assert [(await tree.node(where)).immutable for where in everything] == [expected] * 5
        assert not (await tree.node("other")).immutable
        assert (await create(tree, "t/a/b/new") is None) is expected


async def test_every_statement_asks(tree: World) -> None:
    await tree.change("t/a/b", MARK)
    admin = await tree.caller()
    for where in ("t/a/b", "t/a/b/data"):
        assert await tree.move(where, "other", "x") is None
        assert await tree.move(where, "t/a", "x") is None
    assert not await nodes.delete(tree.database, admin, await tree.node("t/a/b/data"))
    assert not await nodes.delete(tree.database, admin, await tree.node("t/a/b"))
    assert await tree.move("t/data", "t/a/b", "x") is None
    for where in ("t", "t/a"):
        with pytest.raises(PermissionDenied, match="immutable"):
            await nodes.delete(tree.database, admin, await tree.node(where))
        with pytest.raises(PermissionDenied, match="immutable"):
            await tree.move(where, "other" if where == "t/a" else "", "x")
    assert await nodes.update(tree.database, admin, await tree.node("t/a/b/data"), FREE) is None
    owner = await tree.caller("owner")
    assert await nodes.update(tree.database, owner, await tree.node("t/a/b"), FREE) is None
    assert await nodes.update(tree.database, owner, await tree.node("t/data"), MARK)


@pytest.mark.parametrize(
    "statement",
    ["delete from nodes where id = $1", "update nodes set name = 'x' where id = $1",
     "update nodes set parent_id = 1 where id = $1", "update nodes set target = 'urn:x:2' where id = $1"],
)  # fmt: skip
async def test_statement_that_forgets_to_ask_is_refused(tree: World, statement: str) -> None:
    link = await tree.add("t/link", NodeType.LINK, Changes(target="urn:x:1", immutable=True))
    with pytest.raises(PermissionDenied, match="immutable"):
        await tree.database.fetchrow(statement, link.id)


async def blocked(world: World) -> None:
    """Wait until somebody waits for a lock."""
    async with asyncio.timeout(60):
        while not await world.database.fetchval("select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.005)


async def test_what_is_made_while_the_tree_is_being_marked_is_marked_or_not_made(tree: World) -> None:
    marked, go_on = asyncio.Event(), asyncio.Event()
    admin, top = await tree.caller(), await tree.node("t")

    async def work(connection: Connection) -> StoredNode | None:
        changed = await nodes._mark(connection, admin, top, MARK)
        marked.set()
        await go_on.wait()
        return changed

    marking = asyncio.create_task(tree.database.transact(work, tree=True))
    await marked.wait()
    acting = [
        asyncio.create_task(create(tree, "t/a/b/new")),
        asyncio.create_task(tree.move("other", "t/a", "other")),
        asyncio.create_task(nodes.delete(tree.database, admin, await tree.node("t/data"))),
    ]
    await blocked(tree)
    assert not any(one.done() for one in acting)
    go_on.set()
    assert await marking
    assert [bool(one) for one in await asyncio.gather(*acting)] == [False, False, False]


async def test_the_mark_waits_for_what_is_being_made(tree: World, database_dsn: str) -> None:
    admin = await tree.caller()
    connection = await asyncpg.connect(database_dsn)
    async with connection.transaction():
        assert await connection.fetchrow(
            nodes._Sql.insert, ("t", "a"), admin.id, admin.groups, admin.admin, admin.epoch, "new",
            "ContainerNode", None, None, None, None, False, "{}", None, admin.id, False, admin.who,
        )  # fmt: skip
        marking = asyncio.create_task(tree.change("t", MARK))
        await blocked(tree)
    await connection.close()
    await marking
    assert (await tree.node("t/a/new")).immutable
