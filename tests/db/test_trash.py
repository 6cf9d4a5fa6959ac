"""The trash: what is deleted comes back as it was, and nothing of it can be reached meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from pyvospace.db import copies, nodes, trash, usage
from pyvospace.db.usage import Subject
from pyvospace.model.callers import Caller
from pyvospace.model.claims import EndpointClaims
from pyvospace.model.faults import DuplicateNode, NodeLocked, NodeNotFound, NotFound, PermissionDenied, QuotaExceeded
from pyvospace.model.stored import Changes
from pyvospace.model.vocabulary import NodeType
from pyvospace.server.emptying import empty
from tests.db.test_usage import used
from tests.db.world import Storage, World, age, obsolete, push, stored_file
from tests.support.tree_check import damages


@pytest.fixture
async def kept(world: World, storage: Storage) -> AsyncIterator[World]:
    """t/a/data (of 3 bytes and a version of 1) and t/b/link; for seven days, and two versions, below t."""
    await world.add("t")
    await keep(world, "t", 7)
    for where in ("t/a", "t/b", "other"):
        await world.add(where)
    await world.add("t/b/link", NodeType.LINK, Changes(public=True, target="urn:x"))
    for size in (1, 3):
        await storage.upload(await push(world, "t/a/data", await world.caller("owner")), bytes(size))
    yield world
    assert await damages(world.database) == []


async def keep(world: World, where: str, days: int, versions: int = 2) -> None:
    await world.database.fetchrow(
        "insert into policies (container_id, trash_days, versions) values ($1, $2, $3)"
        " on conflict (container_id) do update set trash_days = excluded.trash_days, versions = excluded.versions",
        (await world.node(where)).id,
        days,
        versions,
    )


async def entries(world: World, caller: Caller | None = None) -> list[trash.Entry]:
    return await trash.entries(world.database, caller or await world.caller(), before=1 << 60, limit=100)


async def restore(world: World, entry: trash.Entry, container: str, name: str) -> bool:
    """Restore as an administrator."""
    return await trash.restore(world.database, await world.caller(), entry, await world.node(container), name)


async def test_tree_goes_and_comes_back_with_all_that_belongs_to_it(kept: World, storage: Storage) -> None:
    owner = await kept.caller("owner")
    await kept.change("t/a", Changes(properties={"urn:x": "y"}, group_read=("ivo://g",)))
    before, of_owner = await kept.node("t/a/data"), await usage.of_user(kept.database, owner.id)
    assert await used(kept, "t") == (4, 4)
    assert await nodes.delete(kept.database, owner, await kept.node("t/a"))
    assert (await used(kept, "t"), await used(kept, "other")) == ((0, 2), (0, 0))
    assert await usage.of_user(kept.database, owner.id) == of_owner, "it is still his"
    (entry,) = await entries(kept, owner)
    assert (entry.names, entry.bytes, entry.nodes, entry.deleted_by) == (("t", "a"), 4, 2, "owner")
    assert (entry.until - entry.deleted).days in {6, 7}
    await kept.add("t/a")
    with pytest.raises(DuplicateNode):
        await restore(kept, entry, "t", "a")
    assert await restore(kept, entry, "other", "back")
    after = await kept.node("other/back/data")
    assert (after.id, after.md5, after.changed) == (before.id, before.md5, before.changed)
    back = await kept.node("other/back")
    assert (back.properties, back.group_read) == ({"urn:x": "y"}, ("ivo://g",))
    assert await used(kept, "other") == (4, 2)
    assert await entries(kept) == []
    assert await obsolete(kept) == []
    with pytest.raises(NotFound):
        await restore(kept, entry, "t", "again")
    await kept.remove("t/b/link")
    (entry,) = await entries(kept)
    assert await restore(kept, entry, "t/b", "link")
    assert (await kept.node("t/b/link")).target == "urn:x"


async def test_nothing_in_the_trash_can_be_reached(kept: World, storage: Storage) -> None:
    """Not even by an administrator, nor by ids and endpoints from before (I26, I28)."""
    admin, owner = await kept.caller(), await kept.caller("owner")
    tree, box, data = [await kept.node(where) for where in ("t", "t/a", "t/a/data")]
    reading = await push(kept, "t/a/data", owner)
    writing = [await push(kept, f"t/a/{name}", owner) for name in ("data", "new")]
    leases = [await storage.catalogue.claim_upload(one, size=1) for one in writing]
    await kept.remove("t")
    for node in (tree, box, data):
        assert not await nodes.delete(kept.database, admin, node)
        assert await nodes.update(kept.database, admin, node, Changes(properties={"urn:a": "b"})) is None
        assert await nodes.move(kept.database, admin, node, await kept.node("other"), "stolen") is None
        assert await copies.copy(kept.database, admin, node, await kept.node("other"), "stolen") is None
    assert await nodes.move(kept.database, admin, await kept.node("other"), box, "lost") is None
    assert await copies.copy(kept.database, admin, await kept.node("other"), box, "lost") is None
    await refuses_bytes(storage, data.id, admin, owner)
    with pytest.raises(NodeNotFound):
        await storage.catalogue.claim_upload(reading, size=1)
    for lease in leases:
        with pytest.raises(NodeNotFound):
            await storage.store(lease, stored_file())
    found = await kept.resolve("0/" + str(box.id))
    assert found.depth == 0
    for text in ("data", "link", str(box.id), str(tree.id)):
        rows = await kept.database.fetch(
            "select way from search_tree(1, '', '', jsonb_build_object('name', $1::text), $2, '{}', true, 10, 1000)"
            " where id is not null", text, admin.id)  # fmt: skip
        assert rows == []
    assert not [one for one in await kept.listing("") if one.name in {"t", "0", str(tree.id)}]
    assert [(one.names, one.nodes) for one in await entries(kept)] == [(("t",), 5)]


async def refuses_bytes(storage: Storage, node: int, *callers: Caller) -> None:
    """Fail if endpoints from before still give the bytes of a node, or of its version."""
    claims = EndpointClaims(
        operation="get", node_id=node, job_id=None, user_id=None, expires=datetime.now(UTC), version=1
    )
    for caller in callers:
        with pytest.raises(PermissionDenied):
            await storage.catalogue.claim_download(replace(claims, user_id=caller.id))
        with pytest.raises(PermissionDenied):
            await storage.catalogue.claim_version(replace(claims, user_id=caller.id))


async def test_policies_say_what_is_kept_and_obstacles_what_stays(kept: World, storage: Storage) -> None:
    await storage.upload(await push(kept, "other/data", await kept.caller("owner")))
    await kept.remove("other/data")
    assert (await entries(kept), len(await obsolete(kept))) == ([], 1)
    await keep(kept, "t/a", 0)
    await kept.remove("t/a/data")
    assert (await entries(kept), len(await obsolete(kept))) == ([], 3)
    await kept.remove("t/a")
    assert await entries(kept) == []
    await kept.change("t/b/link", Changes(locked=True))
    with pytest.raises(NodeLocked):
        await kept.remove("t/b")
    await kept.change("t/b/link", Changes(locked=False))
    await kept.move("t", "other", "t")
    await kept.remove("other")
    assert [one.names for one in await entries(kept)] == [("other",)], "since something in it asks for it"


async def test_what_is_over_is_removed_piece_by_piece(kept: World, storage: Storage) -> None:
    """With its versions, quotas and policies; who is killed in between leaves the rest to the next round."""
    for number in range(5):
        await kept.add(f"t/b/{number}", NodeType.DATA)
    owner = await kept.caller("owner")
    limited = Subject(container=(await kept.node("t/b")).id)
    await kept.database.transact(lambda c: usage.set_quota(c, limited, bytes=9, nodes=None))
    await kept.remove("t")
    (entry,) = await entries(kept)
    await empty(kept.database)
    assert await entries(kept) == [entry]
    await age(kept, "trash", "until", 8 * 86400)
    assert await entries(kept) == []
    with pytest.raises(NotFound):
        await restore(kept, entry, "other", "t")
    await trash.give_up_due(kept.database, limit=10)
    assert await trash.purge(kept.database, entry.id, piece=3)
    assert await damages(kept.database) == []
    await empty(kept.database)
    assert await kept.database.fetchval("select count(*) from trash") == 0
    assert await kept.database.fetchval("select count(*) from policies where container_id > 1") == 0
    assert await kept.database.fetchval("select count(*) from quotas") == 0
    assert await kept.database.fetchval("select count(*) from versions") == 0
    assert len(await obsolete(kept)) == 2
    assert (await usage.of_user(kept.database, owner.id)).bytes == 0
    rows = await kept.database.fetch(
        "select action from audit where node_id = $1 and details ->> 'trash' = $2 order by id",
        entry.node_id,
        str(entry.id),
    )
    assert [row["action"] for row in rows] == ["deleteNode", "purgeNode"]


async def test_quotas_of_containers_forget_what_is_in_the_trash_and_ask_when_it_comes_back(
    kept: World, storage: Storage
) -> None:
    owner = await kept.caller("owner")
    await kept.add("t/a/box")
    subjects = Subject(container=(await kept.node("t")).id), Subject(user=owner.id)
    for subject in subjects:
        await kept.database.transact(partial(usage.set_quota, subject=subject, bytes=6, nodes=None))
    await kept.remove("t/a")
    (entry,) = await entries(kept)
    with pytest.raises(QuotaExceeded, match="user owner"):
        await push(kept, "t/b/new", owner, announced=3)
    await kept.database.transact(lambda c: usage.set_quota(c, subjects[1], bytes=None, nodes=None))
    await storage.upload(await push(kept, "t/b/new", owner), bytes(3))
    with pytest.raises(QuotaExceeded, match="quota of /t: limit 6 bytes, 3 left"):
        await restore(kept, entry, "t", "a")
    assert await restore(kept, entry, "other", "a")
    assert await used(kept, "other") == (4, 3)
