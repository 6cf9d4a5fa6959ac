"""Wrong credentials: whoever sends many of them is answered ever later, then with 429, at every process alike.

A password may be refused unseen only for one name from one address, or for one address: so a stranger cannot shut a
user out. That a name is tried from many addresses makes answers late, and nothing more. Names that exist and names
that do not are counted alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
from typing import TYPE_CHECKING, Final

from pyvospace.db import logins
from pyvospace.model.faults import Fault, TooManyAttempts
from pyvospace.service.proxies import client_network

if TYPE_CHECKING:
    from pyvospace.config.credentials import LoginSettings
    from pyvospace.db.pool import Database

log = logging.getLogger(__name__)

_FREE: Final = 0.3
"""Share of the attempts that are answered at once."""
_BATCH: Final = 1000
_EVERY: Final = 60.0
"""Seconds."""


class Throttle:
    """Counts wrong credentials."""

    def __init__(self, database: Database, settings: LoginSettings) -> None:
        self._database = database
        self._settings = settings

    async def begin_password(self, name: str, remote: str) -> tuple[bytes, ...]:
        """Count a password before it is looked at; give what `forgive` takes if it is right.

        Raises
        ------
        TooManyAttempts
            It is not looked at.
        """
        network = client_network(remote)
        keys = (_key("name at address", name, network), _key("address", network), _key("name", name))
        one, all_names = self._settings.failures, self._settings.failures_of_address
        await self._count(keys, (one, all_names, all_names), hard=2)
        return keys

    async def forgive(self, keys: tuple[bytes, ...]) -> None:
        """Take back what was counted: the password was right."""
        await logins.forgive(self._database, keys)

    async def wrong(self, remote: str) -> None:
        """Count another credential, which has turned out to be wrong. One that is right is never refused.

        Raises
        ------
        TooManyAttempts
            To be told in place of what is wrong with it.
        """
        key = _key("other", client_network(remote))
        await self._count((key,), (self._settings.failures_of_address,), hard=1)

    async def _count(self, keys: tuple[bytes, ...], mosts: tuple[float, ...], *, hard: int) -> None:
        counted = await logins.count(self._database, keys, mosts, hard=hard, forget=self._settings.forget)
        if counted.wait:
            raise TooManyAttempts("too many wrong credentials", retry_after=math.ceil(counted.wait))
        worst = max(number / most for number, most in zip(counted.numbers, mosts, strict=True))
        if worst > _FREE:
            await asyncio.sleep(self._settings.longest_delay * min(1.0, (worst - _FREE) / (1 - _FREE)))


def _key(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()


async def forget_for_ever(database: Database) -> None:
    """Forget wrong credentials, and tokens that are long over, again and again. Every metadata server does so."""
    while True:
        try:
            while await logins.tidy(database, batch=_BATCH) >= _BATCH:
                pass
        except Fault as fault:
            log.warning("old tokens were not forgotten: %s", fault)
        await asyncio.sleep(_EVERY * (0.5 + secrets.randbelow(1000) / 1000))
