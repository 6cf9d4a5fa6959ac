"""Works that others get in the way of begin anew: nobody waits for a job, so that it can wait for them."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Final, TypeVar

from pyvospace.db.errors import Overtaken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

log = logging.getLogger(__name__)

_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


async def persist(work: Callable[[], Awaitable[T]]) -> T:
    """Do something, again and again while others hold what it is to change.

    There is no end to it but that of the job, by its owner's word, its duration or its destruction: then it is taken
    from its worker, and that is cancelled here.
    """
    pause = _PAUSE
    while True:
        try:
            return await work()
        except Overtaken as fault:
            log.info("tried again in %.1f s: %s", pause, fault)
        await asyncio.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
        pause = min(2 * pause, _LONGEST_PAUSE)
