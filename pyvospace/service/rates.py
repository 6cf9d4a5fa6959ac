"""Rates: who asks too often waits, and nobody else does.

Clients of VOSpace give up at 429, and lose their bytes at a 503 for a PUT: back-pressure is delay. Each process keeps
for each client one number, the instant at which all that he has asked for would be paid at the rate of the settings.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.db.holding import on_behalf_of
from pyvospace.model.faults import ServiceBusy
from pyvospace.service.faults import CALLER
from pyvospace.service.proxies import client_address, client_network

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from pyvospace.config.settings import RateSettings

CLIENTS: Final = 20_000
"""Clients that are remembered; those who have asked for little lately are forgotten first."""
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Rates:
    """Says how long clients wait.

    Parameters
    ----------
    clock
        Gives seconds.
    """

    def __init__(self, settings: RateSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 1 / settings.requests if settings.requests else 0.0
        self._slack = settings.burst * self._interval
        self._longest = settings.longest_delay
        self._clock = clock
        self._paid: dict[str, float] = {}

    def __len__(self) -> int:
        """Give the number of clients that are remembered."""
        return len(self._paid)

    def delay(self, client: str, *, reading: bool) -> float:
        """Count one request, and give the seconds that it has to wait.

        Raises
        ------
        ServiceBusy
            These are more than the longest delay; only if it reads, since who writes has to wait.
        """
        if not self._interval:
            return 0.0
        now = self._clock()
        paid = self._paid.get(client, 0.0)
        wait = paid - self._slack - now
        if wait > self._longest and reading:
            raise ServiceBusy("too many requests at once", retry_after=math.ceil(wait))
        self._paid[client] = max(now, paid) + self._interval
        if len(self._paid) > CLIENTS:
            self._forget(now)
        return wait if wait > 0 else 0.0

    def _forget(self, now: float) -> None:
        """Forget half of the clients: those who would not have to wait."""
        latest = sorted(self._paid.items(), key=lambda one: one[1])[-CLIENTS // 2 :]
        self._paid = {client: paid for client, paid in latest if paid > now}


def limiting(rates: Rates, *, free: Container[object] = ()) -> Middleware:
    """Make the middleware that lets requests wait, and says for whom connections to the database are used.

    Parameters
    ----------
    free
        Handlers that never wait: those for who looks after the server.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        client = client_of(request)
        on_behalf_of.set(client)
        if request.match_info.handler not in free:
            delay = rates.delay(client, reading=request.method in _READING)
            if delay:
                await asyncio.sleep(delay)
        return await handler(request)

    return middleware


def client_of(request: web.Request) -> str:
    """Name the client: the user who has identified himself, or else where the request comes from."""
    name = request.get(CALLER)
    return f"user {name}" if name else client_network(client_address(request))
