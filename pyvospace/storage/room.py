"""How much still fits."""

import asyncio
import logging
from typing import Final

from pyvospace.model.faults import InsufficientStorage
from pyvospace.storage.backend import StorageBackend

log = logging.getLogger(__name__)

_MOST: Final = 2**63 - 1
"""Bytes that anything here can count."""
_FRESH: Final = 1.0
"""Seconds for which an answer of the backend is good."""
_TRIED_FOR: Final = 30.0
"""Seconds between two probes of a place that takes bytes: they cost something at some."""


class Room:
    """The free space of a backend less the share that stays free.

    Parameters
    ----------
    reserve
        Share of the whole, from 0 up to 1.
    """

    def __init__(self, backend: StorageBackend, reserve: float) -> None:
        self._backend = backend
        self._reserve = reserve
        self._asked = -_FRESH
        self._free: int | None = None
        self._tried = -_TRIED_FOR
        self._takes = False

    async def free(self) -> int | None:
        """Tell how many bytes uploads may still use; None: nobody knows."""
        now = asyncio.get_running_loop().time()
        if now - self._asked >= _FRESH:
            self._free = await self._ask()
            self._asked = now
        return self._free

    async def offered(self) -> int | None:
        """Tell with how many bytes others may be sent here: none while the place cannot be written to."""
        now = asyncio.get_running_loop().time()
        if not self._takes or now - self._tried >= _TRIED_FOR:
            self._takes = await self._try()
            self._tried = now
        return await self.free() if self._takes else 0

    async def _try(self) -> bool:
        try:
            await self._backend.check()
        except Exception as error:  # noqa: BLE001 (whatever a plugin raises: nothing can be kept here)
            log.warning("this place takes no bytes: %s", error)
            return False
        return True

    async def total(self) -> int | None:
        """Tell how many bytes the place has in all; None: nobody knows."""
        return await self._backend.total_space()

    async def require(self, size: int) -> None:
        """Refuse an upload of `size` bytes that cannot fit, before it begins.

        Raises
        ------
        InsufficientStorage
            It would use up the reserve, or there are more than can be counted.
        """
        free = await self.free()
        if size > _MOST or (free is not None and size >= free):
            raise InsufficientStorage("there is no room for these bytes")

    async def _ask(self) -> int | None:
        free = await self._backend.free_space()
        if free is None:
            return None
        total = await self._backend.total_space() or 0
        return max(free - int(total * self._reserve), 0)
