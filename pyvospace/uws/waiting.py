"""Waiting for another phase of a job (UWS 1.1, section 2.2.1.2): woken by the database, never by asking again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from pyvospace.db.listening import JOBS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyvospace.db.listening import Listener


class Waiting:
    """Those of this process who wait. Nobody holds a connection to the database meanwhile."""

    def __init__(self, listener: Listener) -> None:
        self._watches: dict[str, set[Watch]] = {}
        self.closed = False
        """The process ends: nobody is to wait any more."""
        listener.subscribe(JOBS, self._heard)

    def _heard(self, job: str) -> None:
        told = [self._watches.get(job, set())] if job else list(self._watches.values())
        for watches in told:
            for watch in watches:
                watch.tell()

    def close(self) -> None:
        """Let everybody go."""
        self.closed = True
        self._heard("")

    @contextlib.contextmanager
    def on(self, job: str) -> Iterator[Watch]:
        """Watch a job, to be entered before it is looked at: what happens from here on is heard."""
        watch = Watch()
        self._watches.setdefault(job, set()).add(watch)
        try:
            yield watch
        finally:
            self._watches[job].discard(watch)
            if not self._watches[job]:
                del self._watches[job]


class Watch:
    """One who waits."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Say that something has happened to the job."""
        self._event.set()

    async def change(self, seconds: float) -> None:
        """Return when something happened since this was called last, or nothing has for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()
