"""getNode (VOSpace 2.1, section 6.3.1; R-GET, R-NODE, R-VIEW)."""

from __future__ import annotations

import hashlib

import pytest

from pyvospace.model.vocabulary import CADC, CORE, PUBLIC_SHARE, TUS
from pyvospace.wire.xml import XSI_TYPE, V
from tests.server.conftest import Space, encoded
from tests.support.agents import (
    Agent,
    child_of,
    children_of,
    properties_of,
    read_only_of,
    type_of,
    uri_of,
)
from tests.support.pair import Pair

TITLE = CORE + "title"
READABLE, WRITABLE = CADC + "readable", CADC + "writable"


async def fill(alice: Agent, folder: str) -> None:
    """Make a child of each kind."""
    await alice.make(f"{folder}/box", "ContainerNode", properties={TITLE: "B"})
    await alice.make(f"{folder}/box/deeper", "ContainerNode")
    await alice.make(f"{folder}/data", properties={TITLE: "D"})
    await alice.make(f"{folder}/link", "LinkNode", target=uri_of(f"{folder}/data"), properties={TITLE: "L"})


async def test_full_record_without_parameters(alice: Agent, folder: str) -> None:
    await fill(alice, folder)
    node = await alice.node(f"{folder}/data")
    assert node.get("version") == "2.1"
    assert properties_of(node)[TITLE] == "D"
    assert node.find(V + "accepts") is not None
    assert READABLE not in properties_of(node)
    link = await alice.node(f"{folder}/link")
    assert link.findtext(V + "target") == uri_of(f"{folder}/data")
    assert properties_of(link)[TITLE] == "L", "properties of a link stay on the link"


async def test_only_direct_children_each_with_type_and_uri(alice: Agent, folder: str) -> None:
    await fill(alice, folder)
    node = await alice.node(folder)
    assert children_of(node) == ["box", "data", "link"]
    assert [type_of(child_of(node, name)) for name in children_of(node)] == ["ContainerNode", "DataNode", "LinkNode"]
    assert len(list(node.iter(V + "node"))) == 4
    for name in children_of(node):
        child = child_of(node, name)
        assert child.get("uri") == uri_of(f"{folder}/{name}")
        assert child.get(XSI_TYPE)
        told = properties_of(child)
        assert told[TITLE] == name[0].upper(), "vos reads properties of children without asking for them"
        assert {CORE + "date", CORE + "creator"} <= told.keys()
        assert (CORE + "length" in told) == (name != "link")
    empty = await alice.node(f"{folder}/box/deeper")
    assert empty.find(V + "nodes") is not None


async def test_detail_min(alice: Agent, folder: str) -> None:
    await fill(alice, folder)
    node = await alice.node(folder, detail="min")
    assert children_of(node) == ["box", "data", "link"]
    assert node.find(f".//{V}properties") is None
    data = await alice.node(f"{folder}/data", detail="min")
    assert [one.tag for one in data.iter()] == [V + "node"]
    assert type_of(data) == "DataNode"


async def test_detail_properties(alice: Agent, folder: str) -> None:
    await fill(alice, folder)
    node = await alice.node(folder, detail="properties")
    assert [properties_of(child_of(node, name))[TITLE] for name in children_of(node)] == ["B", "D", "L"]
    data = await alice.node(f"{folder}/data", detail="properties")
    assert properties_of(data)[TITLE] == "D"
    assert data.find(V + "accepts") is None


async def test_detail_max(alice: Agent, folder: str) -> None:
    await fill(alice, folder)
    node = await alice.node(folder, detail="max")
    for one in [node, *(child_of(node, name) for name in children_of(node))]:
        told = properties_of(one)
        assert (told[READABLE], told[WRITABLE]) == ("true", "true")
        assert {READABLE, WRITABLE} <= read_only_of(one)


async def test_capabilities_lead_to_the_node(alice: Agent, folder: str, pair: Pair) -> None:
    await fill(alice, folder)
    for path, uri, endpoint in (
        (f"{folder}/data", "ivo://ivoa.net/std/VOSpace#files-proto", f"{pair.url}/files{folder}/data"),
        (folder, CORE + "vospace-2.1", pair.url),
    ):
        for detail in ("", "max"):
            (told,) = (await alice.node(path, **({"detail": detail} if detail else {}))).iterfind(
                f"{V}capabilities/{V}capability"
            )
            assert (told.get("uri"), told.findtext(V + "endpoint")) == (uri, endpoint)
        for detail in ("min", "properties"):
            assert (await alice.node(path, detail=detail)).find(V + "capabilities") is None
    assert (await alice.send("GET", f"{pair.url}/files{folder}/data")).status == 200
    # The schema has no place for them in a link, and none is told of children.
    assert (await alice.node(f"{folder}/link")).find(V + "capabilities") is None
    assert len(list((await alice.node(folder)).iter(V + "capability"))) == 1


async def test_names_of_parameters_and_levels_without_regard_to_case(alice: Agent, folder: str) -> None:
    answer = await alice.send("GET", f"/nodes{folder}?DETAIL=MIN&Limit=0&unknown=x")
    assert answer.assert_status(200).xml.find(f".//{V}properties") is None


@pytest.mark.parametrize(
    "query",
    [
        "detail=full", "detail=max&detail=min", "limit=-1", "limit=x", "limit=1.5", "limit=", "limit=%2B1", "limit=1e3",
        "limit=1&limit=2", "limit=99999999999999999999", "limit=%D9%A1", "detail=%00", "limit=%00", "uri=%00",
    ],
)  # fmt: skip
async def test_wrong_parameters(alice: Agent, folder: str, query: str) -> None:
    answer = await alice.send("GET", f"/nodes{folder}?{query}")
    assert answer.status == 400
    assert answer.fault in {"InvalidArgument", "InvalidURI"}


async def test_root(alice: Agent, nobody: Agent) -> None:
    for agent in (alice, nobody):
        for path in ("", "/"):
            node = await agent.node(path)
            assert node.get("uri") == "vos://localhost~space"
            assert "home" in children_of(node)
        assert children_of(await agent.node("", limit=0)) == []


async def test_homes_of_others_show_uri_and_type_only(alice: Agent, nobody: Agent, people: object) -> None:
    for agent, hidden in ((alice, "bea"), (nobody, "alice")):
        child = child_of(await agent.node("/home", detail="max"), hidden)
        assert dict(child.items()) == {XSI_TYPE: "vos:ContainerNode", "uri": uri_of(f"/home/{hidden}")}
        # A date that tells nothing: vos shows no listing with a child that has none.
        assert properties_of(child) == {CORE + "date": "2000-01-01T00:00:00.000Z"}
        assert [one.tag for one in child] == [V + "properties", V + "nodes"]


async def test_children_that_may_not_be_read_show_uri_and_type_only(admin: Agent, alice: Agent, shared: str) -> None:
    await admin.make(f"{shared}/data", properties={TITLE: "hidden"})
    await admin.make(f"{shared}/link", "LinkNode", target="https://example.org/hidden", properties={TITLE: "hidden"})
    await admin.make(f"{shared}/open", properties={TITLE: "told", CORE + "ispublic": "true"})
    for detail in ("min", "properties", "max", ""):
        answer = await alice.send("GET", f"/nodes{shared}?detail={detail}")
        assert children_of(answer.xml) == ["data", "link", "open"]
        assert "hidden" not in answer.text
        assert properties_of(child_of(answer.xml, "open")).get(TITLE) == (None if detail == "min" else "told")
        assert READABLE not in properties_of(child_of(answer.xml, "data"))
    assert properties_of(child_of(await alice.node(shared, detail="max"), "open"))[WRITABLE] == "false"


async def test_listing_in_order_of_names(alice: Agent, folder: str) -> None:
    names = ["b", "a", "B", "é", "z", "a b", "%", "\u0301e", "10", "9", "a%20b", "#", "?", "\\", "&", "\U0001f52d"]
    for name in names:
        await alice.make(f"{folder}/{encoded(name)}")
    listed = children_of(await alice.node(folder))
    assert listed == [encoded(name) for name in sorted(names, key=str.encode)]
    for name in listed:
        assert (await alice.node(f"{folder}/{name}")).get("uri") == uri_of(f"{folder}/{name}")


async def test_limit(alice: Agent, folder: str) -> None:
    for number in range(5):
        await alice.make(f"{folder}/{number}")
    for limit, expected in ((0, 0), (1, 1), (4, 4), (5, 5), (6, 5), (999999999999999, 5)):
        assert children_of(await alice.node(folder, limit=limit)) == [str(number) for number in range(expected)]


async def test_pages_begin_with_the_child_that_is_named(alice: Agent, folder: str) -> None:
    names = [f"{letter}%20{number}" for letter in "abc" for number in range(3)]
    for name in names:
        await alice.make(f"{folder}/{name}")
    seen = children_of(await alice.node(folder, limit=4))
    while True:
        page = children_of(await alice.node(folder, limit=4, uri=uri_of(f"{folder}/{seen[-1]}")))
        assert page[0] == seen[-1]
        if len(page) == 1:
            break
        seen += page[1:]
    assert seen == names
    assert children_of(await alice.node(folder, uri=uri_of(f"{folder}/c%200"))) == names[6:]
    # A child that is gone by now: what follows it.
    await alice.delete(f"{folder}/b%200")
    assert children_of(await alice.node(folder, uri=uri_of(f"{folder}/b%200"), limit=1)) == ["b%201"]
    assert children_of(await alice.node(folder, uri=uri_of(f"{folder}/zz"))) == []
    other = uri_of(f"{folder}/a%200").replace("~", "!")
    assert children_of(await alice.node(folder, uri=other, limit=1)) == ["a%200"]


@pytest.mark.parametrize("uri", ["vos://localhost~space{}", "vos://localhost~space{}/a/b", "vos://other{}/a", "a", ""])
async def test_page_at_what_is_no_child(alice: Agent, folder: str, uri: str) -> None:
    (await alice.get(folder, uri=uri.format(folder))).assert_fault(400, "InvalidURI")


LENGTH, DATE = CORE + "length", CORE + "date"


async def test_listing_by_name_length_and_date(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    for name, size in (("b", 2), ("a", 30), ("d", 2), ("c", 100)):
        await alice.push(f"{folder}/{name}", b"x" * size)
    await alice.post(f"{folder}/box", "ContainerNode", properties={TITLE: "the last change"})
    orders = {
        ("name", "asc"): ["a", "b", "box", "c", "d"],
        ("name", "desc"): ["d", "c", "box", "b", "a"],
        (LENGTH, "asc"): ["box", "b", "d", "a", "c"],
        (LENGTH, "desc"): ["c", "a", "b", "d", "box"],
        (DATE, "asc"): ["b", "a", "d", "c", "box"],
        ("DATE", "Desc"): ["box", "c", "d", "a", "b"],
    }
    for (sort, order), expected in orders.items():
        assert children_of(await alice.node(folder, sort=sort, order=order)) == expected
        for at, name in enumerate(expected):
            page = await alice.node(folder, sort=sort, order=order, uri=uri_of(f"{folder}/{name}"), limit=2)
            assert children_of(page) == expected[at : at + 2]
    assert children_of(await alice.node(folder, sort=LENGTH)) == orders[LENGTH, "asc"]
    assert children_of(await alice.node(folder, order="desc", limit=3)) == orders["name", "desc"][:3]
    assert children_of(await alice.node(folder, sort=LENGTH, limit=0)) == []
    # By name, a child that is gone still has a place; by length or date it has none.
    gone = uri_of(f"{folder}/bb")
    assert children_of(await alice.node(folder, order="desc", uri=gone)) == ["b", "a"]
    (await alice.get(folder, sort=LENGTH, uri=gone)).assert_fault(400, "InvalidURI")


async def test_order_tells_nothing_of_what_may_not_be_read(admin: Agent, alice: Agent, shared: str) -> None:
    public = {CORE + "ispublic": "true"}
    for name, size in (("a", 5), ("b", 1), ("c", 7)):
        await admin.push(f"{shared}/{name}", b"x" * size)
        if name != "a":
            await admin.post(f"{shared}/{name}", properties=public)
    assert children_of(await admin.node(shared, sort=LENGTH)) == ["b", "a", "c"]
    assert children_of(await alice.node(shared, sort=LENGTH)) == ["a", "b", "c"]
    assert children_of(await alice.node(shared, sort=DATE, order="desc")) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        (f"sort={CORE}title", "OptionNotSupported"), ("sort=size", "OptionNotSupported"),
        ("sort=", "OptionNotSupported"), ("order=up", "InvalidArgument"), ("sort=name&order=", "InvalidArgument"),
        ("sort=name&sort=date", "InvalidArgument"), ("order=%00", "InvalidArgument"),
    ],
)  # fmt: skip
async def test_orders_that_there_are_not(alice: Agent, folder: str, query: str, fault: str) -> None:
    (await alice.send("GET", f"/nodes{folder}?{query.replace('#', '%23')}")).assert_fault(400, fault)


async def test_missing(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/data")
    for below in ("missing", "missing/deeper", "data/deeper"):
        answer = (await alice.get(f"{folder}/{below}")).assert_fault(404, "NodeNotFound")
        assert f"{folder}/{below}" in answer.text


async def test_names_are_compared_after_decoding(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/Name")
    assert (await alice.node(f"{folder}/%4E%61me")).get("uri") == uri_of(f"{folder}/Name")
    (await alice.get(f"{folder}/name")).assert_fault(404, "NodeNotFound")


async def test_normal_forms_are_two_nodes(alice: Agent, folder: str) -> None:
    composed, combining = encoded("\u00e9"), encoded("e\u0301")
    for name in (composed, combining):
        await alice.make(f"{folder}/{name}", properties={TITLE: name})
    for name in (composed, combining):
        assert properties_of(await alice.node(f"{folder}/{name}"))[TITLE] == name


async def test_uri_of_the_answer_is_encoded(alice: Agent, folder: str) -> None:
    raw = "a b\u00e9?#%&"
    document_uri = uri_of(f"{folder}/{raw.replace('%', '%25').replace('?', '%3F').replace('#', '%23')}")
    made = (await alice.put(f"{folder}/{encoded(raw)}", uri=document_uri)).assert_status(201).xml
    assert made.get("uri") == uri_of(f"{folder}/a%20b%C3%A9%3F%23%25%26")


async def test_head_is_get_without_body(alice: Agent, folder: str) -> None:
    await fill(alice, folder)
    for path in (folder, f"{folder}/data", f"{folder}/missing"):
        got, headed = await alice.get(path), await alice.send("HEAD", f"/nodes{path}")
        assert (headed.status, headed.body) == (got.status, b"")
        assert headed.headers["Content-Type"] == got.headers["Content-Type"]
        assert headed.headers["Content-Length"] == got.headers["Content-Length"]


async def test_view_data_leads_to_the_bytes(alice: Agent, folder: str, pair: Pair) -> None:
    await alice.make(f"{folder}/a%20b")
    answer = (await alice.get(f"{folder}/a%20b", view="data")).assert_status(303)
    assert answer.location == f"{pair.url}/files{folder}/a%20b"
    (await alice.get(f"{folder}/missing", view="data")).assert_fault(404, "NodeNotFound")
    (await alice.get(f"{folder}/a%20b", view="rss")).assert_fault(400, "ViewNotSupported")


async def test_facts_of_bytes(alice: Agent, folder: str) -> None:
    content = b"some bytes"
    await alice.push(f"{folder}/data", content, Content_Type="text/x-odd; a=b")
    node = await alice.node(f"{folder}/data")
    told = properties_of(node)
    assert told[CORE + "length"] == str(len(content))
    assert told[CORE + "MD5"] == hashlib.md5(content).hexdigest()
    assert told[CORE + "type"] == "text/x-odd; a=b"
    assert told[CORE + "mtime"] == told[CORE + "content-date"] == told[CORE + "date"]
    assert {CORE + "length", CORE + "MD5", CORE + "date", CORE + "mtime", CORE + "creator"} <= read_only_of(node)
    assert CORE + "type" not in read_only_of(node)
    assert [one.get("uri") for one in node.iterfind(f"{V}provides/{V}view")] == [
        CORE + "defaultview",
        CORE + "binaryview",
    ]


async def test_space_that_is_left(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    node = await alice.node(folder)
    assert int(properties_of(node)[CORE + "availableSpace"]) > 0
    assert CORE + "availableSpace" in read_only_of(node)
    assert CORE + "availableSpace" in properties_of(child_of(node, "box"))


async def test_protocols_of_a_node(alice: Agent, bea: Agent, folder: str) -> None:
    empty = f'<protocols xmlns="{V[1:-1]}"/>'
    answer = (await alice.send("POST", f"/nodes{folder}", empty)).assert_status(200)
    provided = {one.get("uri") for one in answer.xml.iterfind(f"{V}provides/{V}protocol")}
    assert provided == {CORE + name for name in ("httpget", "httpput", "httpsget", "httpsput")} | {PUBLIC_SHARE, TUS}
    (await alice.send("POST", f"/nodes{folder}/missing", empty)).assert_fault(404, "NodeNotFound")
    (await bea.send("POST", f"/nodes{folder}", empty)).assert_fault(403, "PermissionDenied")


async def test_every_answer_of_a_known_caller_names_him(space: Space, folder: str) -> None:
    for name in ("alice", "bea", "nobody"):
        for path in ("/nodes", f"/nodes{folder}", "/capabilities"):
            answer = await space.agent(name).send("GET", path)
            assert answer.headers.get("X-VO-Authenticated") == (None if name == "nobody" else name)
