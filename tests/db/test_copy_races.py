"""Copies while others move, delete, upload and sweep: bytes go with the last of their names, and not before."""

from __future__ import annotations

import asyncio

from pyvospace.model.claims import StoredFile
from pyvospace.model.faults import ContainerNotFound, Fault, NodeNotFound
from pyvospace.model.vocabulary import NodeType
from tests.db.racing import PATIENCE, Servers, copy, deadlocks, delete, move, race, won
from tests.db.world import Storage, push, stored_file
from tests.support.tree_check import damages


async def test_copy_and_deletion_of_its_source(servers: Servers, storage: Storage) -> None:
    first, second = servers.worlds
    for _ in range(10):
        await first.add("s")
        files: list[StoredFile] = []
        swept: list[str] = []
        for name in ("a", "b"):
            await first.add(f"s/{name}")
            files.append(await storage.upload(await push(first, f"s/{name}/data", await first.caller())))

        async def sweep(swept: list[str] = swept) -> None:
            swept.extend(await storage.catalogue.take_obsolete(grace=0, limit=9))

        made, gone, _ = await race(copy(first, "s", "", "copy"), delete(second, "s"), sweep())
        assert gone is True
        await sweep()
        assert isinstance(made, NodeNotFound) or (made, swept) == (5, [])
        if made == 5:
            await first.remove("copy")
            await sweep()
        assert sorted(swept) == sorted(file.location for file in files)
        assert await damages(first.database) == []
    assert await deadlocks(first) == 0


async def test_bytes_stay_while_a_copy_is_being_made(servers: Servers, storage: Storage) -> None:
    """Its source goes, and nobody else can see its own node yet."""
    first, second = servers.worlds
    file = await storage.upload(await push(first, "a", await first.caller()))
    read, gone = asyncio.Event(), asyncio.Event()

    async def then(_: object) -> None:
        read.set()
        await gone.wait()

    copying = asyncio.create_task(copy(first, "a", "", "b", then=then))
    await read.wait()
    await second.remove("a")
    assert await storage.catalogue.take_obsolete(grace=0, limit=9) == []
    assert await storage.catalogue.unknown([file.location], margin=0) == []
    gone.set()
    assert await copying == 1
    assert await storage.catalogue.take_obsolete(grace=0, limit=9) == []
    assert await storage.catalogue.unknown([file.location], margin=0) == []
    await second.remove("b")
    assert await storage.catalogue.take_obsolete(grace=0, limit=9) == [file.location]


async def test_names_of_the_same_bytes_go_at_once(servers: Servers, storage: Storage) -> None:
    """By deletion of several trees, by new bytes, and while the sweep looks."""
    first, second = servers.worlds
    admin = await first.caller()
    for _ in range(8):
        await first.add("s")
        file = await storage.upload(await push(first, "s/a", admin))
        for name in ("b", "c"):
            await copy(first, "s/a", "s", name)
        await copy(first, "s", "", "t")
        claim = await storage.catalogue.claim_upload(await push(first, "t/b", admin), size=None)
        results = await race(
            delete(first, "s"),
            delete(second, "t/a"),
            storage.store(claim, stored_file()),
            storage.catalogue.take_obsolete(grace=0, limit=9),
            copy(second, "t/c", "", "u"),
        )
        assert won(results) == 5
        assert results[3] == []
        await first.remove("u")
        await first.remove("t/c")
        assert await storage.catalogue.take_obsolete(grace=0, limit=9) == [file.location]
        await first.remove("t")
        assert len(await storage.catalogue.take_obsolete(grace=0, limit=9)) == 1
    assert await deadlocks(first) == 0


async def test_copy_shows_one_moment(servers: Servers) -> None:
    """What is moved within the source is in each copy once."""
    first, second = servers.worlds
    for where in ("s", "s/a", "s/b", "s/a/t", "copies"):
        await first.add(where)
    await first.add("s/b/x", NodeType.DATA)
    done = asyncio.Event()

    async def moving() -> None:
        for turn in range(60):
            source, target = ("s/a", "s/b") if turn % 2 == 0 else ("s/b", "s/a")
            await move(first, f"{source}/t", target, "t")
            await move(first, f"{target}/x", source, "x")
        done.set()

    mover, number = asyncio.create_task(moving()), 0
    async with asyncio.timeout(PATIENCE):
        while not done.is_set():
            assert await copy(second, "s", "copies", str(number)) == 5
            number += 1
    await mover
    assert await damages(first.database) == []
    assert await deadlocks(first) == 0


async def test_copy_into_a_tree_that_moves_or_goes(servers: Servers) -> None:
    first, second = servers.worlds
    for where in ("s", "s/a", "s/a/b", "here", "there", "here/t", "here/t/a"):
        await first.add(where)
    for turn in range(10):
        source, target = ("here", "there") if turn % 2 == 0 else ("there", "here")
        results = await race(
            *(copy(second, "s", f"{source}/t/a", f"{turn}-{i}") for i in range(3)),
            move(first, f"{source}/t", target, "t"),
        )
        assert not isinstance(results[-1], Fault)
        assert {type(one) for one in results if isinstance(one, Fault)} <= {NodeNotFound}
        assert await damages(first.database) == []
    container = "here" if (await first.resolve("here/t")).node else "there"
    *made, gone = await race(
        *(copy(second, "s", f"{container}/t", f"x{i}") for i in range(4)), delete(first, container)
    )
    assert gone is True
    assert {type(one) for one in made if isinstance(one, Fault)} <= {NodeNotFound, ContainerNotFound}
    assert await damages(first.database) == []
    assert await deadlocks(first) == 0
