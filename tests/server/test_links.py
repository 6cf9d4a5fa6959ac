"""Links: found, followed, and never a way around rights (rulings of A-15 and A-25; I17)."""

from __future__ import annotations

import pytest

from pyvospace.model.vocabulary import CORE
from pyvospace.wire.xml import V
from tests.support.agents import Agent, children_of, properties_of, type_of, uri_of
from tests.support.pair import Pair

TITLE = CORE + "title"


async def link(agent: Agent, path: str, target: str) -> str:
    """Make a link to a path of this space."""
    return await agent.make(path, "LinkNode", target=uri_of(target))


async def test_link_itself_is_got(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/data")
    node = await alice.node(await link(alice, f"{folder}/link", f"{folder}/data"))
    assert (type_of(node), node.findtext(V + "target")) == ("LinkNode", uri_of(f"{folder}/data"))


async def test_links_on_the_way_are_followed(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/box/deeper", "ContainerNode")
    await alice.push(f"{folder}/box/deeper/data", b"bytes")
    await link(alice, f"{folder}/one", f"{folder}/box")
    await link(alice, f"{folder}/two", f"{folder}/one")
    await link(alice, f"{folder}/box/three", f"{folder}/two/deeper")
    for way in ("one/deeper", "two/deeper", "two/three", "one/three"):
        path = f"{folder}/{way}/data"
        assert (await alice.node(path)).get("uri") == uri_of(path)
        assert await alice.pull(path) == b"bytes"
        (await alice.post(path, properties={TITLE: way})).assert_status(200)
        assert properties_of(await alice.node(f"{folder}/box/deeper/data"))[TITLE] == way
    assert children_of(await alice.node(f"{folder}/two/deeper")) == ["data"]
    assert children_of(await alice.node(f"{folder}/two/deeper", uri=uri_of(f"{folder}/two/deeper/data"))) == ["data"]


async def test_last_link_is_followed_by_transfers(alice: Agent, folder: str, pair: Pair) -> None:
    await alice.push(f"{folder}/data", b"old")
    path = await link(alice, f"{folder}/link", f"{folder}/data")
    assert await alice.pull(path) == b"old"
    job, endpoint = await alice.negotiate(path, "pushToVoSpace")
    (await alice.send("PUT", endpoint, b"new")).assert_status(201)
    assert await alice.pull(f"{folder}/data") == b"new"
    assert type_of(await alice.node(path)) == "LinkNode"
    results = (await alice.send("GET", f"{job}/results")).text
    assert f'id="dataNode" xlink:href="{uri_of(f"{folder}/data")}"' in results
    redirect = (await alice.send("GET", f"/files{path}")).assert_status(303)
    assert (await alice.send("GET", redirect.location)).body == b"new"


async def test_push_through_a_link_makes_what_it_leads_to(alice: Agent, folder: str) -> None:
    path = await link(alice, f"{folder}/link", f"{folder}/new")
    await alice.push(path, b"bytes")
    assert await alice.pull(f"{folder}/new") == b"bytes"


@pytest.mark.parametrize("way", ["loop", "loop/deeper", "a", "b/c", "self/self"])
async def test_loops(alice: Agent, folder: str, way: str) -> None:
    await link(alice, f"{folder}/loop", f"{folder}/loop/deeper")
    await link(alice, f"{folder}/a", f"{folder}/b")
    await link(alice, f"{folder}/b", f"{folder}/a")
    await link(alice, f"{folder}/self", f"{folder}/self")
    (await alice.get(f"{folder}/{way}/x")).assert_fault(404, "UnreadableLinkTarget")
    (await alice.send("GET", f"/files{folder}/{way}")).assert_fault(404, "UnreadableLinkTarget")
    answer = (await alice.sync(f"{folder}/{way}", "pullFromVoSpace", CORE + "httpsget")).assert_status(303)
    assert await alice.error(answer.location.removesuffix("/results/transferDetails")) == "UnreadableLinkTarget"


async def test_up_to_twenty_links(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/0", b"far")
    for number in range(1, 22):
        await link(alice, f"{folder}/{number}", f"{folder}/{number - 1}")
    assert await alice.pull(f"{folder}/20") == b"far"
    (await alice.send("GET", f"/files{folder}/21")).assert_fault(404, "UnreadableLinkTarget")


async def test_dangling_link(alice: Agent, folder: str) -> None:
    path = await link(alice, f"{folder}/link", f"{folder}/missing")
    (await alice.get(path)).assert_status(200)
    (await alice.get(f"{path}/x")).assert_fault(404, "NodeNotFound")
    (await alice.send("GET", f"/files{path}")).assert_fault(404, "NodeNotFound")


@pytest.mark.parametrize(
    "target",
    ["https://example.org/x", "vos://example.org~other/x", "file:///etc/passwd", "vos://localhost~space/a/../b"],
)
async def test_link_that_leads_elsewhere(alice: Agent, folder: str, target: str) -> None:
    path = await alice.make(f"{folder}/link", "LinkNode", target=target)
    (await alice.send("GET", f"/files{path}")).assert_fault(400, "InvalidArgument")
    (await alice.send("PUT", f"/files{path}", b"x")).assert_fault(400, "InvalidArgument")
    (await alice.get(f"{path}/x")).assert_fault(404, "UnreadableLinkTarget")
    answer = (await alice.sync(path, "pullFromVoSpace", CORE + "httpsget")).assert_status(303)
    assert await alice.error(answer.location.removesuffix("/results/transferDetails")) == "InvalidArgument"


@pytest.mark.parametrize("name", [".null", ".auto", ".null/x"])
async def test_link_to_a_reserved_name(alice: Agent, folder: str, name: str) -> None:
    path = await link(alice, f"{folder}/link", f"{folder}/{name}")
    (await alice.send("PUT", f"/files{path}", b"x")).assert_fault(404, "UnreadableLinkTarget")
    (await alice.send("GET", f"/files{path}")).assert_fault(404, "UnreadableLinkTarget")
    assert children_of(await alice.node(folder)) == ["link"]


ENDS = {
    "missing": (404, "NodeNotFound", 404, "ContainerNotFound"),
    "loop": (404, "UnreadableLinkTarget", 404, "UnreadableLinkTarget"),
    "external": (400, "InvalidArgument", 404, "UnreadableLinkTarget"),
    "elsewhere": (400, "InvalidArgument", 404, "UnreadableLinkTarget"),
    "box": (400, "InvalidArgument", 404, "NodeNotFound"),
    "data": (0, "", 404, "ContainerNotFound"),
}
"""Where a link leads: what a transfer of its bytes meets, and what setNode below it meets."""


@pytest.mark.parametrize("end", ENDS)
async def test_every_operation_on_every_link(alice: Agent, folder: str, end: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.push(f"{folder}/data", b"bytes")
    await link(alice, f"{folder}/loop", f"{folder}/loop")
    targets = {"external": "https://example.org/x", "elsewhere": "vos://example.org~other/x"}
    path = await alice.make(f"{folder}/link", "LinkNode", target=targets.get(end, uri_of(f"{folder}/{end}")))
    status, fault, status_below, fault_below = ENDS[end]
    # The link itself, wherever it leads.
    assert type_of(await alice.node(path)) == "LinkNode"
    told = (await alice.post(path, "LinkNode", properties={TITLE: "t"})).assert_status(200).xml
    assert properties_of(told)[TITLE] == "t"
    # Below it.
    (await alice.post(f"{path}/x", properties={TITLE: "t"})).assert_fault(status_below, fault_below)
    assert (await alice.get(f"{path}/x")).status == 404
    for answer in (await alice.put(f"{path}/x"), await alice.delete(f"{path}/x")):
        assert "<vos:target>" in answer.assert_fault(400, "LinkFound").text
    # The bytes.
    asked = f"TARGET={uri_of(path)}&DIRECTION=pullFromVoSpace&PROTOCOL={CORE.replace('#', '%23')}httpsget"
    if not status:
        assert await alice.pull(path) == b"bytes"
        for method, where, expected in (("HEAD", "/files" + path, 303), ("GET", f"/synctrans?{asked}", 303)):
            located = (await alice.send(method, where)).assert_status(expected).location
            assert (await alice.send("GET", located)).body == b"bytes"
        (await alice.send("PUT", f"/files{path}", b"new")).assert_status(307)
        return
    (await alice.send("GET", f"/files{path}")).assert_fault(status, fault)
    (await alice.send("GET", f"/synctrans?{asked}")).assert_fault(status, fault)
    assert (await alice.send("HEAD", f"/files{path}")).status == status
    for direction, protocol in (("pullFromVoSpace", "httpsget"), ("pushToVoSpace", "httpsput")):
        if end == "missing" and direction == "pushToVoSpace":
            continue  # it makes what the link leads to
        answer = (await alice.sync(path, direction, CORE + protocol)).assert_status(303)
        assert await alice.error(answer.location.removesuffix("/results/transferDetails")) == fault
    (await alice.delete(path)).assert_status(204)


async def test_links_give_no_rights(
    alice: Agent, bea: Agent, nobody: Agent, folder: str, shared: str, admin: Agent
) -> None:
    await alice.push(f"{folder}/data", b"private")
    public = {CORE + "ispublic": "true"}
    for name, target in (("data", f"{folder}/data"), ("box", folder), ("none", f"{folder}/none")):
        await admin.make(f"{shared}/{name}", "LinkNode", target=uri_of(target), properties=public)
    for way in ("data", "box/data", "none", "box/none", "box"):
        (await bea.send("GET", f"/files{shared}/{way}")).assert_fault(403, "PermissionDenied")
        (await nobody.send("GET", f"/files{shared}/{way}")).assert_fault(401, "NotAuthenticated")
        (await bea.send("PUT", f"/files{shared}/{way}", b"x")).assert_fault(403, "PermissionDenied")
    for way in ("box/data", "box/none"):
        (await bea.get(f"{shared}/{way}")).assert_fault(403, "PermissionDenied")
        (await nobody.get(f"{shared}/{way}")).assert_fault(401, "NotAuthenticated")
        (await bea.post(f"{shared}/{way}")).assert_fault(403, "PermissionDenied")
    hidden, missing = (await bea.get(f"{shared}/box/data")).text, (await bea.get(f"{shared}/box/none")).text
    assert hidden.replace("data", "none") == missing


async def test_private_link_is_not_followed_for_others(bea: Agent, admin: Agent, shared: str) -> None:
    await admin.make(f"{shared}/box", "ContainerNode", properties={CORE + "ispublic": "true"})
    await link(admin, f"{shared}/link", f"{shared}/box")
    (await bea.get(f"{shared}/link")).assert_fault(403, "PermissionDenied")
    (await bea.get(f"{shared}/link/x")).assert_fault(403, "PermissionDenied")
    (await bea.put(f"{shared}/link/x")).assert_fault(403, "PermissionDenied")


async def test_document_of_a_large_link_is_told_whole(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/link", "LinkNode", target="urn:x:1", properties={TITLE: "long " * 2000})
    answer = (await alice.put(f"{folder}/link/x")).assert_fault(400, "LinkFound")
    assert answer.text.rstrip().endswith("</vos:node>")
