"""A campaign: clients work, faults strike, and in the end everything is looked at."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from pyvospace.db.pool import Database
from tests.campaign.checks import Inspector
from tests.campaign.clients import PATIENCE, Client, Tally
from tests.campaign.faults import FAULTS, Fault, Striker
from tests.campaign.installation import Installation, installation
from tests.campaign.worlds import LostError
from tests.support.agents import Agent

CLIENTS: Final = 4
_TIMEOUT: Final = 40.0


@dataclass
class Report:
    """What came of it."""

    struck: dict[str, int] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    without: str = ""
    """Faults that could not be tried, and why."""

    def __str__(self) -> str:
        """Write it on a few lines."""
        lines = [f"faults {_sorted(self.struck)}", f"done {_sorted(self.tally.done)}"]
        lines += [f"answers {_sorted(self.tally.answers)}", *([f"left out: {self.without}"] if self.without else [])]
        return "\n".join([*lines, *(f"{number} x {fault}" for fault, number in self.tally.faults.items())])


def _sorted(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    seconds: float
    seed: int
    kinds: tuple[type[Fault], ...] = FAULTS
    pause: float = 1.0
    """Seconds between two faults, at most; a fault is there for at most four times as long."""
    patient: bool = True
    """In the end wait until all leases are over, before servers are started anew, and have fsck look too."""


def run(plan: Plan, folder: Path | None = None) -> Report:
    """Run a campaign on an installation of its own, in a `folder` that stays, or else in one that stays if it fails.

    Raises
    ------
    LostError
        A promise was broken.
    """
    place = folder or Path(tempfile.mkdtemp(prefix="pyvospace-campaign-"))
    try:
        report = asyncio.run(_run(plan, place))
    except BaseException as error:
        error.add_note(f"logs and files: {place}")
        raise
    if folder is None:
        shutil.rmtree(place)
    return report


async def _run(plan: Plan, folder: Path) -> Report:
    async with installation(folder) as place:
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT))
        database = await Database.connect(place.site.dsn, place.site.database)
        try:
            async with session:
                return await _strike(place, session, database, plan)
        finally:
            await database.close()


async def _strike(place: Installation, session: aiohttp.ClientSession, database: Database, plan: Plan) -> Report:
    report = Report()
    striker = Striker(place, plan.kinds, random.Random(plan.seed))
    report.struck = striker.struck
    left_out = [one.name for one in plan.kinds if one.needs_sandbox and place.box is None]
    report.without = f"{', '.join(left_out)} ({place.without})" if left_out else ""
    agent, admin = (Agent(session, place.site, token) for token in (place.site.token, place.site.admin_token))
    clients = [
        Client(agent, f"{place.site.home}/c{number}", plan.seed * CLIENTS + number, report.tally, place.source)
        for number in range(CLIENTS)
    ]
    await asyncio.gather(*(client.prepare(admin) for client in clients))
    end = time.monotonic() + plan.seconds
    async with asyncio.TaskGroup() as group:
        group.create_task(striker.work(end, plan.pause))
        for client in clients:
            group.create_task(client.work(end))
    await _look(clients, Inspector(place, database), patient=plan.patient)
    if report.tally.faults:
        raise LostError(str(report))
    return report


async def _look(clients: list[Client], inspector: Inspector, *, patient: bool) -> None:
    """See that everything is as it was promised."""
    await inspector.ready()
    if patient:
        await inspector.nobody_writes()
        await _read_everything(clients)
    await inspector.restart()
    for client in clients:
        client.worlds.end()
    await _read_everything(clients)
    await inspector.swept(patient=patient)
    await _read_everything(clients)
    await inspector.compare()
    await inspector.look_for_damage()
    if patient:
        await inspector.consult()


async def _read_everything(clients: list[Client]) -> None:
    end = time.monotonic() + PATIENCE
    for client in clients:
        for name, path in enumerate(client.paths):
            for part in (False, True):
                while not await client.read(name, part=part):
                    if time.monotonic() > end:
                        raise LostError(f"{path} cannot be read")
                    await asyncio.sleep(0.2)
        await client.list_all()
