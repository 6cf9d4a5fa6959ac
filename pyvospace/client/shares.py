"""Shares: endpoints to be handed on to others (the public share protocol, VOSpace 2.1, section 3.5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pyvospace.client.jobs import JobList, Jobs
from pyvospace.model.faults import NotFound, ProtocolNotSupported
from pyvospace.model.nodes import Param, View
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import DEFAULT_VIEW, PUBLIC_SHARE, SHARE_LIFE, Direction, Phase
from pyvospace.wire.transfers import read_transfer, render_transfer

_RUN_ID: Final = "share"
"""By this name the jobs of shares are found again in a list of jobs."""


@dataclass(frozen=True, slots=True)
class Share:
    """A URL at which anybody may read a node."""

    url: str
    job: str
    """URL of its job. Whoever aborts or deletes it revokes the share."""
    target: str
    """URI of the node."""


async def share(jobs: Jobs, uri: NodeUri, life: timedelta | None, view: View | None) -> Share:
    """Make a share."""
    life_of = () if life is None else (Param(SHARE_LIFE, str(max(1, round(life.total_seconds())))),)
    wanted = Transfer(
        str(uri),
        Direction.PULL_FROM_VOSPACE,
        view or View(DEFAULT_VIEW),
        (Protocol(PUBLIC_SHARE),),
        params=life_of,
        version="2.1",
    )
    job = await jobs.create_job(JobList.TRANSFERS, render_transfer(wanted), "text/xml", run_id=_RUN_ID)
    await jobs.require_completed(job, await jobs.run(job))
    made = await _share(jobs, job)
    if made is None:
        raise ProtocolNotSupported(f"{uri}: the service shares nothing")
    return made


async def shares(jobs: Jobs) -> list[Share]:
    """Give the caller's shares that were made in this way and can be used now."""
    running = await jobs.jobs(JobList.TRANSFERS, phases=[Phase.EXECUTING])
    found = [await _share(jobs, one.url) for one in running if one.run_id == _RUN_ID]
    return [one for one in found if one is not None]


async def _share(jobs: Jobs, job: str) -> Share | None:
    """Read the share of a job; None: there is none, or none any more."""
    try:
        told = read_transfer(await jobs.result(job, "transferDetails"))
    except NotFound:
        return None
    urls = [one.endpoint for one in told.protocols if one.uri == PUBLIC_SHARE and one.endpoint is not None]
    return Share(urls[0], job, told.target) if urls else None
