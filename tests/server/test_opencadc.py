"""The rows of the rulings in which a service of OpenCADC answers otherwise (interop = opencadc)."""

from __future__ import annotations

import uuid

import aiohttp
import pytest

from pyvospace.model.vocabulary import CORE
from pyvospace.wire.xml import V
from tests.server.conftest import People, Space
from tests.support.agents import (
    Agent,
    child_of,
    children_of,
    endpoints_of,
    properties_of,
    transfer_document,
    type_of,
    uri_of,
)
from tests.support.pair import Pair

TITLE, PUBLIC = CORE + "title", CORE + "ispublic"


@pytest.fixture(scope="session")
def people(opencadc_pair: Pair) -> People:
    return People.of(opencadc_pair)


@pytest.fixture
def space(opencadc_pair: Pair, session: aiohttp.ClientSession, people: People) -> Space:
    return Space(opencadc_pair, session, people)


async def test_statuses_of_creation_and_deletion(alice: Agent, folder: str) -> None:
    (await alice.put(f"{folder}/a")).assert_status(201)
    assert (await alice.delete(f"{folder}/a")).assert_status(200).body == b""


async def test_container_with_contents_is_not_deleted(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a")
    (await alice.delete(folder)).assert_fault(400, "InvalidArgument")
    assert children_of(await alice.node(folder)) == ["a"]
    await alice.delete(f"{folder}/a")
    (await alice.delete(folder)).assert_status(200)


async def test_links_are_followed_everywhere(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/link", "LinkNode", target=uri_of(f"{folder}/box"))
    made = (await alice.put(f"{folder}/link/new", properties={TITLE: "t"})).assert_status(201).xml
    assert made.get("uri") == uri_of(f"{folder}/link/new")
    assert properties_of(await alice.node(f"{folder}/box/new"))[TITLE] == "t"
    (await alice.put(f"{folder}/link/new")).assert_fault(409, "DuplicateNode")
    (await alice.delete(f"{folder}/link/new")).assert_status(200)
    assert children_of(await alice.node(f"{folder}/box")) == []
    (await alice.delete(f"{folder}/link")).assert_status(200)
    assert children_of(await alice.node(folder)) == ["box"]


@pytest.mark.parametrize("name", ["quota", "length", "creator"])
async def test_read_only_properties_are_ignored(alice: Agent, folder: str, name: str) -> None:
    path = await alice.make(f"{folder}/a", properties={CORE + name: "7"})
    told = properties_of((await alice.post(path, properties={CORE + name: "8", TITLE: "t"})).assert_status(200).xml)
    assert told[TITLE] == "t"
    assert told.get(CORE + name) not in {"7", "8"}


async def test_mark_of_immutable_nodes_is_not_ignored(alice: Agent, admin: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a", properties={CORE + "immutable": "true"})
    (await alice.post(path, properties={CORE + "immutable": "false"})).assert_fault(403, "PermissionDenied")
    (await alice.delete(path)).assert_fault(403, "PermissionDenied")
    (await admin.post(path, properties={CORE + "immutable": "false"})).assert_status(200)
    (await alice.delete(path)).assert_status(200)


async def test_order_of_leaves_that_may_only_be_seen(alice: Agent, bea: Agent, shared: str) -> None:
    for name, size in (("a", 5), ("b", 1), ("c", 7)):
        await alice.push(f"{shared}/{name}", b"x" * size)
    assert children_of(await bea.node(shared, sort=CORE + "length")) == ["b", "a", "c"]
    assert children_of(await bea.node(shared, sort=CORE + "length", order="desc", limit=2)) == ["c", "a"]


async def test_leaf_is_visible_if_its_path_is_readable(alice: Agent, bea: Agent, nobody: Agent, shared: str) -> None:
    await alice.push(f"{shared}/data", b"private")
    await alice.post(f"{shared}/data", properties={TITLE: "t"})
    await alice.make(f"{shared}/box", "ContainerNode", properties={TITLE: "hidden"})
    for agent in (bea, nobody):
        assert properties_of(await agent.node(f"{shared}/data"))[TITLE] == "t"
        listing = await agent.node(shared)
        assert properties_of(child_of(listing, "data"))[TITLE] == "t"
        assert TITLE not in properties_of(child_of(listing, "box"))
        status = 401 if agent is nobody else 403
        assert (await agent.get(f"{shared}/box")).status == status
        assert (await agent.send("GET", f"/files{shared}/data")).status == status
        head = (await agent.send("HEAD", f"/files{shared}/data")).assert_status(200)
        assert head.headers["Content-Length"] == "7"
        assert head.headers["Digest"].startswith("md5=")
        assert (await agent.post(f"{shared}/data", properties={TITLE: "u"})).status == status
    assert (await alice.send("HEAD", f"/files{shared}/data")).status == 303


async def test_push_keeps_what_the_user_set(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a", properties={TITLE: "t", CORE + "type": "text/plain"})
    await alice.push(path, b"x", Content_Type="image/fits")
    told = properties_of(await alice.node(path))
    assert (told[TITLE], told[CORE + "type"]) == ("t", "image/fits")


async def test_locked_container(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/box/a")
    await alice.post(f"{folder}/box", "ContainerNode", properties={CORE + "islocked": "true"})
    (await alice.put(f"{folder}/box/new")).assert_fault(403, "PermissionDenied")
    (await alice.delete(f"{folder}/box/a")).assert_fault(403, "PermissionDenied")
    (await alice.send("PUT", f"/files{folder}/box/new", b"x")).assert_fault(403, "PermissionDenied")
    (await alice.delete(f"{folder}/box")).assert_fault(423, "NodeLocked")
    # A node that is locked itself is so here as well.
    await alice.make(f"{folder}/locked", properties={CORE + "islocked": "true"})
    (await alice.delete(f"{folder}/locked")).assert_fault(423, "NodeLocked")
    (await alice.send("PUT", f"/files{folder}/locked", b"x")).assert_fault(423, "NodeLocked")
    # Properties stay editable, and unlocking passes.
    (await alice.post(f"{folder}/locked", properties={TITLE: "t", CORE + "islocked": None})).assert_status(200)
    (await alice.delete(f"{folder}/locked")).assert_status(200)


async def test_parameters_always_lead_to_the_endpoint(alice: Agent, folder: str) -> None:
    parameters = f"TARGET={uri_of(folder)}/a&DIRECTION=pushToVoSpace&PROTOCOL={CORE.replace('#', '%23')}httpsput"
    for method in ("GET", "POST"):
        answer = (await alice.send(method, f"/synctrans?{parameters}")).assert_status(303)
        assert (await alice.send("PUT", answer.location, b"x")).status == 201


async def test_unknown_security_method_leaves_an_empty_list(alice: Agent, folder: str) -> None:
    wanted = [CORE + "httpsput"]
    document = transfer_document(f"{folder}/a", "pushToVoSpace", wanted, methods=["ivo://ivoa.net/sso#cookie"])
    answer = (await alice.send("POST", "/synctrans", document)).assert_status(303)
    told = (await alice.send("GET", answer.location)).assert_status(200).xml
    assert (told.find(V + "protocol"), endpoints_of(told)) == (None, [])
    parameters = (
        f"TARGET={uri_of(folder)}/a&DIRECTION=pushToVoSpace&PROTOCOL={CORE.replace('#', '%23')}httpsput"
        "&SECURITYMETHOD=ivo://ivoa.net/sso%23cookie"
    )
    answer = (await alice.send("POST", f"/synctrans?{parameters}")).assert_status(200)
    assert endpoints_of(answer.xml) == []
    # Without a protocol that is known there is no transfer here either.
    answer = await alice.sync(f"{folder}/a", "pushToVoSpace", "urn:x:teleport")
    assert await alice.error(answer.location.removesuffix("/results/transferDetails")) == "ProtocolNotSupported"


async def test_empty_node_is_204(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a")
    assert (await alice.send("GET", f"/files{path}")).assert_status(204).body == b""
    _, endpoint = await alice.negotiate(path, "pullFromVoSpace")
    assert (await alice.send("GET", endpoint)).assert_status(204).body == b""


async def test_size_of_a_document(alice: Agent, folder: str) -> None:
    many = {f"urn:x:{number}": "x" * 1000 for number in range(33)}
    (await alice.put(f"{folder}/a", properties=many)).assert_fault(413, "RequestEntityTooLarge")
    (await alice.put(f"{folder}/a", properties=dict(list(many.items())[:30]))).assert_status(201)


async def test_the_rest_is_as_everywhere(alice: Agent, bea: Agent, folder: str) -> None:
    name = uuid.uuid4().hex
    await alice.push(f"{folder}/{name}", b"bytes")
    assert await alice.pull(f"{folder}/{name}") == b"bytes"
    assert type_of(await alice.node(f"{folder}/{name}")) == "DataNode"
    (await bea.get(f"{folder}/{name}")).assert_fault(403, "PermissionDenied")
    (await alice.put(f"{folder}/{name}/x")).assert_fault(404, "ContainerNotFound")
    (await alice.put(f"{folder}/b", properties={CORE + "unknown": "x"})).assert_fault(400, "InvalidArgument")
