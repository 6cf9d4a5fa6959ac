"""The trash in the background: what was kept for as long as policies say is removed for ever."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Final

from pyvospace.db import trash
from pyvospace.model.faults import Fault
from pyvospace.server.operations.trash import PIECE

if TYPE_CHECKING:
    from pyvospace.db.pool import Database

log = logging.getLogger(__name__)

_EVERY: Final = 30.0
_ENTRIES: Final = 100
"""Entries in one round."""


async def empty_for_ever(database: Database) -> None:
    """Remove what is over again and again. Every metadata server does so; no two of them the same entry."""
    while True:
        try:
            await empty(database)
        except Fault as fault:
            log.warning("the trash was not emptied: %s", fault)
        await asyncio.sleep(_EVERY * (0.5 + secrets.randbelow(1000) / 1000))


async def empty(database: Database) -> None:
    """Remove what is over, and what somebody has begun to remove."""
    for number in await trash.give_up_due(database, limit=_ENTRIES):
        while await trash.purge(database, number, piece=PIECE):
            log.debug("more of entry %d of the trash is to be removed", number)
