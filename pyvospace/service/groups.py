"""Groups that others tell: claims of tokens, and group membership services (IVOA GMS 1.0).

What cannot be read, or does not come, gives nobody anything; requests go on without it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pyvospace.service.trusted import NoAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyvospace.config.credentials import GroupServiceSettings, ProviderSettings
    from pyvospace.service.trusted import Trusted

log = logging.getLogger(__name__)

_MOST: Final = 1000
"""Groups of one user that one source may tell."""
_GROUP: Final = re.compile(r"[A-Za-z0-9._~/:@%+-]{1,255}")
"""A name of a group as it may stand in a URI: no space and no comma, between which groups stand in properties."""
_REMEMBERED: Final = 10_000
_DOWN_FOR: Final = 30.0
"""Seconds for which a service that does not answer is asked nothing."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What a source tells of a user."""

    source: str
    uris: frozenset[str]
    told: datetime
    until: datetime


def groups_in(provider: ProviderSettings, claims: Mapping[str, Any]) -> frozenset[str]:
    """Give the URIs of the groups that a token names; none, if they are not well formed or too many."""
    named = _claim(claims, provider.groups_claim or "")
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or len(names) > _MOST or not all(isinstance(one, str) and one for one in names):
        if named is not None:
            log.warning("%s: the claim %s lists no groups", provider.issuer, provider.groups_claim)
        return frozenset()
    # Keycloak begins the names with a slash if it is told to write their full path.
    written = (quote(one.removeprefix("/"), safe="/:@~", errors="replace") for one in names)
    return frozenset(f"{provider.group_prefix}{one}" for one in written if _GROUP.fullmatch(one))


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Find a claim; a name with dots in it that is no claim leads into one."""
    if name in claims:
        return claims[name]
    outer, dot, inner = name.partition(".")
    found = claims.get(outer)
    return _claim(found, inner) if dot and isinstance(found, dict) else None


class GroupServices:
    """The group services that are asked in the name of the users themselves.

    Parameters
    ----------
    trusted
        Asks them.
    """

    def __init__(self, services: Iterable[GroupServiceSettings], trusted: Trusted) -> None:
        self._services = tuple(services)
        self._trusted = trusted
        self._until: OrderedDict[tuple[int, str], datetime] = OrderedDict()
        self._down: dict[str, float] = {}
        self._asking: dict[tuple[int, str], asyncio.Task[Telling | None]] = {}

    async def ask(self, user: int, issuer: str, token: str) -> list[Telling]:
        """Ask those services that know tokens of an issuer, and that have not been asked lately about the user."""
        due = [one for one in self._services if issuer in one.issuers and self._is_due(user, one)]
        answers = await asyncio.gather(*(self._ask_once(user, one, token) for one in due))
        return [one for one in answers if one is not None]

    def end(self, user: int, issuer: str) -> datetime | None:
        """Say when one of them is to be asked again about the user; None: none of them has answered."""
        known = [self._until.get((user, one.url)) for one in self._services if issuer in one.issuers]
        return min((one for one in known if one is not None), default=None)

    def _is_due(self, user: int, service: GroupServiceSettings) -> bool:
        until = self._until.get((user, service.url))
        answered = until is not None and until > datetime.now(UTC)
        return not answered and self._down.get(service.url, 0.0) <= time.monotonic()

    async def _ask_once(self, user: int, service: GroupServiceSettings, token: str) -> Telling | None:
        """Ask, or wait for who does already."""
        key = (user, service.url)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, service, token))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def _ask(self, key: tuple[int, str], service: GroupServiceSettings, token: str) -> Telling | None:
        now = datetime.now(UTC)
        try:
            answer = await self._trusted.ask(
                service.url, headers={"Authorization": f"Bearer {token}", "Accept": "text/plain"}
            )
        except NoAnswerError as error:
            log.warning("the group service %s does not answer: %s", service.url, error)
            if error.silent:
                self._down[service.url] = time.monotonic() + _DOWN_FOR
            return None
        until = self._until[key] = now + timedelta(seconds=service.cache)
        self._until.move_to_end(key)
        while len(self._until) > _REMEMBERED:
            self._until.popitem(last=False)
        if answer.status != HTTPStatus.OK:
            log.warning("the group service %s answers with status %d", service.url, answer.status)
            return None
        return Telling(f"gms {service.url}", _listed(service, answer.body), now, until)


def _listed(service: GroupServiceSettings, body: bytes) -> frozenset[str]:
    """Read a list of groups, a name or a URI on each line; none, if there is anything else."""
    lines = [line.strip() for line in body.decode(errors="replace").splitlines()]
    uris = [_uri(service, line) for line in lines if line]
    if len(uris) > _MOST or None in uris:
        log.warning("the group service %s answers with what is no list of its groups", service.url)
        return frozenset()
    return frozenset(uri for uri in uris if uri)


def _uri(service: GroupServiceSettings, line: str) -> str | None:
    for prefix in service.prefixes:
        if line.startswith(prefix):
            return line if _GROUP.fullmatch(line[len(prefix) :]) else None
    return service.prefixes[0] + line if _GROUP.fullmatch(line) and "://" not in line else None
