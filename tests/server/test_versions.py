"""Versions over REST and with the command: listed, read, restored and removed by whom the node's rights let."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from typing import Any

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE, LENGTH
from tests.server.conftest import READERS
from tests.server.test_admin import told
from tests.server.test_archives import bring, tar_of
from tests.support.agents import Agent, properties_of


@pytest.fixture
async def data(alice: Agent, folder: str) -> str:
    """Path of a data node of alice with two versions."""
    await told(alice, "PATCH", f"/policy?container={folder}", {"versions": 5})
    path = f"{folder}/{uuid.uuid4().hex} é".replace(" ", "%20").replace("é", "%C3%A9")
    for content in (b"first", b"second one", b"third"):
        await alice.push(path, content)
    return path


async def items(agent: Agent, path: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((await agent.send("GET", f"/versions{path}{query}")).body)["items"]
    return found


async def read(agent: Agent, path: str, number: int) -> bytes:
    endpoint = (await agent.send("GET", f"/versions{path}?number={number}")).assert_status(303).location
    return (await agent.send("GET", endpoint)).assert_status(200).body


async def test_a_damaged_version_is_not_said_to_come_back(alice: Agent, data: str, catalogue: Database) -> None:
    await catalogue.fetchval(
        "insert into damages (storage_id, location, kind) select v.storage_id, v.location, 'digest' from versions v"
        " where v.number = 1 and v.node_id = (select n.id from nodes n where n.md5 = $1 order by n.id desc limit 1)"
        " returning 1",
        hashlib.md5(b"third", usedforsecurity=False).digest(),
    )
    with pytest.raises(AssertionError, match="InternalFault the bytes of this node are damaged"):  # 500, for once
        await alice.send("GET", f"/versions{data}?number=1")
    assert await read(alice, data, 2) == b"second one"


async def test_versions_are_listed_read_restored_and_removed(alice: Agent, data: str, catalogue: Database) -> None:
    found = await items(alice, data)
    assert [(one["number"], one["size"], one["stored_by"]) for one in found] == [(2, 10, "alice"), (1, 5, "alice")]
    assert found[1]["md5"] == hashlib.md5(b"first", usedforsecurity=False).hexdigest()
    assert [one["number"] for one in await items(alice, data, "?limit=1")] == [2]
    assert [one["number"] for one in await items(alice, data, "?after=2")] == [1]
    assert await read(alice, data, 1) == b"first"
    endpoint = (await alice.send("GET", f"/versions{data}?number=1")).location
    part = (await alice.send("GET", endpoint, headers={"Range": "bytes=1-2"})).assert_status(206)
    assert part.body == b"ir"
    (await alice.send("PUT", endpoint, b"x")).assert_status(403)
    (await alice.send("POST", f"/versions{data}?number=1")).assert_status(204)
    assert await alice.pull(data) == b"first"
    assert [one["number"] for one in await items(alice, data)] == [3, 2]
    (await alice.send("GET", endpoint)).assert_status(404)
    (await alice.send("DELETE", f"/versions{data}?number=3")).assert_status(204)
    (await alice.send("DELETE", f"/versions{data}?number=3")).assert_fault(404, "NodeNotFound")
    (await alice.delete(data)).assert_status(204)
    (await alice.send("GET", f"/versions{data}?number=2")).assert_fault(404, "NodeNotFound")
    rows = await catalogue.fetch(
        "select action, name, details from audit where action like '%Version'"
        " and outcome = 'done' order by id desc limit 2"
    )
    assert [(row[0], row[1], json.loads(row[2])) for row in reversed(rows)] == [
        ("restoreVersion", "alice", {"version": 1}),
        ("deleteVersion", "alice", {"version": 3}),
    ]


async def test_rights_are_those_of_the_node(
    alice: Agent, carl: Agent, bea: Agent, nobody: Agent, folder: str, data: str
) -> None:
    for agent, status, fault in ((bea, 403, "PermissionDenied"), (nobody, 401, "NotAuthenticated")):
        for method in ("GET", "POST", "DELETE"):
            for path in (data, f"{folder}/missing"):
                (await agent.send(method, f"/versions{path}?number=1")).assert_fault(status, fault)
    rights = {CORE + "groupread": READERS}
    above = folder.rpartition("/")[0]
    for path, kind in ((above, "ContainerNode"), (folder, "ContainerNode"), (data, "DataNode")):
        (await alice.post(path, kind, properties=rights)).assert_status(200)
    try:
        assert await read(carl, data, 1) == b"first"
        endpoint = (await carl.send("GET", f"/versions{data}?number=1")).location
        for method in ("POST", "DELETE"):
            (await carl.send(method, f"/versions{data}?number=1")).assert_fault(403, "PermissionDenied")
    finally:
        (await alice.post(above, "ContainerNode", properties={CORE + "groupread": None})).assert_status(200)
    (await carl.send("GET", endpoint)).assert_status(403)


@pytest.mark.usefixtures("data")
async def test_what_an_archive_replaces_becomes_a_version(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/in", b"old")
    answer, _ = await bring(alice, folder, tar_of(("in", b"new one"), ("other", b"1")))
    assert answer.status < 300, answer.text
    assert [(one["number"], one["size"]) for one in await items(alice, f"{folder}/in")] == [(1, 3)]
    assert await read(alice, f"{folder}/in", 1) == b"old"
    total = len(b"first" + b"second one" + b"third" + b"old" + b"new one" + b"1")
    assert properties_of(await alice.node(folder, limit=0))[LENGTH] == str(total)


async def test_nonsense_is_refused(alice: Agent, folder: str, data: str) -> None:
    for query in ("?number=0", "?number=x", "?number=99999999999", "?number=1&number=2", "?limit=-1"):
        (await alice.send("GET", f"/versions{data}{query}")).assert_fault(400, "InvalidArgument")
    for method in ("POST", "DELETE"):
        (await alice.send(method, f"/versions{data}")).assert_fault(400, "InvalidArgument")
        (await alice.send(method, f"/versions{data}?number=9")).assert_fault(404, "NodeNotFound")
    (await alice.send("GET", f"/versions{folder}")).assert_fault(400, "InvalidArgument")
    (await alice.send("GET", "/versions")).assert_fault(400, "InvalidArgument")
    (await alice.send("GET", f"/versions{folder}/%2e%2e/x")).assert_fault(400, "InvalidURI")
    await alice.make(f"{folder}/empty")
    assert await items(alice, f"{folder}/empty") == []


async def test_readers_of_a_version_and_writers_do_not_meet(alice: Agent, data: str) -> None:
    """Whole contents under every number, while others bring new ones and restore old ones."""
    contents = {b"first", b"second one", b"third", b"A" * 50}

    async def look() -> None:
        for one in await items(alice, data):
            answer = await alice.send("GET", f"/versions{data}?number={one['number']}")
            if answer.status == 303 and (body := await alice.send("GET", answer.location)).status == 200:
                assert body.body in contents
                assert hashlib.md5(body.body, usedforsecurity=False).hexdigest() == one["md5"]

    await asyncio.gather(
        alice.push(data, b"A" * 50),
        look(),
        alice.send("POST", f"/versions{data}?number=1"),
        look(),
        look(),
    )
    assert await alice.pull(data) in contents
