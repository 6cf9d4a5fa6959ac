"""What is taken away is gone with the next request, in every process (I28): no waiting anywhere here."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import aiohttp
import pytest

from pyvospace.db import identities
from pyvospace.db.passwords import hash_password
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.server.conftest import STAFF, People
from tests.support.agents import Agent, Answer
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

GROUP_READ, PUBLIC = CORE + "groupread", CORE + "ispublic"


@pytest.fixture(scope="module")
def two_workers(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A metadata server of two processes."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path_factory.mktemp("two"), storage_dsn=storage_dsn, workers=2) as running:
            yield running


@pytest.fixture(scope="module")
def people(two_workers: Pair) -> People:
    return People.of(two_workers)


@dataclass
class Processes:
    """A connection to each process of the metadata server."""

    pair: Pair
    people: People
    sessions: list[aiohttp.ClientSession]

    def agents(self, token: str | None) -> list[Agent]:
        """Give somebody at each of the processes."""
        return [Agent(session, self.pair, token) for session in self.sessions]

    async def ask(self, token: str, path: str) -> list[int]:
        """Get a node from each of them."""
        return [(await agent.get(path)).status for agent in self.agents(token)]


def _process(answer: Answer) -> str:
    """Tell the processes apart by the ids that they give to requests."""
    return answer.headers["X-Request-Id"][:8]


@pytest.fixture
async def processes(two_workers: Pair, people: People) -> AsyncIterator[Processes]:
    sessions: dict[str, aiohttp.ClientSession] = {}
    while len(sessions) < 2:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=600), cookie_jar=aiohttp.DummyCookieJar()
        )
        name = _process(await Agent(session, two_workers, None).send("GET", "/livez"))
        if name in sessions:
            await session.close()
        else:
            sessions[name] = session
    yield Processes(two_workers, people, list(sessions.values()))
    for session in sessions.values():
        await session.close()


@pytest.fixture
async def catalogue(two_workers: Pair) -> AsyncIterator[Database]:
    connected = await Database.connect(two_workers.dsn, two_workers.database)
    yield connected
    await connected.close()


async def new_token(catalogue: Database, user: str) -> tuple[str, int]:
    """Make a token; give it and its number."""
    token = uuid.uuid4().hex
    number = await identities.add_token(catalogue, user, "test", hashlib.sha256(token.encode()).digest(), None)
    return token, number


async def test_connections_lead_to_two_processes(processes: Processes) -> None:
    seen = [_process(await agent.send("GET", "/livez")) for agent in processes.agents(None) for _ in range(3)]
    assert len(set(seen)) == 2
    assert seen[0] == seen[1] == seen[2]


async def test_revoked_token(processes: Processes, catalogue: Database) -> None:
    token, number = await new_token(catalogue, "alice")
    path = "/home/alice"
    assert await processes.ask(token, path) == [200, 200]
    await identities.revoke_token(catalogue, "alice", number)
    for agent in processes.agents(token):
        for ask in (path, "/home/alice/missing", "/home/bea", ""):
            (await agent.get(ask)).assert_fault(401, "NotAuthenticated")
        for resource in ("/capabilities", "/availability", "/protocols", "/views", "/properties"):
            (await agent.send("GET", resource)).assert_fault(401, "NotAuthenticated")
        (await agent.put(f"{path}/{uuid.uuid4().hex}")).assert_fault(401, "NotAuthenticated")
        (await agent.send("GET", f"/files{path}/x")).assert_fault(401, "NotAuthenticated")
        (await agent.sync(f"{path}/x", "pushToVoSpace", CORE + "httpsput")).assert_fault(401, "NotAuthenticated")
    # The other token of the same user goes on.
    assert await processes.ask(processes.pair.token, path) == [200, 200]


@pytest.mark.parametrize("first", ["put", "post", "delete", "push", "pull", "properties", "job"])
async def test_revoked_token_whatever_comes_first(processes: Processes, catalogue: Database, first: str) -> None:
    """The first request after the revocation finds out, whichever it is."""
    token, number = await new_token(catalogue, "alice")
    path = f"/home/alice/{uuid.uuid4().hex}"
    agents = processes.agents(token)
    await agents[0].push(path, b"x")
    job, _ = await agents[0].negotiate(path, "pullFromVoSpace")
    for agent in agents:
        await agent.node(path)
    await identities.revoke_token(catalogue, "alice", number)
    for agent in agents:
        requests = {
            "put": agent.put(path + "2"),
            "post": agent.post(path, properties={"urn:x": "y"}),
            "delete": agent.delete(path),
            "push": agent.sync(path, "pushToVoSpace", CORE + "httpsput"),
            "pull": agent.sync(path, "pullFromVoSpace", CORE + "httpsget"),
            "properties": agent.send("GET", "/properties"),
            "job": agent.send("GET", job),
        }
        chosen = requests.pop(first)
        for other in requests.values():
            other.close()
        (await chosen).assert_fault(401, "NotAuthenticated")
    (owner, _) = processes.agents(processes.pair.token)
    assert "urn:x" not in (await owner.get(path)).text
    (await owner.get(path + "2")).assert_fault(404, "NodeNotFound")


async def test_disabled_user(processes: Processes, catalogue: Database) -> None:
    token, _ = await new_token(catalogue, "bea")
    assert await processes.ask(token, "/home/bea") == [200, 200]
    (agent, _) = processes.agents(token)
    path = f"/home/bea/{uuid.uuid4().hex}"
    await agent.push(path, b"x")
    _, reading = await agent.negotiate(path, "pullFromVoSpace")
    _, writing = await agent.negotiate(path, "pushToVoSpace")
    await identities.change_user(catalogue, "bea", disabled=True)
    try:
        assert await processes.ask(token, "/home/bea") == [401, 401]
        assert (await agent.send("GET", reading)).status == 403
        assert (await agent.send("PUT", writing, b"y")).status == 403
    finally:
        await identities.change_user(catalogue, "bea", disabled=False)
    assert await processes.ask(token, "/home/bea") == [200, 200]


async def test_expired_token(processes: Processes, catalogue: Database) -> None:
    token, number = await new_token(catalogue, "alice")
    assert await processes.ask(token, "/home/alice") == [200, 200]
    await catalogue.fetch("update tokens set expires = now() where id = $1", number)
    assert await processes.ask(token, "/home/alice") == [401, 401]


async def test_member_who_leaves_and_comes_back(processes: Processes, catalogue: Database) -> None:
    (admin, _) = processes.agents(processes.pair.admin_token)
    folder = f"/{uuid.uuid4().hex}"
    await admin.make(folder, "ContainerNode", properties={PUBLIC: "true"})
    await admin.make(f"{folder}/a", properties={GROUP_READ: STAFF})
    token, _ = await new_token(catalogue, "bea")
    for _ in range(2):
        assert await processes.ask(token, f"{folder}/a") == [200, 200]
        await identities.change_member(catalogue, "staff", "bea", add=False)
        assert await processes.ask(token, f"{folder}/a") == [403, 403]
        await identities.change_member(catalogue, "staff", "bea", add=True)
    assert await processes.ask(token, f"{folder}/a") == [200, 200]


async def test_group_that_is_removed_and_made_again(processes: Processes, catalogue: Database) -> None:
    """A new group of an old name has none of its members."""
    (admin, _) = processes.agents(processes.pair.admin_token)
    name = uuid.uuid4().hex
    await identities.add_group(catalogue, name)
    await identities.change_member(catalogue, name, "bea", add=True)
    folder = await admin.make(f"/{name}", "ContainerNode", properties={GROUP_READ: STAFF.replace("staff", name)})
    token, _ = await new_token(catalogue, "bea")
    assert await processes.ask(token, folder) == [200, 200]
    await identities.remove_group(catalogue, name)
    assert await processes.ask(token, folder) == [403, 403]
    await identities.add_group(catalogue, name)
    assert await processes.ask(token, folder) == [403, 403]


async def test_administrator_no_more(processes: Processes, catalogue: Database) -> None:
    token, _ = await new_token(catalogue, "carl")
    await identities.change_user(catalogue, "carl", admin=True)
    assert await processes.ask(token, "/home/alice") == [200, 200]
    await identities.change_user(catalogue, "carl", admin=False)
    assert await processes.ask(token, "/home/alice") == [403, 403]


async def test_changed_password(processes: Processes, catalogue: Database) -> None:
    old, new = (f"Basic {base64.b64encode(b'carl:' + word).decode()}" for word in (b"old", b"new"))
    await identities.change_user(catalogue, "carl", password=hash_password("old"))

    async def statuses(credential: str) -> list[int]:
        asked = [agent.send("GET", "/nodes/home/carl", headers={"Authorization": credential})
                 for agent in processes.agents(None)]  # fmt: skip
        return [one.status for one in await asyncio.gather(*asked)]

    assert await statuses(old) == [200, 200]
    await identities.change_user(catalogue, "carl", password=hash_password("new"))
    assert await statuses(old) == [401, 401]
    assert await statuses(new) == [200, 200]
