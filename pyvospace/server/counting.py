"""Counters in the background: changes are taken into the sums, and quotas that are nearly used up are told of."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Final

from pyvospace.db import usage
from pyvospace.db.usage import Folded
from pyvospace.model.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyvospace.config.settings import QuotaSettings
    from pyvospace.db.pool import Database
    from pyvospace.db.usage import Crossing

log = logging.getLogger(__name__)

_EVERY: Final = 0.5
_BATCH: Final = 5000
_DEAD: Final = 1000
"""Changes that were folded before their rows are swept out: who reads a sum walks over them."""
_PATIENCE: Final = 10
"""Attempts that somebody who changes trees may turn away before we queue up behind him."""


async def count_for_ever(database: Database, settings: QuotaSettings) -> None:
    """Fold and warn again and again. Every metadata server does so; one at a time gets to."""
    turned_away = dead = 0
    while True:
        try:
            folded = await _fold(database, wait=turned_away >= _PATIENCE)
            turned_away = turned_away + 1 if folded is None else 0
            if folded is not None:
                _tell(await usage.crossings(database, folded.quotas, settings.warn))
                dead += folded.changes
            if dead >= _DEAD:
                await usage.sweep_changes(database)
                dead = 0
        except Fault as fault:
            log.warning("usage was not summed up: %s", fault)
        await asyncio.sleep(_EVERY * (0.5 + secrets.randbelow(1000) / 1000))


async def _fold(database: Database, *, wait: bool) -> Folded | None:
    """Fold until nothing is left; None: somebody else changes trees."""
    done = Folded(0, [])
    if not await usage.has_changed(database):
        return done
    while (folded := await usage.fold(database, limit=_BATCH, wait=wait)) is not None:
        done = Folded(done.changes + folded.changes, sorted({*done.quotas, *folded.quotas}))
        if folded.changes < _BATCH:
            return done
    return done if done.changes else None


def _tell(crossings: Sequence[Crossing]) -> None:
    for one in crossings:
        if one.now > one.before:
            quota = one.quota
            log.warning(
                "quota of %r: %d per cent are used: %d of %s bytes, %d of %s nodes",
                quota.name,
                one.now,
                quota.used.bytes,
                "any number of" if quota.bytes is None else quota.bytes,
                quota.used.nodes,
                "any number of" if quota.nodes is None else quota.nodes,
            )
