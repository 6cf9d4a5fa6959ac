"""A hundred clients at once in one tree, over HTTP, with two processes of each server (I10 to I13, I32)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import aiohttp
import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import Agent, Answer, U, children_of, endpoints_of, transfer_document, uri_of
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.tree_check import damages

CLIENTS = 100
TURNS = 8
NAMES = "abcd"
ALLOWED = {"NodeNotFound", "ContainerNotFound", "DuplicateNode", "InvalidArgument", "NodeBusy"}
"""What may become of a job when others change the same nodes."""


@pytest.fixture(scope="module")
def crowded(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair of two processes for each server."""
    with postgres_server.clone() as name:
        storage_dsn = postgres_server.dsn(name, STORAGE_ROLE)
        folder = tmp_path_factory.mktemp("crowded")
        with running_pair(postgres_server.dsn(name), folder, storage_dsn=storage_dsn, workers=2) as pair:
            yield pair


@pytest.fixture
async def alice(crowded: Pair) -> AsyncIterator[Agent]:
    """The user whose home it is."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Agent(session, crowded, crowded.token)


@pytest.fixture
async def catalogue(crowded: Pair) -> AsyncIterator[Database]:
    """The database of the pair."""
    database = await Database.connect(crowded.dsn, crowded.database)
    yield database
    await database.close()


class Client:
    """Does one thing after another at random, and minds what he is told."""

    def __init__(self, agent: Agent, top: str, number: int) -> None:
        self.agent = agent
        self.top = top
        self.random = random.Random(number)
        self.seen: Counter[str] = Counter()

    def place(self) -> str:
        """Choose a path of up to three names."""
        return "/".join([self.top, *self.random.choices(NAMES, k=self.random.randint(1, 3))])

    async def run(self) -> None:
        for _ in range(TURNS):
            turn = self.random.choice(
                [self.create, self.create, self.put, self.move, self.copy, self.delete, self.look]
            )
            self.seen[f"{turn.__name__} {await turn()}"] += 1

    def mind(self, answer: Answer) -> str:
        """Take an answer for what it is, unless it is the server's own failure."""
        assert answer.status < 500, f"{answer.status} {answer.text}"
        return answer.fault or str(answer.status)

    async def create(self) -> str:
        return self.mind(await self.agent.put(self.place(), "ContainerNode", inner="<nodes/>"))

    async def delete(self) -> str:
        return self.mind(await self.agent.delete(self.place()))

    async def look(self) -> str:
        return self.mind(await self.agent.get(self.place()))

    async def put(self) -> str:
        answer = await self.agent.sync(self.place(), "pushToVoSpace", CORE + "httpsput")
        details = await self.agent.send("GET", answer.assert_status(303).location)
        endpoints = endpoints_of(details.assert_status(200).xml)
        if not endpoints:
            return await self.agent.error(answer.location.removesuffix("/results/transferDetails"))
        stored = await self.agent.send("PUT", endpoints[0], self.random.randbytes(100))
        assert stored.status < 500, stored.text
        return str(stored.status)

    async def move(self) -> str:
        return await self.transfer(keep=False)

    async def copy(self) -> str:
        return await self.transfer(keep=True)

    async def transfer(self, *, keep: bool) -> str:
        return await run_transfer(self.agent, self.place(), self.place(), keep=keep)


async def run_transfer(agent: Agent, source: str, destination: str, *, keep: bool) -> str:
    """Move or copy; give the phase, or the name of the fault."""
    document = transfer_document(source, uri_of(destination), []).replace(
        "</direction>", f"</direction><keepBytes>{'true' if keep else 'false'}</keepBytes>"
    )
    job = urlsplit((await agent.send("POST", "/transfers?PHASE=RUN", document)).assert_status(303).location).path
    phase = "QUEUED"
    while phase in {"QUEUED", "EXECUTING"}:
        found = (await agent.send("GET", f"{job}?WAIT=10")).assert_status(200).xml
        phase = found.findtext(U + "phase") or ""
    if phase == "COMPLETED":
        return phase
    fault = await agent.error(job)
    assert fault in ALLOWED, (await agent.send("GET", job)).text
    return fault


async def test_hundred_clients_in_one_tree(alice: Agent, catalogue: Database) -> None:
    top = await alice.make(f"{alice.pair.home}/crowd", "ContainerNode", inner="<nodes/>")
    clients = [Client(alice, top, number) for number in range(CLIENTS)]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run())
    seen = sum((client.seen for client in clients), Counter[str]())
    assert await damages(catalogue) == []
    for what in ("create 201", "move COMPLETED", "copy COMPLETED", "delete 204", "put 201"):
        assert seen[what], seen
    (await alice.delete(top)).assert_status(204)
    assert await damages(catalogue) == []
    assert await catalogue.fetchval("select count(*) from nodes where location is not null") == 0


async def test_nobody_sees_half_a_move(alice: Agent) -> None:
    """Whoever lists a container that is being moved sees all of it or nothing, wherever he looks."""
    top = await alice.make(f"{alice.pair.home}/halves", "ContainerNode", inner="<nodes/>")
    here, there = f"{top}/here", f"{top}/there"
    await alice.make(here, "ContainerNode", inner="<nodes/>")
    for number in range(5):
        await alice.make(f"{here}/{number}", "ContainerNode", inner="<nodes/>")
    moving = asyncio.create_task(to_and_fro(alice, here, there))
    await asyncio.gather(moving, *(watch(alice, (here, there), moving) for _ in range(4)))


async def to_and_fro(agent: Agent, here: str, there: str) -> None:
    for _ in range(10):
        assert await run_transfer(agent, here, there, keep=False) == "COMPLETED"
        assert await run_transfer(agent, there, here, keep=False) == "COMPLETED"


async def watch(agent: Agent, places: tuple[str, str], moving: asyncio.Task[None]) -> None:
    while not moving.done():
        for place in places:
            answer = await agent.get(place)
            if answer.status == 200:
                assert len(children_of(answer.xml)) == 5
            else:
                answer.assert_fault(404, "NodeNotFound")


async def test_two_moves_make_no_cycle(alice: Agent, catalogue: Database) -> None:
    top = await alice.make(f"{alice.pair.home}/cycles", "ContainerNode", inner="<nodes/>")
    for number in range(10):
        first, second = f"{top}/{number}a", f"{top}/{number}b"
        for place in (first, second):
            await alice.make(place, "ContainerNode", inner="<nodes/>")
        ends = await asyncio.gather(
            run_transfer(alice, first, f"{second}/in", keep=False),
            run_transfer(alice, second, f"{first}/in", keep=False),
        )
        assert min(ends) == "COMPLETED"
        assert max(ends) != "COMPLETED"
    assert await damages(catalogue) == []
