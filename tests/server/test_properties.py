"""Properties (VOSpace 2.1, section 3.2; R-PROP): names, values, what no client may set (T11)."""

from __future__ import annotations

import uuid

import pytest

from pyvospace.model.vocabulary import CADC, CORE
from pyvospace.wire.xml import V
from tests.server.conftest import READERS, STAFF
from tests.support.agents import Agent, properties_of, read_only_of
from tests.support.pair import PREFIXES

TITLE = CORE + "title"
FACTS = ("length", "MD5", "date", "btime", "ctime", "mtime", "content-date", "creator")


@pytest.mark.parametrize(
    "uri",
    [
        "urn:x:grade",
        "http://example.org/p?a=b&c=d#e",
        "ivo://example.org/p#q",
        "quality",
        "a b",
        "é",
        "<&\"'>",
        "x" * 2000,
    ],
)
async def test_any_name_is_kept_as_sent(alice: Agent, folder: str, uri: str) -> None:
    path = await alice.make(f"{folder}/a", properties={uri: "v"})
    assert properties_of(await alice.node(path))[uri] == "v"
    (await alice.post(path, properties={uri: None})).assert_status(200)
    assert uri not in properties_of(await alice.node(path))


@pytest.mark.parametrize(
    "value", ["", " ", "  a  b  ", "<&>\"'", "é\U0001f52d", "a\nb\tc", "]]>", "{}", "null", "x" * 16384, "\u2028\u00a0"]
)
async def test_any_value_survives(alice: Agent, folder: str, value: str) -> None:
    path = await alice.make(f"{folder}/a", properties={TITLE: value, "urn:x:1": value})
    told = properties_of(await alice.node(path))
    assert told[TITLE] == told["urn:x:1"] == value


async def test_carriage_return_survives(alice: Agent, folder: str) -> None:
    document = (
        f'<node xmlns="{V[1:-1]}" uri="vos://localhost~space{folder}/a"><properties>'
        f'<property uri="urn:x:1">a&#13;&#10;b</property></properties></node>'
    )
    (await alice.send("PUT", f"/nodes{folder}/a", document)).assert_status(201)
    assert properties_of(await alice.node(f"{folder}/a"))["urn:x:1"] == "a\r\nb"


async def test_limits(alice: Agent, folder: str) -> None:
    (await alice.put(f"{folder}/a", properties={TITLE: "x" * 16385})).assert_fault(400, "InvalidArgument")
    (await alice.put(f"{folder}/a", properties={"u:" + "x" * 16384: ""})).assert_fault(400, "InvalidArgument")
    many = {f"urn:x:{number}": "" for number in range(1001)}
    (await alice.put(f"{folder}/a", properties=many)).assert_fault(400, "InvalidArgument")
    del many["urn:x:0"]
    path = await alice.make(f"{folder}/a", properties=many)
    (await alice.post(path, properties={"urn:x:0": ""})).assert_fault(400, "InvalidArgument")
    (await alice.post(path, properties={"urn:x:0": "", "urn:x:1": None})).assert_status(200)
    await alice.delete(path)  # /properties tells of a thousand at the most


async def test_twice_in_a_document(alice: Agent, folder: str) -> None:
    inner = '<properties><property uri="urn:x:1">a</property><property uri="urn:x:1">b</property></properties>'
    (await alice.put(f"{folder}/a", inner=inner)).assert_fault(400, "InvalidArgument")
    odd = {TITLE: "a", CORE + "Title": "b"}
    (await alice.put(f"{folder}/a", properties=odd)).assert_fault(400, "InvalidArgument")


@pytest.mark.parametrize("name", [*FACTS, "availableSpace"])
async def test_facts_of_the_service_are_ignored(alice: Agent, folder: str, name: str) -> None:
    path = await alice.make(f"{folder}/a", properties={CORE + name: "0", TITLE: "t"})
    before = properties_of(await alice.node(path))
    for value in ("1", "2001-01-01T00:00:00.000", "mallory", None):
        told = properties_of((await alice.post(path, properties={CORE + name: value})).assert_status(200).xml)
        assert told.get(CORE + name) in {before.get(CORE + name), told[CORE + "ctime"]}


async def test_what_the_service_alone_sets_is_marked(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"x")
    marked = read_only_of(await alice.node(f"{folder}/a", detail="max"))
    assert marked == {CORE + name for name in FACTS} | {CADC + "readable", CADC + "writable"}


@pytest.mark.parametrize("name", ["quota"])
async def test_read_only_property(alice: Agent, folder: str, name: str) -> None:
    path = await alice.make(f"{folder}/a", properties={TITLE: "old"})
    changes = {TITLE: "new", CORE + name: "1"}
    (await alice.post(path, properties=changes)).assert_fault(403, "PermissionDenied")
    assert properties_of(await alice.node(path))[TITLE] == "old", "nothing of the request is applied"
    (await alice.put(f"{folder}/b", properties=changes)).assert_fault(403, "PermissionDenied")
    (await alice.get(f"{folder}/b")).assert_fault(404, "NodeNotFound")


@pytest.mark.parametrize("fragment", ["", "unknown", "titles", "length2", " length", "length/x", "owner", "location"])
async def test_unknown_name_of_the_standard(alice: Agent, folder: str, fragment: str) -> None:
    (await alice.put(f"{folder}/a", properties={CORE + fragment: "x"})).assert_fault(400, "InvalidArgument")
    path = await alice.make(f"{folder}/a")
    (await alice.post(path, properties={CORE + fragment: "x"})).assert_fault(400, "InvalidArgument")


LOOK_ALIKES = [
    "IVO://ivoa.net/vospace/core#{}",
    "ivo://IVOA.NET/vospace/core#{}",
    "ivo://ivoa.net/vospace/core%23{}",
    "ivo://ivoa.net/vospace/%63ore#{}",
    "ivo://ivoa.net/VOSPACE/core#{}",
    " ivo://ivoa.net/vospace/core#{}",
    "ivo://ivoa.net/vospace/core#{} ",
    "ivo://ivoa.net/vospace/core\uff03{}",
    "ivo%3A//ivoa.net/vospace/core#{}",
]


@pytest.mark.parametrize(
    "uri", ["\u00a0ivo://ivoa.net/vospace/core#length", "\uff49vo://ivoa.net/vospace/core#length", "["]
)
async def test_what_no_schema_takes_for_a_uri_is_refused(alice: Agent, folder: str, uri: str) -> None:
    (await alice.put(f"{folder}/a", properties={uri: "7"})).assert_fault(400, "InvalidArgument")


@pytest.mark.parametrize("look", LOOK_ALIKES)
async def test_look_alikes_are_taken_for_the_real_ones(alice: Agent, folder: str, look: str) -> None:
    path = await alice.make(f"{folder}/a", properties={look.format("length"): "7", look.format("title"): "t"})
    node = await alice.node(path)
    told = properties_of(node)
    assert (told[CORE + "length"], told[TITLE]) == ("0", "t")
    assert [
        one.get("uri") for one in node.iterfind(f".//{V}property") if "length" in (one.get("uri") or "").lower()
    ] == [CORE + "length"]
    (await alice.post(path, properties={look.format("quota"): "7"})).assert_fault(403, "PermissionDenied")
    (await alice.post(path, properties={look.format("xyz"): "7"})).assert_fault(400, "InvalidArgument")
    (await alice.post(path, properties={look.format("ISPUBLIC"): "true"})).assert_status(200)
    assert properties_of(await alice.node(path))[CORE + "ispublic"] == "true"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (f"{STAFF} {READERS}", f"{STAFF} {READERS}"),
        (f"{STAFF},{READERS}", f"{STAFF} {READERS}"),
        (f"  {STAFF} , {READERS},,{STAFF}\n", f"{STAFF} {READERS}"),
        ("ivo://example.org/any?group", "ivo://example.org/any?group"),
        ("", None),
        (" , ", None),
    ],
)
async def test_lists_of_groups(alice: Agent, folder: str, sent: str, kept: str | None) -> None:
    path = await alice.make(f"{folder}/a", properties={CORE + "groupread": sent, CORE + "groupwrite": sent})
    told = properties_of(await alice.node(path))
    assert told.get(CORE + "groupread") == told.get(CORE + "groupwrite") == kept


async def test_groups_are_known_by_every_prefix(bea: Agent, admin: Agent, shared: str) -> None:
    for prefix in PREFIXES:
        path = await admin.make(f"{shared}/{len(prefix)}", properties={CORE + "groupread": prefix + "staff"})
        (await bea.get(path)).assert_status(200)
    for group in ("staff", "ivo://example.org/gms?staff", PREFIXES[0] + "STAFF", PREFIXES[0] + "staff2", PREFIXES[0]):
        path = await admin.make(f"{shared}/{uuid.uuid4().hex}", properties={CORE + "groupread": group})
        (await bea.get(path)).assert_fault(403, "PermissionDenied")


async def test_contains_tells_what_nodes_use(alice: Agent, bea: Agent, nobody: Agent, carl: Agent, folder: str) -> None:
    secret, told = f"urn:x:{uuid.uuid4().hex}", f"urn:x:{uuid.uuid4().hex}"
    await alice.make(f"{folder}/hidden", properties={secret: "x"})
    await bea.make(f"{bea.pair.home.replace('alice', 'bea')}/{uuid.uuid4().hex}", properties={told: "x"})

    async def contains(agent: Agent) -> set[str | None]:
        document = (await agent.send("GET", "/properties")).assert_status(200).xml
        return {one.get("uri") for one in document.iterfind(f"{V}contains/{V}property")}

    assert secret in await contains(alice)
    assert told not in await contains(alice)
    assert told in await contains(bea)
    assert {secret, told}.isdisjoint(await contains(nobody))
    assert CORE + "length" in await contains(nobody)
    flags = {CADC + "islocked", CORE + "immutable"}
    await carl.make(f"/home/carl/{uuid.uuid4().hex}", properties=dict.fromkeys(flags, "true"))
    assert flags <= await contains(carl)
