"""createNode (VOSpace 2.1, section 6.2.1; R-CREATE, R-AUTO)."""

from __future__ import annotations

import asyncio

import pytest

from pyvospace.model.vocabulary import CADC, CORE
from pyvospace.wire.xml import V
from tests.server.conftest import STAFF
from tests.support.agents import Agent, children_of, node_document, properties_of, type_of, uri_of

KINDS = ("Node", "DataNode", "UnstructuredDataNode", "StructuredDataNode", "ContainerNode", "LinkNode")


@pytest.mark.parametrize("kind", KINDS)
async def test_every_type_is_created(alice: Agent, folder: str, kind: str) -> None:
    target = "vos://example.org~other/a" if kind == "LinkNode" else None
    answer = await alice.put(f"{folder}/new", kind, properties={CORE + "title": "T"}, target=target)
    made = answer.assert_status(201).xml
    told = properties_of(made)
    assert made.get("uri") == uri_of(f"{folder}/new")
    # A Node that says no more becomes a DataNode (R-CREATE-006).
    assert type_of(made) == ("DataNode" if kind == "Node" else kind)
    assert (told[CORE + "title"], told[CORE + "creator"]) == ("T", "alice")
    assert made.findtext(V + "target") == target
    assert type_of(await alice.node(f"{folder}/new")) == type_of(made)


async def test_no_type_means_node(alice: Agent, folder: str) -> None:
    document = node_document(f"{folder}/plain").replace(' xsi:type="vos:DataNode"', "")
    assert type_of((await alice.send("PUT", f"/nodes{folder}/plain", document)).assert_status(201).xml) == "DataNode"


@pytest.mark.parametrize("prefix", ["vos:", "x:", ""])
async def test_prefix_of_the_type_is_free(alice: Agent, folder: str, prefix: str) -> None:
    document = node_document(f"{folder}/new", "ContainerNode", prefix=prefix).replace("xmlns:vos=", "xmlns:x=")
    document = document.replace("<node ", '<node xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" ')
    assert type_of((await alice.send("PUT", f"/nodes{folder}/new", document)).assert_status(201).xml) == "ContainerNode"


async def test_system_metadata_is_in_the_answer(alice: Agent, folder: str) -> None:
    made = (await alice.put(f"{folder}/new")).assert_status(201).xml
    told = properties_of(made)
    assert told[CORE + "length"] == "0"
    assert CORE + "MD5" not in told
    assert {CORE + "date", CORE + "btime", CORE + "ctime", CORE + "ispublic", CORE + "publicread"} <= told.keys()
    assert made.get("busy") == "false"
    assert [one.get("uri") for one in made.iterfind(f"{V}accepts/{V}view")] == [CORE + "anyview", CORE + "binaryview"]
    assert made.find(V + "provides") is None, "there are no data yet"


@pytest.mark.parametrize("kind", ["DataNode", "ContainerNode"])
async def test_views_and_capabilities_are_not_taken_over(alice: Agent, folder: str, kind: str) -> None:
    inner = (
        '<accepts><view uri="urn:x:in"/></accepts><provides><view uri="urn:x:out"/></provides>'
        '<capabilities><capability uri="urn:x:cap"><endpoint>http://example.org/</endpoint></capability></capabilities>'
    )
    answer = (await alice.put(f"{folder}/new", kind, properties={}, inner=inner)).assert_status(201)
    assert "urn:x:" not in answer.text
    (await alice.post(f"{folder}/new", kind, properties={}, inner=inner)).assert_status(200)
    assert "urn:x:" not in (await alice.get(f"{folder}/new", detail="max")).text


async def test_children_in_the_document_are_not_created(alice: Agent, folder: str) -> None:
    inner = f"<nodes>{node_document(f'{folder}/box/child')}</nodes>"
    made = (await alice.put(f"{folder}/box", "ContainerNode", inner=inner)).assert_status(201).xml
    assert children_of(made) == children_of(await alice.node(f"{folder}/box")) == []


async def test_existing_node_stays_as_it_is(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a", properties={CORE + "title": "old"})
    for kind in ("DataNode", "ContainerNode"):
        answer = await alice.put(f"{folder}/a", kind, properties={CORE + "title": "new"})
        answer.assert_fault(409, "DuplicateNode")
        assert f"{folder}/a" in answer.text
    node = await alice.node(f"{folder}/a")
    assert (type_of(node), properties_of(node)[CORE + "title"]) == ("DataNode", "old")


async def test_root_exists(alice: Agent, admin: Agent) -> None:
    (await admin.put("", "ContainerNode")).assert_fault(409, "DuplicateNode")
    (await alice.put("", "ContainerNode")).assert_fault(403, "PermissionDenied")


@pytest.mark.parametrize("below", ["missing/new", "missing/further/new", "data/new", "data/further/new"])
async def test_ancestor_is_missing_or_no_container(alice: Agent, folder: str, below: str) -> None:
    await alice.make(f"{folder}/data")
    (await alice.put(f"{folder}/{below}")).assert_fault(404, "ContainerNotFound")


async def test_link_on_the_way_is_told_with_its_document(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/link", "LinkNode", target=uri_of(f"{folder}/box"))
    for below in ("new", "further/new"):
        answer = (await alice.put(f"{folder}/link/{below}")).assert_fault(400, "LinkFound")
        _, document = answer.text.split("\n", 1)
        assert f'uri="{uri_of(f"{folder}/link")}"' in document
        assert f"<vos:target>{uri_of(f'{folder}/box')}</vos:target>" in document
    assert children_of(await alice.node(f"{folder}/box")) == []


async def test_simultaneous_creations_have_one_winner(alice: Agent, folder: str) -> None:
    answers = await asyncio.gather(*(alice.put(f"{folder}/race") for _ in range(20)))
    assert sorted(one.status for one in answers) == [201] + [409] * 19


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("", "InvalidURI"),
        ("vos://localhost~space/home/alice/elsewhere", "InvalidURI"),
        ("vos://example.org~space{}", "InvalidURI"),
        ("http://localhost~space{}", "InvalidURI"),
        ("vos:{}", "InvalidURI"),
        ("vos://localhost~space{}/../new", "InvalidURI"),
        ("vos://localhost~space{}%2F", "InvalidURI"),
        ("vos://localhost~space/{}", "InvalidURI"),
        ("vos://localhost~space{}%", "InvalidURI"),
        ("vos://user@localhost~space{}", "InvalidURI"),
        ("vos://localhost~space:80{}", "InvalidURI"),
    ],
)
async def test_uri_of_the_document_must_be_that_of_the_url(alice: Agent, folder: str, uri: str, name: str) -> None:
    (await alice.put(f"{folder}/new", uri=uri.format(f"{folder}/new"))).assert_fault(400, name)
    (await alice.get(f"{folder}/new")).assert_fault(404, "NodeNotFound")


async def test_missing_uri(alice: Agent, folder: str) -> None:
    document = node_document(f"{folder}/new").replace(f'uri="{uri_of(f"{folder}/new")}"', "")
    (await alice.send("PUT", f"/nodes{folder}/new", document)).assert_fault(400, "InvalidURI")


@pytest.mark.parametrize(
    "uri",
    ["vos://localhost~space{}", "vos://localhost!space{}", "VOS://LocalHost~Space{}", "vos://localhost~space{}/"],
)
async def test_spellings_of_one_authority(alice: Agent, folder: str, uri: str) -> None:
    made = (await alice.put(f"{folder}/new", uri=uri.format(f"{folder}/new"))).assert_status(201).xml
    assert made.get("uri") == uri_of(f"{folder}/new")


async def test_trailing_slash_does_not_count(alice: Agent, folder: str) -> None:
    (await alice.send("PUT", f"/nodes{folder}/box/", node_document(f"{folder}/box", "ContainerNode"))).assert_status(
        201
    )
    assert children_of(await alice.node(f"{folder}/")) == ["box"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("vos:FancyNode", "TypeNotSupported"), ("other:DataNode", "TypeNotSupported"), ("", "TypeNotSupported")],
)
async def test_unknown_type(alice: Agent, folder: str, kind: str, name: str) -> None:
    document = node_document(f"{folder}/new").replace("vos:DataNode", kind)
    (await alice.send("PUT", f"/nodes{folder}/new", document)).assert_fault(400, name)


async def test_link_needs_a_target(alice: Agent, folder: str) -> None:
    (await alice.put(f"{folder}/link", "LinkNode")).assert_fault(400, "InvalidArgument")
    (await alice.put(f"{folder}/link", "LinkNode", target="")).assert_fault(400, "InvalidArgument")


@pytest.mark.parametrize("target", ["x y", "/home", ":x", "http:", "1 a:b"])
async def test_target_must_be_a_uri(alice: Agent, folder: str, target: str) -> None:
    (await alice.put(f"{folder}/link", "LinkNode", target=target)).assert_fault(400, "InvalidArgument")


@pytest.mark.parametrize(
    "target",
    ["vos://localhost~space/missing", "https://example.org/a?b=c#d", "ivo://example.org/x", "urn:x:1", "urn:x y"],
)
async def test_target_may_be_any_uri(alice: Agent, folder: str, target: str) -> None:
    await alice.make(f"{folder}/link", "LinkNode", target=target)
    assert (await alice.node(f"{folder}/link")).findtext(V + "target") == target.replace(" ", "%20")


async def test_auto_names_differ(alice: Agent, folder: str) -> None:
    uris = [(await alice.put(f"{folder}/.auto")).assert_status(201).xml.get("uri") or "" for _ in range(2)]
    assert len(set(uris)) == 2
    assert sorted(uri.rsplit("/", 1)[-1] for uri in uris) == children_of(await alice.node(folder))
    assert not any(".auto" in uri for uri in uris)


async def test_reserved_names(alice: Agent, folder: str) -> None:
    (await alice.put(f"{folder}/.null")).assert_fault(400, "InvalidURI")
    for name in (".auto", ".null"):
        (await alice.put(f"{folder}/{name}/child")).assert_fault(404, "ContainerNotFound")
        (await alice.get(f"{folder}/{name}")).assert_fault(404, "NodeNotFound")
        (await alice.post(f"{folder}/{name}")).assert_fault(404, "NodeNotFound")
        (await alice.delete(f"{folder}/{name}")).assert_fault(404, "NodeNotFound")
    assert children_of(await alice.node(folder)) == []


async def test_new_node_is_private(alice: Agent, bea: Agent, nobody: Agent, shared: str, admin: Agent) -> None:
    await admin.make(f"{shared}/new")
    assert properties_of(await admin.node(f"{shared}/new"))[CORE + "ispublic"] == "false"
    (await bea.get(f"{shared}/new")).assert_fault(403, "PermissionDenied")
    (await nobody.get(f"{shared}/new")).assert_fault(401, "NotAuthenticated")


async def test_only_who_may_write_to_the_container_creates(
    alice: Agent, bea: Agent, carl: Agent, nobody: Agent, admin: Agent, shared: str
) -> None:
    await admin.make(
        f"{shared}/box", "ContainerNode", properties={CORE + "groupwrite": STAFF, CORE + "ispublic": "true"}
    )
    (await carl.put(f"{shared}/box/new")).assert_fault(403, "PermissionDenied")
    (await nobody.put(f"{shared}/box/new")).assert_fault(401, "NotAuthenticated")
    made = (await bea.put(f"{shared}/box/new")).assert_status(201).xml
    assert properties_of(made)[CORE + "creator"] == "bea"


async def test_inherited_permissions(alice: Agent, folder: str) -> None:
    rights = {CORE + "ispublic": "true", CORE + "groupread": "ivo://example.org/gms?a", CORE + "groupwrite": STAFF}
    inherit = {CADC + "inheritPermissions": "true"}
    await alice.make(f"{folder}/box", "ContainerNode", properties=rights | inherit)
    for kind in ("DataNode", "ContainerNode", "LinkNode"):
        target = "urn:x:1" if kind == "LinkNode" else None
        told = properties_of((await alice.put(f"{folder}/box/{kind}", kind, target=target)).assert_status(201).xml)
        assert {name: told[name] for name in rights} == rights
        assert (CADC + "inheritPermissions" in told) == (kind == "ContainerNode")
    own = {CORE + "ispublic": "false", CORE + "groupread": "ivo://example.org/gms?b"}
    told = properties_of((await alice.put(f"{folder}/box/own", properties=own)).assert_status(201).xml)
    assert {name: told[name] for name in own} == own
    assert told[CORE + "groupwrite"] == STAFF


async def test_nothing_is_inherited_without_the_word(alice: Agent, folder: str) -> None:
    await alice.make(
        f"{folder}/box", "ContainerNode", properties={CORE + "ispublic": "true", CORE + "groupread": STAFF}
    )
    told = properties_of((await alice.put(f"{folder}/box/new")).assert_status(201).xml)
    assert told[CORE + "ispublic"] == "false"
    assert CORE + "groupread" not in told


async def test_locked_container_takes_no_children(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode", properties={CADC + "islocked": "true"})
    (await alice.put(f"{folder}/box/new")).assert_fault(423, "NodeLocked")


async def test_depth(alice: Agent, folder: str) -> None:
    deep = "/".join(["d"] * 196)  # below /home/alice/FOLDER
    path = folder
    for name in deep.split("/"):
        path = await alice.make(f"{path}/{name}", "ContainerNode")
    await alice.make(f"{path}/last", "ContainerNode")
    assert path.count("/") == 199
    (await alice.put(f"{path}/last/further")).assert_fault(400, "InvalidURI")
    (await alice.delete(f"{folder}/d")).assert_status(204)
