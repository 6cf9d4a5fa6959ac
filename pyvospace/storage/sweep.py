"""Removing bytes that nobody names: what was replaced or deleted, and what crashes left behind."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pyvospace.metrics import SWEPT
from pyvospace.model.crash import crash_point
from pyvospace.storage.backend import StorageBackend
from pyvospace.storage.catalogue import Catalogue

log = logging.getLogger(__name__)

_YOUNG: Final = 600.0
"""Seconds for which nobody asks whether new bytes have a name."""
_ASKED_AT_ONCE: Final = 1000
_DELETED_AT_ONCE: Final = 100
_AFTER_START: Final = 10.0
"""Seconds within which one of the processes that start together sweeps for all."""
_SUSPICIOUS: Final = 0.9
"""If the catalogue does not know this share of a full batch, it is probably not our catalogue."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep removed."""

    staged: int = 0
    obsolete: int = 0
    unknown: int = 0


class Sweeper:
    """Sweeps one storage, in turns with the other processes that serve it.

    Two processes at it at once would do no harm: a row is taken by one of them, and what is deleted twice is
    deleted.

    Parameters
    ----------
    interval
        Seconds between two sweeps of the storage.
    grace
        Seconds that unknown bytes are left alone; longer than any transaction of an upload may take, or else the
        sweep may delete what is about to be committed.
    obsolete_grace
        Seconds that replaced bytes are kept for those who are about to read them.
    """

    def __init__(
        self, backend: StorageBackend, catalogue: Catalogue, *, interval: float, grace: float, obsolete_grace: float
    ) -> None:
        self._backend = backend
        self._catalogue = catalogue
        self._interval = interval
        self._grace = grace
        self._obsolete_grace = obsolete_grace

    async def run(self) -> None:
        """Sweep at once and then at each interval, until cancelled."""
        within = min(_AFTER_START, self._interval)
        while True:
            try:
                if await self._catalogue.claim_sweep(interval=within):
                    await self.sweep()
            except Exception:
                # The edge of this task: a store or database that is away now may be back next time.
                log.exception("the sweep failed; it is tried again in %g s", self._interval)
            within = self._interval
            await asyncio.sleep(self._interval)

    async def sweep(self) -> Swept:
        """Remove everything that is due now."""
        before = datetime.now(UTC) - timedelta(seconds=self._grace)
        swept = Swept(
            staged=await self._backend.sweep_staging(before),
            obsolete=await self._sweep_obsolete(),
            unknown=await self._sweep_unknown(),
        )
        for what, number in asdict(swept).items():
            SWEPT.labels(what).inc(number)
        log.info("swept: %d staged, %d obsolete, %d unknown", swept.staged, swept.obsolete, swept.unknown)
        return swept

    async def _sweep_obsolete(self) -> int:
        """Delete the row first: a crash in between leaves an unknown file, never a row without a file."""
        deleted = 0
        while due := await self._catalogue.take_obsolete(grace=self._obsolete_grace, limit=_DELETED_AT_ONCE):
            crash_point("gc-row-deleted")
            failed = await delete_each(self._backend, due)
            deleted += len(due) - len(failed)
            if failed:
                await self._catalogue.note_obsolete(failed)
                break
        return deleted

    async def _sweep_unknown(self) -> int:
        """Delete what was without a name at two sweeps, the grace time apart by the clock of the database.

        The age of bytes is that of the clock of their store, which may be wrong: it only spares questions. Who had
        published what is there without a name at the first sweep has committed or given up at the second: it never will
        have one.
        """
        deleted = 0
        async for batch in self._old_locations(datetime.now(UTC) - timedelta(seconds=min(self._grace, _YOUNG))):
            unknown = await self._catalogue.unknown(batch, margin=self._grace)
            if len(batch) == _ASKED_AT_ONCE and len(unknown) > _SUSPICIOUS * len(batch):
                log.error("%d of %d locations are unknown: is this the right database?", len(unknown), len(batch))
                return deleted
            for location in unknown:
                log.warning("no node names %s: it is deleted", location)
            deleted += len(unknown) - len(await delete_each(self._backend, unknown))
        return deleted

    async def _old_locations(self, before: datetime) -> AsyncIterator[list[str]]:
        batch: list[str] = []
        async for location, published in self._backend.locations():
            if published < before:
                batch.append(location)
            if len(batch) == _ASKED_AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch


async def delete_each(backend: StorageBackend, locations: Sequence[str]) -> list[str]:
    """Delete bytes; give those locations at which that failed, which keeps nobody from the others."""
    failed = []
    for location in locations:
        try:
            await backend.delete(location)
        except Exception as error:  # noqa: BLE001 (whatever a plugin raises: this one is tried again)
            log.warning("%s cannot be deleted now: %s", location, error)
            failed.append(location)
    return failed
