"""Three places: bytes are copied, one server down is no harm, and what is drained can be retired (I9, I33)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from pyvospace.model.vocabulary import CORE, TIER
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import Agent, endpoints_of, properties_of, transfer_document
from tests.support.fleet import Fleet
from tests.support.jobs import FORM, run_job
from tests.support.pair import running_pair
from tests.support.postgres import PostgresServer

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"
BYTES = b"bytes that are in more than one place" * 1000
COPIES = "select count(*) = $1 from replicas r join nodes n using (storage_id, location) where n.name = $2"
SITES = '{"127.0.0.0/8": "here", "::1/128": "here"}'


@pytest.fixture(scope="module")
def fleet(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    environment = {
        "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "0.1",
        "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "1",
        "PYVOSPACE_STORAGE__SWEEP_GRACE": "3",
        "PYVOSPACE_PLACEMENT__SITES": SITES,
        "PYVOSPACE_PLACEMENT__INTERVAL": "1",
        "PYVOSPACE_PLACEMENT__REPAIR_RATE": "100000000",
    }
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        folder = tmp_path_factory.mktemp("fleet")
        with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as pair:
            made = Fleet(pair)
            try:
                made.add("second", site="here")
                made.add("third")
                made.add("vault", cold="true")
                yield made
            finally:
                made.stop()


@pytest.fixture
async def alice(fleet: Fleet) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, fleet.pair, fleet.pair.token)


async def policy(fleet: Fleet, **columns: object) -> None:
    for column, value in columns.items():
        await fleet.ask(f"update policies set {column} = $1 where container_id = 1", value)


async def endpoints(agent: Agent, path: str) -> list[str]:
    answer = await agent.sync(path, PULL, "ivo://ivoa.net/vospace/core#httpsget")
    return endpoints_of((await agent.send("GET", answer.assert_status(303).location)).xml)


async def test_copies_are_read_when_a_server_is_killed(fleet: Fleet, alice: Agent) -> None:
    await policy(fleet, replicas=3)
    path = f"{fleet.pair.home}/three"
    await alice.push(path, BYTES)
    await fleet.until(COPIES, 2, "three")
    offered = await endpoints(alice, path)
    assert len(offered) == 3
    assert offered[0].startswith(fleet.url("second") + "/"), "it is at the site of the client"
    for url in offered:
        assert (await alice.send("GET", url)).body == BYTES
    fleet.kill("second")
    reads = [await alice.send("GET", url) for url in offered[1:]]
    assert [one.body for one in reads] == [BYTES, BYTES]
    await fleet.ask("update servers set last_seen = now() - interval '31 s' where name = 'second'")
    assert len(await endpoints(alice, path)) == 2
    assert await alice.pull(path) == BYTES
    await alice.push(f"{fleet.pair.home}/meanwhile", b"new")
    assert await alice.pull(f"{fleet.pair.home}/meanwhile") == b"new"
    fleet.start("second")
    assert len(await endpoints(alice, path)) == 3
    await fleet.until(COPIES, 2, "meanwhile")


async def told(admin: Agent, method: str, path: str, body: object = None, status: int = 200) -> Any:
    content = None if body is None else json.dumps(body)
    answer = await admin.send(method, path, content, headers={"Content-Type": "application/json"})
    answer.assert_status(status)
    return json.loads(answer.body) if status == 200 else None


async def test_a_storage_is_drained_and_retired(fleet: Fleet, alice: Agent) -> None:
    admin = Agent(alice.session, fleet.pair, fleet.pair.admin_token)
    await policy(fleet, replicas=1)
    path = f"{fleet.pair.home}/alone"
    await alice.push(path, BYTES)
    document = (await alice.get(path)).body
    (row,) = await fleet.ask("select storage_id as id from nodes where name = 'alone'")
    await told(admin, "PATCH", f"/admin/storages/{row['id']}", {"state": "retired"}, status=400)
    await told(admin, "PATCH", f"/admin/storages/{row['id']}", {"state": "draining"}, status=204)
    await fleet.until(
        "select not exists (select from nodes where storage_id = $1) and not exists (select from obsolete where"
        " storage_id = $1) and not exists (select from replicas where at_storage = $1)",
        row["id"],
    )
    shown = await told(admin, "GET", f"/admin/storages/{row['id']}")
    assert (shown["storage"]["state"], shown["holdings"]["to_move"], shown["holdings"]["homes"]) == ("draining", 0, 0)
    assert (await alice.get(path)).body == document
    assert await alice.pull(path) == BYTES
    await told(admin, "PATCH", f"/admin/storages/{row['id']}", {"state": "retired"}, status=204)
    rows = await fleet.ask("select user_id, details from audit where action = 'changeStorage' order by id desc limit 1")
    assert json.loads(rows[0]["details"])["to"]["state"] == "retired"
    await told(admin, "PATCH", f"/admin/storages/{row['id']}", {"state": "active"}, status=204)


async def test_who_is_killed_while_he_copies_leaves_nothing_wrong(fleet: Fleet, alice: Agent) -> None:
    await policy(fleet, replicas=2)
    contents = {f"many-{number}": bytes([number]) * 200_000 for number in range(12)}
    for name, content in contents.items():
        await alice.push(f"{fleet.pair.home}/{name}", content)
    for name in ("third", "second"):
        await asyncio.to_thread(fleet.kill, name)
        await asyncio.to_thread(fleet.start, name)
    await fleet.ask("update replications set due = now(), until = null")
    await fleet.until("select not exists (select from replications)")
    copied = "select count(*) = 12 from replicas join nodes using (storage_id, location) where name ~ $1"
    await fleet.until(copied, "^many-")
    for name, content in contents.items():
        for url in await endpoints(alice, f"{fleet.pair.home}/{name}"):
            assert (await alice.send("GET", url)).body == content
    named = "select count(distinct location) from (select location from nodes union select at_location from replicas) x"
    (expected,) = (await fleet.ask(named))[0]
    async with asyncio.timeout(60):
        while sum(len(fleet.files(name)) for name in ("storage", "second", "third", "vault")) != expected:
            await asyncio.sleep(0.5)


async def tier(agent: Agent, path: str) -> str | None:
    return properties_of((await agent.get(path)).xml).get(TIER)


async def freeze(fleet: Fleet, alice: Agent, name: str) -> str:
    """Make a node whose bytes nobody has written for long, so that they are in the cold storage only."""
    path = f"{fleet.pair.home}/{name}"
    await policy(fleet, replicas=1, tier_days=10)
    await alice.push(path, BYTES)
    assert await tier(alice, path) is None
    name = name.rpartition("/")[2]
    await fleet.ask("update nodes set modified = modified - interval '11 days' where name = $1", name)
    await fleet.until("select s.cold from nodes n join storages s on s.id = n.storage_id where n.name = $1", name)
    return path


async def test_what_is_cold_is_recalled_by_who_wants_it(fleet: Fleet, alice: Agent) -> None:
    path = await freeze(fleet, alice, "old")
    assert await tier(alice, path) == "nearline"
    for answer in (await alice.send("GET", f"/files{path}"), await alice.sync(path, PULL, CORE + "httpsget")):
        assert answer.assert_fault(503, "ServiceBusy").headers["Retry-After"] == "60"
    await fleet.until("select count(*) = 1 from replicas join nodes using (storage_id, location) where name = 'old'")
    assert await tier(alice, path) == "online"
    assert await alice.pull(path) == BYTES
    await fleet.ask("update replicas set keep_until = now()")
    await fleet.until("select count(*) = 0 from replicas join nodes using (storage_id, location) where name = 'old'")
    assert await tier(alice, path) == "nearline"


async def test_an_asynchronous_transfer_waits_for_its_bytes(fleet: Fleet, alice: Agent) -> None:
    path = await freeze(fleet, alice, "older")
    document = transfer_document(path, PULL, [CORE + "httpsget"])
    job = (await alice.send("POST", "/transfers?PHASE=RUN", document)).assert_status(303).location
    assert await alice.phase(job) == "EXECUTING"
    found: list[str] = []
    async with asyncio.timeout(60):
        while not found:
            found = endpoints_of((await alice.send("GET", f"{job}/results/transferDetails")).xml)
            await asyncio.sleep(0.2)
    assert (await alice.send("GET", found[0])).body == BYTES
    await alice.send("GET", f"{job}?WAIT=10&PHASE=EXECUTING")
    assert await alice.phase(job) == "COMPLETED"


async def test_a_job_recalls_a_tree(fleet: Fleet, alice: Agent) -> None:
    await alice.make(f"{fleet.pair.home}/box", "ContainerNode")
    await freeze(fleet, alice, "box/one")
    path = await freeze(fleet, alice, "box/two")
    done = await run_job(alice, "recalls", f"target={fleet.pair.uri('box')}", headers=FORM)
    assert (done.phase, done.results["successcount"]) == ("COMPLETED", "final:2")
    assert await tier(alice, path) == "online"
    assert await alice.pull(path) == BYTES
    nothing = await run_job(alice, "recalls", f"target={fleet.pair.uri('none')}", headers=FORM)
    nothing.assert_error("NodeNotFound")
