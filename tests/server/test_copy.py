"""copyNode (VOSpace 2.1, section 6.2.3; R-COPY, I8)."""

from __future__ import annotations

import asyncio

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CADC, CORE
from tests.server.conftest import STAFF
from tests.support.agents import Agent, children_of, properties_of, type_of, uri_of
from tests.support.jobs import copy, delete_tree, ended, transfer

TITLE, PUBLIC = CORE + "title", CORE + "ispublic"


async def test_file(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"bytes")
    await alice.post(f"{folder}/a", properties={TITLE: "A", PUBLIC: "true", CADC + "islocked": "true"})
    before = properties_of(await alice.node(f"{folder}/a"))
    (await copy(alice, f"{folder}/a", f"{folder}/b")).assert_moved(f"{folder}/b")
    assert properties_of(await alice.node(f"{folder}/a")) == before
    after = properties_of(await alice.node(f"{folder}/b"))
    for kept in (TITLE, CORE + "length", CORE + "MD5", CORE + "mtime", CORE + "creator"):
        assert after[kept] == before[kept]
    for new in (CORE + "btime", CORE + "ctime"):
        assert after[new] > before[new]
    # Rights are not copied: those of the container hold, which hands none down.
    assert (after[PUBLIC], after.get(CADC + "islocked")) == ("false", None)
    assert await alice.pull(f"{folder}/b") == b"bytes"


async def test_tree(alice: Agent, folder: str) -> None:
    for path in ("t", "t/a", "t/a/b", "t/empty", "box"):
        await alice.make(f"{folder}/{path}", "ContainerNode", properties={TITLE: path})
    await alice.push(f"{folder}/t/a/b/data", b"deep")
    await alice.make(f"{folder}/t/new")
    await alice.make(f"{folder}/t/link", "LinkNode", target=uri_of(f"{folder}/t/a"))
    (await copy(alice, f"{folder}/t", f"{folder}/box", keep=None)).assert_moved(f"{folder}/box/t")
    for top in ("t", "box/t"):
        assert children_of(await alice.node(f"{folder}/{top}")) == ["a", "empty", "link", "new"]
        assert await alice.pull(f"{folder}/{top}/a/b/data") == b"deep"
        assert properties_of(await alice.node(f"{folder}/{top}/a/b"))[TITLE] == "t/a/b"
        link = await alice.node(f"{folder}/{top}/link")
        assert (type_of(link), link.findtext("{*}target")) == ("LinkNode", uri_of(f"{folder}/t/a"))
    # A container that was copied takes new children, and goes again whole.
    await alice.make(f"{folder}/box/t/a/b/c")
    (await alice.delete(f"{folder}/box")).assert_status(204)
    assert await alice.pull(f"{folder}/t/a/b/data") == b"deep"


async def test_both_sides_go_their_own_ways(alice: Agent, folder: str) -> None:
    for name in "abcd":
        await alice.push(f"{folder}/{name}", name.encode())
        (await copy(alice, f"{folder}/{name}", f"{folder}/{name}2")).assert_moved(f"{folder}/{name}2")
    await alice.push(f"{folder}/a", b"new")
    await alice.push(f"{folder}/b2", b"new")
    await alice.delete(f"{folder}/c")
    await alice.delete(f"{folder}/d2")
    found = {name: await alice.pull(f"{folder}/{name}") for name in children_of(await alice.node(folder))}
    assert found == {"a": b"new", "a2": b"a", "b": b"b", "b2": b"new", "c2": b"c", "d": b"d"}


async def test_into_itself(alice: Agent, folder: str) -> None:
    """R-COPY-006: the copy is of what was there before, so that it ends."""
    for path in ("t", "t/a"):
        await alice.make(f"{folder}/{path}", "ContainerNode")
    (await copy(alice, f"{folder}/t", f"{folder}/t/a")).assert_moved(f"{folder}/t/a/t")
    (await copy(alice, f"{folder}/t", f"{folder}/t")).assert_moved(f"{folder}/t/t")
    assert children_of(await alice.node(f"{folder}/t")) == ["a", "t"]
    assert children_of(await alice.node(f"{folder}/t/t/a/t/a")) == []


async def test_refusals(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"a")
    await alice.push(f"{folder}/b", b"b")
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/box/a", "ContainerNode")
    for goal in ("a", "b", "box", ""):
        (await copy(alice, f"{folder}/a", f"{folder}/{goal}")).assert_error("DuplicateNode", "Duplicate Node")
    (await copy(alice, f"{folder}/x", f"{folder}/y")).assert_error("NodeNotFound", "Node Not Found")
    (await copy(alice, f"{folder}/a", f"{folder}/no/y")).assert_error("NodeNotFound", f"{folder}/no")
    (await copy(alice, f"{folder}/a", "vos://elsewhere.org~space/a")).assert_error("InvalidURI", "Invalid URI")
    (await copy(alice, f"{folder}/a", f"{folder}/.null")).assert_error("InvalidURI")
    (await copy(alice, uri_of(""), f"{folder}/y")).assert_error("PermissionDenied")
    assert await alice.pull(f"{folder}/b") == b"b"
    assert children_of(await alice.node(folder)) == ["a", "b", "box"]
    assert children_of(await alice.node(f"{folder}/box/a")) == []


async def test_auto(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/t", b"bytes")
    found = await copy(alice, f"{folder}/t", f"{folder}/.auto")
    (name,) = {*children_of(await alice.node(folder))} - {"t"}
    found.assert_moved(f"{folder}/{name}")
    assert await alice.pull(f"{folder}/{name}") == b"bytes"


@pytest.mark.parametrize("inherit", ["true", "false"])
async def test_rights_of_the_copy(alice: Agent, bea: Agent, admin: Agent, shared: str, inherit: str) -> None:
    """Rulings of A-33: the owner is who copies, the rights are those that the container hands down."""
    rights = {PUBLIC: "true", CORE + "groupwrite": STAFF}
    await admin.make(f"{shared}/t", "ContainerNode", properties=rights)
    await admin.make(f"{shared}/t/a", properties=rights)
    handed = {CORE + "groupread": STAFF, CORE + "groupwrite": STAFF, CADC + "inheritPermissions": inherit}
    await alice.make(f"{shared}/{inherit}", "ContainerNode", properties=handed)
    (await copy(bea, f"{shared}/t", f"{shared}/{inherit}/t")).assert_moved(f"{shared}/{inherit}/t")
    for path in ("t", "t/a"):
        found = properties_of(await bea.node(f"{shared}/{inherit}/{path}"))
        assert (found[CORE + "creator"], found[PUBLIC]) == ("bea", "false")
        assert (CORE + "groupwrite" in found) is (CORE + "groupread" in found) is (inherit == "true")
        passed_on = inherit == "true" and path == "t"
        assert found.get(CADC + "inheritPermissions") == ("true" if passed_on else None)


async def test_all_or_nothing(alice: Agent, bea: Agent, admin: Agent, shared: str) -> None:
    """Who may not read everything copies nothing."""
    public = {PUBLIC: "true"}
    for path in ("t", "t/a", "t/a/b"):
        await admin.make(f"{shared}/{path}", "ContainerNode", properties=public)
    await admin.make(f"{shared}/t/a/b/open", properties=public)
    await admin.make(f"{shared}/t/a/b/secret")
    await admin.make(f"{shared}/box", "ContainerNode", properties={**public, CORE + "groupwrite": STAFF})
    for source in ("t", "t/a/b", "t/a/b/secret"):
        (await copy(bea, f"{shared}/{source}", f"{shared}/box")).assert_error("PermissionDenied", "Permission Denied")
    assert children_of(await bea.node(f"{shared}/box")) == []
    (await copy(bea, f"{shared}/t/a/b/open", f"{shared}/t")).assert_error("PermissionDenied")
    (await copy(bea, f"{shared}/t/a/b/open", f"{shared}/box")).assert_moved(f"{shared}/box/open")


async def test_locked_and_immutable(alice: Agent, folder: str) -> None:
    """What is closed can be copied, and its copy is open; nothing is copied into what is closed."""
    for kind, name in (("immutable", CORE + "immutable"), ("locked", CADC + "islocked")):
        await alice.make(f"{folder}/{kind}", "ContainerNode")
        await alice.push(f"{folder}/{kind}/a", b"bytes")
        await alice.post(f"{folder}/{kind}", "ContainerNode", properties={name: "true"})
        fault = "PermissionDenied" if kind == "immutable" else "NodeLocked"
        (await copy(alice, f"{folder}/{kind}/a", f"{folder}/{kind}/b")).assert_error(fault)
        (await copy(alice, f"{folder}/{kind}", f"{folder}/copy of {kind}".replace(" ", "%20"))).assert_moved(
            f"{folder}/copy%20of%20{kind}"
        )
        (await alice.delete(f"{folder}/copy%20of%20{kind}")).assert_status(204)


async def test_sync(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"bytes")
    answer = await alice.send("POST", "/synctrans", transfer(f"{folder}/a", f"{folder}/b", keep=True))
    job = answer.assert_status(303).location.removesuffix("/results/transferDetails")
    (await ended(alice, job)).assert_moved(f"{folder}/b")


async def test_bytes_stay_as_long_as_somebody_names_them(alice: Agent, folder: str, catalogue: Database) -> None:
    """I23: the sweep deletes what the last of the nodes has left."""
    await alice.make(f"{folder}/t", "ContainerNode")
    await asyncio.gather(*(alice.push(f"{folder}/t/{name}", name.encode()) for name in "ab"))
    (await copy(alice, f"{folder}/t", f"{folder}/u")).assert_moved(f"{folder}/u")
    query = """
        select count(*), count(distinct n.location), count(o.location)
          from nodes n left join obsolete o on o.storage_id = n.storage_id and o.location = n.location
         where n.name in ('a', 'b') and n.parent_id in (
            select id from nodes where parent_id = (select id from nodes where name = $1))"""
    name = folder.rsplit("/", 1)[-1]
    assert tuple(await catalogue.fetchrow(query, name) or ()) == (4, 2, 0)
    (await delete_tree(alice, f"{folder}/t")).assert_counts("COMPLETED", 3)
    assert tuple(await catalogue.fetchrow(query, name) or ()) == (2, 2, 2)
    assert [await alice.pull(f"{folder}/u/{one}") for one in "ab"] == [b"a", b"b"]
