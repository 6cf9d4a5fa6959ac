"""The state of the service, as a process of it knows it, and what it does then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pyvospace.db import state
from pyvospace.db.listening import STATE
from pyvospace.model.callers import StaleCallerError
from pyvospace.model.faults import Fault, ServiceBusy
from pyvospace.model.vosi import Standing

if TYPE_CHECKING:
    from pyvospace.db.listening import Listener
    from pyvospace.db.pool import Database
    from pyvospace.model.callers import Caller

T = TypeVar("T")

log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 10.0
"""Seconds between two looks, should a notice get lost."""
PATIENCE: Final = 5.0
"""Seconds after which a database that is silent counts as gone."""
_under_way: Final[set[asyncio.Future[Any]]] = set()


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Give what comes in time; what hangs in a dead connection, even while it is cancelled, is left behind.

    Raises
    ------
    ServiceBusy
        Nothing came.
    """
    task = asyncio.ensure_future(work)
    _under_way.add(task)
    task.add_done_callback(_end)
    await asyncio.wait([task], timeout=seconds)
    if task.done():
        return task.result()
    task.cancel()
    raise ServiceBusy(f"the database has not answered for {seconds:g} s")


def _end(task: asyncio.Future[Any]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # somebody has looked at it


class StandingWatch:
    """Remembers the state, and hears of its changes.

    No change slips through while a notice is on its way: every change raises the epoch of the catalogue, so that a
    caller who was identified before it is found out where he writes, and one who was identified after it makes us
    look again.
    """

    def __init__(self, database: Database, listener: Listener) -> None:
        self._database = database
        self._told = asyncio.Event()
        self.current = Standing()
        listener.subscribe(STATE, lambda _: self._told.set())

    async def look(self) -> None:
        """Read the state."""
        self.current = await state.standing(self._database)

    async def at(self, epoch: int) -> Standing:
        """Give the state as it was at an epoch, or later."""
        if epoch > self.current.epoch:
            await self.look()
        return self.current

    async def turn(self, wanted: Standing, caller: Caller) -> None:
        """Put the service into a state, on the word of a caller who may.

        Raises
        ------
        StaleCallerError
            He is not any more who he was when he was identified.
        """
        if not await state.turn(self._database, wanted, by=caller):
            raise StaleCallerError
        await self.look()

    async def follow(self) -> None:
        """Look when told to, and from time to time, until cancelled."""
        while True:
            self._told.clear()
            try:
                await self.look()
            except Fault as fault:
                log.warning("the state of the service is not known: %s", fault)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._told.wait()
