"""Reading all bytes again from time to time: disks forget, and nobody else would notice."""

import asyncio
import logging
import secrets
from concurrent.futures import Executor
from typing import Final

from pyvospace.db.integrity import StoreRecords
from pyvospace.metrics import DAMAGED, SCRUBBED
from pyvospace.model.faults import Fault
from pyvospace.model.integrity import Named
from pyvospace.storage.backend import StorageBackend
from pyvospace.storage.checking import Spend, verify
from pyvospace.storage.suspicions import suspicions

log = logging.getLogger(__name__)

_RANGE: Final = 256
"""Locations that are taken at once."""
_LEASE: Final = 300.0
_RENEWED: Final = _LEASE / 5
_LONGEST_PAUSE: Final = 60.0
"""Seconds between two questions whether there is anything to do."""
_SHORTEST_PAUSE: Final = 0.05
_PER_FILE: Final = 16 << 10
"""What a file costs, however small: so many bytes might have been read meanwhile."""


class LostRange(Exception):
    """Our lease was over, and another process reads this range."""


class Scrubber:
    """Reads the bytes of one storage, in turns with the other processes that serve it.

    Parameters
    ----------
    pool
        Threads to read and hash in, one at a time.
    rate
        Bytes a second of this process; 0: only what could not be read when it was wanted.
    interval
        Seconds from the beginning of a pass over everything to that of the next.
    """

    def __init__(
        self, backend: StorageBackend, records: StoreRecords, pool: Executor, *, rate: float, interval: float
    ) -> None:
        self._backend = backend
        self._records = records
        self._pool = pool
        self._rate = rate
        self._interval = interval

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_at_suspicions())
            if self._rate:
                tasks.create_task(self._read_everything())

    async def _look_at_suspicions(self) -> None:
        while True:
            location = await suspicions(self._backend).take()
            try:
                for named in (await self._records.named([location])).values():
                    await self.examine(named, _count)
            except Exception:
                # The edge of this task, as below.
                log.exception("%s could not be looked at", location)

    async def _read_everything(self) -> None:
        pause = min(max(self._interval / 100, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        while True:
            try:
                more = await self.read_range()
            except Exception:
                # The edge of this task: a database that is away now may be back next time.
                log.exception("the scrubber failed; it goes on in %g s", pause)
                more = False
            if not more:
                await asyncio.sleep(pause)

    async def read_range(self) -> bool:
        """Take the next locations and read their bytes; False: there is nothing to do now.

        If we die, or the store fails, another process takes the same ones when our lease is over.
        """
        attempt = secrets.token_hex(16)
        range_ = await self._records.claim_scrub(attempt, interval=self._interval, lease=_LEASE, limit=_RANGE)
        if not range_:
            return False
        pace = _Pace(self._records, attempt, self._rate)
        try:
            for named in range_:
                await pace.wait(_PER_FILE)
                try:
                    await self.examine(named, pace.spend)
                except Fault as fault:
                    log.warning("%s cannot be read now, the next pass will: %s", named.location, fault.detail)
        except LostRange:
            log.warning("another process reads what we were reading")
        else:
            await self._records.end_scrub(attempt)
        return True

    async def examine(self, named: Named, spend: Spend) -> None:
        """Read bytes, twice if they are wrong, and enter what comes out."""
        verdict = await verify(self._backend, named, pool=self._pool, spend=spend)
        if verdict is not None:
            first, verdict = verdict, await verify(self._backend, named, pool=self._pool, spend=spend)
            if verdict is None:
                log.warning("%s was read wrong once (%s) and then right", named.location, first.details)
        if verdict is None:
            if named.damage is not None and await self._records.clear_damage(named.location):
                log.warning("%s is good again", named.location)
        elif await self._records.note_damage(named.location, verdict.kind, verdict.details):
            DAMAGED.labels(verdict.kind).inc()
            log.error("%s is damaged (%s): %s", named.location, verdict.kind, verdict.details)


class _Pace:
    """Spends the time that bytes may take, and keeps the lease meanwhile."""

    def __init__(self, records: StoreRecords, attempt: str, rate: float) -> None:
        self._records = records
        self._attempt = attempt
        self._rate = rate
        self._clock = asyncio.get_running_loop().time
        self._due = self._clock()
        self._renewal = self._due + _RENEWED

    async def spend(self, size: int) -> None:
        """Count bytes that were read, and wait."""
        SCRUBBED.inc(size)
        await self.wait(size)

    async def wait(self, size: int) -> None:
        """Wait as long as `size` bytes may take.

        Raises
        ------
        LostRange
            The lease was over.
        """
        now = self._clock()
        if now >= self._renewal:
            if not await self._records.renew_scrub(self._attempt, _LEASE):
                raise LostRange
            self._renewal = now + _RENEWED
        self._due = max(self._due, now) + size / self._rate
        await asyncio.sleep(self._due - now)


async def _count(size: int) -> None:
    SCRUBBED.inc(size)
