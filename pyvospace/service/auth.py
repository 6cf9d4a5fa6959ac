"""Who calls: the credentials of a request become a `Caller`, and nothing else in the service looks at them.

Callers are remembered for a while. That is safe because whoever decides about rights compares the caller's epoch
with the catalogue's (see `pyvospace.model.callers`): a revoked token is refused at its next use.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from pyvospace.db import identities
from pyvospace.db.passwords import hash_password, password_fits
from pyvospace.model.callers import ANONYMOUS, Caller
from pyvospace.model.faults import NotAuthenticated

if TYPE_CHECKING:
    from pyvospace.db.pool import Database

_REMEMBERED: Final = 10_000
_MEMORY: Final = 60.0
"""Seconds for which a caller is remembered."""
_MAX_CREDENTIAL: Final = 8192
_Key = tuple[str | None, str | None]

_CHECKS_AT_ONCE: Final = 2
"""Password checks at the same time: each takes 19 MiB and some ten milliseconds of a core."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a client shows of itself with a request."""

    authorization: str | None = None
    """The header."""
    certificate: str | None = None
    """Distinguished name of a client certificate that was verified, in the canonical form."""
    remote: str = ""
    """Address of the client."""
    request: str = ""
    """Id of the request."""

    @property
    def origin(self) -> str:
        """Give as JSON where the request came from (see `Caller.origin`)."""
        return f'{{"remote": "{self.remote}", "request": "{self.request}"}}'

    @property
    def nothing(self) -> bool:
        """Say whether there is no credential."""
        return self.authorization is None and self.certificate is None


class BearerMethod(Protocol):
    """A kind of bearer tokens."""

    async def identify(self, token: str) -> Caller | None:
        """Say whose token it is; None: it is of another kind, or not known here.

        Raises
        ------
        NotAuthenticated
            It is of this kind and not good: no other kind is tried.
        ServiceBusy
            Nobody can tell now.
        """
        ...


class ApiTokens:
    """Tokens that the service made itself, which it knows by their hashes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def identify(self, token: str) -> Caller | None:
        """Say whose token it is; None: it is wrong, expired or revoked."""
        return await identities.by_token(self._database, hashlib.sha256(token.encode("utf-8", "replace")).digest())


class Authenticator:
    """Identifies callers by bearer token or by name and password.

    Parameters
    ----------
    bearers
        Kinds of bearer tokens besides our own, in the order in which they are asked.
    """

    def __init__(self, database: Database, *, realm: str, bearers: Sequence[BearerMethod] = ()) -> None:
        self._database = database
        self._realm = realm
        self._bearers: tuple[BearerMethod, ...] = (ApiTokens(database), *bearers)
        self._callers: OrderedDict[_Key, tuple[Caller, float]] = OrderedDict()
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self._nobody = hash_password(secrets.token_hex())

    def challenges(self, *, invalid: bool) -> list[str]:
        """Give a challenge for each way to log in; `invalid`: a credential was sent and refused."""
        return challenges(self._realm, invalid=invalid)

    async def identify(self, presented: Presented) -> Caller:
        """Say whose credential this is; anonymous without one. A header goes before a certificate.

        Raises
        ------
        NotAuthenticated
            It is not valid: never silently anonymous.
        """
        return replace(await self._identify(presented), origin=presented.origin)

    async def _identify(self, presented: Presented) -> Caller:
        if presented.nothing:
            return ANONYMOUS
        key = _key(presented)
        known = self._callers.get(key)
        if known and time.monotonic() < known[1] and not _expired(known[0]):
            return known[0]
        caller = await self._check(presented)
        self._callers[key] = (caller, time.monotonic() + _MEMORY)
        self._callers.move_to_end(key)
        while len(self._callers) > _REMEMBERED:
            self._callers.popitem(last=False)
        return caller

    def forget(self, presented: Presented) -> None:
        """Identify this credential anew at its next use."""
        self._callers.pop(_key(presented), None)

    async def _check(self, presented: Presented) -> Caller:
        authorization = presented.authorization or ""
        scheme, _, credential = authorization.strip().partition(" ")
        if len(authorization) > _MAX_CREDENTIAL:
            raise NotAuthenticated("the credential is too long", invalid=True)
        if scheme.lower() == "bearer":
            return await self._check_token(credential.strip())
        if scheme.lower() == "basic":
            return await self._check_password(credential.strip())
        raise NotAuthenticated("only Bearer and Basic are understood", invalid=True)

    async def _check_token(self, token: str) -> Caller:
        for method in self._bearers:
            if caller := await method.identify(token):
                return caller
        raise NotAuthenticated("the token is wrong, expired or revoked", invalid=True)

    async def _check_password(self, credential: str) -> Caller:
        name, password = _name_and_password(credential)
        found = await identities.by_name(self._database, name)
        # The same work for a name that does not exist, so that names cannot be found out by the clock.
        kept = (found[1] if found else None) or self._nobody
        async with self._checks:
            right = await asyncio.to_thread(password_fits, kept, password)
        if found is None or found[1] is None or not right:
            raise NotAuthenticated("name or password is wrong", invalid=True)
        return replace(found[0], credential="password")


def _key(presented: Presented) -> _Key:
    return presented.authorization, presented.certificate


def challenges(realm: str, *, invalid: bool = False) -> list[str]:
    """Give a challenge for each way to log in (RFC 9110, 11.6.1; RFC 6750, 3)."""
    error = ', error="invalid_token", error_description="the token is wrong, expired or revoked"'
    return [f'Bearer realm="{realm}"{error if invalid else ""}', f'Basic realm="{realm}"']


def _name_and_password(credential: str) -> tuple[str, str]:
    try:
        name, colon, password = base64.b64decode(credential, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name = colon = password = ""
    if not colon or "\0" in name:
        raise NotAuthenticated("the credential is not well encoded", invalid=True)
    return name, password


def _expired(caller: Caller) -> bool:
    return caller.expires is not None and caller.expires <= datetime.now(UTC)
