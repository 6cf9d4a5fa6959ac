"""What the database tells by itself (NOTIFY): one connection for a whole process, beside the pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    from pyvospace.db.pool import Database

log = logging.getLogger(__name__)

QUEUE: Final = "pyvospace_queue"
"""A job waits for a worker; the payload is its kind."""
JOBS: Final = "pyvospace_jobs"
"""A job that somebody watches or works on is in another phase, or gone; the payload is its id."""
STATE: Final = "pyvospace_state"
"""The operator has changed the state of the service."""
_RETRY: Final = 1.0
_PROBE: Final = 15.0
"""Seconds after which a connection that says nothing is asked whether it is still there."""
_LOST: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

Heard = Callable[[str], None]


class Listener:
    """Hears notifications and passes them on.

    What is told while the connection is away is lost, so that everybody is told "" when it is back: look yourself.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._heard: dict[str, list[Heard]] = {}

    def subscribe(self, channel: str, heard: Heard) -> None:
        """Have `heard` called with each payload of a channel, or "" if some may have been missed; before `run`."""
        self._heard.setdefault(channel, []).append(heard)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except _LOST as error:
                log.warning("notifications of the database are not heard: %s", error)
            await asyncio.sleep(_RETRY)

    async def _listen(self) -> None:
        connection = await self._database.connect_alone()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            for channel in self._heard:
                await connection.add_listener(channel, self._pass_on)
            for channel in self._heard:
                self._tell(channel, "")
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PROBE):
                        await lost.wait()
                await connection.execute("select", timeout=_PROBE)  # fails at once if the connection is lost
        finally:
            with contextlib.suppress(*_LOST):
                connection.terminate()

    def _pass_on(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        self._tell(channel, str(payload))

    def _tell(self, channel: str, payload: str) -> None:
        for heard in self._heard[channel]:
            heard(payload)
