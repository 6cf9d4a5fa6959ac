"""Who may do what, through every way in (T10, T24; I26, I27, I29; rulings "rights along the path")."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import pytest

from pyvospace.model.vocabulary import CORE
from pyvospace.wire.xml import V
from tests.server.conftest import READERS, STAFF, Space
from tests.support.agents import Agent, Answer, child_of, endpoints_of, properties_of, uri_of

TITLE, PUBLIC = CORE + "title", CORE + "ispublic"
GROUP_READ, GROUP_WRITE = CORE + "groupread", CORE + "groupwrite"
SECRET, BYTES = "the-secret-title", b"the-secret-bytes"

# Rights of the node: who may read it, who may write to it. carl is in READERS, bea in STAFF; alice owns it.
RIGHTS = {
    "private": ({}, {"alice", "admin"}, {"alice", "admin"}),
    "group read": ({GROUP_READ: READERS}, {"alice", "admin", "carl"}, {"alice", "admin"}),
    "group write": ({GROUP_WRITE: STAFF}, {"alice", "admin", "bea"}, {"alice", "admin", "bea"}),
    "both groups": (
        {GROUP_READ: READERS, GROUP_WRITE: STAFF},
        {"alice", "admin", "bea", "carl"},
        {"alice", "admin", "bea"},
    ),
    "public": ({PUBLIC: "true"}, {"alice", "admin", "bea", "carl", "nobody"}, {"alice", "admin"}),
    "other group": (
        {GROUP_READ: "ivo://example.org/gms?x", GROUP_WRITE: "staff"},
        {"alice", "admin"},
        {"alice", "admin"},
    ),
}
USERS = ("alice", "admin", "bea", "carl", "nobody")


async def data_of_alice(space: Space, shared: str, rights: dict[str, str]) -> str:
    """Make a data node of alice with bytes, in a place that everybody may read."""
    alice = space.agent("alice")
    box = await alice.make(f"{shared}/{uuid.uuid4().hex}", "ContainerNode", properties={PUBLIC: "true"})
    await alice.push(f"{box}/data", BYTES)
    await alice.post(f"{box}/data", properties=rights | {TITLE: SECRET})
    return f"{box}/data"


async def read_node(agent: Agent, path: str) -> bool:
    answer = await agent.get(path, detail="max")
    assert (SECRET in answer.text) == (answer.status == 200)
    return answer.status == 200


async def read_listing(agent: Agent, path: str) -> bool:
    parent, name = path.rsplit("/", 1)
    return properties_of(child_of(await agent.node(parent, detail="max"), name)).get(TITLE) == SECRET


async def read_protocols(agent: Agent, path: str) -> bool:
    return (await agent.send("POST", f"/nodes{path}", f'<protocols xmlns="{V[1:-1]}"/>')).status == 200


async def follow_for_bytes(agent: Agent, answer: Answer) -> bool:
    assert answer.status in {303, 401, 403}
    if answer.status != 303:
        return False
    got = await agent.send("GET", answer.location)
    assert (got.status, got.body) == (200, BYTES)
    return True


async def read_files(agent: Agent, path: str) -> bool:
    return await follow_for_bytes(agent, await agent.send("GET", f"/files{path}"))


async def read_view(agent: Agent, path: str) -> bool:
    answer = await agent.get(path, view="data")
    return answer.status == 303 and await follow_for_bytes(agent, await agent.send("GET", answer.location))


async def read_document(agent: Agent, path: str) -> bool:
    answer = await agent.sync(path, "pullFromVoSpace", CORE + "httpsget")
    if answer.status == 401:
        return False
    transfer = (await agent.send("GET", answer.assert_status(303).location)).assert_status(200).xml
    job = answer.location.removesuffix("/results/transferDetails")
    assert BYTES.decode() not in (await agent.send("GET", job)).text
    if not endpoints_of(transfer):
        assert (await agent.phase(job), await agent.error(job)) == ("ERROR", "PermissionDenied")
        return False
    return (await agent.send("GET", endpoints_of(transfer)[0])).body == BYTES


def by_parameters(direction: str, protocol: str, path: str) -> str:
    return (
        f"/synctrans?TARGET={quote(uri_of(path), safe='')}&DIRECTION={direction}"
        f"&PROTOCOL={quote(CORE + protocol, safe='')}"
    )


async def read_parameters(agent: Agent, path: str) -> bool:
    answer = await agent.send("POST", by_parameters("pullFromVoSpace", "httpsget", path))
    return answer.status == 200 and (await agent.send("GET", endpoints_of(answer.xml)[0])).body == BYTES


async def read_redirect(agent: Agent, path: str) -> bool:
    url = by_parameters("pullFromVoSpace", "httpsget", path) + "&REQUEST=redirect"
    return await follow_for_bytes(agent, await agent.send("GET", url))


async def read_entry(agent: Agent, path: str) -> bool:
    answer = await agent.send("GET", f"/entries{path}")
    return answer.status == 200 and hashlib.sha256(BYTES).hexdigest() in answer.text


async def read_entries(agent: Agent, path: str) -> bool:
    answer = await agent.send("GET", f"/entries{path.rpartition('/')[0]}")
    return hashlib.sha256(BYTES).hexdigest() in answer.assert_status(200).text


async def find(agent: Agent, path: str) -> bool:
    container, _, name = path.rpartition("/")
    answer = await agent.send("GET", f"/search?target={uri_of(container)}&name={name}")
    return answer.status == 200 and uri_of(path) in answer.text


WAYS_TO_READ: list[Callable[[Agent, str], Awaitable[bool]]] = [
    read_node, read_listing, read_protocols, read_files, read_view, read_document, read_parameters, read_redirect,
    find, read_entry, read_entries,
]  # fmt: skip


@pytest.mark.parametrize("rights", RIGHTS)
async def test_every_way_to_read_asks(space: Space, shared: str, rights: str) -> None:
    properties, readers, _ = RIGHTS[rights]
    path = await data_of_alice(space, shared, properties)
    for way in WAYS_TO_READ:
        allowed = {user for user in USERS if await way(space.agent(user), path)}
        assert allowed == readers, way.__name__


async def write_properties(agent: Agent, path: str) -> bool:
    return (await agent.post(path, properties={TITLE: SECRET})).status == 200


async def write_files(agent: Agent, path: str) -> bool:
    answer = await agent.send("PUT", f"/files{path}", b"x")
    return answer.status == 307 and (await agent.send("PUT", answer.location, b"x")).status == 201


async def write_document(agent: Agent, path: str) -> bool:
    answer = await agent.sync(path, "pushToVoSpace", CORE + "httpsput")
    if answer.status == 401:
        return False
    endpoints = endpoints_of((await agent.send("GET", answer.location)).xml)
    return bool(endpoints) and (await agent.send("PUT", endpoints[0], b"x")).status == 201


async def write_parameters(agent: Agent, path: str) -> bool:
    answer = await agent.send("POST", by_parameters("pushToVoSpace", "httpsput", path))
    return answer.status == 200 and (await agent.send("PUT", endpoints_of(answer.xml)[0], b"x")).status == 201


async def write_redirect(agent: Agent, path: str) -> bool:
    answer = await agent.send("POST", by_parameters("pushToVoSpace", "httpsput", path) + "&REQUEST=redirect")
    return answer.status == 303 and (await agent.send("PUT", answer.location, b"x")).status == 201


WAYS_TO_WRITE: list[Callable[[Agent, str], Awaitable[bool]]] = [
    write_properties, write_files, write_document, write_parameters, write_redirect,
]  # fmt: skip


@pytest.mark.parametrize("rights", RIGHTS)
async def test_every_way_to_write_asks(space: Space, shared: str, rights: str) -> None:
    properties, _, writers = RIGHTS[rights]
    path = await data_of_alice(space, shared, properties)
    for way in WAYS_TO_WRITE:
        allowed = {user for user in USERS if await way(space.agent(user), path)}
        assert allowed == writers, way.__name__


async def test_private_bytes_stay_as_they_are_after_refused_writes(space: Space, shared: str) -> None:
    path = await data_of_alice(space, shared, {PUBLIC: "true"})
    alice = space.agent("alice")
    before = (await alice.get(path)).body
    for way in WAYS_TO_WRITE:
        for user in ("bea", "carl", "nobody"):
            assert not await way(space.agent(user), path)
    assert (await alice.get(path)).body == before
    assert await alice.pull(path) == BYTES


def disguised(answer: Answer, path: str) -> tuple[int, str, list[str], list[str]]:
    """Give what an answer says apart from the path."""
    headers = sorted(name.lower() for name in answer.headers)
    return answer.status, answer.text.replace(path, "PATH"), headers, list(answer.challenges)


@pytest.mark.parametrize("user", ["bea", "nobody"])
async def test_hidden_is_missing(space: Space, folder: str, user: str) -> None:
    """Below a container that one may not read, what exists and what does not get the same answer."""
    alice, agent = space.agent("alice"), space.agent(user)
    await alice.make(f"{folder}/box", "ContainerNode", properties={PUBLIC: "true"})
    await alice.make(f"{folder}/box/public", properties={PUBLIC: "true"})
    await alice.push(f"{folder}/data", BYTES)
    await alice.post(f"{folder}/data", properties={PUBLIC: "true"})
    await alice.make(f"{folder}/link", "LinkNode", target=uri_of(f"{folder}/data"), properties={PUBLIC: "true"})
    await alice.make(f"{folder}/locked", properties={CORE + "islocked": "true", PUBLIC: "true"})
    names = (
        "box",
        "box/public",
        "data",
        "data/x",
        "link",
        "link/x",
        "locked",
        "missing",
        "missing/x",
        ".null",
        ".auto",
    )
    requests: list[Callable[[str], Awaitable[Answer]]] = [
        agent.get,
        lambda path: agent.get(path, detail="min", limit=0),
        lambda path: agent.get(path, view="data"),
        lambda path: agent.put(path, "ContainerNode"),
        lambda path: agent.post(path, "Node", properties={TITLE: "x"}),
        agent.delete,
        lambda path: agent.send("GET", f"/files{path}"),
        lambda path: agent.send("PUT", f"/files{path}", b"x"),
        lambda path: agent.send("GET", by_parameters("pullFromVoSpace", "httpsget", path)),
        lambda path: agent.send("POST", by_parameters("pushToVoSpace", "httpsput", path)),
        lambda path: agent.send("POST", f"/nodes{path}", f'<protocols xmlns="{V[1:-1]}"/>'),
    ]
    for number, ask in enumerate(requests):
        asked = [f"{folder}/{name}" for name in names]
        if number == 3:
            asked = [path for path in asked if not path.endswith((".null", ".auto"))]  # names of its own making
        if number in {7, 9}:
            asked = [path for path in asked if not path.endswith((".null", ".auto"))]
        told = {disguised(await ask(path), path).__repr__() for path in asked}
        assert len(told) == 1, told
        assert f"({401 if user == 'nobody' else 403}, " in told.pop()


async def test_denied_transfers_tell_nothing(space: Space, folder: str) -> None:
    """The job of a denied transfer says the same about what exists and what does not."""
    await space.agent("alice").push(f"{folder}/data", BYTES)
    bea = space.agent("bea")
    told = set()
    for name in ("data", "missing"):
        answer = (await bea.sync(f"{folder}/{name}", "pullFromVoSpace", CORE + "httpsget")).assert_status(303)
        job = answer.location.removesuffix("/results/transferDetails")
        document = (await bea.send("GET", job)).assert_status(200).xml
        told.add((document.findtext(".//{*}message") or "").replace(name, "NAME"))
        assert await bea.error(job) == "PermissionDenied"
    assert len(told) == 1


async def test_whole_way_must_be_readable(space: Space, folder: str) -> None:
    alice, bea = space.agent("alice"), space.agent("bea")
    rights = {PUBLIC: "true", GROUP_WRITE: STAFF}
    await alice.make(f"{folder}/open", "ContainerNode", properties=rights)
    await alice.make(f"{folder}/open/data", properties=rights)
    # alice's home and the folder are private: what stands below is out of reach, whatever its own rights say.
    for path in (f"{folder}/open", f"{folder}/open/data"):
        (await bea.get(path)).assert_fault(403, "PermissionDenied")
        (await bea.post(path, "Node", properties={TITLE: "x"})).assert_fault(403, "PermissionDenied")
    (await bea.put(f"{folder}/open/new")).assert_fault(403, "PermissionDenied")
    (await bea.delete(f"{folder}/open/data")).assert_fault(403, "PermissionDenied")


async def test_owner_may_read_and_write_whatever_the_groups_say(space: Space, folder: str) -> None:
    alice = space.agent("alice")
    path = await alice.make(f"{folder}/a", properties={GROUP_READ: "ivo://example.org/gms?x", GROUP_WRITE: ""})
    (await alice.post(path, properties={TITLE: "t"})).assert_status(200)


async def test_owner_of_a_node_in_a_container_of_others(space: Space, shared: str) -> None:
    """Who made a node may change it and not take it away once he may not write to the container any more."""
    admin, bea = space.agent("admin"), space.agent("bea")
    box = await admin.make(f"{shared}/box", "ContainerNode", properties={PUBLIC: "true", GROUP_WRITE: STAFF})
    await bea.make(f"{box}/hers")
    await admin.post(box, "ContainerNode", properties={GROUP_WRITE: None})
    (await bea.post(f"{box}/hers", properties={PUBLIC: "true"})).assert_status(200)
    (await bea.delete(f"{box}/hers")).assert_fault(403, "PermissionDenied")


async def test_rights_that_are_given_and_taken_hold_at_once(space: Space, shared: str) -> None:
    admin, carl = space.agent("admin"), space.agent("carl")
    path = await admin.make(f"{shared}/a")
    for _ in range(3):
        (await carl.get(path)).assert_fault(403, "PermissionDenied")
        await admin.post(path, properties={GROUP_READ: READERS})
        (await carl.get(path)).assert_status(200)
        await admin.post(path, properties={GROUP_READ: None})
