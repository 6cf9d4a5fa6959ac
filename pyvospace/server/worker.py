"""A worker: runs jobs as a metadata server does, and answers nobody."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from pyvospace.server.app import background, catalogue, make_service
from pyvospace.server.watching import look
from pyvospace.service.scraping import scraped
from pyvospace.service.serving import stop_event

if TYPE_CHECKING:
    from pyvospace.config import Settings
    from pyvospace.server.context import Service


async def main(settings: Settings) -> None:
    """Work until told to stop; jobs that are not done then are given back."""
    stop = stop_event()
    async with catalogue(settings, name="pyvospace worker") as database:
        metrics = settings.metrics
        async with scraped(metrics, metrics.worker, database, look=partial(look, database)):
            await _work(make_service(settings, database), stop)


async def _work(service: Service, stop: asyncio.Event) -> None:
    told = asyncio.ensure_future(stop.wait())
    tasks = [told, *(asyncio.ensure_future(run()) for run in background(service))]
    ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended - {told}:
        task.result()  # a defect: better no worker than half a one


def run(settings: Settings) -> None:
    """Run one worker until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(settings))
