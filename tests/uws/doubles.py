"""A queue in memory that keeps leases as the database does, and a listener that tells what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pyvospace.db.listening import JOBS, QUEUE, Listener
from pyvospace.model.faults import Fault, ServiceBusy
from pyvospace.model.jobs import Claimed, Progress

_PATIENCE = 30.0


class Teller(Listener):
    """Passes on what a test tells, without a database."""

    def __init__(self) -> None:
        self._subscribers: dict[str, list[Callable[[str], None]]] = {}

    def subscribe(self, channel: str, heard: Callable[[str], None]) -> None:
        """Have `heard` called with what is told."""
        self._subscribers.setdefault(channel, []).append(heard)

    def tell(self, channel: str, payload: str) -> None:
        """Tell it to all at once."""
        for heard in self._subscribers.get(channel, []):
            heard(payload)


@dataclass
class Kept:
    """A job of the queue."""

    claimed: Claimed
    state: str = "queued"
    until: float = 0.0
    holders: list[str] = field(default_factory=list)
    """All attempts, in order."""


class MemoryQueue:
    """Jobs in memory."""

    lease = 0.4

    def __init__(self, teller: Teller) -> None:
        self.jobs: dict[str, Kept] = {}
        self.away = False
        """The database cannot be reached."""
        self._teller = teller
        self._changed = asyncio.Event()

    def add(self, name: str, *, kind: str = "work", seconds: float | None = None, dead: bool = False) -> None:
        """Add a job that waits, or whose worker died long ago."""
        claimed = Claimed(name, kind, None, {}, None, None, None, None, "", 0, seconds, Progress())
        self.jobs[name] = Kept(claimed, "executing" if dead else "queued")
        self._teller.tell(QUEUE, kind)

    def take_away(self, name: str, *, quietly: bool = False) -> None:
        """Abort a job."""
        self._set(name, "aborted")
        if not quietly:
            self._teller.tell(JOBS, name)

    def _set(self, name: str, state: str) -> None:
        self.jobs[name].state = state
        self._changed.set()

    async def until(self, name: str, state: str) -> None:
        """Wait until a job is in a state."""
        async with asyncio.timeout(_PATIENCE):
            while self.jobs[name].state != state:
                self._changed.clear()
                await self._changed.wait()

    def _mine(self, claimed: Claimed) -> Kept | None:
        if self.away:
            raise ServiceBusy("away")
        job = self.jobs[claimed.id]
        return job if job.state == "executing" and job.claimed.attempt == claimed.attempt else None

    async def claim(self, kinds: Sequence[str], *, lost: bool) -> Claimed | None:
        """Take the oldest job that waits, or one whose lease is over."""
        if self.away:
            raise ServiceBusy("away")
        now = asyncio.get_running_loop().time()
        for name, job in self.jobs.items():
            free = job.state == "executing" and job.until < now if lost else job.state == "queued"
            if free and job.claimed.kind in kinds:
                attempt = f"{name}-{len(job.holders) + 1}"
                job.claimed = replace(job.claimed, attempt=attempt, attempts=len(job.holders) + 1)
                job.holders.append(attempt)
                job.until = now + self.lease
                self._set(name, "executing")
                return job.claimed
        return None

    async def renew(self, claimed: Claimed) -> bool:
        """Extend the lease."""
        job = self._mine(claimed)
        if job is not None:
            job.until = asyncio.get_running_loop().time() + self.lease
        return job is not None

    def complete(self, claimed: Claimed) -> bool:
        """End the job, as a work does; False: it was taken away."""
        if self._mine(claimed) is None:
            return False
        self._set(claimed.id, "completed")
        return True

    async def fail(self, claimed: Claimed, fault: Fault) -> None:
        """End the job."""
        if self._mine(claimed):
            self._set(claimed.id, fault.code)

    async def overrun(self, claimed: Claimed) -> None:
        """Abort the job."""
        if self._mine(claimed):
            self._set(claimed.id, "overrun")

    async def give_back(self, claimed: Claimed) -> None:
        """Let another worker have it."""
        if job := self._mine(claimed):
            job.until = 0.0
            self._teller.tell(QUEUE, claimed.kind)
