"""How many jobs there may be: nobody fills the disk, and no stranger takes the place of another (T27)."""

from __future__ import annotations

import pytest

from pyvospace.config.settings import JobSettings
from pyvospace.db import jobs as rows
from pyvospace.db.holding import on_behalf_of
from pyvospace.db.pool import Database
from pyvospace.model.callers import ANONYMOUS
from pyvospace.model.faults import PermissionDenied
from pyvospace.model.jobs import Kind
from pyvospace.model.vocabulary import Phase
from pyvospace.uws.jobs import create
from tests.uws.conftest import Jobs


async def test_anonymous_clients_have_a_cap_for_each_address(database: Database, jobs: Jobs) -> None:
    settings = JobSettings(waiting=2)

    async def add(client: str) -> str:
        on_behalf_of.set(client)
        return await create(database, settings, ANONYMOUS, list_="transfers", kind=Kind.COPY, request={})

    for _ in range(2):
        await add("192.0.2.1")
    with pytest.raises(PermissionDenied, match="2 of your jobs are waiting"):
        await add("192.0.2.1")
    await add("2001:db8::/64")
    await add("192.0.2.2")
    await jobs.add(Phase.PENDING)  # a user is not held up by strangers


async def test_the_oldest_ended_jobs_are_forgotten_first(database: Database, jobs: Jobs) -> None:
    ended: dict[int | None, list[str]] = {}
    for owner in (7, 8, None):
        for age in range(5):
            job = await jobs.add(Phase.PENDING, owner=owner)
            await jobs.set(job, "phase", "'COMPLETED'")
            await jobs.set(job, "created", f"now() - interval '{age} hours'")
            ended.setdefault(owner, []).append(job)
    waiting = [await jobs.add(Phase.PENDING, owner=7) for _ in range(5)]
    assert await rows.forget_oldest(database, kept=3, batch=1) == 3
    assert await rows.forget_oldest(database, kept=3, batch=10) == 3
    assert await rows.forget_oldest(database, kept=3, batch=10) == 0
    for kept in ended.values():
        assert [await rows.select(database, job) is not None for job in kept] == [True] * 3 + [False] * 2
    for job in waiting:
        assert await jobs.phase(job) is Phase.PENDING
