"""Workers beside the metadata server, and their deaths in the middle of every kind of job (I12, I13, I18, I19).

The metadata server of this pair runs no jobs; `pyvospace worker` does.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

import aiohttp
import pytest

from pyvospace.db.pool import Database
from pyvospace.model.crash import VARIABLE
from pyvospace.model.vocabulary import CORE, IS_LOCKED
from pyvospace.supervisor.data import STORAGE_ROLE
from pyvospace.wire.xml import V
from tests.support import jobs
from tests.support.agents import Agent, children_of, node_document, properties_of, uri_of
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.tree_check import damages

NAMES = {f"file{number}" for number in range(5)}
TITLE = CORE + "title"


@pytest.fixture(scope="module")
def idle_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_JOBS__AT_ONCE": "0", "PYVOSPACE_JOBS__LEASE": "1"}
        folder = tmp_path_factory.mktemp("idle")
        with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


@pytest.fixture
async def alice(idle_pair: Pair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, idle_pair, idle_pair.token)


@pytest.fixture
async def catalogue(idle_pair: Pair) -> AsyncIterator[Database]:
    connected = await Database.connect(idle_pair.dsn, idle_pair.database)
    yield connected
    await connected.close()


@contextmanager
def worker(pair: Pair, crash: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker, which dies at a point if one is named."""
    environment = {**pair.server_environment(), **({VARIABLE: crash} if crash else {})}
    with (pair.data / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pyvospace", "worker", "--at-once", "2"], env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


async def tree(agent: Agent) -> str:
    """Make a folder with a folder of some files in it; give its path."""
    top = await agent.make(f"{agent.pair.home}/{uuid.uuid4().hex}", "ContainerNode")
    await agent.make(f"{top}/folder", "ContainerNode")
    for name in NAMES:
        await agent.make(f"{top}/folder/{name}")
    return top


async def names(agent: Agent, path: str) -> set[str]:
    """Give the names of the children of a container; none if it is not there."""
    answer = await agent.get(path)
    if answer.status == 404:
        return set()
    return set(children_of(answer.assert_status(200).xml))


async def dies(agent: Agent, job: str, crash: str) -> None:
    """Have the job begun by a worker that dies at a point."""
    await jobs.run(agent, job)
    with worker(agent.pair, crash) as dying:
        assert await asyncio.to_thread(dying.wait, 30) == -signal.SIGKILL
    assert await agent.phase(job) == "EXECUTING"


@pytest.mark.parametrize("crash", ["job-claimed", "move-mid"])
async def test_move(alice: Agent, catalogue: Database, crash: str) -> None:
    top = await tree(alice)
    job = await jobs.make_job(alice, "transfers", jobs.transfer(f"{top}/folder", f"{top}/moved", keep=False))
    await dies(alice, job, crash)
    assert (await names(alice, f"{top}/folder"), await names(alice, f"{top}/moved")) == (NAMES, set())
    with worker(alice.pair):
        (await jobs.ended(alice, job)).assert_moved(f"{top}/moved")
    assert (await names(alice, f"{top}/folder"), await names(alice, f"{top}/moved")) == (set(), NAMES)
    assert await damages(catalogue) == []


@pytest.mark.parametrize("crash", ["job-claimed", "copy-mid"])
async def test_copy(alice: Agent, catalogue: Database, crash: str) -> None:
    top = await tree(alice)
    job = await jobs.make_job(alice, "transfers", jobs.transfer(f"{top}/folder", f"{top}/copied", keep=True))
    await dies(alice, job, crash)
    assert await names(alice, f"{top}/copied") == set()
    with worker(alice.pair):
        (await jobs.ended(alice, job)).assert_moved(f"{top}/copied")
    assert (await names(alice, f"{top}/folder"), await names(alice, f"{top}/copied")) == (NAMES, NAMES)
    assert await damages(catalogue) == []


async def test_delete_of_a_tree(alice: Agent, catalogue: Database) -> None:
    top = await tree(alice)
    for name in ("a", "b"):
        await alice.make(f"{top}/{name}", "ContainerNode")
        await alice.make(f"{top}/{name}/file")
    await alice.make(f"{top}/locked", properties={IS_LOCKED: "true"})
    job = await jobs.make_job(alice, "async-delete", urlencode({"target": uri_of(top)}), headers=jobs.FORM)
    await dies(alice, job, "delete-mid")
    assert "locked" in await names(alice, top)
    with worker(alice.pair):
        # Three folders and what is in them are gone; what is locked is not, nor what it is in.
        (await jobs.ended(alice, job)).assert_counts("ABORTED", 3 + len(NAMES) + 2, 2)
    assert await names(alice, top) == {"locked"}
    assert await damages(catalogue) == []


@pytest.mark.parametrize("crash", ["job-claimed", "properties-mid"])
async def test_properties_of_a_tree(alice: Agent, catalogue: Database, crash: str) -> None:
    top = await tree(alice)
    asked = node_document(f"{top}/folder", "ContainerNode", properties={TITLE: "a title"})
    job = await jobs.make_job(alice, "async-setprops", asked)
    await dies(alice, job, crash)
    with worker(alice.pair):
        (await jobs.ended(alice, job)).assert_counts("COMPLETED", len(NAMES) + 1)
    for path in (f"{top}/folder", f"{top}/folder/file1"):
        assert properties_of(await alice.node(path))[TITLE] == "a title"
    assert await damages(catalogue) == []


@pytest.mark.parametrize("crash", ["job-claimed", "search-mid"])
async def test_search(alice: Agent, crash: str) -> None:
    """What the worker that died had found is not there twice."""
    top = await tree(alice)
    asked = urlencode({"target": uri_of(top), "name": "file*"})
    job = await jobs.make_job(alice, "searches", asked, headers=jobs.FORM)
    await dies(alice, job, crash)
    (await alice.send("GET", f"{job}/results/searchDetails")).assert_fault(404, "NotFound")
    with worker(alice.pair):
        await jobs.ended(alice, job)
    found = (await alice.send("GET", f"{job}/results/searchDetails")).assert_status(200).xml
    assert sorted(one.get("uri") or "" for one in found.iter(V + "node")) == [
        uri_of(f"{top}/folder/{name}") for name in sorted(NAMES)
    ]


async def test_worker_that_is_stopped_gives_its_jobs_back(alice: Agent) -> None:
    with worker(alice.pair) as stopped:
        top = await tree(alice)
        (await jobs.move(alice, f"{top}/folder", f"{top}/moved")).assert_moved(f"{top}/moved")
        stopped.terminate()
        assert await asyncio.to_thread(stopped.wait, 20) == 0
