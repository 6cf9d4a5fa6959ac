"""Workers, on a queue in memory: each job is done once, and ends whatever happens to its worker (I18 to I20)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pyvospace.model.faults import NodeNotFound
from pyvospace.model.jobs import Claimed, LostJobError
from pyvospace.uws.runner import Runner
from tests.uws.doubles import MemoryQueue, Teller


@pytest.fixture
def teller() -> Teller:
    return Teller()


@pytest.fixture
def queue(teller: Teller) -> MemoryQueue:
    return MemoryQueue(teller)


@contextlib.asynccontextmanager
async def working(
    queue: MemoryQueue, teller: Teller, work: Callable[[Claimed], Awaitable[None]], *, at_once: int = 2
) -> AsyncIterator[asyncio.Task[None]]:
    """Have a worker for the time of a block."""
    task = asyncio.create_task(Runner(queue, {"work": work}, at_once=at_once, listener=teller).run())
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def for_ever(_: Claimed) -> None:
    await asyncio.Event().wait()


async def test_each_job_is_done_once_by_one_of_several(queue: MemoryQueue, teller: Teller) -> None:
    done: list[str] = []
    at_work = most = 0

    async def work(claimed: Claimed) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.001)
        at_work -= 1
        assert queue.complete(claimed)
        done.append(claimed.id)

    async with working(queue, teller, work), working(queue, teller, work), working(queue, teller, work):
        names = [f"job{number}" for number in range(50)]
        for name in names:
            queue.add(name)
        queue.add("foreign", kind="other")
        for name in names:
            await queue.until(name, "completed")
    assert sorted(done) == sorted(names)
    assert most == 6, "so many as may work at once"
    assert queue.jobs["foreign"].state == "queued"


async def test_a_job_that_is_begun_elsewhere_is_done_here(queue: MemoryQueue, teller: Teller) -> None:
    """It takes a place among the others; who waits for it goes when it has ended, or when his time is over."""
    free = asyncio.Event()

    async def work(claimed: Claimed) -> None:
        await free.wait()
        assert queue.complete(claimed)

    runner = Runner(queue, {"work": work}, at_once=1, listener=teller)
    task = asyncio.create_task(runner.run())
    await asyncio.sleep(0)
    full = [runner.full]
    queue.add("direct")
    claimed = await queue.claim(["work"], lost=False)
    assert claimed is not None
    await runner.do(claimed, seconds=0.01)
    assert [*full, runner.full] == [False, True]
    queue.add("waits")
    await asyncio.sleep(0.05)
    assert queue.jobs["waits"].state == "queued"
    free.set()
    for name in ("direct", "waits"):
        await queue.until(name, "completed")
    task.cancel()
    await asyncio.wait([task])


async def test_faults_and_defects_end_the_job(
    queue: MemoryQueue, teller: Teller, caplog: pytest.LogCaptureFixture
) -> None:
    errors: dict[str, BaseException] = {
        "fault": NodeNotFound("vos://x"),
        "defect": KeyError("x"),
        "timeout": TimeoutError("a server far away does not answer"),
        "cancelled": asyncio.CancelledError(),
    }

    async def work(claimed: Claimed) -> None:
        raise errors[claimed.id]

    async with working(queue, teller, work):
        for name in errors:
            queue.add(name, seconds=60)
        await queue.until("fault", "NodeNotFound")
        for name in ("defect", "timeout", "cancelled"):
            await queue.until(name, "InternalFault")
    assert caplog.text.count(" failed") == 3


async def test_who_is_silent_is_replaced_and_stops(queue: MemoryQueue, teller: Teller) -> None:
    """A worker that cannot reach the database stops before its lease is over; another one goes on."""
    stopped = asyncio.Event()

    async def cut_off(_: Claimed) -> None:
        queue.away = True
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with working(queue, teller, cut_off, at_once=1) as first:
        queue.add("a")
        await stopped.wait()
        first.cancel()
        await asyncio.wait([first])
        queue.away = False

        async def finish(claimed: Claimed) -> None:
            assert claimed.attempts == 2
            queue.complete(claimed)

        async with working(queue, teller, finish):
            await queue.until("a", "completed")


async def test_jobs_of_the_dead_come_first(queue: MemoryQueue, teller: Teller) -> None:
    order: list[str] = []

    async def work(claimed: Claimed) -> None:
        order.append(claimed.id)
        queue.complete(claimed)

    for number in range(20):
        queue.add(f"new{number}")
    queue.add("dead", dead=True)
    async with working(queue, teller, work, at_once=1):
        await queue.until("new19", "completed")
    assert order[0] == "dead"


@pytest.mark.parametrize("quietly", [False, True])
async def test_aborted_job_stops(queue: MemoryQueue, teller: Teller, *, quietly: bool) -> None:
    """At once if the worker is told, at the next renewal if it is not."""
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def work(_: Claimed) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with working(queue, teller, work):
        queue.add("a")
        await begun.wait()
        queue.take_away("a", quietly=quietly)
        await stopped.wait()
    assert queue.jobs["a"].state == "aborted"


async def test_who_lost_the_job_has_no_effect(queue: MemoryQueue, teller: Teller) -> None:
    """The fence holds: the work is told so when it wants to end its job."""
    lost = asyncio.Event()

    async def work(claimed: Claimed) -> None:
        queue.take_away(claimed.id, quietly=True)
        if not queue.complete(claimed):
            lost.set()
            raise LostJobError(claimed.id)

    async with working(queue, teller, work):
        queue.add("a")
        await lost.wait()
        await asyncio.sleep(0.01)
    assert queue.jobs["a"].state == "aborted"


async def test_lease_is_renewed_while_it_works(queue: MemoryQueue, teller: Teller) -> None:
    async def slow(claimed: Claimed) -> None:
        await asyncio.sleep(3 * queue.lease)
        queue.complete(claimed)

    async with working(queue, teller, slow), working(queue, teller, slow):
        queue.add("a")
        await queue.until("a", "completed")
    assert len(queue.jobs["a"].holders) == 1


async def test_job_is_stopped_when_its_time_is_over(queue: MemoryQueue, teller: Teller) -> None:
    stopped = asyncio.Event()

    async def work(_: Claimed) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with working(queue, teller, work):
        queue.add("a", seconds=0.05)
        await queue.until("a", "overrun")
        await stopped.wait()


async def test_who_leaves_gives_back(queue: MemoryQueue, teller: Teller) -> None:
    async with working(queue, teller, for_ever):
        queue.add("a")
        await queue.until("a", "executing")
    assert queue.jobs["a"].until == 0.0

    async def finish(claimed: Claimed) -> None:
        queue.complete(claimed)

    async with working(queue, teller, finish):
        await queue.until("a", "completed")


async def test_database_comes_back(queue: MemoryQueue, teller: Teller, caplog: pytest.LogCaptureFixture) -> None:
    queue.away = True

    async def finish(claimed: Claimed) -> None:
        queue.complete(claimed)

    async with working(queue, teller, finish):
        queue.add("a")
        await asyncio.sleep(0.01)
        assert "no jobs can be fetched" in caplog.text
        queue.away = False
        teller.tell("pyvospace_queue", "")
        await queue.until("a", "completed")


async def test_job_that_could_not_be_had_at_once(
    queue: MemoryQueue, teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner may hold its row while the worker looks: nobody tells of it a second time."""
    monkeypatch.setattr("pyvospace.uws.runner._LOOK_EVERY", 3600.0)

    async def finish(claimed: Claimed) -> None:
        queue.complete(claimed)

    async with working(queue, teller, finish):
        queue.away = True
        queue.add("a")
        await asyncio.sleep(0.01)
        queue.away = False
        await queue.until("a", "completed")
