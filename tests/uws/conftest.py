"""A queue in a real database."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from pyvospace.config.settings import JobSettings
from pyvospace.db import bootstrap
from pyvospace.db import jobs as rows
from pyvospace.db.jobs import JobRow
from pyvospace.db.pool import Database
from pyvospace.model.jobs import Kind
from pyvospace.model.vocabulary import Phase
from pyvospace.uws.jobs import MetadataQueue

OWNER = 7


class Jobs:
    """Jobs of a database, and a queue of them."""

    def __init__(self, database: Database, settings: JobSettings) -> None:
        self.database = database
        self.settings = settings
        self.queue = MetadataQueue(database, settings)

    async def add(self, phase: Phase = Phase.QUEUED, *, owner: int | None = OWNER, duration: int = 0) -> str:
        """Keep a job that copies something."""
        job = secrets.token_hex(20)
        assert await rows.insert(
            self.database,
            job,
            owner=rows.Owner(owner),
            list_="transfers",
            kind=Kind.COPY,
            request={},
            phase=phase,
            run_id=None,
            destruction=1000.0,
            waiting=self.settings.waiting,
            duration=duration,
        )
        return job

    async def row(self, job: str) -> JobRow:
        """Read a job."""
        found = await rows.select(self.database, job)
        assert found is not None
        return found

    async def phase(self, job: str) -> Phase:
        """Give the phase of a job."""
        return (await self.row(job)).phase

    async def set(self, job: str, column: str, expression: str) -> None:
        """Change a column behind everybody's back."""
        await self.database.fetchrow(f"update jobs set {column} = {expression} where id = $1", job)

    async def tidy(self, **changes: Any) -> None:
        """Do what the metadata servers do from time to time."""
        given = {"batch": 100, "attempts": self.settings.attempts, "archive": self.settings.archive, **changes}
        await rows.tidy(self.database, **given)


@pytest.fixture
async def jobs(database: Database) -> Jobs:
    await bootstrap.set_up(database, authority="example.org~space", group_prefixes=[])
    return Jobs(database, JobSettings())
