"""Who may do what: each statement that decides is asked for each kind of caller, against one table."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from pyvospace.db import identities, nodes
from pyvospace.model.callers import Caller
from pyvospace.model.faults import Fault, PermissionDenied
from pyvospace.model.stored import Changes, Resolution, StoredNode
from pyvospace.model.vocabulary import NodeType
from tests.db.world import OPEN, PEOPLE, READERS, WRITERS, Storage, World, path, pull, push, stored_file


@dataclass(frozen=True)
class Rights:
    """How a node is protected; it always belongs to `owner`."""

    public: bool
    group_read: bool
    group_write: bool

    @property
    def changes(self) -> Changes:
        return Changes(
            public=self.public,
            group_read=(READERS, "ivo://elsewhere/gms?other") if self.group_read else (),
            group_write=(WRITERS,) if self.group_write else (),
        )

    def readers(self) -> set[str]:
        """Say who may read."""
        if self.public:
            return set(PEOPLE)
        return self.writers() | ({"reader"} if self.group_read else set())

    def writers(self) -> set[str]:
        """Say who may write."""
        return {"admin", "owner"} | ({"writer"} if self.group_write else set())


TABLE = [Rights(*flags) for flags in itertools.product((False, True), repeat=3)]
protections = pytest.mark.parametrize("rights", TABLE, ids=str)


async def allowed(world: World, *, who: set[str]) -> dict[str, tuple[Caller, bool]]:
    return {name: (await world.caller(name), name in who) for name in PEOPLE}


async def refuses(call: Awaitable[object]) -> bool:
    """Say whether a coroutine ends in PermissionDenied."""
    try:
        await call
    except PermissionDenied:
        return True
    return False


@protections
async def test_resolution_and_listing_say_what_a_caller_may(world: World, rights: Rights) -> None:
    await world.add("box", NodeType.CONTAINER, rights.changes)
    await world.add("box/data", NodeType.DATA, rights.changes)
    for name in PEOPLE:
        caller = await world.caller(name)
        found = await world.resolve("box", caller)
        assert found.node is not None
        assert found.way_readable
        facts = (found.node.readable, found.node.writable)
        assert facts == (name in rights.readers(), name in rights.writers()), name
        below = await world.resolve("box/data", caller)
        assert below.way_readable is facts[0], name
        (child,) = await nodes.children(world.database, caller, found.node, start="", inclusive=True, limit=10)
        assert (child.readable, child.writable) == facts, name


@protections
async def test_insert_needs_the_right_to_write(world: World, rights: Rights) -> None:
    await world.add("box", NodeType.CONTAINER, rights.changes)
    for name, (caller, may) in (await allowed(world, who=rights.writers())).items():
        for kind in (NodeType.DATA, NodeType.CONTAINER):
            made = await nodes.insert(world.database, caller, path(f"box/{name}-{kind}"), kind=kind, changes=Changes())
            assert (made is not None) is may, name
            assert made is None or (made.owner_id, made.owner, made.readable) == (caller.id, caller.name, True)
    assert len(await world.listing("box")) == 2 * len(rights.writers())


@protections
async def test_update_needs_the_right_to_write(world: World, rights: Rights) -> None:
    for name, (caller, may) in (await allowed(world, who=rights.writers())).items():
        box = await world.add(name, NodeType.CONTAINER, rights.changes)
        changed = await nodes.update(world.database, caller, box, Changes(properties={"urn:x": name}))
        assert (changed is not None) is may, name
        assert (await world.node(name)).properties == ({"urn:x": name} if may else {})


@protections
@pytest.mark.parametrize(
    "changes", [Changes(public=True), Changes(group_read=()), Changes(group_write=()), Changes(inherit=True)]
)
async def test_rights_are_changed_by_the_owner_only(world: World, rights: Rights, changes: Changes) -> None:
    for name, (caller, may) in (await allowed(world, who={"admin", "owner"})).items():
        box = await world.add(name, NodeType.CONTAINER, rights.changes)
        assert (await nodes.update(world.database, caller, box, changes) is not None) is may, name
        assert ((await world.node(name)).changed != box.changed) is may


@protections
async def test_delete_needs_the_right_to_write_to_the_container(world: World, rights: Rights) -> None:
    await world.add("box", NodeType.CONTAINER, rights.changes)
    for name, (caller, may) in (await allowed(world, who=rights.writers())).items():
        for kind in (NodeType.DATA, NodeType.LINK, NodeType.CONTAINER):
            changes = Changes(target="vos://x/y" if kind is NodeType.LINK else None)
            node = await world.add(f"box/{kind}", kind, changes)
            assert await nodes.delete(world.database, caller, node) is may, name
            assert ((await world.resolve(f"box/{kind}")).node is None) is may
            if not may:
                await world.remove(f"box/{kind}")


@protections
async def test_tree_is_deleted_by_who_may_write_to_all_that_holds_something(world: World, rights: Rights) -> None:
    await world.add("open", NodeType.CONTAINER, Changes(group_read=(READERS,), group_write=(READERS, WRITERS)))
    for name, (caller, may) in (await allowed(world, who=rights.writers())).items():
        top = await world.add("open/top", NodeType.CONTAINER, Changes(public=True, group_write=(READERS, WRITERS)))
        await world.add("open/top/box", NodeType.CONTAINER, rights.changes)
        await world.add("open/top/empty", NodeType.CONTAINER, Changes())
        await world.add("open/top/box/data", NodeType.DATA, Changes())
        if name in {"stranger", "anonymous"}:  # not even the way to it
            assert not await nodes.delete(world.database, caller, top)
        else:
            assert await refuses(nodes.delete(world.database, caller, top)) is not may
        assert ((await world.resolve("open/top/box/data")).node is None) is may
        if not may:
            await world.remove("open/top")


@protections
async def test_move_needs_the_right_to_write_at_both_ends(world: World, rights: Rights) -> None:
    everybody = Changes(public=True, group_write=(READERS, WRITERS))
    box = await world.add("box", NodeType.CONTAINER, rights.changes)
    free = await world.add("free", NodeType.CONTAINER, everybody)
    may_in_free = {"admin", "owner", "reader", "writer"}
    for name in PEOPLE:
        caller = await world.caller(name)
        may = name in rights.writers() & may_in_free
        for kind in (NodeType.DATA, NodeType.CONTAINER):
            out = await world.add("box/node", kind)
            moved = await nodes.move(world.database, caller, out, free, "moved")
            assert (moved is not None) is may, name
            await world.remove("free/moved" if may else "box/node")
            back = await world.add("free/node", kind)
            moved = await nodes.move(world.database, caller, back, box, "moved")
            assert (moved is not None) is may, name
            assert moved is None or (moved.owner, moved.name, moved.parent_id) == ("owner", "moved", box.id)
            await world.remove("box/moved" if may else "free/node")


@protections
async def test_push_needs_the_right_to_write(world: World, storage: Storage, rights: Rights) -> None:
    await world.add("box", NodeType.CONTAINER, rights.changes)
    await world.add("old", NodeType.DATA, rights.changes)
    for name, (caller, may) in (await allowed(world, who=rights.writers())).items():
        for where in (f"box/{name}", "old"):
            claims = await push(world, where, caller)
            denied = await refuses(storage.catalogue.claim_upload(claims, size=1))
            assert denied is not may, (name, where)
            assert await refuses(storage.catalogue.current(claims)) is not may
            await world.database.fetchrow("delete from writers")
        node = (await world.resolve(f"box/{name}")).node
        assert node is None  # not before its bytes have come


@protections
async def test_store_asks_for_the_right_once_more(world: World, storage: Storage, rights: Rights) -> None:
    everybody = Changes(public=True, group_write=(READERS, WRITERS))
    await world.add("box", NodeType.CONTAINER, everybody)
    for name in ("owner", "reader", "writer"):
        caller = await world.caller(name)
        for where in (f"box/{name}-new", f"box/{name}-old"):
            if where.endswith("old"):
                await world.add(where, NodeType.DATA, everybody)
            claim = await storage.catalogue.claim_upload(await push(world, where, caller), size=None)
            changed = "box" if where.endswith("new") else where
            await world.change(changed, rights.changes)
            may = name in rights.writers() & (rights.readers() | {"admin"})
            denied = await refuses(storage.store(claim, stored_file()))
            assert denied is not may, where
            await world.change(changed, everybody)
            node = (await world.resolve(where)).node
            assert (node is not None and node.size is not None) is may
            if may and node:
                assert node.owner == (name if where.endswith("new") else "owner")


@protections
async def test_pull_needs_the_right_to_read(world: World, storage: Storage, rights: Rights) -> None:
    await world.add("data", NodeType.DATA, rights.changes)
    await storage.upload(await push(world, "data", await world.caller()))
    for name, (caller, may) in (await allowed(world, who=rights.readers())).items():
        for with_job in (True, False):
            claims = await pull(world, "data", caller, with_job=with_job)
            assert await refuses(storage.catalogue.claim_download(claims)) is not may, name


async def closed_way(world: World) -> tuple[StoredNode, StoredNode]:
    """Make /closed/inner, of stranger, in which he may do everything but whose container he may not read."""
    await world.add("closed", NodeType.CONTAINER, Changes())
    inner = await world.add("closed/inner", NodeType.CONTAINER, OPEN, owner="stranger")
    return inner, await world.add("closed/inner/data", NodeType.DATA, OPEN, owner="stranger")


async def test_nothing_below_a_closed_container_can_be_changed(world: World) -> None:
    inner, data = await closed_way(world)
    caller = await world.caller("stranger")
    mine = await world.add("mine", NodeType.CONTAINER, OPEN, owner="stranger")
    database = world.database
    found = await world.resolve("closed/inner/data", caller)
    assert (found.way_readable, found.last.readable, found.last.writable) == (False, True, True)
    assert await nodes.insert(database, caller, path("closed/inner/new"), kind=NodeType.DATA, changes=OPEN) is None
    assert await nodes.update(database, caller, data, Changes(properties={"urn:x": "y"})) is None
    assert not await nodes.delete(database, caller, data)
    assert not await nodes.delete(database, caller, inner)
    empty = await world.add("closed/inner/empty", owner="stranger")
    assert not await nodes.delete(database, caller, empty)
    assert await nodes.move(database, caller, data, mine, "data") is None
    assert await nodes.move(database, caller, empty, mine, "empty") is None
    mine_data = await world.add("mine/data", NodeType.DATA, OPEN, owner="stranger")
    assert await nodes.move(database, caller, mine_data, inner, "new") is None
    assert await nodes.update(database, await world.caller(), data, Changes(properties={"urn:x": "y"}))


async def test_no_bytes_pass_below_a_closed_container(world: World, storage: Storage) -> None:
    await closed_way(world)
    caller = await world.caller("stranger")
    await storage.upload(await push(world, "closed/inner/data", await world.caller()))
    for where in ("closed/inner/data", "closed/inner/new"):
        assert await refuses(storage.catalogue.claim_upload(await push(world, where, caller), size=None))
    for with_job in (True, False):
        claims = await pull(world, "closed/inner/data", caller, with_job=with_job)
        assert await refuses(storage.catalogue.claim_download(claims))


async def test_way_that_is_closed_meanwhile_stops_what_had_begun(world: World, storage: Storage) -> None:
    outer = await world.add("outer")
    await world.add("outer/box", NodeType.CONTAINER, OPEN, owner="stranger")
    data = await world.add("outer/box/data", NodeType.DATA, OPEN, owner="stranger")
    caller = await world.caller("stranger")
    upload = await storage.catalogue.claim_upload(await push(world, "outer/box/data", caller), size=None)
    assert await nodes.update(world.database, await world.caller("owner"), outer, Changes(public=False))
    assert await nodes.insert(world.database, caller, path("outer/box/new"), kind=NodeType.DATA, changes=OPEN) is None
    assert not await nodes.delete(world.database, caller, data)
    assert await refuses(storage.store(upload, stored_file()))
    assert (await world.node("outer/box/data")).size is None


def facts(found: Resolution) -> tuple[bool, bool]:
    """Give all that a caller may learn: may he read the way down to where the path ends, and is there a node?"""
    readable = found.way_readable and (found.node is not None or found.last.readable)
    return readable, readable and found.node is not None


async def test_hidden_and_missing_are_one(world: World) -> None:
    await closed_way(world)
    await world.add("closed/data", NodeType.DATA, OPEN)
    await world.add("closed/link", NodeType.LINK, Changes(target="vos://example.org~space/x", public=True))
    for name in ("stranger", "anonymous", "reader"):
        caller = await world.caller(name)
        for where in ("inner", "data", "link", "missing", "inner/data", "inner/missing", "missing/missing"):
            assert facts(await world.resolve(f"closed/{where}", caller)) == (False, False)
        assert facts(await world.resolve("closed", caller)) == (True, True)
        assert facts(await world.resolve("missing", caller)) == (True, False)


async def test_node_that_may_not_be_read_is_listed_by_name(world: World) -> None:
    await world.add("box")
    await world.add("box/secret", NodeType.DATA, Changes(properties={"urn:x": "y"}))
    (child,) = await world.listing("box", await world.caller("stranger"))
    assert (child.name, child.type, child.readable, child.writable) == ("secret", NodeType.DATA, False, False)


# ---------------------------------------------------------------------------------------------------------- epochs


async def revoke_token(world: World) -> None:
    await identities.revoke_token(world.database, "writer", 1)


async def leave_group(world: World) -> None:
    await identities.change_member(world.database, "writers", "writer", add=False)


async def remove_group(world: World) -> None:
    await identities.remove_group(world.database, "writers")


async def disable(world: World) -> None:
    await identities.change_user(world.database, "writer", disabled=True)


async def change_password(world: World) -> None:
    await identities.change_user(world.database, "writer", password="new")


async def degrade(world: World) -> None:
    await identities.change_user(world.database, "writer", admin=False)


async def rename_groups(world: World) -> None:
    await identities.make_space(world.database, identities.Space("example.org~space", ("ivo://new/gms?",)))


@pytest.mark.parametrize(
    "event", [revoke_token, leave_group, remove_group, disable, change_password, degrade, rename_groups]
)
async def test_remembered_caller_changes_nothing_any_more(
    world: World, event: Callable[[World], Awaitable[None]]
) -> None:
    database = world.database
    await identities.change_user(database, "writer", admin=True)
    await identities.add_token(database, "writer", "laptop", b"x" * 32, None)
    box = await world.add("box", NodeType.CONTAINER, Changes(public=True, group_write=(WRITERS,)))
    leaf = await world.add("box/leaf", NodeType.DATA)
    tree = await world.add("box/tree")
    other = await world.add("other", NodeType.CONTAINER, Changes(public=True, group_write=(WRITERS,)))
    caller = await identities.by_token(database, b"x" * 32)
    assert caller is not None
    assert caller.admin
    assert (await world.resolve("box", caller)).epoch == caller.epoch
    assert await nodes.update(database, caller, box, Changes(properties={"urn:x": "before"}))
    await event(world)
    assert (await world.resolve("box", caller)).epoch > caller.epoch
    assert await nodes.insert(database, caller, path("box/new"), kind=NodeType.DATA, changes=OPEN) is None
    assert await nodes.insert(database, caller, path("box/new"), kind=NodeType.CONTAINER, changes=OPEN) is None
    assert await nodes.update(database, caller, box, Changes(properties={"urn:x": "after"})) is None
    assert not await nodes.delete(database, caller, leaf)
    assert not await nodes.delete(database, caller, tree)
    assert await nodes.move(database, caller, leaf, other, "leaf") is None
    assert await nodes.move(database, caller, tree, other, "tree") is None
    assert [one.name for one in await world.listing("box")] == ["leaf", "tree"]
    assert (await world.node("box")).properties == {"urn:x": "before"}


async def test_new_people_and_tokens_disturb_nobody(world: World) -> None:
    before = await world.caller("writer")
    await identities.add_user(world.database, "new", password=None, admin=False)
    await identities.add_token(world.database, "new", "laptop", b"n" * 32, None)
    assert (await world.caller("writer")).epoch == before.epoch


async def test_joining_a_group_is_noticed(world: World) -> None:
    before = await world.caller("stranger")
    await identities.change_member(world.database, "writers", "stranger", add=True)
    after = await world.caller("stranger")
    assert after.epoch > before.epoch
    assert (before.groups, after.groups) == ((), (WRITERS,))


async def test_disabled_user_moves_no_bytes(world: World, storage: Storage) -> None:
    await world.add("box", NodeType.CONTAINER, Changes(public=True, group_write=(WRITERS,)))
    caller = await world.caller("writer")
    await storage.upload(await push(world, "box/data", caller))
    claims = [await push(world, "box/data", caller), await push(world, "box/x", caller, discard=True)]
    begun = await storage.catalogue.claim_upload(await push(world, "box/new", caller), size=None)
    await identities.change_user(world.database, "writer", disabled=True)
    for one in claims:
        assert await refuses(storage.catalogue.claim_upload(one, size=None))
        assert await refuses(storage.catalogue.current(one))
    assert await refuses(storage.store(begun, stored_file()))
    assert await refuses(storage.catalogue.claim_download(await pull(world, "box/data", caller)))
    with pytest.raises(Fault):
        await storage.catalogue.claim_download(await pull(world, "box/data", caller, with_job=False))


async def test_member_who_left_moves_no_bytes(world: World, storage: Storage) -> None:
    await world.add("box", NodeType.CONTAINER, Changes(group_read=(READERS,), group_write=(WRITERS,)))
    caller = await world.caller("writer")
    begun = await storage.catalogue.claim_upload(await push(world, "box/new", caller), size=None)
    await storage.upload(await push(world, "box/data", caller))
    await leave_group(world)
    assert await refuses(storage.store(begun, stored_file()))
    assert await refuses(storage.catalogue.claim_download(await pull(world, "box/data", caller)))


async def test_missing_groups_close_the_way(world: World) -> None:
    """A NULL, which no statement of ours sends, gives nothing rather than everything."""
    box = await world.add("box", NodeType.CONTAINER, Changes(group_read=(READERS,)))
    query = "select way_is_readable($1, $2, $3::text[], $4)"
    assert await world.database.fetchval(query, box.id, 77, None, False) is False
    assert await world.database.fetchval(query, box.id, 77, [], False) is False
    assert await world.database.fetchval(query, box.id, 77, [READERS], False) is True
    assert await world.database.fetchval(query, None, 77, [READERS], True) is False
