"""The audit log of a service: every change has its row, whoever was refused too, and who sees them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import aiohttp
import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE, Direction
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.server.conftest import Space
from tests.support.agents import Agent, Answer, node_document
from tests.support.jobs import Ended, copy, delete_tree, move, run_job
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

LOCAL = "127.0.0.1"
Rows = list[dict[str, Any]]


async def rows(catalogue: Database, **wanted: object) -> Rows:
    """Give rows of the log that have these values, as the database has them."""
    found = await catalogue.fetch("select * from audit where at > now() - interval '10 minutes' order by at, id")
    read = [{**row, "details": json.loads(row["details"])} for row in found]
    return [row for row in read if all(row[name] == value for name, value in wanted.items())]


async def written(catalogue: Database, number: int = 1, **wanted: object) -> Rows:
    """The same, as soon as there are so many: what nobody waits for comes a moment later."""
    async with asyncio.timeout(20):
        while len(found := await rows(catalogue, **wanted)) < number:
            await asyncio.sleep(0.02)
    return found


async def asked(agent: Agent, **query: str | int) -> Rows:
    """Ask the service."""
    answer = (await agent.send("GET", f"/audit?{urlencode(query, quote_via=quote)}")).assert_status(200)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


async def create(agent: Agent, folder: str) -> Answer:
    return await agent.put(f"{folder}/new%20one", "LinkNode", target="vos:x")


async def set_property(agent: Agent, folder: str) -> Answer:
    return await agent.post(f"{folder}/data", properties={"urn:a": "secret value", CORE + "ispublic": "true"})


async def delete(agent: Agent, folder: str) -> Answer:
    return await agent.delete(f"{folder}/data")


async def delete_box(agent: Agent, folder: str) -> Answer:
    return await agent.delete(f"{folder}/box")


CHANGES: dict[str, tuple[Callable[[Agent, str], Awaitable[Answer]], str, str, dict[str, Any]]] = {
    "create": (create, "createNode", "new one", {"type": "LinkNode"}),
    "set": (set_property, "setNode", "data", {"set": ["urn:a"], "rights": {"public": [False, True]}}),
    "delete": (delete, "deleteNode", "data", {}),
    "delete a tree": (delete_box, "deleteNode", "box", {"nodes": 2}),
}
"""How to do it, and what the row says: action, name of the node, details."""


@pytest.fixture
async def tree(alice: Agent, folder: str) -> str:
    await alice.make(f"{folder}/data")
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/box/leaf")
    return folder


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_has_its_row(alice: Agent, catalogue: Database, tree: str, name: str) -> None:
    """One row, there as soon as the answer: who, what, where, from where, by what."""
    change, action, node, details = CHANGES[name]
    answer = await change(alice, tree)
    assert answer.status < 300, answer.text
    (row,) = [row for row in await rows(catalogue, request=answer.headers["X-Request-Id"]) if row["action"] != "login"]
    assert (row["action"], row["path"], row["outcome"]) == (action, f"{tree}/{node}", "done")
    assert (row["name"], row["remote"], row["owner_id"]) == ("alice", LOCAL, row["user_id"])
    assert row["credential"].startswith("token ")
    assert str(alice.token) not in str(row)
    assert row["details"] == details


@pytest.mark.parametrize("name", CHANGES)
async def test_a_refusal_has_its_row(
    alice: Agent, carl: Agent, nobody: Agent, catalogue: Database, tree: str, name: str
) -> None:
    change, action, node, _ = CHANGES[name]
    for agent, status, outcome, who in ((carl, 403, "PermissionDenied", "carl"), (nobody, 401, "NotAuthenticated", "")):
        answer = (await change(agent, tree)).assert_status(status)
        (row,) = await written(catalogue, request=answer.headers["X-Request-Id"], outcome=outcome)
        assert (row["action"], row["path"], row["name"], row["remote"]) == (action, f"{tree}/{node}", who, LOCAL)
        assert row["owner_id"] is not None, "the owner of the container learns of it"


async def test_jobs_are_told_with_their_rows(alice: Agent, bea: Agent, catalogue: Database, tree: str) -> None:
    """Moves and copies, deletions and changes of trees: by the job that the details name."""

    async def row_of(job: Ended, action: str, node: str) -> dict[str, Any]:
        (row,) = await rows(catalogue, action=action, path=f"{tree}/{node}", outcome="done")
        assert row["details"].pop("job") == job.url.rsplit("/", 1)[1]
        assert (row["name"], row["credential"].startswith("job by token ")) == ("alice", True)
        return dict(row["details"])

    (await copy(bea, f"{tree}/box", f"{tree}/copy")).assert_error("PermissionDenied")
    (row,) = await written(catalogue, action="copyNode", outcome="PermissionDenied", path=f"{tree}/box")
    assert (row["name"], row["node_id"] is not None) == ("bea", True)
    done = await copy(alice, f"{tree}/box", f"{tree}/copy")
    assert await row_of(done, "copyNode", "copy") == {"from": f"{tree}/box", "nodes": 2}
    done = await move(alice, f"{tree}/copy", f"{tree}/moved")
    assert await row_of(done, "moveNode", "copy") == {"to": f"{tree}/moved"}
    document = node_document(f"{tree}/moved", "ContainerNode", properties={"urn:x": "y"})
    (await run_job(alice, "async-setprops", document)).assert_counts("COMPLETED", 2)
    found = await rows(catalogue, action="setNode", path=f"{tree}/moved")
    assert [row["details"].get("nodes") for row in found] == [None, 1]
    done = await delete_tree(alice, f"{tree}/moved")
    assert await row_of(done, "deleteNode", "moved") == {"nodes": 2}


async def test_bytes_are_told_of(alice: Agent, carl: Agent, catalogue: Database, folder: str) -> None:
    """Those that come in the transaction that stores them, those that go a moment later; no token of an endpoint."""
    path = f"{folder}/bytes"
    stored = await alice.push(path, b"12345")
    (row,) = await rows(catalogue, request=stored.headers["X-Request-Id"])
    assert (row["action"], row["path"], row["name"], row["remote"]) == ("storeBytes", path, "alice", LOCAL)
    assert (row["details"]["size"], row["credential"].startswith("endpoint by token ")) == (5, True)
    _, endpoint = await alice.negotiate(path, Direction.PULL_FROM_VOSPACE)
    read = await alice.send("GET", endpoint)
    (row,) = await written(catalogue, request=read.headers["X-Request-Id"])
    assert (row["action"], row["path"], row["name"], row["outcome"]) == ("readBytes", path, "alice", "done")
    broken = await alice.send("GET", endpoint[: endpoint.rindex("/") - 4] + "AAAA/bytes")
    (row,) = await written(catalogue, request=broken.headers["X-Request-Id"])
    assert (row["outcome"], row["user_id"], row["path"]) == ("PermissionDenied", 0, None)
    refused = await carl.send("GET", f"/files{path}")
    (row,) = await written(catalogue, request=refused.headers["X-Request-Id"], outcome="PermissionDenied")
    assert (row["action"], row["path"], row["name"]) == ("readBytes", path, "carl")
    assert "eyJ" not in str(await rows(catalogue))


async def test_logins_are_told_of(space: Space, alice: Agent, nobody: Agent, catalogue: Database) -> None:
    wrong = Agent(alice.session, alice.pair, "0" * 64)
    answer = (await wrong.get("/")).assert_status(401)
    (row,) = await written(catalogue, request=answer.headers["X-Request-Id"])
    assert (row["action"], row["outcome"], row["credential"], row["user_id"]) == (
        "login", "NotAuthenticated", "bearer", 0,
    )  # fmt: skip
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = (await nobody.send("POST", "/login", b"username=carl&password=wrong", headers=form)).assert_status(401)
    (row,) = await written(catalogue, request=answer.headers["X-Request-Id"])
    assert (row["action"], row["outcome"], row["details"]) == ("login", "NotAuthenticated", {"user": "carl"})
    fresh = Agent(alice.session, alice.pair, await asyncio.to_thread(space.pair.token_for, "carl"))
    first = (await fresh.get("/")).assert_status(200)
    (row,) = await written(catalogue, request=first.headers["X-Request-Id"])
    assert (row["action"], row["name"], row["outcome"]) == ("login", "carl", "done")
    second = (await fresh.get("/")).assert_status(200)
    await written(catalogue, request=(await wrong.get("/")).headers["X-Request-Id"])
    assert not await rows(catalogue, request=second.headers["X-Request-Id"]), "once, and reads of documents not at all"
    assert "0" * 64 not in str(await rows(catalogue))


async def test_who_sees_what(alice: Agent, bea: Agent, nobody: Agent, admin: Agent, tree: str) -> None:
    """The owner: all that happened to what is hers, of others without their address. Others: what they did."""
    target = f"vos://{alice.pair.authority}{tree}/data"
    refused = await bea.delete(f"{tree}/data")
    async with asyncio.timeout(20):
        while not (found := await asked(alice, target=target, outcome="PermissionDenied")):
            await asyncio.sleep(0.02)
    assert [(row["user"], row["action"], row["target"]) for row in found] == [("bea", "deleteNode", target)]
    assert not {"remote", "credential", "request"} & found[0].keys()
    (own,) = await asked(bea, target=target)
    assert (own["request"], own["remote"]) == (refused.headers["X-Request-Id"], LOCAL)
    assert "node" not in own
    assert not await asked(bea, target=f"vos://{alice.pair.authority}{tree}", recursive="true", user="alice")
    assert len(await asked(admin, target=target)) == 2
    assert [row["action"] for row in await asked(alice, target=target, limit=1)] == ["createNode"]
    assert len(await asked(alice, target=f"vos://{alice.pair.authority}{tree}", recursive="true")) == 5
    (await nobody.send("GET", "/audit")).assert_fault(401, "NotAuthenticated")
    for query in ("action=nonsense", "limit=-1", "after=soon", "target=x", "recursive=maybe", "colour=red"):
        assert (await alice.send("GET", f"/audit?{query}")).status == 400


async def test_a_name_of_before_does_not_lead_to_what_is_hidden_now(alice: Agent, bea: Agent, tree: str) -> None:
    await bea.delete(f"{tree}/data")
    async with asyncio.timeout(20):
        while not await asked(bea, target=f"vos://{alice.pair.authority}{tree}/data"):
            await asyncio.sleep(0.02)
    await move(alice, f"{tree}/data", f"{tree}/elsewhere")
    assert await asked(alice, target=f"vos://{alice.pair.authority}{tree}/elsewhere", user="bea")
    assert not await asked(bea, target=f"vos://{alice.pair.authority}{tree}/elsewhere")


async def test_lines_stay_lines(alice: Agent, catalogue: Database, folder: str) -> None:
    """A name that looks like an end of the object and another one is one, and comes back as it is."""
    name = 'evil", "user": "admin"} {"\u00a0\u202e'
    await alice.make(f"{folder}/{quote(name)}", "ContainerNode")
    answer = await alice.send("GET", f"/audit?target={quote(f'vos://{alice.pair.authority}{folder}/{quote(name)}')}")
    (line,) = answer.body.splitlines()
    assert line.isascii()
    assert line.decode().isprintable()
    assert unquote(json.loads(line)["target"]).endswith("/" + name)


async def test_limited_tokens_see_nothing(space: Space, alice: Agent) -> None:
    body = json.dumps({"name": "reader", "paths": ["/home"], "rights": ["read"]})
    answer = await alice.send("POST", "/profile/tokens", body, headers={"Content-Type": "application/json"})
    token = json.loads(answer.text)["token"]
    limited = Agent(alice.session, alice.pair, token)
    (await limited.send("GET", "/audit")).assert_fault(403, "PermissionDenied")


@pytest.fixture
def mortal(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    """A pair that may be killed."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path, storage_dsn=storage_dsn) as pair:
            yield pair


async def test_change_and_row_live_and_die_together(mortal: Pair, session: aiohttp.ClientSession) -> None:
    """Whenever the server is killed: what is there has its row, and what has a row is there."""
    agent = Agent(session, mortal, mortal.token)
    folder = await agent.make(f"{mortal.home}/{uuid.uuid4().hex}", "ContainerNode")
    answered = await _create_until_killed(mortal, agent, folder)
    database = await Database.connect(mortal.dsn, mortal.database)
    found = await database.fetch(
        "select n.name from nodes n join nodes p on p.id = n.parent_id where p.name = $1", folder.rsplit("/", 1)[1]
    )
    told = [row["path"] for row in await rows(database, action="createNode")]
    await database.close()
    there = {row["name"] for row in found}
    assert answered
    assert answered <= there
    assert sorted(told[told.index(folder) + 1 :]) == sorted(f"{folder}/{name}" for name in there)


async def _create_until_killed(pair: Pair, agent: Agent, folder: str) -> set[str]:
    answered: set[str] = set()

    async def work(number: int) -> None:
        for one in range(200):
            await agent.make(f"{folder}/{number}-{one}")
            answered.add(f"{number}-{one}")
            if len(answered) == 60:
                pair.kill("metadata")

    await asyncio.gather(*(work(number) for number in range(8)), return_exceptions=True)
    return answered
