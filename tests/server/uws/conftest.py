"""A service on whose jobs nobody works but the tests."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import aiohttp
import pytest

from pyvospace.config.settings import JobSettings
from pyvospace.db.listening import Listener
from pyvospace.db.pool import Database
from pyvospace.model.jobs import Claimed
from pyvospace.uws.jobs import MetadataQueue
from pyvospace.uws.runner import Runner
from tests.support.agents import Agent, U
from tests.support.jobs import make_job, transfer
from tests.support.pair import Pair
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from lxml.etree import _Element as Element


WAITING, LONGEST, ARCHIVE, POOL = 12, 1000, 3600, 4
PATIENCE = 45.0
"""Less than what a request with WAIT may take that nobody wakes."""


@pytest.fixture(scope="session")
def quiet(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A metadata server that works on no job itself, and keeps those past their destruction."""
    environment = {
        "PYVOSPACE_JOBS__AT_ONCE": "0",
        "PYVOSPACE_JOBS__ARCHIVE": str(ARCHIVE),
        "PYVOSPACE_JOBS__LONGEST": str(LONGEST),
        "PYVOSPACE_JOBS__DESTRUCTION": "500",
        "PYVOSPACE_JOBS__WAITING": str(WAITING),
        "PYVOSPACE_DATABASE__POOL_SIZE": str(POOL),
    }
    with postgres_server.clone() as name:
        pair = Pair(postgres_server.dsn(name), tmp_path_factory.mktemp("quiet"), environment=environment)
        try:
            pair.start("metadata")
            yield pair
        finally:
            pair.stop()


@contextlib.contextmanager
def beside(quiet: Pair, folder: pytest.TempPathFactory, **settings: str) -> Iterator[Pair]:
    """Run another process of the same service."""
    pair = Pair(quiet.dsn, folder.mktemp("beside"), environment={**quiet.environment, **settings})
    try:
        pair.start("metadata")
        yield pair
    finally:
        pair.stop()


@pytest.fixture(scope="session")
def hasty(quiet: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Another process, which lets nobody wait for longer than a second."""
    with beside(quiet, tmp_path_factory, PYVOSPACE_JOBS__WAIT="1") as pair:
        yield pair


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


@pytest.fixture
def token(quiet: Pair) -> str:
    return quiet.add_user(f"u{uuid.uuid4().hex}")


@pytest.fixture
def owner(quiet: Pair, session: aiohttp.ClientSession, token: str) -> Agent:
    """Somebody without any job."""
    return Agent(session, quiet, token)


@pytest.fixture
def guest(quiet: Pair, session: aiohttp.ClientSession) -> Agent:
    return Agent(session, quiet, None)


@pytest.fixture
async def catalogue(quiet: Pair) -> AsyncIterator[Database]:
    connected = await Database.connect(quiet.dsn, quiet.database)
    yield connected
    await connected.close()


async def pending(agent: Agent, query: str = "") -> str:
    """Make a job that would copy something."""
    return await make_job(agent, f"transfers{query}", transfer("/a", "/b", keep=True))


def id_of(job: str) -> str:
    return job.rsplit("/", 1)[1]


async def listed(agent: Agent, query: str = "", list_: str = "transfers") -> list[str]:
    """Give the ids that a list shows."""
    return [one.get("id") or "" for one in (await agent.send("GET", f"/{list_}{query}")).assert_status(200).xml]


async def text(agent: Agent, job: str, part: str) -> str:
    return (await agent.send("GET", f"{job}/{part}")).assert_status(200).text


def number_of(root: Element, part: str) -> int:
    """Give how many results or parameters a job has."""
    return len(root.findall(f"{U}{part}/*"))


async def document(agent: Agent, job: str) -> Element:
    return (await agent.send("GET", job)).assert_status(200).xml


@contextlib.asynccontextmanager
async def worker(catalogue: Database, began: asyncio.Queue[Claimed]) -> AsyncIterator[asyncio.Queue[str]]:
    """Be a worker whose jobs last until they are stopped; give the ids of those that were."""
    await catalogue.fetchrow("delete from jobs where phase = 'QUEUED'")  # of other tests
    stopped: asyncio.Queue[str] = asyncio.Queue()

    async def work(claimed: Claimed) -> None:
        began.put_nowait(claimed)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.put_nowait(claimed.id)

    listener = Listener(catalogue)
    runner = Runner(MetadataQueue(catalogue, JobSettings(lease=4)), {"copy": work}, at_once=50, listener=listener)
    tasks = [asyncio.create_task(listener.run()), asyncio.create_task(runner.run())]
    try:
        async with asyncio.timeout(PATIENCE):
            yield stopped
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def watched(catalogue: Database, *jobs: str) -> None:
    """Wait until somebody waits for all of these jobs."""
    ids = [id_of(job) for job in jobs]
    count = "select count(*) from jobs where watched > now() and id = any ($1)"
    while await catalogue.fetchval(count, ids) < len(ids):
        await asyncio.sleep(0.01)


async def hold(agent: Agent, job: str, query: str = "WAIT=-1") -> str:
    """Wait for another phase; give it."""
    return (await agent.send("GET", f"{job}?{query}")).assert_status(200).xml.findtext(U + "phase") or ""
