"""The queue of jobs in PostgreSQL: leases, fences, and what time ends (I18 to I22)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pyvospace.config.settings import JobSettings
from pyvospace.db import jobs as rows
from pyvospace.model.faults import NodeNotFound, PermissionDenied
from pyvospace.model.jobs import Claimed, Kind, LostJobError
from pyvospace.model.vocabulary import Phase
from pyvospace.uws import jobs as uws
from tests.uws.conftest import OWNER, Jobs

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection

KINDS = [str(Kind.COPY)]


async def claim(jobs: Jobs, *, lost: bool = False) -> Claimed:
    """Take a job, which must be there."""
    found = await jobs.queue.claim(KINDS, lost=lost)
    assert found is not None
    return found


async def test_each_job_goes_to_one_worker(jobs: Jobs) -> None:
    names = [await jobs.add() for _ in range(40)]
    found: list[str] = []

    async def take_all() -> None:
        while (claimed := await jobs.queue.claim(KINDS, lost=False)) is not None:
            found.append(claimed.id)

    await asyncio.gather(*(take_all() for _ in range(8)))
    assert sorted(found) == sorted(names)
    assert {await jobs.phase(name) for name in names} == {Phase.EXECUTING}


async def test_run_twice_runs_once(jobs: Jobs) -> None:
    row = await jobs.row(await jobs.add(Phase.PENDING))

    async def run() -> int:
        try:
            await uws.queue(jobs.database, row)
        except uws.RunAlreadyError:
            return 0
        return 1

    assert sum(await asyncio.gather(*(run() for _ in range(8)))) == 1
    await claim(jobs)
    assert await jobs.queue.claim(KINDS, lost=False) is None


async def test_the_oldest_is_first_and_other_kinds_are_left(jobs: Jobs) -> None:
    first, second = await jobs.add(), await jobs.add()
    await jobs.set(second, "created", "created - interval '1 minute'")
    assert await jobs.queue.claim([str(Kind.SEARCH)], lost=False) is None
    assert [(await claim(jobs)).id for _ in range(2)] == [second, first]


async def test_abort_against_completion(jobs: Jobs) -> None:
    """One of them wins; the effect is there if and only if the job is COMPLETED."""
    await jobs.database.fetchrow("create table effects (id text)")
    names = [await jobs.add() for _ in range(30)]
    held = [await claim(jobs) for _ in names]

    async def complete(claimed: Claimed) -> None:
        async def effect(connection: Connection) -> None:
            await connection.execute("insert into effects values ($1)", claimed.id)
            await uws.complete(connection, claimed, [("r", "x:y")])

        with suppress(LostJobError):
            await jobs.database.transact(effect)

    async def abort(claimed: Claimed) -> None:
        await uws.abort(jobs.database, await jobs.row(claimed.id))

    await asyncio.gather(*(act(claimed) for claimed in held for act in (complete, abort)))
    done = {row["id"] for row in await jobs.database.fetch("select id from effects")}
    for name in names:
        row = await jobs.row(name)
        assert row.phase is (Phase.COMPLETED if name in done else Phase.ABORTED)
        assert [tuple(one) for one in row.results] == ([("r", "x:y")] if name in done else [])
        assert row.ended is not None


async def test_the_dead_are_replaced_and_cannot_come_back(jobs: Jobs) -> None:
    name = await jobs.add()
    dead = await claim(jobs)
    assert await jobs.queue.claim(KINDS, lost=True) is None, "its lease is not over"
    await jobs.set(name, "until", "now() - interval '1 s'")
    heir = await claim(jobs, lost=True)
    assert (heir.id, heir.attempts) == (name, 2)
    assert not await jobs.queue.renew(dead)
    await jobs.queue.fail(dead, NodeNotFound("x"))
    with pytest.raises(LostJobError):
        await jobs.database.transact(lambda connection: uws.complete(connection, dead))
    assert await jobs.phase(name) is Phase.EXECUTING
    heir.progress.bytes_done = 5
    assert await jobs.queue.renew(heir)
    await jobs.database.transact(lambda connection: uws.complete(connection, heir))
    row = await jobs.row(name)
    assert (row.phase, row.progress.bytes_done) == (Phase.COMPLETED, 5)
    await jobs.queue.fail(heir, NodeNotFound("x"))
    assert await jobs.phase(name) is Phase.COMPLETED


async def test_three_deaths_are_an_error(jobs: Jobs) -> None:
    name = await jobs.add()
    for attempt in range(3):
        await claim(jobs, lost=attempt > 0)
        await jobs.tidy()
        assert await jobs.phase(name) is Phase.EXECUTING
        await jobs.set(name, "until", "now() - interval '1 s'")
    assert await jobs.queue.claim(KINDS, lost=True) is None
    await jobs.tidy()
    row = await jobs.row(name)
    assert (row.phase, row.fault) == (Phase.ERROR, "InternalFault")
    assert row.ended is not None


async def test_given_back_is_as_if_never_taken(jobs: Jobs) -> None:
    await jobs.add()
    for turn in range(5):
        await jobs.queue.give_back(await claim(jobs, lost=turn > 0))
    assert (await claim(jobs, lost=True)).attempts == 1


async def test_time_to_execute(jobs: Jobs) -> None:
    """Over: it is aborted, by its worker or by whoever tidies. Its owner gave it more: it goes on."""
    names = [await jobs.add(duration=10) for _ in range(3)]
    held = {claimed.id: claimed for claimed in [await claim(jobs) for _ in names]}
    assert all(9 < (claimed.seconds_left or 0) <= 10 for claimed in held.values())
    for name in names:
        await jobs.set(name, "started", "started - interval '1 minute'")
    assert await rows.set_duration(jobs.database, names[0], 1000)
    await jobs.queue.overrun(held[names[0]])
    await jobs.queue.overrun(held[names[1]])
    assert [await jobs.phase(name) for name in names] == [Phase.EXECUTING, Phase.ABORTED, Phase.EXECUTING]
    await jobs.tidy()
    assert [await jobs.phase(name) for name in names] == [Phase.EXECUTING, Phase.ABORTED, Phase.ABORTED]
    assert (await jobs.row(names[1])).message == (await jobs.row(names[2])).message
    assert not await jobs.queue.renew(held[names[2]])


@pytest.mark.parametrize("archive", [0, 3600])
async def test_destruction(jobs: Jobs, archive: int) -> None:
    """It is stopped, nobody takes it any more, and the lease on its node goes with it."""
    queued, executing = await jobs.add(), await jobs.add()
    await jobs.set(queued, "created", "created + interval '1 s'")
    assert (held := await claim(jobs)).id == executing
    await jobs.database.fetchrow("insert into writers values (1, 'x', $1, 'a', now() + interval '1 h')", executing)
    for name in (queued, executing):
        await jobs.set(name, "destruction", "now() - interval '1 s'")
    assert await jobs.queue.claim(KINDS, lost=False) is None
    await jobs.tidy(archive=archive)
    assert not await jobs.queue.renew(held)
    assert await jobs.database.fetchval("select count(*) from writers") == 0
    left = [row["phase"] for row in await jobs.database.fetch("select phase from jobs")]
    assert left == (["ARCHIVED"] * 2 if archive else [])
    await jobs.tidy(archive=0)
    assert await jobs.database.fetchval("select count(*) from jobs") == 0


async def test_deleted_job_gives_its_node_free(jobs: Jobs) -> None:
    name = await jobs.add()
    await jobs.database.fetchrow("insert into writers values (1, 'x', $1, 'a', now() + interval '1 h')", name)
    await rows.delete(jobs.database, name)
    assert await jobs.database.fetchval("select count(*) from writers") == 0


@pytest.mark.parametrize("owner", [OWNER, None])
async def test_too_many_that_wait(jobs: Jobs, owner: int | None) -> None:
    """Also of all who are anonymous together. Those that ended do not count."""
    jobs.settings = JobSettings(waiting=3)
    names = [await jobs.add(Phase.PENDING, owner=owner), await jobs.add(owner=owner), await jobs.add(owner=owner)]
    with pytest.raises(AssertionError):
        await jobs.add(owner=owner)
    await jobs.add(owner=8)
    await uws.abort(jobs.database, await jobs.row(names[0]))
    await jobs.add(owner=owner)


async def test_final_phases_stay(jobs: Jobs) -> None:
    name = await jobs.add()
    await jobs.queue.fail(await claim(jobs), PermissionDenied("no"))
    await uws.abort(jobs.database, await jobs.row(name))
    assert not await rows.queue(jobs.database, name)
    assert not await rows.set_duration(jobs.database, name, 5)
    assert not await rows.set_run_id(jobs.database, name, "x")
    row = await jobs.row(name)
    assert (row.phase, row.fault, row.message) == (Phase.ERROR, "PermissionDenied", "Permission Denied: no")
