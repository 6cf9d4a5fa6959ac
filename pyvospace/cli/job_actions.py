"""What the commands on jobs do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyvospace.cli.job_display import JobDisplay, progress_words
from pyvospace.cli.node_actions import write_json, write_line
from pyvospace.cli.quantities import read_date
from pyvospace.cli.session import Session
from pyvospace.client import JobList, JobReference, Space
from pyvospace.model.faults import InvalidArgument, NotFound
from pyvospace.model.instants import write_instant
from pyvospace.model.jobs import Job
from pyvospace.model.vocabulary import Phase


@dataclass(frozen=True, slots=True)
class Asked:
    """Which jobs are wanted, as it was written."""

    lists: tuple[str, ...]
    phases: tuple[str, ...]
    after: str | None
    last: int


async def list_jobs(session: Session, asked: Asked, *, as_json: bool) -> None:
    """List the jobs of the default space."""
    space = await session.space()
    phases = [_one_of(Phase, word.upper(), "phase") for word in asked.phases]
    lists = [_one_of(JobList, word, "list") for word in asked.lists] or await space.job_lists()
    after = None if asked.after is None else read_date(asked.after)
    found = [one for which in lists for one in await space.jobs(which, phases=phases, after=after, last=asked.last)]
    for one in sorted(found, key=lambda job: job.created, reverse=True):
        write_line(_json_line(one) if as_json else _line(one))


def _one_of(kind: Any, word: str, what: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        raise InvalidArgument(f"{word!r} is no {what}: there are {', '.join(kind)}") from None


def _line(one: JobReference) -> str:
    created = write_instant(one.created)[:19].replace("T", " ")
    return f"{one.list}/{one.id}  {one.phase:<9}  {created}{f'  {one.run_id}' if one.run_id else ''}"


def _json_line(one: JobReference) -> str:
    told = {
        "url": one.url,
        "list": one.list,
        "id": one.id,
        "phase": one.phase,
        "created": write_instant(one.created),
        "run_id": one.run_id,
    }
    return json.dumps(told, ensure_ascii=False)


async def show(session: Session, jobs: Sequence[str], *, as_json: bool) -> None:
    """Show all that is known of jobs."""

    async def show_one(space: Space, url: str) -> None:
        job = await space.job(url)
        if as_json:
            write_json(_described(url, job))
            return
        for name, value in _facts(url, job):
            write_line(f"{name + ':':<12} {value}")

    await _each(session, jobs, show_one)


def _described(url: str, job: Job) -> dict[str, Any]:
    progress, transfer = job.progress, job.transfer
    return {
        "url": url,
        "id": job.id,
        "phase": job.phase,
        "owner": job.owner,
        "run_id": job.run_id,
        **{
            name: None if value is None else write_instant(value)
            for name, value in (
                ("created", job.created),
                ("started", job.started),
                ("ended", job.ended),
                ("quote", job.quote),
                ("destruction", job.destruction),
            )
        },
        "message": job.message,
        "target": transfer and transfer.target,
        "direction": transfer and transfer.direction,
        "bytes_done": progress and progress.bytes_done,
        "bytes_total": progress and progress.bytes_total,
        "files_done": progress and progress.files_done,
        "files_total": progress and progress.files_total,
        "parameters": dict(job.parameters),
        "results": {one.id: one.href for one in job.results},
    }


def _facts(url: str, job: Job) -> Iterable[tuple[str, str]]:
    yield "url", url
    yield "phase", str(job.phase)
    if job.message:
        yield "message", job.message
    if job.progress is not None:
        yield "progress", progress_words(job)
    if job.transfer is not None:
        yield "target", job.transfer.target
        if job.transfer.direction not in {one.href for one in job.results}:  # what is moved names where to twice
            yield "direction", job.transfer.direction
    yield from job.parameters
    for name, value in (("created", job.created), ("started", job.started), ("ended", job.ended)):
        if value is not None:
            yield name, write_instant(value)
    for one in job.results:
        yield one.id, one.href


async def follow(session: Session, jobs: Sequence[str], *, quiet: bool, as_json: bool) -> None:
    """Wait for the end of jobs."""
    with JobDisplay(quiet=quiet) as display:

        async def follow_one(space: Space, url: str) -> None:
            with display.job(url.rpartition("/")[2]) as watch:
                job = await space.wait(url, watch=watch)
            if as_json:
                write_json(_described(url, job))
            else:
                write_line(f"{url}  {job.phase}")
            await space.require_completed(url, job)

        await _each(session, jobs, follow_one)


async def abort(session: Session, jobs: Sequence[str]) -> None:
    """End jobs."""

    async def abort_one(space: Space, url: str) -> None:
        await space.abort(url)

    await _each(session, jobs, abort_one)


async def delete(session: Session, jobs: Sequence[str]) -> None:
    """Let the service forget jobs."""

    async def delete_one(space: Space, url: str) -> None:
        await space.delete_job(url)

    await _each(session, jobs, delete_one)


async def _each(session: Session, jobs: Sequence[str], work: Callable[[Space, str], Awaitable[None]]) -> None:
    space = await session.space()
    for text in jobs:
        with session.excused(text):
            await work(space, await _find(space, text))


async def _find(space: Space, text: str) -> str:
    """Give the URL of a job by its URL, ``list/id``, or id alone, for which all lists are searched."""
    if "://" in text:
        return text.rstrip("/")
    which, slash, job = text.rpartition("/")
    if slash:
        return await space.job_url(job, _one_of(JobList, which, "list"))
    for one in await space.job_lists():
        url = await space.job_url(job, one)
        try:
            await space.job(url)
        except NotFound:
            continue
        return url
    raise NotFound(f"there is no job {text}")
