"""When a request is sent once more, and after how long."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass

from pyvospace.client.failures import ServiceUnreachable
from pyvospace.model.faults import Fault, RequestTimeout, ServiceBusy
from pyvospace.model.ranges import parse_date

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How patient a client is."""

    attempts: int = 5
    """Tries in all, those without any progress counted; 1: never again."""
    first: float = 0.5
    """Seconds before the second try; doubled for each further one."""
    longest: float = 30.0
    """Most seconds between two tries."""
    longest_ordered: float = 120.0
    """The same if the service itself names a time by Retry-After; if it names more there is no next try."""

    def delay(self, failures: int, ordered: float = 0) -> float:
        """Give the seconds to wait after so many failures, those that are ordered and a random part included.

        Many clients that failed together must not come back together.
        """
        grown = min(self.longest, self.first * 2.0 ** (failures - 1))
        waited = max(ordered, grown / 2)
        return waited + random.uniform(0, grown / 2)  # noqa: S311 - no secret


class Attempts:
    """The tries of one operation."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._failures = 0

    @property
    def failed_before(self) -> bool:
        """Whether a try has failed since the last progress."""
        return self._failures > 0

    def progressed(self) -> None:
        """Forget the failures so far: what comes next is a new difficulty."""
        self._failures = 0

    async def wait_after(
        self, fault: Fault, *, repeatable: bool = True, passing: bool = False, ordered: float = 0
    ) -> None:
        """Wait until the next try is due, or raise the fault if there is to be none.

        Parameters
        ----------
        repeatable
            Whether a second request does no harm if the first one had its effect.
        passing
            Whether the caller knows that the fault is one of those that pass.
        ordered
            Least seconds to wait, if the fault says nothing longer.
        """
        self._failures += 1
        if self._failures >= self._retry.attempts or not (passing or may_pass(fault, repeatable=repeatable)):
            raise fault
        if isinstance(fault, ServiceBusy):
            ordered = max(ordered, fault.retry_after)
        if ordered > self._retry.longest_ordered:
            raise fault
        delay = self._retry.delay(self._failures, ordered)
        log.warning("%s; next try in %.1f s", fault, delay)
        await asyncio.sleep(delay)


def may_pass(fault: Fault, *, repeatable: bool = True) -> bool:
    """Say whether the same request may succeed later, and may be sent again."""
    if isinstance(fault, ServiceUnreachable):
        return not fault.permanent and (repeatable or not fault.sent)
    return isinstance(fault, ServiceBusy) or (repeatable and isinstance(fault, RequestTimeout))


def retry_after(header: str | None) -> int:
    """Read Retry-After, seconds or a date; 0 if there is none."""
    if header is None:
        return 0
    text = header.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9])
    date = parse_date(text)
    return max(0, date - int(time.time())) if date is not None else 0
