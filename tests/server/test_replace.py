"""Moves that put a node in the place of another one, in one transaction (an extension of our own)."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE, IMMUTABLE, IS_LOCKED, IS_PUBLIC, LENGTH, QUOTA, REPLACE
from tests.server.conftest import MAKERS, STAFF
from tests.server.test_admin import told
from tests.support.agents import Agent, children_of, properties_of, type_of, uri_of
from tests.support.jobs import Ended, ended, transfer
from tests.support.tree_check import damages

TITLE = CORE + "title"
KINDS = ("DataNode", "StructuredDataNode", "LinkNode", "ContainerNode")


async def replace(agent: Agent, path: str, goal: str, value: str = "true") -> Ended:
    """Move by /synctrans, with the parameter."""
    document = transfer(path, goal, keep=False)
    document = document.replace("</transfer>", f'<param uri="{REPLACE}">{value}</param></transfer>')
    answer = await agent.send("POST", "/synctrans", document)
    return await ended(agent, answer.assert_status(303).location.removesuffix("/results/transferDetails"))


async def make(agent: Agent, path: str, kind: str, name: str) -> str:
    """Make a node that says what it is."""
    target = "https://example.org/" if kind == "LinkNode" else None
    await agent.make(f"{path}/{name}", kind, properties={TITLE: name}, target=target)
    return f"{path}/{name}"


async def title(agent: Agent, path: str) -> str | None:
    return properties_of(await agent.node(path, limit=0)).get(TITLE)


@pytest.mark.parametrize(("kind", "other"), [*itertools.product(KINDS, repeat=2)])
async def test_every_type_by_every_type(alice: Agent, folder: str, kind: str, other: str) -> None:
    source, goal = await make(alice, folder, kind, "new"), await make(alice, folder, other, "old")
    found = await replace(alice, source, goal)
    if (kind == "ContainerNode") is (other == "ContainerNode"):
        found.assert_moved(goal)
        assert children_of(await alice.node(folder)) == ["old"]
        assert (await title(alice, goal), type_of(await alice.node(goal, limit=0))) == ("new", kind)
    else:
        found.assert_error("DuplicateNode", uri_of(goal))
        assert children_of(await alice.node(folder)) == ["new", "old"]


async def test_bytes_usage_and_audit(alice: Agent, catalogue: Database, folder: str) -> None:
    for path, content in (("new", b"new bytes"), ("old", b"old"), ("box/x", b"xx")):
        if path == "box/x":
            await alice.make(f"{folder}/box", "ContainerNode")
        await alice.push(f"{folder}/{path}", content)
    (await replace(alice, f"{folder}/new", f"{folder}/old")).assert_moved(f"{folder}/old")
    assert await alice.pull(f"{folder}/old") == b"new bytes"
    assert properties_of(await alice.node(folder, limit=0))[LENGTH] == "11"
    (await replace(alice, f"{folder}/old", f"{folder}/box/x")).assert_moved(f"{folder}/box/x")
    assert properties_of(await alice.node(f"{folder}/box", limit=0))[LENGTH] == "9"
    (await replace(alice, f"{folder}/box/x", f"{folder}/box/x")).assert_moved(f"{folder}/box/x")
    assert await alice.pull(f"{folder}/box/x") == b"new bytes"
    (await replace(alice, f"{folder}/box/x", f"{folder}/free")).assert_moved(f"{folder}/free")
    rows = await catalogue.fetch("select action, path from audit where path like $1 order by id", f"{folder}/%")
    acts = [(row["action"], row["path"].removeprefix(f"{folder}/")) for row in rows if row["action"][-5:] != "Bytes"]
    assert acts[-6:] == [
        ("deleteNode", "old"),
        ("moveNode", "new"),
        ("deleteNode", "box/x"),
        ("moveNode", "old"),
        ("moveNode", "box/x"),
        ("moveNode", "box/x"),
    ]
    assert await damages(catalogue) == []


async def test_containers(alice: Agent, catalogue: Database, folder: str) -> None:
    for path in ("t", "t/deep", "empty", "full", "full/x"):
        await alice.make(f"{folder}/{path}", "ContainerNode")
    await alice.push(f"{folder}/t/deep/data", b"12345")
    (await replace(alice, f"{folder}/t", f"{folder}/full")).assert_error("InvalidArgument", "not empty")
    (await replace(alice, f"{folder}/t", f"{folder}/t/deep")).assert_error("InvalidArgument")
    (await replace(alice, f"{folder}/full", f"{folder}/full/x")).assert_error("InvalidArgument", "descendants")
    (await replace(alice, f"{folder}/full/x", f"{folder}/full")).assert_error("InvalidArgument", "not empty")
    (await replace(alice, f"{folder}/t", f"{folder}/empty")).assert_moved(f"{folder}/empty")
    assert await alice.pull(f"{folder}/empty/deep/data") == b"12345"
    (await replace(alice, f"{folder}/empty", f"{folder}/full/x")).assert_moved(f"{folder}/full/x")
    (await replace(alice, f"{folder}/full", f"{folder}/new")).assert_moved(f"{folder}/new")
    assert children_of(await alice.node(folder)) == ["new"]
    assert properties_of(await alice.node(f"{folder}/new", limit=0))[LENGTH] == "5"
    assert await damages(catalogue) == []


async def test_without_the_parameter_nothing_gives_way(alice: Agent, folder: str) -> None:
    for name in ("a", "b"):
        await make(alice, folder, "DataNode", name)
    await alice.make(f"{folder}/box", "ContainerNode")
    for value in ("false", "", "yes", "0"):
        (await replace(alice, f"{folder}/a", f"{folder}/b", value)).assert_error("DuplicateNode")
    (await replace(alice, f"{folder}/a", f"{folder}/box", "false")).assert_moved(f"{folder}/box/a")
    (await replace(alice, f"{folder}/b", f"{folder}/box", "true")).assert_error("DuplicateNode")
    assert children_of(await alice.node(folder)) == ["b", "box"]


async def test_what_leads_nowhere(alice: Agent, folder: str) -> None:
    await make(alice, folder, "DataNode", "a")
    await make(alice, folder, "LinkNode", "link")
    (await replace(alice, f"{folder}/no", f"{folder}/a")).assert_error("NodeNotFound")
    (await replace(alice, f"{folder}/a", f"{folder}/no/x")).assert_error("NodeNotFound")
    (await replace(alice, f"{folder}/a", f"{folder}/a/x")).assert_error("NodeNotFound")
    (await replace(alice, f"{folder}/a", "vos://elsewhere.org~x/a")).assert_error("InvalidURI")
    (await replace(alice, f"{folder}/a", "/")).assert_error("PermissionDenied")
    (await replace(alice, f"{folder}/a", f"{folder}/.null")).assert_moved(f"{folder}/.null")
    assert children_of(await alice.node(folder)) == ["link"]


async def test_rights_and_locks(admin: Agent, alice: Agent, bea: Agent, nobody: Agent, shared: str) -> None:
    """What it takes to delete the one and to move the other; who may not, changes nothing."""
    rights = {IS_PUBLIC: "true", CORE + "groupwrite": MAKERS}
    await admin.make(f"{shared}/open", "ContainerNode", properties=rights)
    await admin.make(f"{shared}/closed", "ContainerNode", properties={IS_PUBLIC: "true"})
    await admin.make(f"{shared}/hidden", "ContainerNode", properties={CORE + "groupwrite": STAFF})
    await admin.make(f"{shared}/locked", "ContainerNode", properties={**rights, IS_LOCKED: "true"})
    for where in ("open", "closed", "hidden"):
        await make(admin, f"{shared}/{where}", "DataNode", "x")
    await alice.make(f"{shared}/open/a", properties={TITLE: "a", IS_PUBLIC: "true"})
    await admin.make(f"{shared}/open/fast", properties={IS_LOCKED: "true"})
    await admin.make(f"{shared}/open/fixed", properties={IMMUTABLE: "true"})
    before = [(await admin.node(f"{shared}/{where}")) for where in ("open", "closed", "hidden", "locked")]
    for agent, goal, fault in (
        (alice, "closed/x", "PermissionDenied"),
        (alice, "hidden/x", "PermissionDenied"),
        (alice, "hidden/nothing", "PermissionDenied"),
        (alice, "open/fast", "NodeLocked"),
        (alice, "open/fixed", "PermissionDenied"),
        (alice, "locked/x", "NodeLocked"),
        (bea, "open/x", "PermissionDenied"),
        (nobody, "open/x", "NotAuthenticated"),
    ):
        (await replace(agent, f"{shared}/open/a", f"{shared}/{goal}")).assert_error(fault)
    for source in ("closed/x", "hidden/x"):
        (await replace(alice, f"{shared}/{source}", f"{shared}/open/a")).assert_error("PermissionDenied")
    assert [children_of(one) for one in before] == [
        children_of(await admin.node(f"{shared}/{where}")) for where in ("open", "closed", "hidden", "locked")
    ]
    # The node that gives way is somebody else's, and private: the container decides, as when it is deleted.
    (await replace(alice, f"{shared}/open/a", f"{shared}/open/x")).assert_moved(f"{shared}/open/x")
    assert await title(alice, f"{shared}/open/x") == "a"


async def test_trash_and_versions(alice: Agent, folder: str) -> None:
    await told(alice, "PATCH", f"/policy?container={folder}", {"trash_days": 3, "versions": 3})
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/other", "ContainerNode")
    for content in (b"first", b"second"):
        await alice.push(f"{folder}/old", content)
    await alice.push(f"{folder}/new", b"new")
    (await replace(alice, f"{folder}/new", f"{folder}/old")).assert_moved(f"{folder}/old")
    (await replace(alice, f"{folder}/other", f"{folder}/box")).assert_moved(f"{folder}/box")
    found = {one["uri"]: one for one in (await told(alice, "GET", "/trash?limit=1000"))["items"]}
    gone = found[uri_of(f"{folder}/old")]
    assert uri_of(f"{folder}/box") in found
    await told(alice, "POST", f"/trash/{gone['id']}", {"to": f"{folder}/back"})
    assert await alice.pull(f"{folder}/back") == b"second"
    versions = json.loads((await alice.send("GET", f"/versions{folder}/back")).body)["items"]
    assert len(versions) == 1
    assert await alice.pull(f"{folder}/old") == b"new"


async def test_quota_counts_what_is_there_afterwards(alice: Agent, admin: Agent, folder: str) -> None:
    await alice.make(f"{folder}/limited", "ContainerNode")
    await admin.post(f"{folder}/limited", "ContainerNode", properties={QUOTA: "1000"})
    await alice.push(f"{folder}/limited/a", bytes(900))
    for name, size in (("fits", 1000), ("more", 1001)):
        await alice.push(f"{folder}/{name}", bytes(size))
    (await replace(alice, f"{folder}/more", f"{folder}/limited/a")).assert_error("QuotaExceeded")
    assert len(await alice.pull(f"{folder}/limited/a")) == 900
    (await replace(alice, f"{folder}/fits", f"{folder}/limited/a")).assert_moved(f"{folder}/limited/a")
    assert properties_of(await alice.node(f"{folder}/limited", limit=0))[LENGTH] == "1000"
    await admin.post(f"{folder}/limited", "ContainerNode", properties={QUOTA: None})


async def test_races(alice: Agent, catalogue: Database, folder: str) -> None:
    """Many put theirs in the same place, and two each in the other's: one is there at every moment, and at the end."""
    await alice.push(f"{folder}/goal", b"g")
    names = [f"n{number}" for number in range(6)]
    for name in names:
        await alice.push(f"{folder}/{name}", name.encode())
    seen: list[int] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            seen.append((await alice.get(f"{folder}/goal", detail="min")).status)

    watching = asyncio.create_task(watch())
    ends = await asyncio.gather(*(replace(alice, f"{folder}/{name}", f"{folder}/goal") for name in names))
    done.set()
    await watching
    assert {one.phase for one in ends} == {"COMPLETED"}
    assert set(seen) == {200}
    assert children_of(await alice.node(folder)) == ["goal"]
    assert (await alice.pull(f"{folder}/goal")).decode() in names
    for kind in ("DataNode", "ContainerNode"):
        for name in ("x", "y"):
            await alice.make(f"{folder}/{name}{kind}", kind)
        one, two = await asyncio.gather(
            replace(alice, f"{folder}/x{kind}", f"{folder}/y{kind}"),
            replace(alice, f"{folder}/y{kind}", f"{folder}/x{kind}"),
        )
        assert sorted((one.phase, two.phase)) in (["COMPLETED", "COMPLETED"], ["COMPLETED", "ERROR"])
        assert {one.error, two.error} <= {"", "NodeNotFound"}
        assert len(children_of(await alice.node(folder))) == 2 if kind == "DataNode" else 3
    assert await damages(catalogue) == []
