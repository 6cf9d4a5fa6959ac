"""Workers: whoever runs jobs (reliability: a lease and a fence, so that a job whose worker dies is taken over)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from pyvospace.db.listening import JOBS, QUEUE
from pyvospace.metrics import JOBS_ENDED, JOBS_OPEN
from pyvospace.model.crash import crash_point
from pyvospace.model.faults import Fault, InternalFault
from pyvospace.model.jobs import LostJobError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyvospace.db.listening import Listener
    from pyvospace.model.jobs import Claimed

log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 5.0
"""Seconds between two looks for jobs that nobody told us of: those of dead workers."""
_LOOK_SOON: Final = 0.05
_RENEWALS: Final = 4
"""A lease is renewed so often before it would run out."""

Work = Callable[["Claimed"], Awaitable[None]]
"""Does a job, and ends it in the transaction of its effect; raises a Fault if it cannot be done."""


class Queue(Protocol):
    """Where a worker gets jobs from, and tells what becomes of them."""

    @property
    def lease(self) -> float:
        """Seconds that a job stays with a worker that is silent."""

    async def claim(self, kinds: Sequence[str], *, lost: bool) -> Claimed | None:
        """Take the oldest job that waits, or one whose worker is dead; None: there is none."""

    async def renew(self, claimed: Claimed) -> bool:
        """Extend the lease and tell the progress; False: the job was taken away."""

    async def fail(self, claimed: Claimed, fault: Fault) -> None:
        """End the job in the phase ERROR, unless it was taken away."""

    async def overrun(self, claimed: Claimed) -> None:
        """Abort a job if it has executed for longer than it may."""

    async def give_back(self, claimed: Claimed) -> None:
        """Let another worker have the job at once."""


class Runner:
    """Runs jobs of some kinds, several at once.

    Parameters
    ----------
    works
        What to do, by the kind of the job.
    at_once
        Most jobs at the same time.
    listener
        Tells of new jobs and of those that were taken away.
    """

    def __init__(self, queue: Queue, works: Mapping[str, Work], *, at_once: int, listener: Listener) -> None:
        self._queue = queue
        self._works = works
        self._at_once = at_once
        self._woken = asyncio.Event()
        self._running: set[_Execution] = set()
        listener.subscribe(QUEUE, self._told_of_queue)
        listener.subscribe(JOBS, self._told_of_job)

    def _told_of_queue(self, kind: str) -> None:
        if not kind or kind in self._works:
            self._woken.set()

    def _told_of_job(self, job: str) -> None:
        for execution in self._running:
            if job in {"", execution.job}:
                execution.look()

    @property
    def full(self) -> bool:
        """Say whether there is no room for another job."""
        return len(self._running) >= self._at_once

    async def do(self, claimed: Claimed, *, seconds: float) -> None:
        """Do a job that is in our hands already; return when it has ended, or after some seconds."""
        await asyncio.wait([self._begin(claimed)], timeout=seconds)

    async def run(self) -> None:
        """Work until cancelled; what is not done then is given back."""
        try:
            pause = _LOOK_EVERY
            while True:
                # What we were told of may be passed over because somebody holds its row for a moment: we look again
                # soon, and then less and less often.
                pause = _LOOK_SOON if self._woken.is_set() else min(2 * pause, _LOOK_EVERY)
                self._woken.clear()
                try:
                    await self._fill()
                except Fault as fault:
                    log.warning("no jobs can be fetched: %s", fault)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause * (0.5 + secrets.randbelow(1000) / 1000)):
                        await self._woken.wait()
        finally:
            await self._stop()

    async def _fill(self) -> None:
        """Take as many jobs as there is room for, those of dead workers first: they have waited long enough."""
        kinds = list(self._works)
        for lost in (True, False):
            while not self.full:
                claimed = await self._queue.claim(kinds, lost=lost)
                if claimed is None:
                    break
                self._begin(claimed)

    def _begin(self, claimed: Claimed) -> asyncio.Task[None]:
        crash_point("job-claimed")
        log.info("job %s: %s begins", claimed.id[:8], claimed.kind)
        execution = _Execution(self._queue, self._works[claimed.kind], claimed)
        self._running.add(execution)
        JOBS_OPEN.inc()
        execution.task.add_done_callback(lambda task: self._ended(execution, task))
        return execution.task

    def _ended(self, execution: _Execution, task: asyncio.Task[None]) -> None:
        if self.full:  # else there was room, and nothing waits that we were told of
            self._woken.set()
        self._running.discard(execution)
        JOBS_OPEN.dec()
        JOBS_ENDED.labels(execution.kind, execution.outcome).inc()
        if not task.cancelled() and (defect := task.exception()):
            log.error("job %s: nobody was told of its end", execution.job[:8], exc_info=defect)

    async def _stop(self) -> None:
        tasks = [execution.task for execution in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Execution:
    """One job at work."""

    def __init__(self, queue: Queue, work: Work, claimed: Claimed) -> None:
        self._queue = queue
        self._work = work
        self._claimed = claimed
        self._lost = False
        self._look = asyncio.Event()
        self.job = claimed.id
        self.kind = claimed.kind
        self.outcome = "done"
        self.task = asyncio.create_task(self._run())

    def look(self) -> None:
        """See at once whether the job is still ours."""
        self._look.set()

    async def _run(self) -> None:
        job = self._claimed
        work = asyncio.ensure_future(self._work(job))
        keeper = asyncio.create_task(self._keep(work))
        try:
            await asyncio.shield(work)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (whatever it was, the job is to know)
            await _end(work)
            await self._settle(error)
        finally:
            await _end(keeper)

    async def _settle(self, error: BaseException) -> None:
        """Tell what became of a job that its work did not end."""
        job = self._claimed
        if self._lost or isinstance(error, LostJobError):
            log.info("job %s was taken away", job.id[:8])
            self.outcome = "lost"
            return
        try:
            if isinstance(error, asyncio.CancelledError) and self.task.cancelling():
                self.outcome = "given back"
                await self._queue.give_back(job)
                raise error
            self.outcome = "failed"
            if isinstance(error, Fault):
                await self._queue.fail(job, error)
            else:
                log.error("job %s: %s failed", job.id[:8], job.kind, exc_info=error)
                await self._queue.fail(job, InternalFault("the job broke off"))
        except Fault as fault:
            log.warning("job %s: its end could not be told, another worker will see to it: %s", job.id[:8], fault)

    async def _keep(self, work: asyncio.Future[None]) -> None:
        """Renew the lease until it is lost; then the work stops."""
        clock, lease, left = asyncio.get_running_loop().time, self._queue.lease, self._claimed.seconds_left
        until = clock() + lease
        overrun = math.inf if left is None else clock() + left
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(lease / _RENEWALS, overrun - clock())):
                    await self._look.wait()
            self._look.clear()
            asked = clock()
            try:
                if asked >= overrun:
                    overrun = math.inf  # its owner may have given it more time: then `tidy_for_ever` sees to it
                    await self._queue.overrun(self._claimed)
                kept = await self._queue.renew(self._claimed)
            except Fault:
                kept = asked < until
            else:
                until = asked + lease
            if not kept:
                self._lost = True
                work.cancel()
                return


async def _end(task: asyncio.Future[None]) -> None:
    """Stop a task and wait for its end."""
    task.cancel()
    await asyncio.wait([task])
