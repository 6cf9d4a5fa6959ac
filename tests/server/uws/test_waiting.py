"""Waiting for another phase of a job (R-UWS-030 to R-UWS-037)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import aiohttp
import psutil
import pytest

from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.jobs import Claimed
from tests.server.uws.conftest import PATIENCE, POOL, WAITING, beside, hold, id_of, pending, watched, worker
from tests.support.agents import Agent
from tests.support.pair import Pair

CROWD = 1000
CUT = """select pg_terminate_backend(pid) from pg_stat_activity
          where application_name like '%listening' and datname = current_database()"""


async def test_waiting(owner: Agent, catalogue: Database) -> None:
    job = await pending(owner)
    async with asyncio.timeout(PATIENCE):
        for query in ("WAIT=0", "WAIT=1", "WAIT=-1&PHASE=QUEUED", "wait=60&phase=executing"):
            assert await hold(owner, job, query) == "PENDING"
        for query, word, phase in (
            ("WAIT=-1", "RUN", "QUEUED"),
            ("WAIT=60&PHASE=QUEUED", "ABORT", "ABORTED"),
        ):
            waiting = asyncio.create_task(hold(owner, job, query))
            await watched(catalogue, job)
            (await owner.send("POST", f"{job}/phase?PHASE={word}")).assert_status(303)
            assert await waiting == phase
        for query in ("WAIT=-1", "WAIT=60", "WAIT=999999999&PHASE=ABORTED"):
            assert await hold(owner, job, query) == "ABORTED"


async def test_waiting_has_a_limit(hasty: Pair, session: aiohttp.ClientSession, token: str) -> None:
    agent = Agent(session, hasty, token)
    job = await pending(agent)
    async with asyncio.timeout(PATIENCE):
        for query in ("WAIT=-1", "WAIT=3600", "WAIT=999999999"):
            assert await hold(agent, job, query) == "PENDING"


@pytest.mark.parametrize("query", ["WAIT=x", "WAIT=", "WAIT=1.5", "WAIT=--1", "WAIT=1&WAIT=2", "WAIT=1&PHASE=RUNNING"])
async def test_waits_that_are_none(owner: Agent, query: str) -> None:
    (await owner.send("GET", f"{await pending(owner)}?{query}")).assert_fault(400, "InvalidArgument")


async def test_waiting_while_users_change(owner: Agent, catalogue: Database) -> None:
    """Who waits is not asked again who he is: he would miss what he waits for."""
    job = await pending(owner)
    waiting = asyncio.create_task(hold(owner, job))
    await watched(catalogue, job)
    await identities.add_group(catalogue, "team")
    await identities.change_member(catalogue, "team", "alice", add=True)
    async with asyncio.timeout(PATIENCE):
        (await owner.send("POST", f"{job}/phase?PHASE=RUN")).assert_status(303)
        assert await waiting == "QUEUED"


async def test_waiting_for_a_job_that_goes(owner: Agent, catalogue: Database) -> None:
    job = await pending(owner)
    waiting = asyncio.create_task(owner.send("GET", f"{job}?WAIT=-1"))
    await watched(catalogue, job)
    async with asyncio.timeout(PATIENCE):
        (await owner.send("DELETE", job)).assert_status(303)
        (await waiting).assert_fault(404, "NotFound")


async def test_a_thousand_wait(owner: Agent, quiet: Pair, hasty: Pair, catalogue: Database) -> None:
    """They hold no connection to the database, are in nobody's way, and are woken by what another process does."""
    jobs = [await pending(owner) for _ in range(WAITING)]
    chosen = [number % WAITING for number in range(CROWD)]
    waiting = [asyncio.create_task(hold(owner, jobs[number], "WAIT=-1&PHASE=PENDING")) for number in chosen]
    server = psutil.Process(quiet.processes["metadata"].pid)
    elsewhere = Agent(owner.session, hasty, owner.token)
    async with asyncio.timeout(PATIENCE):
        while len(server.net_connections("tcp")) < CROWD:
            await asyncio.sleep(0.1)
        await watched(catalogue, *jobs)
        connections = """select count(*) from pg_stat_activity
                          where datname = current_database() and application_name = 'pyvospace metadata'"""
        assert await catalogue.fetchval(connections) <= 2 * POOL
        for number, job in enumerate(jobs):
            word = ("RUN", "ABORT")[number % 2]
            (await elsewhere.send("POST", f"/transfers/{id_of(job)}/phase?PHASE={word}")).assert_status(303)
        phases = await asyncio.gather(*waiting)
    assert phases == [("QUEUED", "ABORTED")[number % 2] for number in chosen]


async def test_listener_that_is_cut_off(owner: Agent, catalogue: Database) -> None:
    """Who waits hears of what happened meanwhile, and who works finds it."""
    job = await pending(owner)
    waiting = asyncio.create_task(hold(owner, job))
    await watched(catalogue, job)
    await catalogue.fetch(CUT)
    began: asyncio.Queue[Claimed] = asyncio.Queue()
    async with asyncio.timeout(PATIENCE):
        await owner.send("POST", f"{job}/phase?PHASE=ABORT")
        assert await waiting == "ABORTED"
        async with worker(catalogue, began) as stopped:
            job = await pending(owner, "?PHASE=RUN")
            assert (await began.get()).id == id_of(job)
            await catalogue.fetch(CUT)
            await owner.send("POST", f"{job}/phase?PHASE=ABORT")
            assert await stopped.get() == id_of(job)


@pytest.fixture
def ending(quiet: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Another process, for a test that ends it."""
    with beside(quiet, tmp_path_factory) as pair:
        yield pair


async def test_process_that_ends_answers_those_who_wait(ending: Pair, owner: Agent, catalogue: Database) -> None:
    agent = Agent(owner.session, ending, owner.token)
    job = await pending(agent)
    waiting = asyncio.create_task(hold(agent, job))
    await watched(catalogue, job)
    ending.processes["metadata"].send_signal(signal.SIGTERM)
    assert await waiting == "PENDING"
