"""Jobs of a service (UWS 1.1): to list, run, wait for and end them, and what became of those that failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from urllib.parse import urlencode

from pyvospace.client.failures import JobAborted, ServiceUnreachable
from pyvospace.client.http import Answer, Http
from pyvospace.client.service import Service
from pyvospace.model.faults import (
    FAULTS,
    Fault,
    InvalidArgument,
    InvalidData,
    NotFound,
    PermissionDenied,
    TransferFailed,
)
from pyvospace.model.instants import write_instant
from pyvospace.model.jobs import Job
from pyvospace.model.vocabulary import (
    STANDARD_ASYNC_DELETE,
    STANDARD_ASYNC_SETPROPS,
    STANDARD_PERMISSIONS,
    STANDARD_RECALLS,
    STANDARD_SEARCHES,
    STANDARD_TRANSFERS,
    Phase,
)
from pyvospace.wire.uws import parse_job, parse_jobs

log = logging.getLogger(__name__)

FORM: Final = "application/x-www-form-urlencoded"
_WAIT: Final = 30
"""Seconds that one request waits for another phase; proxies cut connections that are silent for longer."""
_LOOK: Final = 1
"""The same if somebody wants to know how far the job is."""
_LONGEST_PAUSE: Final = 5.0
_COUNTS: Final = ("successcount", "errorcount")
"""Results of OpenCADC's jobs on trees, as ``final:<number>``."""
_GOODBYE: Final = 5.0
"""Seconds to tell the service that nobody wants the job any more."""

Watch = Callable[[Job], None]
"""Hears of a job each time that it is looked at."""


class JobList(StrEnum):
    """Lists of jobs."""

    TRANSFERS = "transfers"
    DELETIONS = "async-delete"
    PROPERTIES = "async-setprops"
    SEARCHES = "searches"
    RECALLS = "recalls"


_STANDARDS: Final = {
    JobList.TRANSFERS: STANDARD_TRANSFERS,
    JobList.DELETIONS: STANDARD_ASYNC_DELETE,
    JobList.PROPERTIES: STANDARD_ASYNC_SETPROPS,
    JobList.SEARCHES: STANDARD_SEARCHES,
    JobList.RECALLS: STANDARD_RECALLS,
}


@dataclass(frozen=True, slots=True)
class JobReference:
    """A job as a list tells of it."""

    url: str
    list: JobList
    id: str
    phase: Phase
    created: datetime
    run_id: str | None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a job did to a tree."""

    done: int
    """Nodes that were changed."""
    failed: int
    """Nodes that were not, or of whole branches only the topmost."""
    message: str = ""
    """What the service says about those."""


class Jobs(Service):
    """The jobs of one service."""

    async def job_lists(self) -> tuple[JobList, ...]:
        """Tell which lists of jobs the service has."""
        return tuple([one for one, standard in _STANDARDS.items() if await self._offers(standard)])

    async def jobs(
        self,
        which: JobList = JobList.TRANSFERS,
        *,
        phases: Iterable[Phase] = (),
        after: datetime | None = None,
        last: int | None = None,
    ) -> tuple[JobReference, ...]:
        """List the caller's jobs (UWS 1.1, section 2.2.2.1).

        Parameters
        ----------
        phases
            Those wanted; none: all but ARCHIVED.
        after
            Only jobs that were made later.
        last
            Only so many, the newest first; None: all, in the order of the service.
        """
        base = await self._url(_STANDARDS[which])
        asked = [("PHASE", str(phase)) for phase in phases]
        asked += [] if after is None else [("AFTER", write_instant(after))]
        asked += [] if last is None else [("LAST", str(last))]
        answer = await self._http.ask("GET", f"{base}?{urlencode(asked)}" if asked else base)
        return tuple(
            JobReference(f"{base}/{one.id}", which, one.id, one.phase, one.created, one.run_id)
            for one in parse_jobs(answer.body)
        )

    async def job_url(self, text: str, which: JobList = JobList.TRANSFERS) -> str:
        """Give the URL of a job by its id; a URL stays as it is."""
        return text if "://" in text else f"{await self._url(_STANDARDS[which])}/{text}"

    async def job(self, url: str) -> Job:
        """Get a job by its URL."""
        return parse_job((await self._http.ask("GET", url)).body)

    async def run(self, url: str) -> Job:
        """Run a job that waits for it; one that runs, or has run, stays as it is."""
        return await self._set_phase(url, "RUN")

    async def abort(self, url: str) -> Job:
        """End a job before its time; one that has ended stays as it is."""
        return await self._set_phase(url, "ABORT")

    async def _set_phase(self, url: str, phase: str) -> Job:
        try:
            answer = await self._post(f"{url}/phase", f"PHASE={phase}".encode(), FORM)
        except (InvalidArgument, PermissionDenied):
            job = await self.job(url)
            if job.phase is Phase.PENDING:
                raise
            return job  # of an earlier try the answer was lost, or somebody else was quicker
        return parse_job(answer.body) if answer.url == url else await self.job(url)

    async def delete_job(self, url: str) -> None:
        """Let the service forget a job; if it runs it is aborted."""
        await self._http.ask("DELETE", url)

    async def wait(self, url: str, *, watch: Watch | None = None) -> Job:
        """Wait until a job has ended, well or not.

        Parameters
        ----------
        watch
            Is told of the job about once a second.

        Raises
        ------
        ServiceUnreachable
            Nobody can be asked; the job may go on.
        """
        return await self._follow(url, await self.job(url), watch)

    async def _follow(self, url: str, job: Job, watch: Watch | None) -> Job:
        clock = asyncio.get_running_loop().time
        pause = 0.1
        while True:
            if watch is not None:
                watch(job)
            if job.phase.final:
                return job
            seconds = _WAIT if watch is None else _LOOK
            before, began = job.phase, clock()
            answer = await self._http.ask(
                "GET", f"{url}?WAIT={seconds}&PHASE={before}", read=seconds + self._http.timeouts.read
            )
            job = parse_job(answer.body)
            if job.phase is before and clock() - began < seconds / 2:  # the service does not know how to wait
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def create_job(
        self, which: JobList, body: bytes, content_type: str, *, run_id: str | None = None, dry_run: bool = False
    ) -> str:
        """Make a job that waits to be run, and give its URL.

        Parameters
        ----------
        run_id
            What it is called in lists.
        dry_run
            It is to change nothing, only to count.

        Raises
        ------
        OperationNotSupported
            The service knows no dry runs, and would change what is to stay as it is.
        """
        base = await self._url(_STANDARDS[which])
        asked = ({} if run_id is None else {"RUNID": run_id}) | ({"DRYRUN": "true"} if dry_run else {})
        if dry_run:
            await self._url(STANDARD_PERMISSIONS)
        url = f"{base}?{urlencode(asked)}" if asked else base
        # One that nobody runs ends by itself, so a lost answer does no harm.
        answer = await self._post(url, body, content_type)
        return answer.url.partition("?")[0]

    async def result(self, url: str, name: str) -> bytes:
        """Read a result of a job."""
        return (await self._http.ask("GET", f"{url}/results/{name}")).body

    async def complete(self, url: str, *, watch: Watch | None = None) -> Job:
        """Run a job and wait for its end; whoever stops waiting (is cancelled) aborts it.

        Raises
        ------
        Fault
            Why it failed; JobAborted if somebody ended it.
        """
        job = await self._run_to_end(url, watch)
        await self.require_completed(url, job)
        return job

    async def require_completed(self, url: str, job: Job) -> None:
        """Raise what became of a job that ended otherwise; the faults are those of `complete`."""
        if job.phase is Phase.ABORTED:
            raise JobAborted(job.message or f"{url} was aborted")
        if job.phase is Phase.ERROR:
            raise await job_fault(self._http, url, job)

    async def count(self, url: str, *, watch: Watch | None = None) -> Counts:
        """As `complete`, for a job that changes a tree node by node; one that did a part of it counts as well."""
        job = await self._run_to_end(url, watch)
        told = {one.id: one.href.removeprefix("final:") for one in job.results}
        done, failed = (int(told[name]) if told.get(name, "").isdecimal() else 0 for name in _COUNTS)
        if job.phase is Phase.ERROR:
            raise await job_fault(self._http, url, job)
        if job.phase is Phase.ABORTED and not failed:
            raise JobAborted(job.message or f"{url} was aborted, {done} nodes done")
        return Counts(done, failed, job.message or "")

    async def _run_to_end(self, url: str, watch: Watch | None) -> Job:
        try:
            return await self._follow(url, await self.run(url), watch)
        except asyncio.CancelledError:
            with contextlib.suppress(Fault, TimeoutError):
                async with asyncio.timeout(_GOODBYE):
                    await self.abort(url)
            raise
        except ServiceUnreachable as fault:
            raise ServiceUnreachable(f"{fault.detail} (the job may go on: {url})", sent=fault.sent) from fault

    async def _post(self, url: str, body: bytes, content_type: str) -> Answer:
        return await self._http.ask("POST", url, body=body, headers={"Content-Type": content_type})


async def job_fault(http: Http, url: str, job: Job | None = None, *, what: object = "") -> Fault:
    """Find out why a job failed: ``/error`` has the name of its fault, the job the words.

    Parameters
    ----------
    what
        What it was about, for a service that says nothing.
    """
    try:
        answered = (await http.ask("GET", f"{url}/error")).body.decode(errors="replace")
    except NotFound:
        answered = ""
    name = answered.split(maxsplit=1)
    fault = FAULTS.get(name[0].rstrip(":") if name else "", TransferFailed)
    try:
        told = job or parse_job((await http.ask("GET", url)).body)
        words = told.message or answered
    except InvalidData:
        words = answered
    return fault(words.strip().removeprefix(fault.summary()).removeprefix(fault.code).lstrip(": ") or what)
