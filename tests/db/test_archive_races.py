"""Archives that become nodes while others create, move and delete in the same places: the tree stays one."""

from __future__ import annotations

import asyncio
import random

from pyvospace.db import nodes
from pyvospace.model.archives import Leaf, Unpacked
from pyvospace.model.faults import ContainerNotFound, DuplicateNode, InvalidArgument, NodeBusy, NodeNotFound
from pyvospace.model.vocabulary import NodeType
from tests.db.test_archives import agreed, archives
from tests.db.world import OPEN, Storage, World, obsolete, path, push, stored_file
from tests.support.tree_check import damages

LOST = (ContainerNotFound, DuplicateNode, InvalidArgument, NodeBusy, NodeNotFound)
PLACES = [f"top/{one}" for one in "abc"] + [f"top/{one}/{two}" for one in "abc" for two in "abc"]


def tree(rng: random.Random) -> Unpacked:
    """Two levels of folders with names that all use, and a file in each."""
    first, second = rng.sample("abc", 2), rng.sample("abc", 2)
    folders = (*((0, one) for one in first), *((1, one) for one in second))
    leaves = [Leaf(place, rng.choice("xyz"), stored_file(rng.randbytes(8))) for place in range(5)]
    return Unpacked(folders, (2, 4), (*leaves, Leaf(2, "to", None, "vos://example.org~space/top")))


async def unpack(world: World, storage: Storage, rng: random.Random, given: set[str]) -> str:
    where = rng.choice(["top", *PLACES])
    held = tree(rng)
    given.update(leaf.stored.location for leaf in held.leaves if leaf.stored)
    claims = await agreed(world, storage, await push(world, where, await world.caller()))
    claim = await archives(storage).claim_unpack(claims, size=None)
    await archives(storage).unpack(claims, claim, held)
    return "unpacked"


async def disturb(world: World, rng: random.Random) -> str:
    admin, what = await world.caller(), rng.choice(["create", "delete", "move"])
    where = rng.choice(PLACES)
    if what == "create":
        await nodes.insert(world.database, admin, path(where), kind=NodeType.CONTAINER, changes=OPEN)
        return what
    found = (await world.resolve(where, admin)).node
    if found is not None and what == "delete":
        await nodes.delete(world.database, admin, found)
    elif found is not None:
        into = (await world.resolve(rng.choice(["top", *PLACES]), admin)).node
        if into is not None and into.is_container:
            await nodes.move(world.database, admin, found, into, rng.choice("abc"))
    return what


async def test_archives_among_others(world: World, storage: Storage) -> None:
    await world.add("top")
    given: set[str] = set()
    seen: list[str] = []

    async def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(25):
            doing = unpack(world, storage, rng, given) if seed % 2 else disturb(world, rng)
            try:
                seen.append(await doing)
            except LOST as fault:
                seen.append(fault.code)
            except AssertionError:  # of `push`: there is no such place now
                seen.append("nowhere")

    async with asyncio.timeout(60):
        await asyncio.gather(*map(work, range(12)))
    assert seen.count("unpacked") > 10
    assert await damages(world.database) == []
    rows = await world.database.fetch("select location from nodes where location is not null")
    named, left = {row[0] for row in rows}, set(await obsolete(world))
    assert not named & left
    assert named | left <= given
