"""Jobs whose nodes somebody else holds for longer than a transaction waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import aiohttp
import asyncpg
import pytest

from tests.server.uws.conftest import beside
from tests.support.agents import Agent, uri_of
from tests.support.jobs import ended, make_job, transfer
from tests.support.pair import Pair

TREE_TIMEOUT = 1.0


@pytest.fixture
def patient(quiet: Pair) -> str:
    """Give a token of the user ``patient``."""
    return quiet.add_user("patient")


@pytest.fixture
def worker(quiet: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work on jobs with transactions that soon give up."""
    settings = {"PYVOSPACE_JOBS__AT_ONCE": "3", "PYVOSPACE_DATABASE__TREE_TIMEOUT": f"{TREE_TIMEOUT}"}
    with beside(quiet, tmp_path_factory, **settings):
        yield


@pytest.mark.usefixtures("worker")
async def test_jobs_wait_for_who_holds_their_nodes(quiet: Pair, patient: str, session: aiohttp.ClientSession) -> None:
    agent, home = Agent(session, quiet, patient), "/home/patient"
    for name in ("moved", "copied", "deleted"):
        await agent.make(f"{home}/{name}", "ContainerNode")
    somebody = await asyncpg.connect(quiet.dsn)
    async with somebody.transaction():
        await somebody.execute(
            "select from containers c join nodes n using (id) where n.name in ('patient', 'deleted') for update of c"
        )
        jobs = [
            await make_job(agent, "transfers?PHASE=RUN", transfer(f"{home}/moved", f"{home}/there", keep=False)),
            await make_job(agent, "transfers?PHASE=RUN", transfer(f"{home}/copied", f"{home}/too", keep=True)),
            await make_job(agent, f"async-delete?PHASE=RUN&target={quote(uri_of(f'{home}/deleted'))}", ""),
        ]
        await asyncio.sleep(3 * TREE_TIMEOUT)
        assert [await agent.phase(job) for job in jobs] == 3 * ["EXECUTING"]
    assert [(await ended(agent, job)).phase for job in jobs] == 3 * ["COMPLETED"]
    await somebody.close()
