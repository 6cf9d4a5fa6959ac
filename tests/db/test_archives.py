"""Archives in the catalogue: trees walked page by page, rights as of now, and trees that are made at once."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pyvospace.db.archives import PostgresArchives
from pyvospace.model.archives import Leaf, PackClaim, Unpacked
from pyvospace.model.callers import Caller
from pyvospace.model.claims import EndpointClaims
from pyvospace.model.faults import (
    ContainerNotFound,
    EndpointUsed,
    NodeBusy,
    PermissionDenied,
    RequestEntityTooLarge,
)
from pyvospace.model.stored import Changes
from pyvospace.model.uris import MAX_DEPTH
from pyvospace.model.vocabulary import TAR_VIEW, NodeType, Phase
from pyvospace.storage.archives.walking import Walk
from tests.db.world import Storage, World, age, obsolete, phase, pull, push, stored_file

AUTHORITY = "example.org~space"


def archives(storage: Storage) -> PostgresArchives:
    return PostgresArchives(storage.database, storage.id, upload_wait=10.0, repeat_window=60.0)


async def agreed(world: World, storage: Storage, claims: EndpointClaims, *nodes: int) -> EndpointClaims:
    """Let a job be one of an archive, at this storage."""
    request = {"view": {"uri": TAR_VIEW, "params": []}, "served": ["pack", list(nodes)]}
    await world.database.fetchrow(
        "update jobs set request = $2, storage_id = (select id from storages where uuid = $3) where id = $1",
        claims.job_id,
        json.dumps(request),
        storage.id,
    )
    return claims


async def packed(world: World, storage: Storage, where: str, caller: Caller) -> PackClaim:
    claims = await agreed(world, storage, await pull(world, where, caller), (await world.node(where)).id)
    return await archives(storage).claim_pack(claims)


async def paths(storage: Storage, claim: PackClaim) -> list[str]:
    walk = Walk(archives(storage), claim, AUTHORITY)
    found = [entry.path for entry, _ in await walk.begin()]
    async for page in walk.pages():
        found += [entry.path for entry, _ in page]
    assert walk._paths == {}
    return found


async def test_large_tree_is_walked_whole(world: World, storage: Storage) -> None:
    """More containers, and more children of one, than a page holds."""
    await world.add("top")
    await world.database.fetchrow(
        """with top as (select id, owner_id from nodes where name = 'top'),
           folders as (insert into nodes (parent_id, name, type, owner_id)
                       select id, 'f' || i, 'ContainerNode', owner_id from top, generate_series(1, 2100) as i
                       returning id, owner_id),
           places as (insert into containers (id, path)
                      select f.id, c.path || f.id::text from folders f, top t join containers c on c.id = t.id)
           select count(*) from folders"""
    )
    await world.database.fetchrow(
        """insert into nodes (parent_id, name, type, owner_id)
           select id, 'leaf', 'DataNode', owner_id from nodes where name like 'f%' union all
           select id, 'l' || i, 'DataNode', owner_id from nodes, generate_series(1, 2500) as i where name = 'f7'"""
    )
    found = await paths(storage, await packed(world, storage, "top", await world.caller()))
    expected = {"top", *(f"top/f{i}" for i in range(1, 2101)), *(f"top/f{i}/leaf" for i in range(1, 2101))}
    assert len(found) == len(set(found))
    assert set(found) == expected | {f"top/f7/l{i}" for i in range(1, 2501)}
    assert all(found.index(path.rpartition("/")[0]) < place for place, path in enumerate(found) if path != "top")


async def test_rights_are_asked_for_with_each_page(world: World, storage: Storage) -> None:
    reader = await world.caller("reader")
    for name in ("top", "top/a", "top/b"):
        await world.add(name)
    claim = await packed(world, storage, "top", reader)
    walk = Walk(archives(storage), claim, AUTHORITY)
    await walk.begin()
    pages = walk.pages()
    assert [entry.path for entry, _ in await anext(pages)] == ["top/a", "top/b"]
    await world.change("top", Changes(public=False))
    with pytest.raises(PermissionDenied):
        await Walk(archives(storage), claim, AUTHORITY).begin()
    await world.database.fetchrow("update jobs set phase = 'ABORTED'")
    with pytest.raises(PermissionDenied):
        await archives(storage).children(claim, claim.nodes, after="", at_most=10)
    await pages.aclose()


async def test_endpoints_of_archives_end(world: World, storage: Storage, foreign: Storage) -> None:
    claims = await agreed(world, storage, await pull(world, "", await world.caller()), 1)
    with pytest.raises(PermissionDenied):
        await archives(foreign).claim_pack(claims)
    with pytest.raises(PermissionDenied):
        await archives(storage).claim_pack(replace(claims, user_id=None))
    claim = await archives(storage).claim_pack(claims)
    assert claim.waiting
    await age(world, "jobs", "expires", 3601)
    with pytest.raises(PermissionDenied, match="expired"):
        await archives(storage).claim_pack(claims)
    assert await archives(storage).nodes(claim, claim.nodes)  # it began in time
    await archives(storage).delivered(claim)
    assert await phase(world, claims.job_id) is Phase.COMPLETED


TREE = Unpacked(
    folders=((0, "a"), (0, "b"), (1, "c")),
    level_ends=(2, 3),
    leaves=(Leaf(3, "file", stored_file()), Leaf(0, "to", None, "vos://example.org~space/top/a")),
)


async def test_tree_is_made_at_once(world: World, storage: Storage) -> None:
    await world.add("top")
    owner = await world.caller("owner")
    claims = await agreed(world, storage, await push(world, "top", owner))
    claim = await archives(storage).claim_unpack(claims, size=10)
    assert claim.path == ("top",)
    await archives(storage).unpack(claims, claim, TREE)
    assert [node.name for node in await world.listing("top")] == ["a", "b", "to"]
    made = await world.node("top/a/c/file")
    assert (made.owner, made.size, made.type) == ("owner", 5, NodeType.DATA)
    assert await phase(world, claims.job_id) is Phase.COMPLETED
    again = await archives(storage).claim_unpack(claims, size=None)
    with pytest.raises(NodeBusy):  # the fence of the first attempt
        await archives(storage).unpack(claims, claim, TREE)
    newer = replace(TREE, leaves=(Leaf(3, "file", stored_file(b"newer")), *TREE.leaves[1:]))
    await archives(storage).unpack(claims, again, newer)
    assert (await world.node("top/a/c/file")).md5 == newer.leaves[0].stored.md5  # type: ignore[union-attr]
    assert await obsolete(world) == [TREE.leaves[0].stored.location]  # type: ignore[union-attr]
    await age(world, "jobs", "ended", 61)
    with pytest.raises(EndpointUsed):
        await archives(storage).claim_unpack(claims, size=None)


async def test_one_archive_at_a_time(world: World, storage: Storage) -> None:
    await world.add("top")
    owner = await world.caller("owner")
    first, second = [await agreed(world, storage, await push(world, "top", owner, size_limit=10)) for _ in range(2)]
    claim = await archives(storage).claim_unpack(first, size=None)
    with pytest.raises(NodeBusy):
        await archives(storage).claim_unpack(second, size=None)
    with pytest.raises(RequestEntityTooLarge):
        await archives(storage).claim_unpack(first, size=11)
    await storage.catalogue.release(claim, reason="broken")
    await archives(storage).claim_unpack(second, size=None)


async def test_container_that_went_or_was_closed(world: World, storage: Storage) -> None:
    await world.add("top")
    owner = await world.caller("owner")
    claims = await agreed(world, storage, await push(world, "top", owner))
    claim = await archives(storage).claim_unpack(claims, size=None)
    await world.change("top", Changes(locked=True))
    with pytest.raises(Exception, match="locked"):
        await archives(storage).unpack(claims, claim, TREE)
    await world.change("top", Changes(locked=False))
    await world.remove("top")
    with pytest.raises(ContainerNotFound):
        await archives(storage).unpack(claims, claim, TREE)


async def test_no_archive_is_too_deep(world: World, storage: Storage) -> None:
    await world.add("top")
    claims = await agreed(world, storage, await push(world, "top", await world.caller("owner")))
    claim = await archives(storage).claim_unpack(claims, size=None)
    levels = MAX_DEPTH - 1
    deep = Unpacked(tuple((level, "d") for level in range(levels)), tuple(range(1, levels + 1)), ())
    await archives(storage).unpack(claims, claim, deep)
    assert (await world.resolve(["top"] + ["d"] * levels)).node is not None
    again = await archives(storage).claim_unpack(claims, size=None)
    deeper = Unpacked((*deep.folders, (levels, "d")), (*deep.level_ends, levels + 1), ())
    with pytest.raises(ContainerNotFound):
        await archives(storage).unpack(claims, again, deeper)
