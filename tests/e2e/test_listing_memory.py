"""A listing is streamed: memory does not grow with the children, and what breaks off is seen to have broken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from pyvospace.db.pool import Database
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import Agent
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

FEW, MANY = 1_000, 100_000
MARGIN = 24 * 1024
"""KiB by which the peak may differ; the document of the many has some 70 MiB."""


@pytest.fixture(scope="module")
def database_of_pair(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.clone() as name:
        yield name


@pytest.fixture(scope="module")
def large_pair(
    postgres_server: PostgresServer, database_of_pair: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    dsn = postgres_server.dsn(database_of_pair)
    storage_dsn = postgres_server.dsn(database_of_pair, STORAGE_ROLE)
    with running_pair(dsn, tmp_path_factory.mktemp("large"), storage_dsn=storage_dsn) as running:
        yield running


@pytest.fixture
async def alice(large_pair: Pair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, large_pair, large_pair.token)


@pytest.fixture
async def catalogue(large_pair: Pair) -> AsyncIterator[Database]:
    connected = await Database.connect(large_pair.dsn, large_pair.database)
    yield connected
    await connected.close()


async def fill(alice: Agent, catalogue: Database, number: int) -> str:
    """Have a container with so many children; only its making is the client's work."""
    path = f"{alice.pair.home}/{number}"
    if (await alice.get(path, limit=0)).status == 404:
        await alice.make(path, "ContainerNode")
        await catalogue.fetch(
            "insert into nodes (parent_id, name, type, owner_id, properties) "
            "select id, lpad(number::text, 8, '0'), 'DataNode', owner_id, '{\"urn:x:y\": \"some value\"}' "
            "  from nodes, generate_series(1, $2::int) as number where name = $1",
            str(number),
            number,
        )
    return path


def peak(pair: Pair) -> int:
    """Give the most memory that the metadata server ever had, in KiB."""
    status = Path(f"/proc/{pair.processes['metadata'].pid}/status").read_text()
    (line,) = [one for one in status.splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1])


async def count(alice: Agent, path: str) -> tuple[int, int]:
    """Read a listing as it comes; give the number of children and of bytes."""
    children, size, tail = 0, 0, b""
    headers = {"Authorization": f"Bearer {alice.token}"}
    async with alice.session.get(f"{alice.pair.url}/nodes{path}", headers=headers) as response:
        assert response.status == 200
        async for piece in response.content.iter_any():
            size += len(piece)
            *before, tail = (tail + piece).split(b"</vos:node>")
            children += len(before)
    return children - 1, size


async def test_memory_does_not_grow_with_the_children(alice: Agent, catalogue: Database) -> None:
    few, many = await fill(alice, catalogue, FEW), await fill(alice, catalogue, MANY)
    for _ in range(3):
        assert (await count(alice, few))[0] == FEW
    before = peak(alice.pair)
    children, size = await count(alice, many)
    assert children == MANY
    assert peak(alice.pair) - before < MARGIN < size // 1024


async def test_memory_does_not_grow_with_the_entries(alice: Agent, catalogue: Database) -> None:
    many = await fill(alice, catalogue, MANY)
    headers = {"Authorization": f"Bearer {alice.token}"}
    before, lines, size = peak(alice.pair), 0, 0
    async with alice.session.get(f"{alice.pair.url}/entries{many}", headers=headers) as response:
        async for piece in response.content.iter_any():
            lines, size = lines + piece.count(b"\n"), size + len(piece)
    assert lines == MANY + 1
    assert peak(alice.pair) - before < MARGIN // 2 < size // 1024


async def test_several_listings_at_once(alice: Agent, catalogue: Database) -> None:
    """Clients that take nothing of what they asked for cost no memory either."""
    many = await fill(alice, catalogue, MANY)
    await count(alice, await fill(alice, catalogue, FEW))
    before = peak(alice.pair)
    headers = {"Authorization": f"Bearer {alice.token}"}
    url = f"{alice.pair.url}/nodes{many}"
    waiting = [await alice.session.get(url, headers=headers) for _ in range(4)]
    for response in waiting:
        assert (await response.content.readany()).startswith(b"<?xml")
    await alice.node("", limit=0)
    assert peak(alice.pair) - before < MARGIN
    for response in waiting:
        response.close()


async def test_listing_that_breaks_off(
    alice: Agent, catalogue: Database, postgres_server: PostgresServer, database_of_pair: str
) -> None:
    """The database goes away in the middle: the answer is not complete, and can be seen not to be."""
    path = await fill(alice, catalogue, MANY)
    await catalogue.close()
    headers = {"Authorization": f"Bearer {alice.token}"}
    received = b""
    async with alice.session.get(f"{alice.pair.url}/nodes{path}", headers=headers) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        received += await response.content.readany()
        await asyncio.to_thread(go_away, postgres_server, database_of_pair)
        try:
            with pytest.raises(aiohttp.ClientError):
                received = (await response.read())[-100:]
        finally:
            await asyncio.to_thread(come_back, postgres_server, database_of_pair)
    assert not received.rstrip().endswith(b"</vos:nodes>\n</vos:node>")
    assert "a listing broke off" in alice.pair.log("metadata")
    await alice.node("", limit=0)


def go_away(server: PostgresServer, database: str) -> None:
    """End all connections to a database and take no new ones."""
    server.execute(f"alter database {database} with allow_connections false")
    server.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")


def come_back(server: PostgresServer, database: str) -> None:
    """Take connections again."""
    server.execute(f"alter database {database} with allow_connections true")


async def test_head_of_a_large_container(alice: Agent, catalogue: Database) -> None:
    """There is no body to wait for, and the connection goes on."""
    many = await fill(alice, catalogue, MANY)
    for _ in range(2):
        answer = (await alice.send("HEAD", f"/nodes{many}")).assert_status(200)
        assert (answer.body, answer.headers["Content-Type"]) == (b"", "text/xml")
        await alice.node(many, limit=1)
