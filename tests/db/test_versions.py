"""Versions: what is replaced is kept as the policy says, counts, and goes with its node and never before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from pyvospace.db import copies, nodes, usage, versions
from pyvospace.db.usage import Subject
from pyvospace.model.claims import StoredFile
from pyvospace.model.faults import Fault, NodeBusy, NodeNotFound, PermissionDenied, QuotaExceeded
from pyvospace.model.stored import Changes
from tests.db.world import OPEN, Storage, World, obsolete, push
from tests.support.tree_check import damages


@pytest.fixture
async def kept(world: World, storage: Storage) -> AsyncIterator[World]:
    """A container of the owner, a, that keeps two versions of what is in it."""
    await world.add("a")
    await world.add("b")
    await keep(world, "a", 2)
    yield world
    assert await damages(world.database) == []


async def keep(world: World, where: str, number: int) -> None:
    await world.database.fetchrow(
        "insert into policies (container_id, versions) values ($1, $2)"
        " on conflict (container_id) do update set versions = excluded.versions",
        (await world.node(where)).id,
        number,
    )


async def bring(world: World, storage: Storage, where: str, size: int) -> StoredFile:
    return await storage.upload(await push(world, where, await world.caller("owner")), bytes([size]) * size)


async def numbers(world: World, where: str) -> list[tuple[int, int]]:
    """Give the number and the size of each version, the newest first."""
    found = await versions.versions(world.database, await world.node(where), before=1 << 30, limit=100)
    return [(one.number, one.size) for one in found]


async def used(world: World, where: str) -> int:
    return (await usage.of_container(world.database, (await world.node(where)).id)).bytes


async def test_old_bytes_become_versions_and_the_oldest_go(kept: World, storage: Storage) -> None:
    files = [await bring(kept, storage, "a/data", size) for size in (1, 2, 3, 4)]
    assert await numbers(kept, "a/data") == [(3, 3), (2, 2)]
    assert await obsolete(kept) == [files[0].location]
    assert await used(kept, "a") == 4 + 3 + 2
    assert (await usage.of_user(kept.database, (await kept.caller("owner")).id)).bytes == 9
    await keep(kept, "a", 1)
    await bring(kept, storage, "a/data", 5)
    assert await numbers(kept, "a/data") == [(4, 4)]
    await keep(kept, "a", 0)
    await bring(kept, storage, "a/data", 6)
    assert await numbers(kept, "a/data") == []
    assert await used(kept, "a") == 6
    await bring(kept, storage, "b/data", 1)
    await bring(kept, storage, "b/data", 2)
    assert (await numbers(kept, "b/data"), await used(kept, "b")) == ([], 2)


async def test_versions_move_with_their_node_and_go_with_it_but_are_not_copied(kept: World, storage: Storage) -> None:
    one, two = [await bring(kept, storage, "a/data", size) for size in (1, 2)]
    admin = await kept.caller()
    assert await copies.copy(kept.database, admin, await kept.node("a/data"), await kept.node("b"), "copy")
    assert await numbers(kept, "b/copy") == []
    await kept.move("a", "b", "moved")
    assert await numbers(kept, "b/moved/data") == [(1, 1)]
    assert await used(kept, "b") == 2 + 2 + 1
    await kept.remove("b/moved")
    assert await used(kept, "b") == 2
    assert set(await obsolete(kept)) == {one.location, two.location}
    await storage.database.fetch("select 1")
    assert await storage.catalogue.take_obsolete(grace=-1, limit=10) == [one.location], "the copy names the other"


async def test_restored_version_changes_places_with_what_is_there(kept: World, storage: Storage) -> None:
    claims = await push(kept, "a/data", owner := await kept.caller("owner"), keep_properties=True)
    await storage.upload(claims, b"1")
    await kept.change("a/data", Changes(properties={"urn:x": "y"}))
    again = await push(kept, "a/data", owner, keep_properties=True)
    await storage.upload(again, b"22")
    before = await used(kept, "a")
    assert await versions.restore(kept.database, owner, await kept.node("a/data"), 1)
    node = await kept.node("a/data")
    assert (node.size, node.properties) == (1, {"urn:x": "y"})
    assert await numbers(kept, "a/data") == [(2, 2)]
    assert await used(kept, "a") == before
    await keep(kept, "a", 0)  # what the policy says now is for bytes that come
    assert await versions.restore(kept.database, owner, node, 2)
    assert await numbers(kept, "a/data") == [(3, 1)]
    with pytest.raises(NodeNotFound, match="no version 2"):
        await versions.remove(kept.database, owner, node, 2)
    claim = await storage.catalogue.claim_upload(await push(kept, "a/data", owner), size=1)
    with pytest.raises(NodeBusy):
        await versions.restore(kept.database, owner, node, 3)
    await storage.catalogue.release(claim, reason="enough")
    for who in ("reader", "stranger", "anonymous"):
        assert not await versions.remove(kept.database, await kept.caller(who), node, 3), who
    await kept.change("a/data", Changes(immutable=True))
    assert not await versions.restore(kept.database, owner, await kept.node("a/data"), 3)
    assert not await versions.remove(kept.database, owner, await kept.node("a/data"), 3)
    await kept.change("a/data", Changes(immutable=False))
    assert await versions.remove(kept.database, owner, await kept.node("a/data"), 3)
    assert await used(kept, "a") == 2


async def test_endpoints_of_versions_ask_for_the_right_to_read(kept: World, storage: Storage) -> None:
    await kept.change("a", Changes(public=False))
    old = await bring(kept, storage, "a/data", 1)
    await bring(kept, storage, "a/data", 2)
    node, owner = await kept.node("a/data"), await kept.caller("owner")
    place = await versions.place(kept.database, node, 1, near="")
    assert place is not None
    assert place.storage == str(storage.id)
    claims = replace(await push(kept, "a/data", owner), operation="version", node_id=node.id, job_id=None, version=1)
    assert (await storage.catalogue.claim_version(claims)).location == old.location
    with pytest.raises(PermissionDenied):
        await storage.catalogue.claim_version(replace(claims, user_id=(await kept.caller("stranger")).id))
    with pytest.raises(NodeNotFound):
        await storage.catalogue.claim_version(replace(claims, version=2))
    await versions.remove(kept.database, owner, node, 1)
    with pytest.raises(NodeNotFound):
        await storage.catalogue.claim_version(claims)


async def test_quota_counts_what_is_kept(kept: World, storage: Storage) -> None:
    """A push needs room for all of its bytes, less those of the versions that it pushes out (I24)."""
    owner = await kept.caller("owner")
    subject = Subject(container=(await kept.node("a")).id)
    await kept.database.transact(lambda c: usage.set_quota(c, subject, bytes=10, nodes=None))
    for size in (4, 3):
        await bring(kept, storage, "a/data", size)
    with pytest.raises(QuotaExceeded, match="3 left"):
        await push(kept, "a/data", owner, announced=4)
    claims = await push(kept, "a/data", owner)
    with pytest.raises(QuotaExceeded, match="3 left"):
        await storage.catalogue.claim_upload(claims, size=4)
    claim = await storage.catalogue.claim_upload(claims, size=None)
    assert claim.room == 3
    with pytest.raises(QuotaExceeded):
        await storage.catalogue.reserve(claim, size=4)
    await storage.catalogue.release(claim, reason="too much")
    await bring(kept, storage, "a/data", 3)
    assert await used(kept, "a") == 10
    await bring(kept, storage, "a/data", 4)  # pushes the 4 bytes of the first version out
    assert await numbers(kept, "a/data") == [(3, 3), (2, 3)]
    claim = await storage.catalogue.claim_upload(await push(kept, "a/data", owner), size=3)
    assert await versions.remove(kept.database, owner, await kept.node("a/data"), 2)
    await bring(kept, storage, "a/other", 3)  # what it needs was free when it began, and is not any more
    await keep(kept, "a", 10)
    with pytest.raises(QuotaExceeded):
        await storage.store(claim, StoredFile(location="x", size=3, md5=bytes(16), sha256=bytes(32), content_type=None))
    assert await used(kept, "a") == 10


async def test_uploads_restores_and_deletions_at_once_lose_nothing(kept: World, storage: Storage) -> None:
    """Whoever comes in whatever order: each change is whole, or refused with a fault."""
    await keep(kept, "a", 3)
    await kept.add("a/box", changes=OPEN)
    await bring(kept, storage, "a/box/data", 1)
    owner = await kept.caller("owner")

    async def upload(size: int) -> None:
        await bring(kept, storage, "a/box/data", size)

    async def restore() -> None:
        node = await kept.node("a/box/data")
        for number, _ in (await numbers(kept, "a/box/data"))[-1:]:
            await versions.restore(kept.database, owner, node, number)

    async def remove() -> None:
        node = await kept.node("a/box/data")
        for number, _ in (await numbers(kept, "a/box/data"))[-1:]:
            await versions.remove(kept.database, owner, node, number)

    async def move() -> None:
        await nodes.move(kept.database, owner, await kept.node("a/box"), await kept.node("a"), "box")

    for turn in range(4):
        found = await asyncio.gather(
            *(upload(2 + turn + k) for k in range(3)), restore(), remove(), move(), restore(), return_exceptions=True
        )
        assert all(one is None or isinstance(one, Fault) for one in found), found
        assert await damages(kept.database) == []
    named = {
        row[0] for row in await kept.database.fetch("select location from nodes union select location from versions")
    }
    assert not named.intersection(await storage.catalogue.take_obsolete(grace=-1, limit=100))
