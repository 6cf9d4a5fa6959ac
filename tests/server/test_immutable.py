"""Immutable nodes (VOSpace 2.1, main branch, section 3.1.1; R-IMM; decision 16)."""

from __future__ import annotations

import pytest

from pyvospace.model.vocabulary import CADC, CORE
from pyvospace.wire.xml import V
from tests.server.conftest import STAFF
from tests.support.agents import Agent, children_of, properties_of, read_only_of, uri_of

IMMUTABLE, TITLE = CORE + "immutable", CORE + "title"
MARK = {IMMUTABLE: "true"}


@pytest.fixture
async def frozen(alice: Agent, folder: str) -> str:
    """A container with a node of each kind below, immutable as a whole."""
    await alice.make(f"{folder}/top", "ContainerNode")
    await alice.make(f"{folder}/top/box", "ContainerNode")
    for path in (f"{folder}/top/data", f"{folder}/top/box/data"):
        await alice.push(path, b"old")
    await alice.make(f"{folder}/top/link", "LinkNode", target="urn:x:1")
    (await alice.post(f"{folder}/top", "ContainerNode", properties=MARK)).assert_status(200)
    return f"{folder}/top"


async def is_immutable(agent: Agent, path: str) -> bool:
    """Say what the document tells."""
    return properties_of(await agent.node(path)).get(IMMUTABLE) == "true"


async def test_children_inherit_the_mark(alice: Agent, frozen: str) -> None:
    for path in (frozen, f"{frozen}/box", f"{frozen}/data", f"{frozen}/box/data", f"{frozen}/link"):
        node = await alice.node(path)
        assert properties_of(node)[IMMUTABLE] == "true"
        assert IMMUTABLE in read_only_of(node)


async def test_nothing_goes_and_nothing_comes(alice: Agent, admin: Agent, frozen: str) -> None:
    for agent in (alice, admin):
        for path in (frozen, f"{frozen}/box", f"{frozen}/data", f"{frozen}/box/data", f"{frozen}/link"):
            (await agent.delete(path)).assert_fault(403, "PermissionDenied")
        (await agent.delete(frozen.rsplit("/", 1)[0])).assert_fault(403, "PermissionDenied")
        for kind in ("DataNode", "ContainerNode"):
            (await agent.put(f"{frozen}/box/new", kind)).assert_fault(403, "PermissionDenied")
    assert children_of(await alice.node(frozen)) == ["box", "data", "link"]
    assert children_of(await alice.node(f"{frozen}/box")) == ["data"]


async def test_bytes_stay(alice: Agent, frozen: str) -> None:
    for path in (f"{frozen}/data", f"{frozen}/new", f"{frozen}/box/data"):
        (await alice.send("PUT", f"/files{path}", b"new")).assert_fault(403, "PermissionDenied")
        answer = (await alice.sync(path, "pushToVoSpace", CORE + "httpsput")).assert_status(303)
        assert await alice.error(answer.location.removesuffix("/results/transferDetails")) == "PermissionDenied"
    assert await alice.pull(f"{frozen}/data") == b"old"


async def test_endpoints_that_were_handed_out_before_are_dead(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.push(f"{folder}/box/data", b"old")
    endpoints = [(await alice.negotiate(f"{folder}/box/{name}", "pushToVoSpace"))[1] for name in ("data", "new")]
    await alice.post(f"{folder}/box", "ContainerNode", properties=MARK)
    for endpoint in endpoints:
        assert (await alice.send("PUT", endpoint, b"new")).status == 403
    assert children_of(await alice.node(f"{folder}/box")) == ["data"]
    assert await alice.pull(f"{folder}/box/data") == b"old"


async def test_target_of_a_link_stays(alice: Agent, frozen: str) -> None:
    (await alice.post(f"{frozen}/link", "LinkNode", target="urn:x:2")).assert_fault(403, "PermissionDenied")
    (await alice.post(f"{frozen}/link", "LinkNode", target="urn:x:1", properties={TITLE: "t"})).assert_status(200)
    assert (await alice.node(f"{frozen}/link")).findtext(V + "target") == "urn:x:1"


async def test_properties_stay_editable(alice: Agent, bea: Agent, frozen: str) -> None:
    path = f"{frozen}/data"
    changes = {TITLE: "t", "urn:x:1": "a", CORE + "groupwrite": STAFF, CADC + "islocked": "true"}
    told = properties_of((await alice.post(path, properties=changes)).assert_status(200).xml)
    assert {uri: told[uri] for uri in changes} == changes
    (await alice.post(path, properties={TITLE: None, CADC + "islocked": None})).assert_status(200)
    document = (await alice.get(path)).body
    (await alice.send("POST", f"/nodes{path}", document)).assert_status(200)
    assert await is_immutable(alice, path)
    await alice.post(frozen, "ContainerNode", properties={CORE + "ispublic": "true"})
    (await bea.get(path)).assert_fault(403, "PermissionDenied")  # the folder above is private


async def test_only_an_administrator_takes_the_mark_away(alice: Agent, admin: Agent, frozen: str) -> None:
    for value in ("false", None, "0", ""):
        answer = await alice.post(frozen, "ContainerNode", properties={IMMUTABLE: value, TITLE: "t"})
        answer.assert_fault(403, "PermissionDenied")
    assert TITLE not in properties_of(await alice.node(frozen))
    # Not from a part of an immutable tree: what is in it goes with it.
    (await admin.post(f"{frozen}/data", properties={IMMUTABLE: None})).assert_fault(403, "PermissionDenied")
    (await admin.post(frozen, "ContainerNode", properties={IMMUTABLE: None})).assert_status(200)
    for path in (frozen, f"{frozen}/box", f"{frozen}/data", f"{frozen}/box/data", f"{frozen}/link"):
        assert not await is_immutable(alice, path)
    await alice.push(f"{frozen}/box/data", b"new")
    (await alice.delete(frozen)).assert_status(204)


async def test_only_the_owner_sets_it(alice: Agent, bea: Agent, admin: Agent, shared: str) -> None:
    path = await admin.make(f"{shared}/a", properties={CORE + "groupwrite": STAFF})
    (await bea.post(path, properties=MARK)).assert_fault(403, "PermissionDenied")
    (await alice.post(shared, "ContainerNode", properties=MARK)).assert_fault(403, "PermissionDenied")
    (await admin.post(path, properties=MARK)).assert_status(200)
    (await bea.post(path, properties={TITLE: "t"})).assert_status(200)
    (await admin.post(path, properties={IMMUTABLE: "maybe"})).assert_fault(400, "InvalidArgument")
    (await admin.post(path, properties={IMMUTABLE: "false"})).assert_status(200)
    (await admin.delete(path)).assert_status(204)


async def test_node_that_is_made_immutable(alice: Agent, folder: str) -> None:
    assert await is_immutable(alice, await alice.make(f"{folder}/box", "ContainerNode", properties=MARK))
    (await alice.put(f"{folder}/box/new")).assert_fault(403, "PermissionDenied")
    assert await is_immutable(alice, await alice.make(f"{folder}/link", "LinkNode", target="urn:x:1", properties=MARK))
    # What leads there may still be made and goes again.
    await alice.make(f"{folder}/way", "LinkNode", target=uri_of(f"{folder}/box"))
    (await alice.delete(f"{folder}/way")).assert_status(204)
