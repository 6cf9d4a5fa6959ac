"""The jobs of a storage server (see `uws.runner.Queue`): it fetches bytes from elsewhere, or sends them there."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from pyvospace.db import third_party
from pyvospace.model.jobs import LostJobError
from pyvospace.model.vocabulary import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pyvospace.config.settings import JobSettings
    from pyvospace.db.pool import Database
    from pyvospace.model.faults import Fault
    from pyvospace.model.jobs import Claimed


class StorageQueue:
    """The jobs that one storage can do."""

    def __init__(self, database: Database, storage: UUID, settings: JobSettings) -> None:
        self._database = database
        self._storage = storage
        self._settings = settings

    @property
    def lease(self) -> float:
        """Seconds that a job stays with a worker that is silent."""
        return self._settings.lease

    async def claim(self, kinds: Sequence[str], *, lost: bool) -> Claimed | None:
        """Take the oldest job that waits, or one whose worker is dead."""
        return await third_party.claim(
            self._database,
            self._storage,
            kinds,
            attempt=secrets.token_hex(16),
            lease=self.lease,
            lost=lost,
            attempts=self._settings.attempts,
        )

    async def renew(self, claimed: Claimed) -> bool:
        """Extend the lease and tell the progress."""
        return await third_party.renew(self._database, self._storage, claimed, lease=self.lease)

    async def fail(self, claimed: Claimed, fault: Fault) -> None:
        """End the job in the phase ERROR."""
        await third_party.finish(
            self._database, self._storage, claimed, Phase.ERROR, fault=fault.code, message=fault.in_job
        )

    async def overrun(self, claimed: Claimed) -> None:
        """Abort a job if it has executed for longer than it may."""
        words = "it has executed for longer than executionDuration"
        await third_party.finish(self._database, self._storage, claimed, Phase.ABORTED, message=words)

    async def give_back(self, claimed: Claimed) -> None:
        """Let another worker have the job at once."""
        await third_party.give_back(self._database, self._storage, claimed)

    async def complete(self, claimed: Claimed) -> None:
        """Complete a job whose bytes have arrived elsewhere.

        Raises
        ------
        LostJobError
            The job is in other hands.
        """
        if not await third_party.finish(self._database, self._storage, claimed, Phase.COMPLETED):
            raise LostJobError(claimed.id)
