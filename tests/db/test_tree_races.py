"""Many at once in one tree, through two pools as of two servers: whatever they do, it stays a tree.

While they work the checks of the tree run beside them, each in a snapshot of its own: what must hold after a change
must hold at every moment that anybody can see.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest

from pyvospace.db import nodes, trash, usage
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    Fault,
    NodeBusy,
    NodeNotFound,
    PermissionDenied,
)
from pyvospace.model.stored import Changes
from pyvospace.model.vocabulary import NodeType
from tests.db.racing import PATIENCE, Servers, copy, create, deadlocks, delete, move, outcome, race, restore, won
from tests.db.world import Storage, World, path, push, stored_file
from tests.support.tree_check import damages

# ------------------------------------------------------------------------------------------------------ one on one


@pytest.mark.parametrize("kind", [NodeType.DATA, NodeType.CONTAINER])
async def test_one_of_many_creators_wins(servers: Servers, kind: NodeType) -> None:
    for turn in range(5):
        results = await race(*(create(servers.worlds[i % 2], f"x{turn}", kind) for i in range(16)))
        assert won(results) == 1
        assert Counter(type(one) for one in results if isinstance(one, Fault)) == {DuplicateNode: 15}
    assert await damages(servers.worlds[0].database) == []


async def test_creation_and_deletion_of_the_tree(servers: Servers) -> None:
    first, second = servers.worlds
    for turn in range(15):
        for where in ("t", "t/a", "t/a/b"):
            await first.add(where)
        results = await race(
            *(create(second, f"t/a/b/c{i}", NodeType.CONTAINER if i % 2 else NodeType.DATA) for i in range(6)),
            delete(first, "t"),
            *(create(second, f"t/d{i}") for i in range(3)),
        )
        assert results[6] is True
        assert {type(one) for one in results if isinstance(one, Fault)} <= {ContainerNotFound}
        assert (await first.resolve("t")).node is None, turn
        assert await damages(first.database) == []
    assert await deadlocks(first) == 0


async def test_deletion_of_a_tree_and_of_its_parts(servers: Servers) -> None:
    first, second = servers.worlds
    for _ in range(10):
        for where in ("t", "t/a", "t/a/b", "t/a/b/c"):
            await first.add(where)
            await first.add(f"{where}/data", NodeType.DATA)
        results = await race(
            *(delete(second, where) for where in ("t/a/b", "t/a/data", "t/a/b/c", "t/a", "t/a/b/c/data")),
            delete(first, "t"),
        )
        assert results[-1] is True
        assert await damages(first.database) == []
    assert await deadlocks(first) == 0


async def test_creation_in_a_tree_that_moves(servers: Servers) -> None:
    first, second = servers.worlds
    for where in ("here", "there", "here/t", "here/t/a", "here/t/a/b"):
        await first.add(where)
    made = 0
    for turn in range(12):
        source, target = ("here", "there") if turn % 2 == 0 else ("there", "here")
        results = await race(
            *(create(second, f"{source}/t/a/b/n{turn}-{i}") for i in range(4)),
            move(first, f"{source}/t", target, "t"),
            *(create(second, f"{source}/t/m{turn}-{i}", NodeType.DATA) for i in range(4)),
        )
        assert not isinstance(results[4], Fault)
        made += won(results) - 1
        assert await damages(first.database) == []
    container = "here" if (await first.resolve("here/t")).node else "there"
    found = [*await first.listing(f"{container}/t"), *await first.listing(f"{container}/t/a/b")]
    assert len(found) == made + 1  # and t/a
    assert await deadlocks(first) == 0


@pytest.mark.parametrize("inner", ["", "/m", "/m/n"])
async def test_two_containers_are_not_moved_into_each_other(servers: Servers, inner: str) -> None:
    first, second = servers.worlds
    for turn in range(10):
        for top in ("a", "b"):
            for where in (f"{top}{turn}", f"{top}{turn}/m", f"{top}{turn}/m/n"):
                await first.add(where)
        results = await race(
            move(first, f"a{turn}", f"b{turn}{inner}", "a"), move(second, f"b{turn}", f"a{turn}{inner}", "b")
        )
        assert won(results) == 1
        assert await damages(first.database) == []
    assert await deadlocks(first) == 0


async def test_ring_of_moves_does_not_close(servers: Servers) -> None:
    first = servers.worlds[0]
    ring = [f"r{i}" for i in range(6)]
    for name in ring:
        await first.add(name)
    results = await race(*(move(servers.worlds[i % 2], name, ring[(i + 1) % 6], "x") for i, name in enumerate(ring)))
    assert won(results) < 6
    assert await damages(first.database) == []
    assert await deadlocks(first) == 0


async def test_one_of_many_moves_takes_the_name(servers: Servers) -> None:
    first = servers.worlds[0]
    await first.add("into")
    for i in range(8):
        await first.add(f"s{i}", NodeType.CONTAINER if i % 2 else NodeType.DATA)
    results = await race(*(move(servers.worlds[i % 2], f"s{i}", "into", "same") for i in range(8)))
    assert won(results) == 1
    assert len(await first.listing("into")) == 1
    assert await damages(first.database) == []


async def test_two_nodes_cannot_swap_names(servers: Servers) -> None:
    first, second = servers.worlds
    await first.add("a")
    await first.add("b")
    for turn in range(10):
        await first.add("a/x", NodeType.DATA)
        await first.add("b/y", NodeType.DATA)
        results = await race(move(first, "a/x", "b", "y"), move(second, "b/y", "a", "x"))
        assert won(results) <= 1, turn
        for where in ("a/x", "b/y"):
            if (await first.resolve(where)).node:
                await first.remove(where)


async def test_move_and_deletion(servers: Servers) -> None:
    first, second = servers.worlds
    for turn in range(12):
        for where in ("s", "s/a", "s/a/b", "d"):
            await first.add(where)
        await first.add("s/a/b/data", NodeType.DATA)
        rivals = [("s/a", "d"), ("s/a/b/data", "d"), ("s", "d")]
        source, target = rivals[turn % 3]
        moving, deleting = await race(move(first, source, target, "moved"), delete(second, "s" if turn % 2 else "d"))
        if deleting is not True:  # it had been moved away before
            assert (source, type(deleting)) == ("s", NodeNotFound)
            assert turn % 2
        if not isinstance(moving, Fault) and not turn % 2:
            assert (await first.resolve("d")).node is None  # with all that was moved into it
        assert await damages(first.database) == []
        for left in ("s", "d"):
            if (await first.resolve(left)).node:
                await first.remove(left)
    assert await deadlocks(first) == 0


async def test_node_is_at_one_place_in_every_snapshot(servers: Servers) -> None:
    first, second = servers.worlds
    for where in ("here", "there", "here/t", "here/t/a"):
        await first.add(where)
    await first.add("here/t/a/data", NodeType.DATA)
    done = asyncio.Event()

    async def back_and_forth() -> None:
        for turn in range(40):
            source, target = ("here", "there") if turn % 2 == 0 else ("there", "here")
            await move(first, f"{source}/t", target, "t")
        done.set()

    query = """
        select count(*) filter (where c.path::text ~ ('^1\\.' || p.id || '\\.')), count(*)
          from containers c join nodes n on n.id = c.id and n.name = 'a'
          join nodes t on t.id = n.parent_id join nodes p on p.id = t.parent_id"""
    mover = asyncio.create_task(back_and_forth())
    async with asyncio.timeout(PATIENCE):
        while not done.is_set():
            row = await second.database.fetchrow(query)
            assert tuple(row or ()) == (1, 1)
            assert await damages(second.database) == []
    await mover


@asynccontextmanager
async def creating(dsn: str, world: World, where: str) -> AsyncIterator[None]:
    """Have a container created in a transaction that ends with the block."""
    admin = await world.caller()
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            row = await connection.fetchrow(
                nodes._Sql.insert, path(where)[:-1], admin.id, admin.groups, admin.admin, admin.epoch, path(where)[-1],
                "ContainerNode", None, None, None, None, False, "{}", None, admin.id, False, admin.who,
            )  # fmt: skip
            assert row is not None
            yield
    finally:
        await connection.close()


async def blocked(world: World) -> None:
    """Wait until somebody waits for a lock."""
    async with asyncio.timeout(PATIENCE):
        while not await world.database.fetchval("select count(*) from pg_locks where not granted"):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("action", ["delete", "move"])
async def test_what_is_created_while_a_tree_is_being_locked_belongs_to_it(
    servers: Servers, database_dsn: str, action: str
) -> None:
    """A container appears in the part that is locked already, and another in it while the rest is waited for."""
    first, second = servers.worlds
    for where in ("t", "t/a", "t/b"):
        await first.add(where)
    async with AsyncExitStack() as held_back:
        async with creating(database_dsn, first, "t/a/new"):
            await held_back.enter_async_context(creating(database_dsn, first, "t/b/other"))
            acting = asyncio.create_task(delete(second, "t") if action == "delete" else move(second, "t", "home", "t"))
            await blocked(first)
        async with creating(database_dsn, first, "t/a/new/inner"):
            await held_back.aclose()
            await asyncio.sleep(0.1)  # it goes on, as far as it gets
            assert not acting.done()
    assert await acting
    assert await damages(first.database) == []
    assert (await first.resolve("home/t/a/new/inner")).node is not None or action == "delete"
    assert (await first.resolve("t")).node is None


# --------------------------------------------------------------------------------------------------------- uploads


async def test_upload_and_deletion_of_its_tree(servers: Servers, storage: Storage) -> None:
    first, second = servers.worlds
    for turn in range(12):
        await first.add("t")
        await first.add("t/a")
        await first.add("t/a/old", NodeType.DATA)
        admin = await first.caller()
        claims = [await push(first, f"t/a/{name}", admin) for name in ("old", "new", "other")]
        leases = [await storage.catalogue.claim_upload(one, size=None) for one in claims]
        files = [stored_file() for _ in leases]
        *stored, deleted = await race(
            *(storage.store(lease, file) for lease, file in zip(leases, files, strict=True)),
            delete(second, "t" if turn % 2 else "t/a"),
        )
        assert deleted is True
        # Bytes that were acknowledged and then deleted are known to be obsolete; the others never were there.
        rows = await first.database.fetch("delete from obsolete returning location")
        assert {row[0] for row in rows} == {
            file.location for file, result in zip(files, stored, strict=True) if not isinstance(result, Fault)
        }
        assert {type(one) for one in stored if isinstance(one, Fault)} <= {NodeNotFound, ContainerNotFound}
        assert await damages(first.database) == []
        if (await first.resolve("t")).node:
            await first.remove("t")
    assert await deadlocks(first) == 0


async def test_upload_and_move_of_its_tree(servers: Servers, storage: Storage) -> None:
    first, second = servers.worlds
    for where in ("here", "there", "here/t", "here/t/a"):
        await first.add(where)
    await first.add("here/t/a/old", NodeType.DATA)
    admin = await first.caller()
    for turn in range(12):
        source, target = ("here", "there") if turn % 2 == 0 else ("there", "here")
        claims = [await push(first, f"{source}/t/a/{name}", admin) for name in ("old", f"new{turn}")]
        leases = [await storage.catalogue.claim_upload(one, size=None) for one in claims]
        files = [stored_file(bytes([turn])), stored_file(bytes([turn]))]
        results = await race(
            *(storage.store(lease, file) for lease, file in zip(leases, files, strict=True)),
            move(second, f"{source}/t", target, "t"),
        )
        assert won(results) == 3
        for name in ("old", f"new{turn}"):
            assert (await first.node(f"{target}/t/a/{name}")).md5 == files[0].md5
        assert await damages(first.database) == []
    assert await deadlocks(first) == 0


async def test_of_two_uploads_one_is_there(servers: Servers, storage: Storage) -> None:
    world = servers.worlds[0]
    admin = await world.caller()
    for turn in range(10):
        where = f"data{turn % 2}"
        claims = [await push(world, where, admin) for _ in range(4)]
        results = await race(*(storage.upload(one, f"{turn} {i}".encode()) for i, one in enumerate(claims)))
        assert {type(one) for one in results if isinstance(one, Fault)} <= {NodeBusy}
        stored = [one for one in results if not isinstance(one, Fault)]
        assert stored
        assert (await world.node(where)).md5 in {one.md5 for one in stored}
    assert await damages(world.database) == []


# ----------------------------------------------------------------------------------------------------------- storm


NAMES = ("a", "b", "c")
MOST = 150
"""Nodes beyond which nothing is copied."""
WAY = """
    with recursive way as (
        select id, parent_id, name as path from (
            select * from nodes where id > 2 and type = any ($1) order by random() limit 1) as one
        union all
        select p.id, p.parent_id, p.name || '/' || w.path from way w join nodes p on p.id = w.parent_id and p.id > 1
    )
    select path from way where parent_id = 1"""
ANY = ("ContainerNode", "DataNode")
IN_USE = """
    select (select count(*) from nodes where location = any ($1)) + (
        select count(*) from versions where location = any ($1))"""


class Storm:
    """Many tasks that do anything anywhere in a small tree."""

    def __init__(self, servers: Servers, storage: Storage) -> None:
        self._servers = servers
        self._storage = storage
        self.results: Counter[str] = Counter()
        self.taken: set[str] = set()
        """Locations whose bytes the sweep has deleted."""

    async def rage(self, seed: int, turns: int) -> None:
        rng = random.Random(seed)
        actions: list[tuple[str, Callable[[random.Random, World], Awaitable[object]]]] = [
            ("create", self._create),
            ("create leaf", self._create_leaf),
            ("move", self._move),
            ("upload", self._upload),
            ("change", self._change),
            ("delete", self._delete),
            ("copy", self._copy),
            ("sweep", self._sweep),
            ("fold", self._fold),
            ("restore", self._restore),
            ("purge", self._purge),
        ]
        for _ in range(turns):
            name, act = rng.choices(actions, weights=[6, 2, 4, 3, 2, 1, 1, 1, 2, 2, 1])[0]
            result = await outcome(act(rng, self._servers.any(rng)))
            self.results[f"{name}: {type(result).__name__ if isinstance(result, Fault) else 'done'}"] += 1

    async def _some(self, world: World, *types: str) -> str:
        """Give the path of some node that is there now; '': the root, if there is none."""
        return await world.database.fetchval(WAY, list(types or ("ContainerNode",))) or ""

    async def _place(self, rng: random.Random, world: World) -> str:
        container = await self._some(world) if rng.random() < 0.8 else ""
        return f"{container}/{rng.choice(NAMES)}"

    async def _create(self, rng: random.Random, world: World) -> object:
        return await create(world, await self._place(rng, world))

    async def _create_leaf(self, rng: random.Random, world: World) -> object:
        return await create(world, await self._place(rng, world), NodeType.DATA)

    async def _move(self, rng: random.Random, world: World) -> object:
        source, target = await self._some(world, *ANY), await self._some(world)
        return await move(world, source or "a", target, rng.choice(NAMES))

    async def _copy(self, rng: random.Random, world: World) -> object:
        source, target = await self._some(world, *ANY), await self._some(world)
        if await world.database.fetchval("select count(*) from nodes") > MOST:
            return None
        return await copy(world, source or "a", target, rng.choice(NAMES))

    async def _sweep(self, _: random.Random, world: World) -> object:
        taken = list(await self._storage.catalogue.take_obsolete(grace=0, limit=3))
        assert not self.taken.intersection(taken)
        assert await world.database.fetchval(IN_USE, taken) == 0
        self.taken.update(taken)
        return taken

    async def _fold(self, rng: random.Random, world: World) -> object:
        return await usage.fold(world.database, limit=rng.choice([1, 10, 100]))

    async def _delete(self, _: random.Random, world: World) -> object:
        return await delete(world, await self._some(world, *ANY) or "a")

    async def _restore(self, rng: random.Random, world: World) -> object:
        found = await self._entries(world)
        target = await self._some(world)
        return found and await restore(world, rng.choice(found), target, rng.choice(NAMES))

    async def _purge(self, rng: random.Random, world: World) -> object:
        found, admin = await self._entries(world), await world.caller()
        if not found:
            return None
        number = rng.choice(found).id
        await world.database.transact(lambda connection: trash.give_up(connection, admin, number))
        while await trash.purge(world.database, number, piece=2):
            pass
        return None

    async def _entries(self, world: World) -> list[trash.Entry]:
        return await trash.entries(world.database, await world.caller(), before=1 << 60, limit=100)

    async def _upload(self, rng: random.Random, world: World) -> object:
        where = await self._place(rng, world) if rng.random() < 0.5 else await self._some(world, "DataNode")
        admin = await world.caller()
        try:
            return await self._storage.upload(await push(world, where or "c", admin))
        except (AssertionError, PermissionDenied):  # the container was gone before the negotiation
            raise ContainerNotFound(where) from None

    async def _change(self, rng: random.Random, world: World) -> object:
        admin = await world.caller()
        found = await world.resolve(await self._some(world, *ANY), admin)
        changes = Changes(properties={"urn:x": str(rng.random())})
        return found.node and await nodes.update(world.database, admin, found.node, changes)


@pytest.mark.parametrize(("seed", "kept"), [(1, 0), (2, 1)])
async def test_storm_leaves_a_tree(servers: Servers, storage: Storage, seed: int, kept: int) -> None:
    """Also where what is deleted goes into the trash, and what is replaced becomes a version."""
    storm = Storm(servers, storage)
    first = servers.worlds[0]
    await first.database.fetch("update policies set trash_days = $1, versions = $1 where container_id = 1", kept)
    tasks = [asyncio.create_task(storm.rage(100 * seed + i, 80)) for i in range(16)]
    async with asyncio.timeout(2 * PATIENCE):
        while not all(task.done() for task in tasks):
            assert await damages(first.database) == []
            await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)
    assert await damages(first.database) == []
    for action in ("create", "create leaf", "move", "copy", "delete", "upload", "change", "fold", "restore", "purge"):
        assert storm.results[f"{action}: done"] > 0
    rows = await first.database.fetch(
        "select location from nodes where location is not null union select location from versions"
    )
    named = {row[0] for row in rows}
    known = {row[0] for row in await first.database.fetch("select location from obsolete")}
    assert not storm.taken & (named | known)
    assert len(named | known | storm.taken) == storm.results["upload: done"]
    assert await deadlocks(first) == 0
