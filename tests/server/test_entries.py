"""`/entries`: what getNode and its listing tell, to the same people, in lines of JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from pyvospace.db import entries, identities
from pyvospace.db.pool import Database
from pyvospace.model.callers import Scope
from pyvospace.model.vocabulary import (
    AVAILABLE_SPACE,
    CADC,
    CORE,
    CREATOR,
    CTIME,
    DATE,
    FILE_MODE,
    FILE_TIME,
    IMMUTABLE,
    IS_LOCKED,
    IS_PUBLIC,
    LENGTH,
    MD5,
    QUOTA,
    TYPE,
)
from pyvospace.wire.xml import V
from tests.server.conftest import MAKERS, READERS, STAFF, Space, encoded
from tests.support.agents import Agent, Answer, children_of, properties_of, type_of, uri_of
from tests.support.pair import Pair

KINDS = {"ContainerNode": "container", "LinkNode": "link", "StructuredDataNode": "structured"}
NAMES = [
    "a", "b", "B", "é", "e\u0301", 'quo"te', "back\\slash", "a b", "%", "#", "{}", "10", "9", "\u2028line",
    "\U0001f52d", "n" * 255,
]  # fmt: skip


async def ask(agent: Agent, path: str, **query: str | int) -> Answer:
    asked = f"?{urlencode(query)}" if query else ""
    return await agent.send("GET", f"/entries{path}{asked}")


async def told(agent: Agent, path: str, **query: str | int) -> list[dict[str, Any]]:
    """Give the node itself and its children."""
    answer = (await ask(agent, path, **query)).assert_status(200)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.removesuffix("\n").split("\n")]


async def mixed(alice: Agent, admin: Agent, shared: str) -> None:
    """Have a child of each kind, and of each kind of protection: of alice, and of an administrator."""
    for agent, whose in ((alice, "a"), (admin, "z")):
        for rights, given in (
            ("private", {}),
            ("read", {CORE + "groupread": READERS}),
            ("write", {CORE + "groupwrite": STAFF}),
            ("public", {IS_PUBLIC: "true"}),
            ("locked", {IS_PUBLIC: "true", IS_LOCKED: "true"}),
            ("fixed", {IS_PUBLIC: "true", IMMUTABLE: "true"}),
        ):
            at = f"{shared}/{whose}-{rights}"
            await agent.make(f"{at}-box", "ContainerNode", properties=given)
            await agent.make(f"{at}-link", "LinkNode", target=uri_of(f"{shared}/any"), properties=given)
            await agent.make(f"{at}-empty", properties=given | {FILE_TIME: "2001-02-03T04:05:06.123456789Z"})
    await alice.push(f"{shared}/bytes", b"bytes", Content_Type="image/fits")
    await alice.post(f"{shared}/bytes", properties={FILE_MODE: '06"4', "urn:x:y": "not told", IS_PUBLIC: "true"})
    await alice.make(f"{shared}/structured", "StructuredDataNode")


def as_listed(element: Any, name: str) -> dict[str, Any]:
    """Say in the words of an entry what the document of a node tells."""
    given = properties_of(element)
    target = element.findtext(V + "target") if CREATOR in given else None  # documents need one
    open_ = given.get(IS_LOCKED) != "true" and given.get(IMMUTABLE) != "true"
    found = {
        "name": name,
        "type": KINDS.get(type_of(element), "data"),
        "mtime": given[DATE],
        "ctime": given.get(CTIME, given[DATE]),
        "length": None if type_of(element) in {"ContainerNode", "LinkNode"} else given.get(LENGTH),
        "md5": given.get(MD5),
        "owner": given.get(CREATOR),
        "public": given.get(IS_PUBLIC) == "true",
        "readable": given.get(CADC + "readable") == "true",
        "writable": given.get(CADC + "writable") == "true" and open_,
        "locked": given.get(IS_LOCKED) == "true",
        "target": target or None,
        "content_type": given.get(TYPE),
        "props": {uri: given[uri] for uri in (FILE_TIME, FILE_MODE) if uri in given},
    }
    return {member: value for member, value in found.items() if value}


def comparable(entry: dict[str, Any]) -> dict[str, Any]:
    """Give the same of an entry: documents tell times to the millisecond, lengths as text, no SHA-256."""
    found = {member: value for member, value in entry.items() if member not in {"etag", "quota"}}
    for member in ("mtime", "ctime"):
        found[member] = entry[member][:23] + "Z" if "." in entry[member] else entry[member][:-1] + ".000Z"
    if "length" in found:
        found["length"] = str(found["length"])
    return found


async def test_the_same_as_getnode(space: Space, alice: Agent, admin: Agent, shared: str) -> None:
    await mixed(alice, admin, shared)
    for user in ("alice", "bea", "carl", "admin", "nobody"):
        agent = space.agent(user)
        document = await agent.node(shared, detail="max")
        names = children_of(document)
        itself, *children = await told(agent, shared)
        assert itself["name"] == shared.rsplit("/", 1)[-1]
        listed = [as_listed(child, name) for child, name in zip(document.iter(V + "node"), ["", *names], strict=True)]
        assert [comparable(child) for child in children] == listed[1:]
        for child in children:
            answer = await ask(agent, f"{shared}/{child['name']}", limit=0)
            expected = await agent.get(f"{shared}/{child['name']}", limit=0)
            assert answer.status == expected.status
            if answer.status == 200:
                (alone,) = answer.text.splitlines()
                assert {**json.loads(alone), "quota": None} == {**child, "quota": None}
            else:
                assert (answer.status, answer.text) == (expected.status, expected.text)
                assert set(child) == {"name", "type", "mtime", "ctime"}


async def test_leaves_that_opencadc_tells_of(opencadc_pair: Pair, alice: Agent) -> None:
    """Who may read the way to a leaf is told of it, though he may not read it."""
    agent, nobody = (Agent(alice.session, opencadc_pair, token) for token in (opencadc_pair.token, None))
    await agent.post(opencadc_pair.home, "ContainerNode", properties={IS_PUBLIC: "true"})
    for kind, name in (("DataNode", "leaf"), ("ContainerNode", "box")):
        await agent.make(f"{opencadc_pair.home}/{name}", kind)
    found = {entry["name"]: entry for entry in (await told(nobody, opencadc_pair.home))[1:]}
    (alone,) = await told(nobody, f"{opencadc_pair.home}/leaf")
    assert found["leaf"] == alone
    assert (alone["owner"], alone.get("readable"), alone.get("writable")) == ("alice", None, None)
    assert set(found["box"]) == {"name", "type", "mtime", "ctime"}
    assert (await ask(nobody, f"{opencadc_pair.home}/box")).status == 401
    await agent.post(opencadc_pair.home, "ContainerNode", properties={IS_PUBLIC: "false"})


async def test_what_bytes_add(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"some bytes", Content_Type="text/plain")
    (entry,) = await told(alice, f"{folder}/a")
    assert entry["etag"] == hashlib.sha256(b"some bytes").hexdigest()
    assert (entry["length"], entry["content_type"], entry["writable"]) == (10, "text/plain", True)
    assert "." in entry["mtime"], "no less than the node has"
    assert entry.keys() == {
        "name", "type", "length", "mtime", "ctime", "owner", "etag", "md5", "readable", "writable", "content_type",
    }  # fmt: skip


async def test_names_and_every_page(alice: Agent, folder: str) -> None:
    for name in NAMES:
        await alice.make(f"{folder}/{encoded(name)}")
    ordered = sorted(NAMES, key=str.encode)
    assert [entry["name"] for entry in (await told(alice, folder))[1:]] == ordered
    for after in [*ordered, "", "a ", "nothing of the kind", "\U0010ffff", "'; --", "b\n"]:
        behind = [name for name in ordered if name.encode() > after.encode()]
        for limit in (1, 3):
            found = await told(alice, folder, after=after, limit=limit)
            assert [entry["name"] for entry in found[1:]] == behind[:limit]
    for name in NAMES:
        (alone,) = await told(alice, f"{folder}/{quote(name, safe='')}", limit=0)
        assert alone["name"] == name


async def test_pieces(alice: Agent, catalogue: Database, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "_AT_ONCE", 3)
    for number in range(7):
        await alice.make(f"{folder}/{number}")
    row = await catalogue.fetchrow("select id from nodes where name = $1", folder.rsplit("/", 1)[-1])
    caller = await identities.by_name(catalogue, "alice")
    assert row is not None
    assert caller is not None
    container = type("Container", (), {"id": row["id"]})()
    for limit, sizes in ((None, [3, 3, 1]), (0, []), (2, [2]), (3, [3]), (5, [3, 2]), (7, [3, 3, 1]), (9, [3, 3, 1])):
        pieces = entries.children(
            catalogue, caller[0], container, after="", limit=limit, leaves_seen=False, writes=True
        )  # fmt: skip
        assert [len(piece.splitlines()) async for piece in pieces] == sizes


async def test_faults_are_those_of_getnode(space: Space, alice: Agent, admin: Agent, folder: str, shared: str) -> None:
    await alice.make(f"{folder}/a")
    await alice.make(f"{shared}/way", "LinkNode", target=uri_of(folder), properties={IS_PUBLIC: "true"})
    await admin.make(f"{shared}/out", "LinkNode", target="vos://elsewhere.org~x/y", properties={IS_PUBLIC: "true"})
    await admin.make(f"{shared}/hidden", "LinkNode", target=uri_of(shared))
    places = [
        folder, f"{folder}/a", f"{folder}/a/below", f"{folder}/nothing", f"{folder}/nothing/x", f"{shared}/way",
        f"{shared}/way/a", f"{shared}/way/nothing", f"{shared}/out", f"{shared}/out/x", f"{shared}/hidden",
        f"{shared}/hidden/out", "/home/../x", "//", f"{folder}/%00", f"{folder}/%ff", f"{folder}/.auto",
    ]  # fmt: skip
    for user in ("alice", "bea", "nobody"):
        agent = space.agent(user)
        for path in places:
            expected, found = await agent.get(path, limit=0), await ask(agent, path)
            assert (found.status, found.fault) == (expected.status, expected.fault), (user, path)
            if found.status != 200:
                assert found.text == expected.text
    for entry, name in (
        ((await told(alice, f"{shared}/way"))[0], "way"),
        ((await told(alice, f"{shared}/way/a"))[0], "a"),
    ):
        assert entry["name"] == name
    assert [entry["type"] for entry in await told(alice, f"{shared}/way")] == ["link"], "its goal is another node"


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=x", "limit=1&limit=2", "after=a&after=b", "after=%00", "after=%ff"]
)
async def test_wrong_parameters(alice: Agent, folder: str, query: str) -> None:
    (await alice.send("GET", f"/entries{folder}?{query}")).assert_fault(400, "InvalidArgument")


async def test_head(alice: Agent, folder: str) -> None:
    answer = (await alice.send("HEAD", f"/entries{folder}")).assert_status(200)
    assert (answer.body, answer.headers["Content-Type"]) == (b"", "application/x-ndjson")


async def test_tokens_that_only_read_write_nowhere(
    space: Space, alice: Agent, catalogue: Database, folder: str
) -> None:
    await alice.make(f"{folder}/a")
    scope = Scope.parse([folder], ["read"])
    secret = hashlib.sha256(folder.encode()).hexdigest()
    await identities.add_token(catalogue, "alice", "x", hashlib.sha256(secret.encode()).digest(), None, scope=scope)
    limited = Agent(space.session, space.pair, secret)
    for entry in await told(limited, folder):
        assert (entry.get("readable"), entry.get("writable")) == (True, None)
    (await ask(limited, "/home/alice")).assert_fault(403, "PermissionDenied")


async def test_room(alice: Agent, bea: Agent, admin: Agent, shared: str) -> None:
    """The tightest quota, told to those to whom documents tell what is left."""
    rights = {IS_PUBLIC: "true", CORE + "groupwrite": MAKERS}
    await admin.make(f"{shared}/limited", "ContainerNode", properties=rights | {QUOTA: "1000"})
    await admin.make(f"{shared}/limited/box", "ContainerNode", properties=rights)
    await alice.push(f"{shared}/limited/a", bytes(900))
    for path in (f"{shared}/limited", f"{shared}/limited/box"):
        (entry,) = await told(alice, path, limit=0)
        assert entry["quota"] == {"limit": 1000, "used": 900, "available": 100}
        (entry,) = await told(bea, path, limit=0)
        assert "quota" not in entry
    for path in (shared, alice.pair.home):
        (entry,) = await told(alice, path, limit=0)
        left = properties_of(await alice.node(path, limit=0))[AVAILABLE_SPACE]
        assert entry["quota"]["limit"] is None
        assert abs(entry["quota"]["available"] - int(left)) < 1 << 30
        assert entry["quota"]["used"] >= (900 if path == shared else 0)
    assert all("quota" not in entry for entry in (await told(alice, shared))[1:])
    await admin.delete(f"{shared}/limited")


async def test_busy(alice: Agent, catalogue: Database, folder: str) -> None:
    await alice.make(f"{folder}/a")
    await alice.make(f"{folder}/b")
    await catalogue.fetchrow(
        "insert into writers (parent_id, name, job_id, attempt, until)"
        " select parent_id, name, 'j', $1, now() + interval '1 minute' from nodes"
        " where name = 'a' and parent_id = (select id from nodes where name = $1)",
        folder.rsplit("/", 1)[-1],
    )
    assert [entry.get("busy") for entry in await told(alice, folder)] == [None, True, None]
    assert (await told(alice, f"{folder}/a"))[0]["busy"]


async def test_trash_is_nowhere(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a")
    await alice.delete(f"{folder}/a")
    assert len(await told(alice, folder)) == 1
