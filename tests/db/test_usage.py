"""Usage is the sum of the tree at every moment, and no quota is ever exceeded, whoever comes at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from pyvospace.db import copies, identities, nodes, usage
from pyvospace.db.usage import Subject, Usage
from pyvospace.model.faults import Fault, QuotaExceeded
from pyvospace.model.stored import Allowance, Changes
from pyvospace.model.vocabulary import NodeType
from tests.db.racing import race
from tests.db.world import OPEN, READERS, Storage, World, push, stored_file
from tests.support.tree_check import damages


@pytest.fixture
async def tree(world: World, storage: Storage) -> AsyncIterator[World]:
    """a/b/data (100 bytes), a/data (10 bytes), a/link, home."""
    for where in ("a", "a/b", "other"):
        await world.add(where)
    await world.add("a/link", NodeType.LINK, replace(OPEN, target="urn:x"))
    owner = await world.caller("owner")
    await storage.upload(await push(world, "a/b/data", owner), bytes(100))
    await storage.upload(await push(world, "a/data", owner), bytes(10))
    yield world
    assert await damages(world.database) == []
    while (folded := await usage.fold(world.database, limit=3)) is not None and folded.changes:
        assert await damages(world.database) == []


async def used(world: World, where: str) -> tuple[int, int]:
    found = await usage.of_container(world.database, (await world.node(where)).id)
    return found.bytes, found.nodes


async def limit(world: World, subject: Subject | str, most: int | None = None, *, nodes: int | None = None) -> None:
    """Set a quota, of a container by its path."""
    if isinstance(subject, str):
        subject = Subject(container=(await world.node(subject)).id)
    await world.database.transact(lambda c: usage.set_quota(c, subject, bytes=most, nodes=nodes))


async def user(world: World, name: str) -> Subject:
    return Subject(user=(await world.caller(name)).id)


async def upload(world: World, storage: Storage, where: str, size: int, who: str = "owner") -> None:
    await storage.upload(await push(world, where, await world.caller(who)), bytes(size))


# -------------------------------------------------------------------------------------------------------- counting


@pytest.mark.parametrize("folded", [False, True])
async def test_every_change_counts_in_all_containers_above(tree: World, storage: Storage, folded: bool) -> None:
    async def fold() -> None:
        if folded:
            assert await usage.fold(tree.database, limit=1000)

    async def counts() -> list[tuple[int, int]]:
        await fold()
        assert await damages(tree.database) == []
        return [await used(tree, where) for where in ("", "a", "other")]

    home = (await used(tree, "home"))[1] + 1
    assert await counts() == [(110, 6 + home), (110, 4), (0, 0)]
    await upload(tree, storage, "a/b/data", 70)  # replaced
    await upload(tree, storage, "a/b/new", 5)
    assert await counts() == [(85, 7 + home), (85, 5), (0, 0)]
    assert await tree.move("a/b", "other", "b")
    assert await counts() == [(85, 7 + home), (10, 2), (75, 3)]
    assert await tree.move("a/data", "other", "data")
    assert await tree.move("other/data", "other", "renamed")
    assert await counts() == [(85, 7 + home), (0, 1), (85, 4)]
    admin = await tree.caller()
    assert await copies.copy(tree.database, admin, await tree.node("other"), await tree.node("a"), "copy") == 5
    assert await counts() == [(170, 12 + home), (85, 6), (85, 4)]
    await tree.remove("a/copy")
    assert await counts() == [(85, 7 + home), (0, 1), (85, 4)]
    await tree.remove("other/renamed")
    assert await counts() == [(75, 6 + home), (0, 1), (75, 3)]
    owner, reader = await tree.caller("owner"), await tree.caller("reader")
    before = await usage.of_user(tree.database, owner.id)
    await tree.database.fetchrow("update nodes set owner_id = $1 where name = 'new'", reader.id)
    assert await usage.of_user(tree.database, owner.id) == Usage(before.bytes - 5, before.nodes - 1)
    assert await usage.of_group(tree.database, READERS) == await usage.of_user(tree.database, reader.id)
    assert (await usage.of_user(tree.database, reader.id)).bytes == 5
    await tree.remove("other/b")
    assert await counts() == [(0, 3 + home), (0, 1), (0, 0)]


async def test_folded_changes_make_room_for_new_ones(tree: World) -> None:
    sizes = set()
    for _ in range(4):
        for turn in range(30):
            await tree.remove("other" if turn % 2 == 0 else "again")
            await tree.add("again" if turn % 2 == 0 else "other")
        assert await usage.fold(tree.database, limit=1000)
        await usage.sweep_changes(tree.database)
        sizes.add(await tree.database.fetchval("select pg_relation_size('usage_changes')"))
    assert len(sizes) == 1


async def test_wrong_counters_are_found_and_repaired(tree: World) -> None:
    assert await usage.fold(tree.database, limit=1000)
    await tree.database.fetchrow("update usage set bytes = bytes + 7, nodes = nodes - 1 where container_id = 1")
    await tree.database.fetchrow("delete from usage_of_owners")
    found = await usage.repair_usage(tree.database)
    assert found[0].of_container is False
    (root,) = [one for one in found if one.of_container]
    assert (root.id, root.counted.bytes - root.real.bytes, root.counted.nodes - root.real.nodes) == (1, 7, -1)
    assert await usage.check_usage(tree.database) == []


async def test_fold_gives_way_to_who_changes_trees(tree: World) -> None:
    other = await tree.database.connect_alone()
    await other.execute("select pg_advisory_lock(8411)")
    assert await usage.fold(tree.database, limit=10) is None
    await other.close()
    assert await usage.fold(tree.database, limit=10)


# ---------------------------------------------------------------------------------------------------------- quotas


async def test_upload_fits_or_is_refused_with_what_is_left(tree: World, storage: Storage) -> None:
    await limit(tree, "a", 150)
    with pytest.raises(QuotaExceeded, match=r"the quota of /a: limit 150 bytes, 40 left"):
        await push(tree, "a/b/new", await tree.caller("owner"), announced=41)
    claims = await push(tree, "a/b/new", await tree.caller("owner"))
    with pytest.raises(QuotaExceeded, match=r"limit 150 bytes, 40 left"):
        await storage.catalogue.claim_upload(claims, size=41)
    claim = await storage.catalogue.claim_upload(claims, size=40)  # reserved
    with pytest.raises(QuotaExceeded, match=r"limit 150 bytes, 0 left"):
        await upload(tree, storage, "a/other", 1)
    await upload(tree, storage, "a/data", 10)  # replaced by as much
    await storage.store(claim, stored_file(bytes(40)))
    assert (await used(tree, "a"))[0] == 150
    await upload(tree, storage, "other/data", 1000)


async def test_bytes_of_unknown_number_reserve_when_they_are_there(tree: World, storage: Storage) -> None:
    await limit(tree, "", 150)
    claims = [await push(tree, f"a/{name}", await tree.caller("owner")) for name in ("new", "newer", "data")]
    first, second, third = [await storage.catalogue.claim_upload(one, size=None) for one in claims]
    assert (first.room, second.room, third.room) == (40, 40, 50)
    assert first.refusal == "the quota of /: limit 150 bytes, 40 left"
    await storage.catalogue.reserve(first, size=30)
    with pytest.raises(QuotaExceeded, match=r"limit 150 bytes, 10 left"):
        await storage.catalogue.reserve(second, size=11)
    await storage.catalogue.release(first, reason="test")
    await storage.catalogue.reserve(second, size=11)
    with pytest.raises(QuotaExceeded):  # more than was reserved
        await storage.store(third, stored_file(bytes(40)))
    await storage.store(second, stored_file(bytes(11)))


async def test_reservation_ends_with_its_lease(tree: World, storage: Storage) -> None:
    await limit(tree, "a", 150)
    owner = await tree.caller("owner")
    claim = await storage.catalogue.claim_upload(await push(tree, "a/new", owner), size=40)
    await tree.database.fetchrow("update writers set until = now() - interval '1 minute'")
    with pytest.raises(QuotaExceeded):  # it may be storing in this moment
        await upload(tree, storage, "a/other", 40)
    await tree.database.fetchrow("update writers set until = now() - interval '3 minutes'")
    await upload(tree, storage, "a/other", 30)
    with pytest.raises(QuotaExceeded, match="10 left"):
        await storage.store(claim, stored_file(bytes(40)))
    await storage.catalogue.renew(claim)
    with pytest.raises(QuotaExceeded, match="10 left"):
        await storage.store(claim, stored_file(bytes(40)))
    assert (await used(tree, "a"))[0] == 140


async def test_lower_limit_takes_nothing_new_and_lets_go(tree: World, storage: Storage) -> None:
    await limit(tree, "a", 50, nodes=2)
    for announced in (None, 1):
        with pytest.raises(QuotaExceeded, match="limit 50 bytes, 0 left"):
            await push(tree, "a/new", await tree.caller("owner"), announced=announced)
    with pytest.raises(QuotaExceeded, match="limit 2 nodes, 0 left"):
        await tree.add("a/b/folder")
    await upload(tree, storage, "a/b/data", 99)
    await tree.remove("a/link")
    assert await tree.move("a/b/data", "a", "here")
    assert await tree.move("a/here", "other", "gone")
    assert await used(tree, "a") == (10, 2)


async def test_copies_and_moves_fit_as_a_whole_or_not_at_all(tree: World) -> None:
    admin = await tree.caller()
    await limit(tree, "other", 109)
    before = await used(tree, "")
    for _ in range(2):
        with pytest.raises(QuotaExceeded, match=r"the quota of /other: limit 109 bytes, 109 left"):
            await copies.copy(tree.database, admin, await tree.node("a"), await tree.node("other"), "copy")
        with pytest.raises(QuotaExceeded, match=r"limit 109 bytes, 109 left"):
            await tree.move("a", "other", "moved")
    assert await used(tree, "") == before
    assert await tree.move("a/b", "other", "b")
    assert await tree.move("other/b", "other", "c")
    await limit(tree, "", 0)  # what was below it before stays so
    assert await tree.move("other/c", "a", "b")
    await limit(tree, "", None)
    await limit(tree, "other", None, nodes=4)
    with pytest.raises(QuotaExceeded, match=r"limit 4 nodes, 4 left"):
        await tree.move("a", "other", "moved")
    await limit(tree, "other", None, nodes=5)
    assert await tree.move("a", "other", "moved")
    assert await used(tree, "other") == (110, 5)


async def test_quota_of_users_and_groups_counts_what_they_own(tree: World, storage: Storage) -> None:
    database = tree.database
    await limit(tree, Subject(group=READERS), 100)
    await identities.change_member(database, "readers", "writer", add=True)
    await tree.add("open", changes=replace(OPEN, group_write=(READERS,)))
    await upload(tree, storage, "open/one", 60, "reader")
    with pytest.raises(QuotaExceeded, match=r"the quota of ivo://example.org/gms\?readers: limit 100 bytes, 40 left"):
        await upload(tree, storage, "open/two", 41, "writer")
    await limit(tree, await user(tree, "writer"), 30)
    with pytest.raises(QuotaExceeded, match=r"the quota of user writer: limit 30 bytes, 30 left"):
        await upload(tree, storage, "open/two", 31, "writer")
    await upload(tree, storage, "open/two", 30, "writer")
    # He who writes to what another one owns learns nothing of that one's quota.
    await tree.change("open/two", Changes(group_write=(READERS,)))
    with pytest.raises(QuotaExceeded, match="the quota of its owner does not allow it") as told:
        await upload(tree, storage, "open/two", 31, "reader")
    assert "30" not in str(told.value)
    await identities.change_member(database, "readers", "writer", add=False)
    await upload(tree, storage, "open/three", 40, "reader")
    writer = await tree.caller("writer")
    with pytest.raises(QuotaExceeded):
        await database.fetchrow("update nodes set owner_id = $1 where name = 'three'", writer.id)
    assert [one.name for one in await usage.quotas(database)] == ["writer", READERS]


async def test_quota_goes_with_its_container_and_stays_with_its_name(tree: World) -> None:
    await limit(tree, "a/b", 100)
    await limit(tree, "a/b", 200, nodes=7)
    assert await tree.move("a/b", "other", "c")
    (quota,) = await usage.quotas(tree.database)
    assert (quota.name, quota.bytes, quota.nodes, quota.used) == ("/other/c", 200, 7, Usage(100, 1))
    await tree.remove("other/c")
    assert await usage.quotas(tree.database) == []
    assert await tree.database.fetchval("select limited from space") is False


async def test_node_tells_what_is_used_and_left(tree: World) -> None:
    await tree.change("a", Changes(quota=Allowance(150)))
    await limit(tree, await user(tree, "owner"), 115)
    for found in (await tree.node("a"), *(one for one in await tree.listing("") if one.name == "a")):
        assert (found.used, found.quota, found.available) == (110, 150, 40)
    owner = await tree.caller("owner")
    assert [one.available for one in await tree.listing("a", owner) if one.is_container] == [5]
    await tree.change("a", Changes(quota=Allowance(None)))
    assert ((await tree.node("a")).quota, (await tree.node("other")).available) == (None, None)


async def test_crossings_are_told_once(tree: World, storage: Storage) -> None:
    async def crossed() -> list[tuple[int, int]]:
        folded = await usage.fold(tree.database, limit=1000)
        assert folded is not None
        return [(one.before, one.now) for one in await usage.crossings(tree.database, folded.quotas, [80, 95])]

    await limit(tree, "a", 125)
    assert await crossed() == [(0, 80)]
    assert (await tree.node("a")).quota_state == 80
    await upload(tree, storage, "a/data", 15)
    assert await crossed() == []
    await upload(tree, storage, "a/data", 20)
    assert await crossed() == [(80, 95)]
    await tree.remove("a/b")
    assert await crossed() == [(95, 0)]
    assert not (await tree.node("a")).quota_state


# ----------------------------------------------------------------------------------------------------------- races


async def test_no_quota_is_exceeded_by_many_at_once(tree: World, storage: Storage) -> None:
    """Invariant I24: 50 uploads where 20 fit, half of them of unknown size."""
    await limit(tree, "other", 200, nodes=30)
    owner = await tree.caller("owner")
    claims = [await push(tree, f"other/{i}", owner) for i in range(50)]

    async def bring(i: int) -> None:
        claim = await storage.catalogue.claim_upload(claims[i], size=10 if i % 2 else None)
        await asyncio.sleep(0)
        if claim.room is not None:
            await storage.catalogue.reserve(claim, size=10)
        await storage.store(claim, stored_file(bytes(10)))

    async def watch() -> None:
        while True:
            found = await used(tree, "other")
            assert found[0] <= 200
            await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch())
    results = await race(*map(_caught, map(bring, range(50))))
    watching.cancel()
    refused = [one for one in results if isinstance(one, QuotaExceeded)]
    assert (len(refused), await used(tree, "other")) == (30, (200, 20))


async def test_nodes_are_made_side_by_side_up_to_the_limit(tree: World) -> None:
    most = int(await tree.database.fetchval("show max_connections"))
    admin = await tree.caller()
    await limit(tree, "other", nodes=2 * most + 20)

    async def make(i: int) -> object:
        return await nodes.insert(tree.database, admin, ("other", str(i)), kind=NodeType.DATA, changes=OPEN)

    results: list[object] = []
    for start in range(0, 2 * most + 40, 40):
        results += await race(*(_caught(make(i)) for i in range(start, start + 40)))
    refused = [one for one in results if isinstance(one, Fault)]
    assert {type(one) for one in refused} == {QuotaExceeded}
    assert await used(tree, "other") == (0, 2 * most + 20)
    assert len(results) - len(refused) == 2 * most + 20


async def _caught(call: object) -> object:
    try:
        return await call  # type: ignore[misc]
    except QuotaExceeded as fault:
        return fault
