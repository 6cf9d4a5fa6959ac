"""Copies in the background: as many as policies want, in places that count, and the homes of bytes among them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Final

from pyvospace.db import placement
from pyvospace.model.faults import Fault

if TYPE_CHECKING:
    from pyvospace.config.places import PlacementSettings
    from pyvospace.db.pool import Database

log = logging.getLogger(__name__)

_EVERY: Final = 1.0
_PAGE: Final = 200
"""Locations that are looked at in one transaction."""
_PAUSE: Final = 0.02


async def keep_for_ever(database: Database, settings: PlacementSettings) -> None:
    """Look at the bytes of one storage after the other.

    Every metadata server does so; each takes storages that no other one has looked at of late, and nothing is held
    between two pages: whoever is killed is missed when the next turn of the storage has come.
    """
    while True:
        try:
            every = min(settings.interval, settings.lost_after)
            while (
                storage := await placement.to_keep(database, every=every, lost_after=settings.lost_after)
            ) is not None:
                await _keep(database, storage, settings.lost_after)
            await placement.wake(database)
        except Fault as fault:
            log.warning("copies were not looked after: %s", fault)
        await asyncio.sleep(_EVERY * (0.5 + secrets.randbelow(1000) / 1000))


async def _keep(database: Database, storage: int, lost_after: float) -> None:
    last: str | None = ""
    while last is not None:
        page = await placement.keep_page(database, storage, behind=last, limit=_PAGE, lost_after=lost_after)
        if page.homes:
            moved = await placement.move_homes(database, page, lost_after=lost_after)
            log.info("storage %d: %d of %d locations have another home", storage, moved, len(page.homes))
        last = page.last
        await asyncio.sleep(_PAUSE)
