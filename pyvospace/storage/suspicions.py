"""Bytes that could not be read when somebody wanted them: the scrubber looks at them next."""

import asyncio
from typing import Final
from weakref import WeakKeyDictionary

from pyvospace.storage.backend import StorageBackend

_MOST: Final = 1000
"""More of them at once are a disk that is away, not files that are damaged."""


class Suspicions:
    """Locations of one backend, each once."""

    def __init__(self) -> None:
        self._locations: dict[str, None] = {}
        self._some = asyncio.Event()

    def add(self, location: str) -> None:
        """Have a location looked at."""
        if len(self._locations) < _MOST:
            self._locations[location] = None
            self._some.set()

    async def take(self) -> str:
        """Wait for the next one."""
        while not self._locations:
            self._some.clear()
            await self._some.wait()
        location = next(iter(self._locations))
        del self._locations[location]
        return location


_of_backends: Final[WeakKeyDictionary[StorageBackend, Suspicions]] = WeakKeyDictionary()


def suspicions(backend: StorageBackend) -> Suspicions:
    """Give those of a backend."""
    return _of_backends.setdefault(backend, Suspicions())
