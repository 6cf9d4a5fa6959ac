"""Waiting for jobs: woken by the database, at no cost of connections (R-UWS-030 to R-UWS-037)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pyvospace.config.settings import DatabaseSettings, JobSettings
from pyvospace.db import bootstrap
from pyvospace.db.jobs import JobRow
from pyvospace.db.listening import JOBS, QUEUE, Listener
from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import Phase
from pyvospace.uws import jobs as uws
from pyvospace.uws.waiting import Waiting
from tests.uws.conftest import Jobs

PATIENCE = 60.0
"""Far below the hour that the waits here may last: who is not woken fails."""
CROWD = 1000


class Server:
    """One process of the service, as far as waiting goes."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.listener = Listener(jobs.database)
        self.waiting = Waiting(self.listener)
        self.heard: list[tuple[str, str]] = []
        for channel in (JOBS, QUEUE):
            self.listener.subscribe(channel, lambda payload, channel=channel: self.heard.append((channel, payload)))  # type: ignore[misc]

    async def wait(self, job: str, seconds: float = 3600.0, phase: Phase | None = None) -> JobRow:
        """Hold a request with WAIT."""
        async with asyncio.timeout(PATIENCE):
            return await uws.await_phase(
                self.jobs.database,
                self.jobs.settings,
                self.waiting,
                lambda: self.jobs.row(job),
                job=job,
                seconds=seconds,
                phase=phase,
            )

    def hold(self, job: str, seconds: float = 3600.0) -> asyncio.Task[JobRow]:
        """Have somebody wait."""
        return asyncio.create_task(self.wait(job, seconds))

    async def watched(self, number: int = 1) -> None:
        """Wait until so many jobs are watched."""
        await self.counted("select count(*) from jobs where watched is not null", number)

    async def counted(self, query: str, number: int) -> None:
        """Wait until a query counts so many rows."""
        async with asyncio.timeout(PATIENCE):
            while await self.jobs.database.fetchval(query) < number:
                await asyncio.sleep(0.01)


@pytest.fixture
async def server(database_dsn: str) -> AsyncIterator[Server]:
    """A process with a pool of two connections, and waits of up to an hour."""
    database = await Database.connect(database_dsn, DatabaseSettings(check_durability=False, pool_size=2))
    await bootstrap.set_up(database, authority="example.org~space", group_prefixes=[])
    server = Server(Jobs(database, JobSettings(wait=3600.0)))
    task = asyncio.create_task(server.listener.run())
    async with asyncio.timeout(PATIENCE):
        while not server.heard:  # it is told that it may have missed something
            await asyncio.sleep(0.01)
    server.heard.clear()
    yield server
    task.cancel()
    await asyncio.wait([task])
    await database.close()


async def test_woken_by_any_change(server: Server) -> None:
    jobs = server.jobs
    job = await jobs.add(Phase.PENDING)
    row = await jobs.row(job)
    for change, phase in (
        (lambda: uws.queue(jobs.database, row), Phase.QUEUED),
        (lambda: jobs.queue.claim(["copy"], lost=False), Phase.EXECUTING),
        (lambda: uws.abort(jobs.database, row), Phase.ABORTED),
    ):
        waiter = server.hold(job)
        await server.watched()
        await asyncio.sleep(0.01)
        await change()  # type: ignore[no-untyped-call]
        assert (await waiter).phase is phase
    assert (await server.wait(job)).phase is Phase.ABORTED


async def test_a_thousand_wait_and_hold_no_connection(server: Server) -> None:
    jobs = server.jobs
    found = await jobs.database.fetch(
        """insert into jobs (id, owner_id, phase, kind, request, destruction)
           select lpad(to_hex(i), 40, '0'), i, 'PENDING', 'copy', '{}', now() + interval '1 h'
             from generate_series(1, $1) i
           returning id""",
        CROWD,
    )
    names = [row["id"] for row in found]
    waiters = [server.hold(name) for name in names]
    await server.watched(CROWD)
    connections = "select count(*) from pg_stat_activity where datname = current_database()"
    assert await jobs.database.fetchval(connections) <= 3
    await jobs.database.fetchrow("update jobs set phase = 'ABORTED'")
    assert {row.phase for row in await asyncio.gather(*waiters)} == {Phase.ABORTED}


async def test_many_wait_for_one_job(server: Server) -> None:
    """Some for a short time, others for longer: nobody's watch ends before he leaves."""
    job = await server.jobs.add()
    short = [server.hold(job, seconds=30) for _ in range(50)]
    await server.watched()
    long = [server.hold(job) for _ in range(50)]
    await server.counted("select count(*) from jobs where watched > now() + interval '1 hour'", 1)
    await uws.abort(server.jobs.database, await server.jobs.row(job))
    assert {row.phase for row in await asyncio.gather(*short, *long)} == {Phase.ABORTED}


async def test_listener_comes_back(server: Server) -> None:
    """What happened meanwhile is seen when it is back."""
    job, later = await server.jobs.add(), await server.jobs.add()
    waiters = [server.hold(job), server.hold(later)]
    await server.watched(2)
    kill = """select pg_terminate_backend(pid) from pg_stat_activity
               where application_name like '%listening' and datname = current_database()"""
    assert await server.jobs.database.fetchval(kill)
    await uws.abort(server.jobs.database, await server.jobs.row(job))
    assert (await waiters[0]).phase is Phase.ABORTED
    await uws.abort(server.jobs.database, await server.jobs.row(later))
    assert (await waiters[1]).phase is Phase.ABORTED


async def test_phase_that_the_client_believes_in(server: Server) -> None:
    job = await server.jobs.add(Phase.PENDING)
    assert (await server.wait(job, phase=Phase.QUEUED)).phase is Phase.PENDING
    waiter = asyncio.create_task(server.wait(job, phase=Phase.PENDING))
    await server.watched()
    await uws.queue(server.jobs.database, await server.jobs.row(job))
    assert (await waiter).phase is Phase.QUEUED


async def test_no_change(server: Server) -> None:
    job = await server.jobs.add()
    assert (await server.wait(job, seconds=0)).phase is Phase.QUEUED
    assert (await server.wait(job, seconds=0.01)).phase is Phase.QUEUED


async def test_job_that_is_deleted_meanwhile(server: Server) -> None:
    job = await server.jobs.add()
    waiter = server.hold(job)
    await server.watched()
    await server.jobs.database.fetchrow("delete from jobs where id = $1", job)
    with pytest.raises(AssertionError):  # whoever looks for it finds none
        await waiter


async def test_what_nobody_waits_for_is_not_told(server: Server) -> None:
    """A transaction that notifies waits for all others that do."""
    jobs = server.jobs
    silent, watched = await jobs.add(Phase.PENDING), await jobs.add(Phase.PENDING)
    await uws.abort(jobs.database, await jobs.row(silent))
    waiter = server.hold(watched)
    await server.watched()
    await uws.abort(jobs.database, await jobs.row(watched))
    await waiter
    assert server.heard == [(JOBS, watched)]
    job = await jobs.add()
    claimed = await jobs.queue.claim(["copy"], lost=False)
    assert claimed is not None
    await jobs.queue.give_back(claimed)
    while len(server.heard) < 3:
        await asyncio.sleep(0.01)
    assert server.heard[1:] == [(QUEUE, "copy"), (QUEUE, "copy")]
    await jobs.queue.claim(["copy"], lost=True)
    await uws.abort(jobs.database, await jobs.row(job))
    while len(server.heard) < 4:
        await asyncio.sleep(0.01)
    assert server.heard[3] == (JOBS, job), "its worker is told"
