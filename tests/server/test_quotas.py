"""Usage and quotas as clients meet them: what containers tell, and 413 with what is left on every way in (I24, T26)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from pyvospace.db import identities, usage
from pyvospace.db.pool import Database
from pyvospace.db.usage import Subject
from pyvospace.model.vocabulary import AVAILABLE_SPACE, CORE, LENGTH, QUOTA, QUOTA_STATE, TAR_VIEW
from tests.server.test_archives import bring, tar_of
from tests.support.agents import Agent, child_of, children_of, endpoints_of, properties_of, read_only_of
from tests.support.jobs import copy, move

PUSH, PUT = "pushToVoSpace", CORE + "httpsput"
LEFT = re.compile(r"QuotaExceeded the quota of /\S+: limit 1000 bytes, (\d+) left")


@pytest.fixture
async def limited(alice: Agent, admin: Agent, folder: str) -> str:
    """Path of a container of alice with a quota of 1,000 bytes, 900 of which are used."""
    path = await alice.make(f"{folder}/limited", "ContainerNode")
    (await admin.post(path, "ContainerNode", properties={QUOTA: "1000"})).assert_status(200)
    await alice.push(f"{path}/old", bytes(900))
    return path


async def limit(catalogue: Database, subject: Subject, most: int | None, nodes: int | None = None) -> None:
    await catalogue.transact(lambda c: usage.set_quota(c, subject, bytes=most, nodes=nodes))


async def told(agent: Agent, path: str) -> dict[str, str]:
    return properties_of(await agent.node(path, limit=0))


# ------------------------------------------------------------------------------------------------------- properties


async def test_container_tells_what_is_used_allowed_and_left(alice: Agent, admin: Agent, limited: str) -> None:
    above, name = limited.rsplit("/", 1)
    await alice.make(f"{limited}/sub", "ContainerNode")
    node = await alice.node(limited, limit=0)
    listed = properties_of(child_of(await alice.node(above), name))
    for found in (properties_of(node), listed):
        assert (found[LENGTH], found[QUOTA], found[AVAILABLE_SPACE]) == ("900", "1000", "100")
    assert {LENGTH, QUOTA, AVAILABLE_SPACE} <= read_only_of(node)
    below = await told(alice, f"{limited}/sub")
    assert (below[LENGTH], below.get(QUOTA), below[AVAILABLE_SPACE]) == ("0", None, "100")
    assert (await told(alice, above))[LENGTH] == "900"
    await alice.push(f"{above}/small", b"x")
    order = ("sub", "small", name)
    await move(alice, f"{limited}/sub", f"{above}/sub")
    assert children_of(await alice.node(above, sort=LENGTH)) == list(order)
    await alice.delete(f"{limited}/old")
    assert (await told(alice, limited))[LENGTH] == "0"


async def test_quota_is_set_by_administrators_only(alice: Agent, admin: Agent, folder: str) -> None:
    path = f"{folder}/box"
    (await alice.put(path, "ContainerNode", properties={QUOTA: "5"})).assert_fault(403, "PermissionDenied")
    await admin.make(path, "ContainerNode", properties={QUOTA: "5"})
    assert (await told(admin, path))[QUOTA] == "5"
    (await admin.post(path, "ContainerNode", properties={QUOTA: "many"})).assert_fault(400, "InvalidArgument")
    (await admin.put(f"{folder}/data", properties={QUOTA: "5"})).assert_fault(400, "InvalidArgument")
    (await admin.post(path, "ContainerNode", properties={QUOTA: "7"})).assert_status(200)
    assert (await told(admin, path))[QUOTA] == "7"
    await alice.make(f"{folder}/hers", "ContainerNode")
    (await admin.post(f"{folder}/hers", "ContainerNode", properties={QUOTA: "9"})).assert_status(200)
    for value in ("8", None):
        refused = await alice.post(f"{folder}/hers", "ContainerNode", properties={QUOTA: value})
        refused.assert_fault(403, "PermissionDenied")
    same = {QUOTA: "9", QUOTA_STATE: "99", CORE + "title": "mine"}
    (await alice.post(f"{folder}/hers", "ContainerNode", properties=same)).assert_status(200)
    found = await told(alice, f"{folder}/hers")
    assert (found[QUOTA], found.get(QUOTA_STATE), found[CORE + "title"]) == ("9", None, "mine")
    (await admin.post(f"{folder}/hers", "ContainerNode", properties={QUOTA: None})).assert_status(200)
    assert QUOTA not in await told(alice, f"{folder}/hers")


async def test_quota_that_is_nearly_used_up_is_told(alice: Agent, limited: str) -> None:
    await alice.push(f"{limited}/more", bytes(60))
    async with asyncio.timeout(30):
        while (await told(alice, limited)).get(QUOTA_STATE) != "95":
            await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        while f"quota of '{limited}': 95 per cent are used: 960 of 1000 bytes" not in alice.pair.log("metadata"):
            await asyncio.sleep(0.1)


# ---------------------------------------------------------------------------------------------------------- ways in


async def test_negotiation_is_refused_with_what_is_left(alice: Agent, limited: str) -> None:
    answer = await alice.sync(f"{limited}/new", PUSH, PUT, params={LENGTH: "101"})
    job = answer.assert_status(303).location.removesuffix("/results/transferDetails")
    assert (await alice.phase(job), await alice.error(job)) == ("ERROR", "QuotaExceeded")
    (await alice.sync(f"{limited}/old", PUSH, PUT, params={LENGTH: "1000"})).assert_status(303)
    refused = (await alice.send("PUT", f"/files{limited}/new", bytes(101))).assert_fault(413, "QuotaExceeded")
    assert LEFT.match(refused.text) is not None
    (await alice.send("PUT", f"/files{limited}/new", bytes(100))).assert_status(307)
    await alice.push(f"{limited}/new", bytes(100))
    answer = await alice.sync(f"{limited}/newer", PUSH, PUT)  # nothing is left
    assert await alice.error(answer.location.removesuffix("/results/transferDetails")) == "QuotaExceeded"


async def test_upload_is_refused_before_its_bytes(alice: Agent, limited: str) -> None:
    _, endpoint = await alice.negotiate(f"{limited}/new", PUSH)
    refused = (await alice.send("PUT", endpoint, bytes(101))).assert_status(413)
    found = LEFT.match(refused.text)
    assert found is not None
    assert found[1] == "100"
    (await alice.send("PUT", endpoint, bytes(100))).assert_status(201)
    assert (await told(alice, limited))[AVAILABLE_SPACE] == "0"


async def test_bytes_without_end_are_stopped_as_they_come(alice: Agent, limited: str) -> None:
    sent = 0

    async def stream(pieces: int) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(pieces):
            sent += 1 << 16
            yield bytes(1 << 16)
            await asyncio.sleep(0.001)

    _, endpoint = await alice.negotiate(f"{limited}/new", PUSH)
    try:
        async with alice.session.put(endpoint, data=stream(4096)) as response:
            assert (response.status, LEFT.match(await response.text()) is not None) == (413, True)
    except ConnectionError:  # the answer came while we were still sending
        pass
    assert sent < 4096 << 16
    assert (await told(alice, limited))[LENGTH] == "900"

    async def small() -> AsyncIterator[bytes]:
        yield bytes(100)

    _, endpoint = await alice.negotiate(f"{limited}/new", PUSH)
    async with alice.session.put(endpoint, data=small()) as response:
        assert response.status == 201
    assert (await told(alice, limited))[LENGTH] == "1000"


async def test_nodes_copies_moves_and_archives_are_refused_whole(
    alice: Agent, folder: str, limited: str, catalogue: Database
) -> None:
    tree = await alice.make(f"{folder}/tree", "ContainerNode")
    await alice.push(f"{tree}/data", bytes(101))
    for job in (await copy(alice, tree, f"{limited}/copy"), await move(alice, tree, f"{limited}/moved")):
        job.assert_error("QuotaExceeded", "limit 1000 bytes, 100 left")
    answer, _ = await bring(alice, limited, tar_of(("a", bytes(50)), ("b/", None), ("b/c", bytes(51))))
    assert (answer.status, LEFT.match(answer.text) is not None) == (413, True), answer.text
    found = await told(alice, limited)
    assert (found[LENGTH], found[AVAILABLE_SPACE]) == ("900", "100")
    answer, _ = await bring(alice, limited, tar_of(("a", bytes(50)), ("b/", None), ("b/c", bytes(50))), TAR_VIEW)
    answer.assert_status(201)
    box = await alice.make(f"{folder}/box", "ContainerNode")
    number = await catalogue.fetchval("select id from nodes where name = 'box' order by id desc limit 1")
    await limit(catalogue, Subject(container=number), None, 1)
    await alice.make(f"{box}/one")
    refused = (await alice.put(f"{box}/two")).assert_fault(413, "QuotaExceeded")
    assert "limit 1 nodes, 0 left" in refused.text
    _, endpoint = await alice.negotiate(f"{box}/three", PUSH)
    (await alice.send("PUT", endpoint, b"")).assert_status(413)


async def test_upload_whose_container_is_moved_meanwhile(
    alice: Agent, folder: str, limited: str, catalogue: Database
) -> None:
    """What was reserved elsewhere is not reserved here (I24)."""
    name = folder.replace("/", "-")
    await alice.make(f"{folder}/{name}", "ContainerNode")
    _, endpoint = await alice.negotiate(f"{folder}/{name}/new", PUSH)
    moved = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield bytes(1)
        await moved.wait()
        yield bytes(100)

    async def bring_it() -> int:
        async with alice.session.put(endpoint, data=slow(), headers={"Content-Length": "101"}) as response:
            return response.status

    upload = asyncio.create_task(bring_it())
    reserved = "select exists (select from writers w join nodes n on n.id = w.parent_id where n.name = $1)"
    while not await catalogue.fetchval(reserved, name):
        await asyncio.sleep(0.01)
    await move(alice, f"{folder}/{name}", f"{limited}/moved")
    moved.set()
    assert await upload == 413
    assert (await told(alice, limited))[LENGTH] == "900"


async def test_quota_of_the_user_himself(carl: Agent, catalogue: Database) -> None:
    found = await identities.by_name(catalogue, "carl")
    assert found is not None
    await limit(catalogue, Subject(user=found[0].id), 50)
    try:
        _, endpoint = await carl.negotiate("/home/carl/new", PUSH)
        refused = (await carl.send("PUT", endpoint, bytes(51))).assert_status(413)
        assert "the quota of user carl: limit 50 bytes, 50 left" in refused.text
        assert (await told(carl, "/home/carl"))[AVAILABLE_SPACE] == "50"
    finally:
        await limit(catalogue, Subject(user=found[0].id), None)


async def test_fifty_uploads_where_twenty_fit(alice: Agent, admin: Agent, folder: str) -> None:
    """Invariant I24."""
    path = await alice.make(f"{folder}/box", "ContainerNode")
    (await admin.post(path, "ContainerNode", properties={QUOTA: "200"})).assert_status(200)

    async def bring_one(number: int) -> int:
        answer = await alice.sync(f"{path}/{number}", PUSH, PUT)
        endpoints = endpoints_of((await alice.send("GET", answer.location)).xml)
        return (await alice.send("PUT", endpoints[0], bytes(10))).status if endpoints else 413

    statuses = await asyncio.gather(*map(bring_one, range(50)))
    assert (statuses.count(201), statuses.count(413)) == (20, 30)
    assert (await told(alice, path))[LENGTH] == "200"
