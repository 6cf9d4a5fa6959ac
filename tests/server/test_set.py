"""setNode (VOSpace 2.1, section 6.3.2; R-SET, R-PROP)."""

from __future__ import annotations

import asyncio

import pytest

from pyvospace.model.vocabulary import AVAILABLE_SPACE, CADC, CORE
from pyvospace.wire.xml import V
from tests.server.conftest import READERS, STAFF
from tests.support.agents import Agent, children_of, node_document, properties_of, type_of, uri_of

TITLE, RIGHTS = CORE + "title", CORE + "rights"
PUBLIC, OTHER_PUBLIC = CORE + "ispublic", CORE + "publicread"
GROUP_READ, GROUP_WRITE = CORE + "groupread", CORE + "groupwrite"
LOCKED, OTHER_LOCKED = CADC + "islocked", CORE + "islocked"


async def test_union_of_old_and_new(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a", properties={TITLE: "old", "urn:x:keep": "kept"})
    answer = (await alice.post(path, properties={TITLE: "new", "urn:x:more": ""})).assert_status(200)
    for told in (properties_of(answer.xml), properties_of(await alice.node(path))):
        assert (told[TITLE], told["urn:x:keep"], told["urn:x:more"]) == ("new", "kept", "")


async def test_nil_deletes_and_empty_does_not(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a", properties={TITLE: "t", RIGHTS: "r"})
    told = properties_of((await alice.post(path, properties={TITLE: None, RIGHTS: ""})).assert_status(200).xml)
    assert TITLE not in told
    assert told[RIGHTS] == ""
    # What is not there may be deleted as well.
    assert (await alice.post(path, properties={TITLE: None, "urn:x:never": None})).status == 200


async def test_twice_is_once(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a", properties={"urn:x:gone": "x"})
    change = {TITLE: "t", "urn:x:gone": None, GROUP_READ: STAFF}
    first = properties_of((await alice.post(path, properties=change)).assert_status(200).xml)
    second = properties_of((await alice.post(path, properties=change)).assert_status(200).xml)
    times = {CORE + "date", CORE + "ctime"}
    assert {name: first[name] for name in first.keys() - times} == {
        name: second[name] for name in second.keys() - times
    }


async def test_document_as_it_was_read_may_be_posted_back(alice: Agent, folder: str) -> None:
    path = f"{folder}/a"
    await alice.push(path, b"bytes", Content_Type="text/plain")
    everything = {TITLE: "t", GROUP_READ: f"{STAFF} {READERS}", PUBLIC: "true", LOCKED: "true", "quality": "good"}
    await alice.post(path, properties=everything)
    for detail in ("max", "properties"):
        before = await alice.get(path, detail=detail)
        (await alice.send("POST", f"/nodes{path}", before.body)).assert_status(200)
    link = await alice.make(f"{folder}/link", "LinkNode", target="urn:x:1")
    box = await alice.make(f"{folder}/box", "ContainerNode", properties={GROUP_WRITE: STAFF})
    await alice.make(f"{folder}/box/child")
    for other in (link, box):
        (await alice.send("POST", f"/nodes{other}", (await alice.get(other)).body)).assert_status(200)
    assert children_of(await alice.node(box)) == ["child"]


async def test_group_writer_posts_back_what_he_read(alice: Agent, bea: Agent, admin: Agent, shared: str) -> None:
    rights = {GROUP_READ: f"{READERS} {STAFF}", GROUP_WRITE: STAFF, PUBLIC: "true"}
    path = await admin.make(f"{shared}/a", properties=rights | {TITLE: "old"})
    document = (await bea.get(path)).text.replace(">old<", ">new<")
    answer = (await bea.send("POST", f"/nodes{path}", document)).assert_status(200)
    assert properties_of(answer.xml)[TITLE] == "new"


@pytest.mark.parametrize(
    ("uri", "value"),
    [
        (PUBLIC, "false"), (OTHER_PUBLIC, "false"), (PUBLIC, None), (GROUP_READ, READERS), (GROUP_READ, None),
        (GROUP_WRITE, f"{STAFF} {READERS}"), (GROUP_WRITE, ""), (CADC + "inheritPermissions", "true"),
        (CORE + "GroupWrite", READERS), (CORE + "%67roupwrite", READERS),
    ],
)  # fmt: skip
async def test_group_writer_does_not_change_rights(
    bea: Agent, admin: Agent, shared: str, uri: str, value: str | None
) -> None:
    rights = {GROUP_READ: STAFF, GROUP_WRITE: STAFF, PUBLIC: "true"}
    path = await admin.make(f"{shared}/a", "ContainerNode", properties=rights)
    before = properties_of(await admin.node(path))
    answer = await bea.post(path, "ContainerNode", properties={uri: value, TITLE: "new"})
    answer.assert_fault(403, "PermissionDenied")
    after = properties_of(await admin.node(path))
    assert after | {AVAILABLE_SPACE: ""} == before | {AVAILABLE_SPACE: ""}  # others fill the disk meanwhile


async def test_reader_changes_nothing(bea: Agent, carl: Agent, nobody: Agent, admin: Agent, shared: str) -> None:
    path = await admin.make(f"{shared}/a", properties={GROUP_READ: READERS, PUBLIC: "true", TITLE: "old"})
    (await carl.post(path, properties={TITLE: "new"})).assert_fault(403, "PermissionDenied")
    (await bea.post(path, properties={})).assert_fault(403, "PermissionDenied")
    (await nobody.post(path, properties={TITLE: "new"})).assert_fault(401, "NotAuthenticated")
    assert properties_of(await admin.node(path))[TITLE] == "old"


async def test_administrator_changes_everything(alice: Agent, admin: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a")
    told = properties_of(
        (await admin.post(path, properties={PUBLIC: "true", GROUP_WRITE: STAFF})).assert_status(200).xml
    )
    assert (told[PUBLIC], told[GROUP_WRITE], told[CORE + "creator"]) == ("true", STAFF, "alice")


@pytest.mark.parametrize("pair_of", [(PUBLIC, OTHER_PUBLIC), (LOCKED, OTHER_LOCKED)])
async def test_flags_with_two_names(alice: Agent, folder: str, pair_of: tuple[str, str]) -> None:
    first, second = pair_of
    path = await alice.make(f"{folder}/a")
    for name, other in ((first, second), (second, first)):
        told = properties_of((await alice.post(path, properties={name: "true"})).assert_status(200).xml)
        assert (told[first], told[second]) == ("true", "true")
        # A client changes one of them and posts the other as it was.
        told = properties_of((await alice.post(path, properties={name: "false", other: "true"})).assert_status(200).xml)
        assert told.get(first, "false") == told.get(second, "false") == "false"
        told = properties_of((await alice.post(path, properties={name: "1", other: "false"})).assert_status(200).xml)
        assert told[first] == told[second] == "true"
        told = properties_of((await alice.post(path, properties={name: None, other: "true"})).assert_status(200).xml)
        assert told.get(first, "false") == told.get(second, "false") == "false"


async def test_a_new_node_cannot_be_public_and_private(alice: Agent, folder: str) -> None:
    (await alice.put(f"{folder}/a", properties={PUBLIC: "true", OTHER_PUBLIC: "false"})).assert_fault(
        400, "InvalidArgument"
    )


@pytest.mark.parametrize("value", ["maybe", "yes", "TRUE!", "2", "truefalse"])
@pytest.mark.parametrize("uri", [PUBLIC, OTHER_PUBLIC, LOCKED, CADC + "inheritPermissions"])
async def test_flags_are_true_or_false(alice: Agent, folder: str, uri: str, value: str) -> None:
    path = await alice.make(f"{folder}/a", properties={TITLE: "old"})
    (await alice.post(path, properties={TITLE: "new", uri: value})).assert_fault(400, "InvalidArgument")
    assert properties_of(await alice.node(path))[TITLE] == "old"


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("ContainerNode", True), ("LinkNode", True), ("Node", False), ("StructuredDataNode", False)],
)
async def test_type_cannot_be_changed(alice: Agent, folder: str, kind: str, fault: bool) -> None:
    path = await alice.make(f"{folder}/a")
    answer = await alice.post(path, kind, properties={TITLE: "t"})
    if fault:
        answer.assert_fault(400, "InvalidArgument")
    node = await alice.node(path)
    assert type_of(node) == "DataNode"
    assert (TITLE in properties_of(node)) != fault


async def test_views_and_children_cannot_be_set(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/box", "ContainerNode")
    inner = f'<accepts><view uri="urn:x:in"/></accepts><nodes>{node_document(f"{path}/child")}</nodes>'
    node = (await alice.post(path, "ContainerNode", properties={TITLE: "t"}, inner=inner)).assert_status(200).xml
    assert children_of(node) == []
    assert "urn:x:in" not in [one.get("uri") for one in node.iterfind(f".//{V}view")]


async def test_target_of_a_link_is_changed(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/link", "LinkNode", target="urn:x:1", properties={TITLE: "t"})
    node = (await alice.post(path, "LinkNode", target="urn:x:2")).assert_status(200).xml
    assert (node.findtext(V + "target"), properties_of(node)[TITLE]) == ("urn:x:2", "t")
    node = (await alice.post(path, "LinkNode", properties={TITLE: "u"})).assert_status(200).xml
    assert (node.findtext(V + "target"), properties_of(node)[TITLE]) == ("urn:x:2", "u")
    (await alice.post(path, "LinkNode", target="no uri")).assert_fault(400, "InvalidArgument")


async def test_link_itself_is_set_and_not_what_it_leads_to(alice: Agent, folder: str) -> None:
    data = await alice.make(f"{folder}/data")
    link = await alice.make(f"{folder}/link", "LinkNode", target=uri_of(data))
    await alice.post(link, "LinkNode", properties={TITLE: "of the link"})
    assert TITLE not in properties_of(await alice.node(data))


async def test_missing(alice: Agent, folder: str) -> None:
    (await alice.post(f"{folder}/missing")).assert_fault(404, "NodeNotFound")
    (await alice.post(f"{folder}/missing/deeper")).assert_fault(404, "ContainerNotFound")


async def test_uri_of_the_document_must_be_that_of_the_url(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a")
    await alice.make(f"{folder}/b")
    (await alice.post(path, uri=uri_of(f"{folder}/b"), properties={TITLE: "t"})).assert_fault(400, "InvalidURI")
    (await alice.post(path, uri=uri_of(path).replace("~", "!"), properties={TITLE: "t"})).assert_status(200)


async def test_locked_node_takes_properties_and_can_be_unlocked(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a", properties={LOCKED: "true"})
    told = properties_of(await alice.node(path))
    assert (told[LOCKED], told[OTHER_LOCKED]) == ("true", "true")
    (await alice.delete(path)).assert_fault(423, "NodeLocked")
    (await alice.sync(path, "pushToVoSpace", CORE + "httpsput")).assert_status(303)
    (await alice.post(path, properties={LOCKED: None})).assert_status(200)
    assert LOCKED not in properties_of(await alice.node(path))
    (await alice.delete(path)).assert_status(204)


async def test_times(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a")
    first = properties_of(await alice.node(path))
    second = properties_of((await alice.post(path, properties={TITLE: "t"})).assert_status(200).xml)
    assert second[CORE + "btime"] == first[CORE + "btime"]
    assert second[CORE + "ctime"] > first[CORE + "ctime"]
    assert CORE + "mtime" not in second


async def test_changes_at_once_lose_nothing(alice: Agent, folder: str) -> None:
    path = await alice.make(f"{folder}/a")
    answers = await asyncio.gather(*(alice.post(path, properties={f"urn:x:{n}": str(n)}) for n in range(20)))
    assert {one.status for one in answers} == {200}
    told = properties_of(await alice.node(path))
    assert all(told[f"urn:x:{n}"] == str(n) for n in range(20))
