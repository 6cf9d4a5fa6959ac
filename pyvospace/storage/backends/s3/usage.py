"""How much of its share of a bucket a storage has used."""

import asyncio
import logging
from typing import Final

from pyvospace.model.faults import Fault
from pyvospace.storage.backends.s3.store import Store

log = logging.getLogger(__name__)

_FRESH: Final = 3600.0
"""Seconds after which all objects are added up again."""


class Usage:
    """The bytes below a folder: added up from time to time, and what this process adds in between.

    What others add or anybody deletes is seen at the next time.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._counted: int | None = None
        self._added = 0
        self._counted_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None

    def add(self, size: int) -> None:
        """Take note of an upload."""
        self._added += size

    def used(self) -> int | None:
        """Tell how many bytes are used; None as long as that is being found out."""
        now = asyncio.get_running_loop().time()
        if now - self._counted_at >= _FRESH and (self._counting is None or self._counting.done()):
            self._counted_at = now
            self._counting = asyncio.create_task(self._count())
        return None if self._counted is None else self._counted + self._added

    async def close(self) -> None:
        """Stop counting."""
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.wait([self._counting])

    async def _count(self) -> None:
        before, total = self._added, 0
        try:
            async for batch in self._store.listing(self._folder):
                total += sum(one.size for one in batch)
        except (Fault, OSError) as error:
            log.warning("the bytes below %s cannot be added up: %s", self._folder, error)
            return
        self._counted = total
        self._added -= before
