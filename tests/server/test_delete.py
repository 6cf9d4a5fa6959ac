"""deleteNode (VOSpace 2.1, section 6.2.4; R-DEL)."""

from __future__ import annotations

import asyncio

import pytest

from pyvospace.model.vocabulary import CADC, CORE
from tests.server.conftest import STAFF
from tests.support.agents import Agent, children_of, properties_of, uri_of


@pytest.mark.parametrize("kind", ["DataNode", "ContainerNode", "LinkNode", "StructuredDataNode"])
async def test_every_type(alice: Agent, folder: str, kind: str) -> None:
    path = await alice.make(f"{folder}/a", kind, target="urn:x:1" if kind == "LinkNode" else None)
    answer = (await alice.delete(path)).assert_status(204)
    assert answer.body == b""
    (await alice.get(path)).assert_fault(404, "NodeNotFound")
    (await alice.delete(path)).assert_fault(404, "NodeNotFound")
    assert children_of(await alice.node(folder)) == []


async def test_container_goes_with_everything_in_it(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a", "ContainerNode")
    await alice.make(f"{folder}/a/b", "ContainerNode")
    await alice.push(f"{folder}/a/b/data", b"bytes")
    _, endpoint = await alice.negotiate(f"{folder}/a/b/data", "pullFromVoSpace")
    _, writing = await alice.negotiate(f"{folder}/a/b/new", "pushToVoSpace")
    await alice.make(f"{folder}/a/link", "LinkNode", target=uri_of(folder))
    (await alice.delete(f"{folder}/a")).assert_status(204)
    (await alice.get(f"{folder}/a/b/data")).assert_fault(404, "NodeNotFound")
    assert (await alice.send("GET", endpoint)).status == 404
    assert (await alice.send("PUT", writing, b"late")).status == 404
    await alice.make(f"{folder}/a", "ContainerNode")
    assert children_of(await alice.node(f"{folder}/a")) == []


async def test_new_node_of_the_same_name_starts_empty(alice: Agent, folder: str) -> None:
    path = f"{folder}/a"
    await alice.push(path, b"old")
    _, reading = await alice.negotiate(path, "pullFromVoSpace")
    _, writing = await alice.negotiate(path, "pushToVoSpace")
    await alice.delete(path)
    await alice.make(path)
    assert (await alice.send("GET", reading)).status == 404
    assert (await alice.send("PUT", writing, b"late")).status == 404
    assert (await alice.pull(path), properties_of(await alice.node(path))[CORE + "length"]) == (b"", "0")


async def test_link_goes_alone(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/box/a")
    await alice.make(f"{folder}/link", "LinkNode", target=uri_of(f"{folder}/box"))
    (await alice.delete(f"{folder}/link")).assert_status(204)
    assert children_of(await alice.node(f"{folder}/box")) == ["a"]


async def test_link_on_the_way(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/box/a")
    await alice.make(f"{folder}/link", "LinkNode", target=uri_of(f"{folder}/box"))
    for below in ("a", "a/b", "missing"):
        answer = (await alice.delete(f"{folder}/link/{below}")).assert_fault(400, "LinkFound")
        assert uri_of(f"{folder}/box") in answer.text
    assert children_of(await alice.node(f"{folder}/box")) == ["a"]


async def test_missing(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/data")
    (await alice.delete(f"{folder}/missing")).assert_fault(404, "NodeNotFound")
    (await alice.delete(f"{folder}/missing/deeper")).assert_fault(404, "ContainerNotFound")
    (await alice.delete(f"{folder}/data/deeper")).assert_fault(404, "ContainerNotFound")


async def test_root_and_homes(alice: Agent, admin: Agent, nobody: Agent) -> None:
    for agent in (alice, admin):
        (await agent.delete("")).assert_fault(403, "PermissionDenied")
        (await agent.delete("/")).assert_fault(403, "PermissionDenied")
    (await nobody.delete("")).assert_fault(401, "NotAuthenticated")
    (await alice.delete("/home")).assert_fault(403, "PermissionDenied")
    (await alice.delete("/home/alice")).assert_fault(403, "PermissionDenied")


async def test_takes_the_right_to_write_to_the_container(
    bea: Agent, carl: Agent, nobody: Agent, admin: Agent, shared: str
) -> None:
    rights = {CORE + "ispublic": "true", CORE + "groupwrite": STAFF}
    await admin.make(f"{shared}/box", "ContainerNode", properties=rights)
    await admin.make(f"{shared}/box/a", properties={CORE + "ispublic": "true"})
    await admin.make(f"{shared}/writable", properties=rights)
    (await carl.delete(f"{shared}/box/a")).assert_fault(403, "PermissionDenied")
    (await nobody.delete(f"{shared}/box/a")).assert_fault(401, "NotAuthenticated")
    (await bea.delete(f"{shared}/writable")).assert_fault(403, "PermissionDenied")
    (await bea.delete(f"{shared}/box/a")).assert_status(204)


async def test_all_or_nothing(alice: Agent, bea: Agent, admin: Agent, shared: str) -> None:
    rights = {CORE + "ispublic": "true", CORE + "groupwrite": STAFF}
    await admin.make(f"{shared}/box", "ContainerNode", properties=rights)
    await admin.make(f"{shared}/box/tree", "ContainerNode", properties=rights)
    await admin.make(f"{shared}/box/tree/a", properties=rights)
    await admin.make(f"{shared}/box/tree/z", "ContainerNode", properties={CORE + "ispublic": "true"})
    await admin.make(f"{shared}/box/tree/z/theirs")
    (await bea.delete(f"{shared}/box/tree")).assert_fault(403, "PermissionDenied")
    assert children_of(await bea.node(f"{shared}/box/tree")) == ["a", "z"]
    await admin.delete(f"{shared}/box/tree/z/theirs")
    # What is empty has nothing in it that is not hers to delete.
    (await bea.delete(f"{shared}/box/tree")).assert_status(204)


async def test_locks(alice: Agent, folder: str) -> None:
    locked = {CADC + "islocked": "true"}
    await alice.make(f"{folder}/data", properties=locked)
    await alice.make(f"{folder}/tree", "ContainerNode")
    await alice.make(f"{folder}/tree/box", "ContainerNode")
    await alice.make(f"{folder}/tree/box/a")
    await alice.post(f"{folder}/tree/box", "ContainerNode", properties=locked)
    for path in ("data", "tree/box/a", "tree/box", "tree"):
        (await alice.delete(f"{folder}/{path}")).assert_fault(423, "NodeLocked")
    (await alice.get(f"{folder}/tree/box/a")).assert_status(200)
    await alice.post(f"{folder}/tree/box", "ContainerNode", properties={CADC + "islocked": "false"})
    (await alice.delete(f"{folder}/tree")).assert_status(204)


async def test_one_of_many_deletions_wins(alice: Agent, folder: str) -> None:
    for kind in ("DataNode", "ContainerNode"):
        path = await alice.make(f"{folder}/{kind}", kind)
        answers = await asyncio.gather(*(alice.delete(path) for _ in range(8)))
        assert sorted(one.status for one in answers) == [204] + [404] * 7


async def test_creations_in_what_is_being_deleted(alice: Agent, folder: str) -> None:
    """No child without a container, whoever comes first."""
    for _ in range(5):
        await alice.make(f"{folder}/box", "ContainerNode")
        deleting = asyncio.create_task(alice.delete(f"{folder}/box"))
        creating = [alice.put(f"{folder}/box/{number}", "ContainerNode") for number in range(6)]
        made = await asyncio.gather(*creating)
        assert (await deleting).status == 204
        assert {one.status for one in made} <= {201, 404}
        (await alice.get(f"{folder}/box")).assert_fault(404, "NodeNotFound")
