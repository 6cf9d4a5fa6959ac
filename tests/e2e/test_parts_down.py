"""With one part down the rest answers with a clean fault, and goes on when it is back (I33)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import Agent, Answer
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"


@pytest.fixture(scope="module")
def database_of_pair(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.clone() as name:
        yield name


@pytest.fixture(scope="module")
def own_pair(
    postgres_server: PostgresServer, database_of_pair: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    dsn = postgres_server.dsn(database_of_pair)
    storage_dsn = postgres_server.dsn(database_of_pair, STORAGE_ROLE)
    environment = {"PYVOSPACE_STORAGE__HEARTBEAT": "1000"}
    folder = tmp_path_factory.mktemp("parts")
    with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as running:
        yield running


@pytest.fixture
async def alice(own_pair: Pair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, own_pair, own_pair.token)


def assert_busy(answer: Answer) -> None:
    """Fail unless it says to come back later."""
    assert (answer.status, answer.fault) == (503, "ServiceBusy"), answer.text
    assert int(answer.headers["Retry-After"]) > 0


async def is_available(agent: Agent) -> bool:
    """Ask the service about itself, without a credential."""
    root = (await agent.send("GET", "/availability")).assert_status(200).xml
    return root.findtext("{*}available") == "true"


async def test_database_down(alice: Agent, postgres_server: PostgresServer, database_of_pair: str) -> None:
    pair, nobody = alice.pair, Agent(alice.session, alice.pair, None)
    await alice.push(f"{pair.home}/a", b"bytes")
    job, reading = await alice.negotiate(f"{pair.home}/a", PULL)
    _, writing = await alice.negotiate(f"{pair.home}/b", PUSH)

    def close() -> None:
        postgres_server.execute(f"alter database {database_of_pair} with allow_connections false")
        postgres_server.execute(
            f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database_of_pair}'"
        )

    await asyncio.to_thread(close)
    try:
        assert not await is_available(nobody)
        for path in ("/capabilities", "/protocols", "/views", "/livez"):
            (await nobody.send("GET", path)).assert_status(200)
        for agent in (alice, nobody):
            assert_busy(await agent.get(""))
            assert_busy(await agent.send("GET", "/properties"))
        assert_busy(await alice.put(f"{pair.home}/c"))
        assert_busy(await alice.delete(f"{pair.home}/a"))
        assert_busy(await alice.sync(f"{pair.home}/a", PULL, CORE + "httpsget"))
        assert_busy(await alice.send("GET", job))
        assert_busy(await alice.send("GET", pair.url + "/nodes", headers={"Authorization": "Bearer unknown"}))
        assert_busy(await alice.send("GET", reading))
        assert_busy(await alice.send("PUT", writing, b"x"))
        assert_busy(await alice.send("GET", f"{pair.storage_url}/readyz"))
        (await alice.send("GET", f"{pair.storage_url}/livez")).assert_status(200)
    finally:
        statement = f"alter database {database_of_pair} with allow_connections true"
        await asyncio.to_thread(postgres_server.execute, statement)
    assert await is_available(nobody)
    assert (await alice.send("GET", reading)).body == b"bytes"
    (await alice.send("PUT", writing, b"x")).assert_status(201)
    (await alice.get(f"{pair.home}/c")).assert_fault(404, "NodeNotFound")


async def test_storage_not_heard_of(alice: Agent) -> None:
    pair, nobody = alice.pair, Agent(alice.session, alice.pair, None)
    await alice.push(f"{pair.home}/s", b"bytes")
    catalogue = await Database.connect(pair.dsn, pair.database)
    try:
        await catalogue.fetch("update storages set last_seen = now() - interval '1 hour'")
        assert not await is_available(nobody)
        for direction, protocol in ((PUSH, "httpsput"), (PULL, "httpsget")):
            assert_busy(await alice.sync(f"{pair.home}/s", direction, CORE + protocol))
        assert_busy(await alice.send("PUT", f"/files{pair.home}/new", b"x"))
        await alice.node(f"{pair.home}/s")
        await alice.make(f"{pair.home}/made")
        (await alice.get(f"{pair.home}/new")).assert_fault(404, "NodeNotFound")
        await catalogue.fetch("update storages set last_seen = now()")
    finally:
        await catalogue.close()
    assert await is_available(nobody)
    assert await alice.pull(f"{pair.home}/s") == b"bytes"


async def test_storage_killed(alice: Agent) -> None:
    pair = alice.pair
    await alice.push(f"{pair.home}/k", b"bytes")
    _, reading = await alice.negotiate(f"{pair.home}/k", PULL)
    _, writing = await alice.negotiate(f"{pair.home}/k", PUSH)
    await asyncio.to_thread(pair.kill, "storage")
    await alice.node(f"{pair.home}/k")
    await alice.make(f"{pair.home}/l")
    await asyncio.to_thread(pair.start, "storage")
    # Endpoints outlive the server that was to serve them.
    assert (await alice.send("GET", reading)).body == b"bytes"
    (await alice.send("PUT", writing, b"new")).assert_status(201)
    assert await alice.pull(f"{pair.home}/k") == b"new"


async def test_metadata_server_killed(alice: Agent) -> None:
    pair = alice.pair
    await alice.push(f"{pair.home}/m", b"bytes")
    _, reading = await alice.negotiate(f"{pair.home}/m", PULL)
    _, writing = await alice.negotiate(f"{pair.home}/m", PUSH)
    await asyncio.to_thread(pair.kill, "metadata")
    # Bytes travel without it.
    assert (await alice.send("GET", reading)).body == b"bytes"
    (await alice.send("PUT", writing, b"new")).assert_status(201)
    await asyncio.to_thread(pair.start, "metadata")
    assert await alice.pull(f"{pair.home}/m") == b"new"
