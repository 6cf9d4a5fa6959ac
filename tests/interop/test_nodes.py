"""What clients need of node documents (rows N1 to N20 of what they need)."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

import aiohttp
import pytest
import vosfs.nodes
from vos.vos import Node as VosNode
from vosfs.xmlio import safe_parse
from yarl import URL

from pyvospace.model.vocabulary import (
    CADC,
    CORE,
    CTIME,
    DATE,
    GROUP_READ,
    GROUP_WRITE,
    IS_PUBLIC,
    LENGTH,
    MD5,
    QUOTA,
    TYPE,
)
from pyvospace.wire.xml import VOSPACE, XSI
from tests.interop.conftest import CROWD, Team
from tests.interop.machine import Folder
from tests.support.agents import Agent, children_of, node_document, properties_of, type_of

NODE = f"{{{VOSPACE}}}node"
CADC_GROUPS = "ivo://cadc.nrc.ca/gms?"
AWKWARD = ["100%.txt", "50%41", "a b", "a&b=c+d", "what?", "#1", "naïve", "日本", "q'\"<>", "[1:10]", "a\\b", "~!$"]
"""Names that clients write in different ways."""


@pytest.fixture
async def family(alice: Agent, folder: Folder) -> Folder:
    """A folder with a node of each type and some bytes."""
    await alice.make(folder.node_path("sub"), "ContainerNode")
    await alice.make(folder.node_path("link"), "LinkNode", target=f"vos://localhost~space{folder.path}/some")
    await alice.make(folder.node_path("new"))
    await alice.push(folder.node_path("empty"), b"")
    await alice.push(folder.node_path("some"), b"bytes")
    return folder


@pytest.mark.clause("N1")
async def test_types_with_the_literal_prefix(alice: Agent, family: Folder) -> None:
    body = (await alice.get(family.path)).body
    node = VosNode(body)
    assert node.isdir()
    found = {child.name: child.type for child in node.node_list}
    assert found == {
        "empty": "vos:DataNode",
        "link": "vos:LinkNode",
        "new": "vos:DataNode",
        "some": "vos:DataNode",
        "sub": "vos:ContainerNode",
    }
    for name, kind in found.items():
        assert VosNode((await alice.get(family.node_path(name))).body).type == kind


@pytest.mark.clause("N2")
async def test_every_node_has_a_date(alice: Agent, family: Folder) -> None:
    listing = await alice.node(family.path)
    nodes = [listing, *listing.iter(NODE)]
    assert len(nodes) == 7
    for node in nodes:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", properties_of(node)[DATE])
    for child in VosNode((await alice.get(family.path)).body).node_list:
        assert child.get_info()["date"] > 1.7e9


@pytest.mark.clause("N3")
async def test_length_and_md5(alice: Agent, family: Folder) -> None:
    listing = await alice.node(family.path)
    children = {child.get("uri", "").rsplit("/", 1)[1]: properties_of(child) for child in listing.iter(NODE)}
    told = {name: (found.get(LENGTH), found.get(MD5)) for name, found in children.items()}
    assert told["new"] == ("0", None)
    assert told["empty"] == ("0", hashlib.md5(b"").hexdigest())
    assert told["some"] == ("5", hashlib.md5(b"bytes").hexdigest())


@pytest.mark.clause("N4")
async def test_a_cleared_property_is_left_out(alice: Agent, folder: Folder) -> None:
    path = folder.node_path("a")
    given = {GROUP_READ: "ivo://x/g?a", GROUP_WRITE: "ivo://x/g?b", CORE + "title": "t", "quality": "good"}
    made = await alice.put(path, properties=given)
    assert given.items() <= properties_of(made.xml).items()
    await alice.post(path, properties=dict.fromkeys(given))
    for node in (await alice.node(path), (await alice.node(folder.path)).find(f".//{NODE}")):
        assert node is not None
        assert not given.keys() & properties_of(node).keys()


@pytest.mark.clause("N5")
@pytest.mark.parametrize("name", AWKWARD)
async def test_uris_are_encoded_and_decoded_once(alice: Agent, folder: Folder, name: str) -> None:
    """In the documents of vosfs and Java they are encoded, in those of vos raw; the path of the URL decides."""
    encoded = folder.node_path(name)
    for uri in (f"vos://localhost~space{encoded}", f"vos://localhost!space{folder.path}/{name}"):
        made = (await alice.put(encoded, uri=uri)).assert_status(201)
        told = made.xml.get("uri") or ""
        assert re.fullmatch(r"[!-~]*", told)
        assert not set(told) & set('"<>?#&\\')
        assert VosNode((await alice.get(encoded)).body).uri == told
        (child,) = vosfs.nodes._children_of(safe_parse((await alice.get(folder.path)).body))
        assert child.uri == told
        (await alice.delete(encoded)).assert_status(204)


@pytest.mark.clause("N5")
@pytest.mark.parametrize("raw", ["a b", "naïve 日本", "100% of it"])
async def test_raw_targets(alice: Agent, folder: Folder, raw: str) -> None:
    """Where no URL decides: of transfers and links."""
    path = folder.node_path(raw)
    pushed = await alice.sync(path, "pushToVoSpace", CORE + "httpsput", target=folder.vos(raw))
    details = await alice.send("GET", pushed.assert_status(303).location)
    assert details.xml.findtext(f"{{{VOSPACE}}}target") == f"vos://localhost~space{path}".replace("%2C", ",")
    await alice.push(path, b"bytes")
    await alice.make(folder.node_path("link"), "LinkNode", target=folder.vos(raw))
    assert await alice.pull(folder.node_path("link")) == b"bytes"


@pytest.mark.clause("N6")
async def test_limit_0(alice: Agent, family: Folder) -> None:
    assert children_of(await alice.node(family.path, limit=0)) == []


@pytest.mark.clause("N7")
async def test_all_children_without_a_limit(alice: Agent, crowd: Folder) -> None:
    listing = await alice.node(crowd.path)
    assert children_of(listing) == CROWD


@pytest.mark.clause("N8")
async def test_pages_begin_with_the_node_that_is_named(alice: Agent, crowd: Folder) -> None:
    found = children_of(await alice.node(crowd.path, limit=1000))
    while len(page := children_of(await alice.node(crowd.path, uri=f"{crowd.vos()}/{found[-1]}", limit=1000))) > 1:
        assert page[0] == found[-1]
        found += page[1:]
    assert page == [found[-1]]
    assert found == CROWD


@pytest.mark.clause("N9")
async def test_properties_of_children_without_detail(alice: Agent, family: Folder) -> None:
    for child in (await alice.node(family.path)).iter(NODE):
        if type_of(child) != "ContainerNode" or child.get("uri", "").endswith("/sub"):
            assert {DATE, IS_PUBLIC, CORE + "creator"} <= properties_of(child).keys()


@pytest.mark.clause("N10")
async def test_sort_and_order_as_vos_writes_them(alice: Agent, folder: Folder) -> None:
    for name, size in (("b", 2), ("a", 1), ("c", 3)):
        await alice.push(folder.node_path(name), b"x" * size)
    for key, ascending in ((LENGTH, ["a", "b", "c"]), (DATE, ["b", "a", "c"])):
        assert children_of(await alice.node(folder.path, sort=key, order="asc")) == ascending
        assert children_of(await alice.node(folder.path, sort=key, order="desc")) == ascending[::-1]
    (await alice.get(folder.path, sort=CORE + "title")).assert_fault(400, "OptionNotSupported")


@pytest.mark.clause("N11")
async def test_size_of_a_listing(alice: Agent, crowd: Folder) -> None:
    body = (await alice.get(crowd.path, limit=2000)).body
    assert len(body) < 8 * 1024**2
    assert b"<!DOCTYPE" not in body


@pytest.mark.clause("N12")
@pytest.mark.parametrize("url", ["/nodes", "/nodes/", "/nodes?limit=0", "/nodes/?limit=0"])
async def test_the_root_is_for_everybody(alice: Agent, nobody: Agent, team: Team, url: str) -> None:
    for who in (alice, nobody, Agent(alice.session, alice.pair, team.token)):
        root = (await who.send("GET", url)).assert_status(200).xml
        assert root.get("uri") == "vos://localhost~space"
        assert type_of(root) == "ContainerNode"


@pytest.mark.clause("N13")
@pytest.mark.parametrize("kind", ["DataNode", "ContainerNode", "LinkNode"])
async def test_the_created_node_is_the_answer(alice: Agent, folder: Folder, kind: str) -> None:
    target = {"target": folder.vos("x")} if kind == "LinkNode" else {}
    made = (await alice.put(folder.node_path("a"), kind, **target)).assert_status(201)
    assert VosNode(made.body).type == f"vos:{kind}"
    assert made.xml.get("uri") == f"vos://localhost~space{folder.path}/a"


VIEWS = '<accepts><view uri="{0}#defaultview" /></accepts><provides><view uri="{0}#defaultview" /></provides>'.format(
    "ivo://ivoa.net/vospace/core"
)


@pytest.mark.clause("N14")
@pytest.mark.parametrize(
    ("kind", "inner"),
    [
        ("ContainerNode", f"<properties />{VIEWS}<nodes />"),
        ("DataNode", f"<properties />{VIEWS}"),
        ("LinkNode", "<properties /><target>vos://localhost!space/a b</target>"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_documents_as_vos_sends_them(alice: Agent, folder: Folder, kind: str, inner: str, method: str) -> None:
    """Prefixes of its own, a header `size`, and no Content-Type."""
    path = folder.node_path("a")
    if method == "POST":
        await alice.make(path, kind, **({"target": "vos://localhost~space/a%20b"} if kind == "LinkNode" else {}))
    document = (
        f'<node xmlns="{VOSPACE}" xmlns:vos="{VOSPACE}" xmlns:ns1="{XSI}" ns1:type="vos:{kind}" '
        f'uri="vos://localhost!space{path}">{inner}</node>'
    )
    headers = {"Authorization": f"Bearer {alice.token}", "size": str(len(document)), "Accept": "*/*"}
    async with alice.session.request(
        method, f"{alice.pair.url}/nodes{path}", data=document, headers=headers, skip_auto_headers=["Content-Type"]
    ) as answer:
        assert answer.status == (201 if method == "PUT" else 200), await answer.text()


@pytest.mark.clause("N15")
@pytest.mark.parametrize("name", ["", "sub", "link", "new", "empty", "some"])
async def test_a_whole_document_comes_back(alice: Agent, family: Folder, name: str) -> None:
    """As vlock, and vcp of an unchanged file, send it."""
    path = family.node_path(name) if name else family.path
    await alice.post(path, type_of(await alice.node(path)), properties={CORE + "title": "t", "quality": "good"})
    before = (await alice.get(path, limit=0)).body
    answer = await alice.send("POST", f"/nodes{path}", before)
    told, known = properties_of(answer.assert_status(200).xml), properties_of(await alice.node(path, limit=0))
    assert told.keys() == known.keys()
    assert {uri for uri in told if told[uri] != known[uri]} <= {CORE + "availableSpace"}


@pytest.mark.clause("N15")
async def test_read_only_properties_are_ignored(alice: Agent, family: Folder) -> None:
    path = family.node_path("some")
    before = properties_of(await alice.node(path))
    claimed = {LENGTH: "7", MD5: "0" * 32, DATE: "2001-01-01T00:00:00", CORE + "creator": "mallory"}
    (await alice.post(path, properties=claimed)).assert_status(200)
    assert {**properties_of(await alice.node(path)), CTIME: ""} == {**before, CTIME: ""}
    (await alice.post(path, properties={QUOTA: "1"})).assert_fault(403, "PermissionDenied")


@pytest.mark.clause("N16")
async def test_properties_that_are_no_uri(alice: Agent, folder: Folder) -> None:
    path = await alice.make(folder.node_path("a.fits"))
    tagged = await alice.post(path, properties={"quality": "good", TYPE: "image/fits"})
    assert properties_of(tagged.xml)["quality"] == "good"
    cleared = await alice.post(path, properties={"quality": None, TYPE: "image/fits"})
    assert "quality" not in properties_of(cleared.xml)
    assert properties_of(cleared.xml)[TYPE] == "image/fits"


@pytest.mark.clause("N17")
async def test_a_locked_node_is_423(alice: Agent, folder: Folder) -> None:
    locked = CADC + "islocked"
    data = await alice.make(folder.node_path("data"), properties={locked: "true"})
    box = await alice.make(folder.node_path("box"), "ContainerNode", properties={locked: "true"})
    for answer in (
        await alice.delete(data), await alice.send("PUT", f"/files{data}", b"x"), await alice.delete(box),
        await alice.put(f"{box}/new"), await alice.send("PUT", f"/files{box}/new", b"x"),
    ):  # fmt: skip
        answer.assert_fault(423, "NodeLocked")
    for path, kind in ((data, "DataNode"), (box, "ContainerNode")):
        told = properties_of((await alice.post(path, kind, properties={locked: None})).assert_status(200).xml)
        assert locked not in told
    (await alice.put(f"{box}/new")).assert_status(201)
    (await alice.delete(data)).assert_status(204)


@pytest.mark.clause("N18")
async def test_groups_between_spaces(alice: Agent, public_folder: Folder, team: Team) -> None:
    path = public_folder.node_path("a")
    await alice.push(path, b"bytes")
    member = Agent(alice.session, alice.pair, team.token)
    (await member.get(path)).assert_fault(403, "PermissionDenied")
    groups = f"{CADC_GROUPS}others {CADC_GROUPS}{team.group}"
    told = await alice.post(path, properties={GROUP_READ: groups})
    assert properties_of(told.xml)[GROUP_READ] == groups
    assert await member.pull(path) == b"bytes"
    (await member.post(path, properties={"a": "b"})).assert_fault(403, "PermissionDenied")
    await alice.post(path, properties={GROUP_WRITE: groups})
    (await member.post(path, properties={"a": "b"})).assert_status(200)
    assert (
        not {GROUP_READ, GROUP_WRITE}
        & properties_of((await alice.post(path, properties={GROUP_READ: None, GROUP_WRITE: ""})).xml).keys()
    )
    (await member.get(path)).assert_fault(403, "PermissionDenied")


@pytest.mark.clause("N19")
async def test_409_and_404(alice: Agent, folder: Folder) -> None:
    for kind in ("ContainerNode", "DataNode"):
        await alice.make(folder.node_path(kind), kind)
        (await alice.put(folder.node_path(kind), kind)).assert_fault(409, "DuplicateNode")
    (await alice.get(folder.node_path("missing"))).assert_fault(404, "NodeNotFound")
    (await alice.get(folder.node_path("missing", "a"))).assert_status(404)
    (await alice.put(folder.node_path("missing", "a"))).assert_status(404)
    (await alice.delete(folder.node_path("missing"))).assert_status(404)


@pytest.mark.clause("N20")
@pytest.mark.parametrize("name", ["some", "empty", "new", "link"])
async def test_view_data(alice: Agent, session: aiohttp.ClientSession, family: Folder, name: str) -> None:
    url = URL(f"{alice.pair.url}/nodes{quote(family.path)}/{name}?view=data", encoded=True)
    async with session.get(url, headers={"Authorization": f"Bearer {alice.token}"}) as answer:
        assert (answer.status, await answer.read()) == (200, b"bytes" if name in {"some", "link"} else b"")
        assert [one.status for one in answer.history][:1] == [303]


@pytest.mark.clause("N5")
async def test_a_document_for_another_node_is_refused(alice: Agent, folder: Folder) -> None:
    path = folder.node_path("a b")
    other = node_document(path, uri=f"vos://localhost~space{folder.path}/a%2520b")
    (await alice.send("PUT", f"/nodes{path}", other)).assert_fault(400, "InvalidURI")
