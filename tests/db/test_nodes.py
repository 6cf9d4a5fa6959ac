"""Single callers, one after the other: names, pages, properties, what is handed down, deletion and moves."""

from __future__ import annotations

import asyncio
import random
import unicodedata

import pytest

from pyvospace.db import bootstrap, copies, nodes
from pyvospace.model.faults import (
    DuplicateNode,
    InternalFault,
    InvalidArgument,
    NodeLocked,
    PermissionDenied,
)
from pyvospace.model.stored import ROOT_ID, Changes
from pyvospace.model.uris import MAX_DEPTH
from pyvospace.model.vocabulary import NodeType
from tests.db.world import OPEN, PREFIX, READERS, WRITERS, Storage, World, path, push
from tests.support.tree_check import damages

NAMES = [
    "plain",
    "Plain",
    " leading and trailing ",
    "%",
    "100%_done",
    "_",
    "back\\slash",
    "\\",
    "'; drop table nodes; --",
    '"quoted"',
    "$1",
    "{a,b}",
    "a.b.c",
    "-",
    "1",
    "null",
    "NULL",
    "\u00a0",
    "tab\tand\nnewline",
    "\x7f",
    "\ufeff",
    "\u202eabc",
    "e\u0301",
    "\u00e9",
    "日本語",
    "🔭",
    "🏳️‍🌈",
    "\U0010ffff",
    "x" * 255,
    "é" * 127,
    "日" * 85,
    "🔭" * 63 + "abc",
]
"""Names of every kind; what URIs may not hold is refused before it comes here."""


@pytest.mark.parametrize("kind", [NodeType.DATA, NodeType.CONTAINER])
async def test_names_are_kept_as_they_are(world: World, kind: NodeType) -> None:
    box = await world.add("box")
    for name in NAMES:
        made = await world.add(("box", name), kind)
        assert made.name == name
        assert (await world.node(("box", name))).id == made.id
    listed = [one.name for one in await world.listing("box", page=7)]
    assert listed == sorted(NAMES, key=str.encode)
    admin = await world.caller()
    for name in NAMES:
        with pytest.raises(DuplicateNode):
            await world.add(("box", name), kind)
        node = await world.node(("box", name))
        moved = await nodes.move(world.database, admin, node, box, "moved")
        assert moved is not None
        assert (await world.resolve(("box", name))).node is None
        moved = await nodes.move(world.database, admin, moved, box, name)
        assert moved is not None
        assert moved.name == name
    assert await damages(world.database) == []
    await world.remove("box")


async def test_forms_of_a_character_are_different_names(world: World) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "ä"), unicodedata.normalize("NFD", "ä")
    first, second = await world.add((composed,)), await world.add((decomposed,))
    assert (await world.node((composed,))).id == first.id != second.id == (await world.node((decomposed,))).id


@pytest.mark.parametrize("name", ["x" * 256, "é" * 128, "", "a\x00b"])
async def test_impossible_names_are_a_defect_of_who_let_them_through(world: World, name: str) -> None:
    with pytest.raises(InternalFault):
        await world.add((name,))


async def test_a_path_can_be_as_deep_as_it_can_be_written(world: World) -> None:
    """Ids of 11 digits too: the place of a container must fit into an index row."""
    rng = random.Random(1)
    names: tuple[str, ...] = ()
    for depth in range(MAX_DEPTH):
        await world.database.fetchval("select setval('nodes_id_seq', $1)", rng.randrange(10**10, 10**11))
        names = (*names, f"level {depth}")
        await world.add(names)
    found = await world.resolve(names)
    assert found.node is not None
    assert (found.depth, found.way_readable) == (MAX_DEPTH, True)
    made = await nodes.insert(
        world.database, await world.caller(), (*names, "too deep"), kind=NodeType.DATA, changes=Changes()
    )
    assert made is None
    await world.add("box")
    await world.add("box/inner")
    with pytest.raises(InvalidArgument, match="more than 200 names"):
        await nodes.move(
            world.database, await world.caller(), await world.node(names[:1]), await world.node("box"), "deep"
        )
    deep, admin = await world.node(names[:-1]), await world.caller()
    assert await nodes.move(world.database, admin, await world.node("box/inner"), deep, "inner")
    await world.add("box/data", NodeType.DATA)
    for change in (nodes.move, copies.copy):
        with pytest.raises(InvalidArgument, match="more than 200 names"):
            await change(world.database, admin, await world.node("box"), deep, "box")
    assert await copies.copy(world.database, admin, await world.node("box/data"), deep, "copy") == 1
    data, deepest = await world.node("box/data"), await world.node(names)
    assert await nodes.move(world.database, admin, data, deepest, "data") is None
    with pytest.raises(InvalidArgument, match="more than 200 names"):
        await copies.copy(world.database, admin, data, deepest, "data")
    await world.database.fetchval("select setval('nodes_id_seq', $1)", 10**11)
    assert await damages(world.database) == []
    await world.remove(names[0])
    assert [one.name for one in await world.listing("")] == ["box", "home"]


# ----------------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("page", [1, 2, 7, 100])
@pytest.mark.parametrize("limit", [None, 0, 1, 7, 31, 100])
async def test_pages_of_any_size_make_one_listing(world: World, page: int, limit: int | None) -> None:
    rng = random.Random(page)
    names = [f"{rng.choice('abZé_')}{rng.randrange(10**6)}" for _ in range(31)]
    for name in names:
        await world.add((name,), NodeType.DATA)
    everything = sorted([*names, "home"], key=str.encode)
    root, caller = await world.node(""), await world.caller()
    for start in ("", "a", everything[10], everything[10] + "\x01", everything[-1], "\U0010ffff"):
        pages = [
            [one.name for one in found]
            async for found in nodes.all_children(world.database, caller, root, start=start, limit=limit, page=page)
        ]
        expected = [name for name in everything if name.encode() >= start.encode()][:limit]
        assert [name for found in pages for name in found] == expected
        assert all(0 < len(found) <= page for found in pages)


async def test_what_stays_is_listed_once_while_others_come_and_go(world: World) -> None:
    stays = [f"stays {i:03}" for i in range(60)]
    for name in stays:
        await world.add((name,), NodeType.DATA)
    done = asyncio.Event()

    async def churn(number: int) -> None:
        rng = random.Random(number)
        while not done.is_set():
            name = f"stays {rng.randrange(60):03} {number}"
            await world.add((name,), NodeType.DATA)
            await world.remove(name)

    tasks = [asyncio.create_task(churn(number)) for number in range(3)]
    for page in (1, 3, 10, 50):
        listed = [one.name for one in await world.listing("", page=page) if one.name in set(stays)]
        assert listed == stays
    done.set()
    await asyncio.gather(*tasks)


# ------------------------------------------------------------------------------------------------------ properties


async def test_properties_are_set_and_taken_away(world: World) -> None:
    await world.add("data", NodeType.DATA, Changes(properties={"urn:a": "1", "urn:b": "2"}))
    changed = await world.change("data", Changes(removed=("urn:a", "urn:none"), properties={"urn:c": "é'\"\\"}))
    assert changed.properties == {"urn:b": "2", "urn:c": "é'\"\\"}
    assert (await world.node("data")).properties == changed.properties
    assert changed.changed > changed.created


async def test_nothing_to_change_changes_nothing_but_the_time(world: World) -> None:
    before = await world.add("data", NodeType.DATA, Changes(properties={"urn:a": "1"}, group_read=(READERS,)))
    after = await world.change("data", Changes())
    assert after.properties == before.properties
    assert (after.public, after.group_read, after.locked) == (before.public, before.group_read, before.locked)


async def test_no_property_is_lost_among_many_writers(world: World) -> None:
    node = await world.add("data", NodeType.DATA)
    admin = await world.caller()
    changes = [Changes(properties={f"urn:{i}": str(i), "urn:same": str(i)}) for i in range(40)]
    await asyncio.gather(*(nodes.update(world.database, admin, node, one) for one in changes))
    found = dict((await world.node("data")).properties)
    assert found.pop("urn:same") in {str(i) for i in range(40)}
    assert found == {f"urn:{i}": str(i) for i in range(40)}


async def test_node_that_moved_is_not_changed_at_its_old_place(world: World) -> None:
    await world.add("box")
    node = await world.add("data", NodeType.DATA)
    assert await world.move("data", "box", "data")
    admin = await world.caller()
    assert await nodes.update(world.database, admin, node, Changes(properties={"urn:x": "y"})) is None
    assert not await nodes.delete(world.database, admin, node)


async def test_root_has_properties_and_stays(world: World) -> None:
    root, admin = await world.node(""), await world.caller()
    assert (root.id, root.parent_id, root.name) == (ROOT_ID, None, "")
    changed = await nodes.update(world.database, admin, root, Changes(properties={"urn:x": "y"}))
    assert changed is not None
    assert changed.properties == {"urn:x": "y"}
    assert not await nodes.delete(world.database, admin, root)
    with pytest.raises(PermissionDenied):
        await nodes.move(world.database, admin, root, await world.node("home"), "root")


async def test_names_in_use_are_those_the_caller_may_see(world: World) -> None:
    await world.add("open", NodeType.DATA, Changes(public=True, properties={"urn:open": ""}))
    await world.add("box", NodeType.CONTAINER, Changes(properties={"urn:box": ""}))
    await world.add("box/data", NodeType.DATA, Changes(public=True, properties={"urn:below": ""}))
    stranger, admin = await world.caller("stranger"), await world.caller()
    assert await nodes.names_in_use(world.database, stranger, limit=10) == (stranger.epoch, ["urn:open"])
    found = await nodes.names_in_use(world.database, admin, limit=10)
    assert found == (admin.epoch, ["urn:below", "urn:box", "urn:open"])
    assert (await nodes.names_in_use(world.database, admin, limit=2))[1] == ["urn:below", "urn:box"]


# ----------------------------------------------------------------------------------------------------- handing down


async def test_rights_are_handed_down_if_the_container_says_so(world: World) -> None:
    rights = Changes(public=True, group_read=(READERS,), group_write=(WRITERS,), inherit=True)
    await world.add("box", NodeType.CONTAINER, rights)
    inner = await world.add("box/inner", NodeType.CONTAINER, Changes())
    data = await world.add("box/inner/data", NodeType.DATA, Changes())
    for node in (inner, data):
        assert (node.public, node.group_read, node.group_write) == (True, (READERS,), (WRITERS,))
    assert (inner.inherit, data.inherit) == (True, False)
    own = await world.add("box/own", NodeType.CONTAINER, Changes(public=False, group_read=(), inherit=False))
    assert (own.public, own.group_read, own.group_write, own.inherit) == (False, (), (WRITERS,), False)
    below = await world.add("box/own/data", NodeType.DATA, Changes())
    assert (below.public, below.group_read, below.group_write) == (False, (), ())


async def test_nothing_is_made_below_what_is_no_container(world: World) -> None:
    await world.add("data", NodeType.DATA)
    await world.add("link", NodeType.LINK, Changes(target="vos://example.org~space/home"))
    admin = await world.caller()
    for where in ("data/x", "link/x", "missing/x"):
        assert await nodes.insert(world.database, admin, path(where), kind=NodeType.DATA, changes=OPEN) is None
        found = await world.resolve(where)
        assert found.node is None
        assert found.container is None


# ----------------------------------------------------------------------------------------------- deletion and locks


async def test_tree_is_deleted_as_a_whole(world: World) -> None:
    for where in ("a", "a/b", "a/b/c", "ab", "a/d"):
        await world.add(where)
        await world.add(f"{where}/data", NodeType.DATA)
    before = await world.database.fetchval("select count(*) from containers")
    await world.remove("a")
    assert [one.name for one in await world.listing("")] == ["ab", "home"]
    assert await world.database.fetchval("select count(*) from containers") == before - 4
    assert await damages(world.database) == []
    await world.add("a")
    assert await world.listing("a") == []


async def test_neighbours_whose_ids_begin_alike_are_spared(world: World) -> None:
    """The tree below 1.7 is not that below 1.70 or 1.71."""
    await world.database.fetchval("select setval('nodes_id_seq', 6)")
    await world.add("a")  # 7
    for number in (70, 700, 71, 8):
        await world.database.fetchval("select setval('nodes_id_seq', $1)", number - 1)
        await world.add(f"n{number}")
        await world.database.fetchval("select setval('nodes_id_seq', $1)", 10_000 + number)
        await world.add(f"n{number}/data", NodeType.DATA)
    assert (await world.node("a")).id == 7
    await world.remove("a")
    assert [one.name for one in await world.listing("")] == ["home", "n70", "n700", "n71", "n8"]


@pytest.mark.parametrize("where", ["a", "a/b", "a/b/data", "a/link"])
async def test_locked_node_keeps_the_tree_above_it(world: World, where: str) -> None:
    for container in ("a", "a/b", "other"):
        await world.add(container)
    await world.add("a/b/data", NodeType.DATA)
    await world.add("a/link", NodeType.LINK, Changes(target="vos://x/y"))
    await world.change(where, Changes(locked=True))
    admin, top = await world.caller(), await world.node("a")
    other = await world.node("other")
    if where == "a":
        assert not await nodes.delete(world.database, admin, top)
        assert await nodes.move(world.database, admin, top, other, "a") is None
    else:
        with pytest.raises(NodeLocked):
            await nodes.delete(world.database, admin, top)
        with pytest.raises(NodeLocked):
            await nodes.move(world.database, admin, top, other, "a")
    node = await world.node(where)
    assert not await nodes.delete(world.database, admin, node)
    assert await nodes.move(world.database, admin, node, other, "x") is None
    await world.change(where, Changes(locked=False))
    await world.remove("a")


async def test_locked_container_keeps_its_children(world: World) -> None:
    await world.add("a")
    data = await world.add("a/data", NodeType.DATA)
    await world.change("a", Changes(locked=True))
    admin, home = await world.caller(), await world.node("home")
    assert await nodes.insert(world.database, admin, ("a", "new"), kind=NodeType.DATA, changes=OPEN) is None
    assert not await nodes.delete(world.database, admin, data)
    assert await nodes.move(world.database, admin, data, home, "data") is None
    other = await world.add("other", NodeType.DATA)
    assert await nodes.move(world.database, admin, other, await world.node("a"), "other") is None
    assert await nodes.update(world.database, admin, data, Changes(properties={"urn:x": "y"}))


# ----------------------------------------------------------------------------------------------------------- moves


async def tree(world: World) -> None:
    for container in ("a", "a/b", "a/b/c", "z"):
        await world.add(container)
        await world.add(f"{container}/data", NodeType.DATA)


@pytest.mark.parametrize(
    ("source", "container", "name"),
    [
        ("a/b", "", "moved"),
        ("a/b", "z", "b"),
        ("a", "z", "a"),
        ("a/b/c", "a", "c"),
        ("a/b", "a", "renamed"),
        ("a/b", "a", "b"),
        ("a/b/data", "z", "moved"),
        ("a/b/data", "a/b", "renamed"),
        ("a/b/c", "", "é"),
    ],
)
async def test_tree_is_moved_as_a_whole(world: World, source: str, container: str, name: str) -> None:
    await tree(world)
    before = await world.node(source)
    target = "/".join(filter(None, (container, name)))
    moved = await world.move(source, container, name)
    assert moved is not None
    assert (moved.id, moved.name, moved.owner, moved.created) == (before.id, name, before.owner, before.created)
    assert moved == await world.node(target)
    if target != source:
        assert (await world.resolve(source)).node is None
    if moved.is_container:
        assert (await world.node(f"{target}/data")).type is NodeType.DATA
        await world.add(f"{target}/new")
    assert await damages(world.database) == []


@pytest.mark.parametrize("container", ["a", "a/b", "a/b/c"])
async def test_nothing_is_moved_into_itself(world: World, container: str) -> None:
    await tree(world)
    with pytest.raises(InvalidArgument, match="into its descendants"):
        await world.move("a", container, "moved")
    assert await damages(world.database) == []


@pytest.mark.parametrize("source", ["a/b", "a/data"])
async def test_nothing_is_moved_onto_another(world: World, source: str) -> None:
    await tree(world)
    for name in ("a", "z", "home"):
        with pytest.raises(DuplicateNode):
            await world.move(source, "", name)
    assert (await world.resolve(source)).node is not None
    assert await damages(world.database) == []


async def test_what_is_gone_cannot_be_moved(world: World) -> None:
    await tree(world)
    admin = await world.caller()
    old, leaf, target = await world.node("a/b"), await world.node("a/data"), await world.node("z")
    assert await world.move("a/b", "", "elsewhere")
    assert await nodes.move(world.database, admin, old, target, "x") is None
    await world.remove("z")
    assert await nodes.move(world.database, admin, leaf, target, "x") is None
    await world.remove("a")
    assert await nodes.move(world.database, admin, leaf, await world.node("elsewhere"), "x") is None


async def test_ids_are_never_given_twice(world: World) -> None:
    last = await world.add("data", NodeType.DATA)
    await world.remove("data")
    await bootstrap.set_up(world.database, authority="example.org~space", group_prefixes=[PREFIX])  # a restart
    assert (await world.add("data", NodeType.DATA)).id > last.id


async def test_container_that_should_be_empty(world: World) -> None:
    await world.add("a")
    await world.add("a/b")
    admin = await world.caller()
    with pytest.raises(InvalidArgument, match="not empty"):
        await nodes.delete(world.database, admin, await world.node("a"), only_empty=True)
    assert await nodes.delete(world.database, admin, await world.node("a/b"), only_empty=True)
    assert await nodes.delete(world.database, admin, await world.node("a"), only_empty=True)


async def test_copy_decides_about_every_column(world: World, storage: Storage) -> None:
    """What is added to nodes one day is copied, or stands here."""
    admin = await world.caller()
    await world.add("a", NodeType.STRUCTURED)
    await storage.upload(await push(world, "a", admin))
    everything = Changes(
        properties={"urn:a": "b"}, public=True, group_read=(READERS,), group_write=(WRITERS,), inherit=True, locked=True
    )
    await world.change("a", everything)
    await world.database.fetchrow("update nodes set structure = 'fits' where location is not null")
    await world.change("a", Changes(immutable=True))
    source, home = await world.node("a"), await world.node("home")
    assert await copies.copy(world.database, admin, source, home, "b") == 1
    rows = await world.database.fetch("select * from nodes where location is not null order by id")
    before, after = map(dict, rows)
    different = {column for column in before if before[column] != after[column]}
    assert different == {
        "id", "parent_id", "name", "owner_id", "public", "group_read", "group_write", "inherit", "locked", "immutable",
        "created", "changed",
    }  # fmt: skip
