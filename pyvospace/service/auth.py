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

from aiohttp import web

from pyvospace.config.credentials import LoginSettings
from pyvospace.db import identities
from pyvospace.db.passwords import hash_password, password_fits
from pyvospace.model.callers import ANONYMOUS, Caller, Origin
from pyvospace.model.faults import NotAuthenticated
from pyvospace.service.throttle import Throttle

if TYPE_CHECKING:
    from pyvospace.db.pool import Database

_REMEMBERED: Final = 10_000
_MEMORY: Final = 60.0
"""Seconds for which a caller is remembered."""
_MAX_CREDENTIAL: Final = 8192
BY_PASSWORD: Final = "password"  # noqa: S105 - a word, no secret
"""What a caller shows who has shown his password (see `Caller.credential`)."""

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
    def origin(self) -> Origin:
        """Say where the request came from."""
        return Origin(self.remote, self.request)

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
    """Identifies callers by bearer token, by name and password, or by certificate.

    Parameters
    ----------
    logins
        What happens to those who come with wrong credentials; None: what happens by default.
    bearers
        Kinds of bearer tokens besides our own, in the order in which they are asked.
    """

    def __init__(
        self, database: Database, *, logins: LoginSettings | None = None, bearers: Sequence[BearerMethod] = ()
    ) -> None:
        self._database = database
        self._bearers: tuple[BearerMethod, ...] = (ApiTokens(database), *bearers)
        self._throttle = Throttle(database, logins or LoginSettings())
        self._callers: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._running: dict[tuple[bytes, str], asyncio.Task[Caller]] = {}
        self._checks = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self._nobody = hash_password(secrets.token_hex())

    async def identify(self, presented: Presented) -> Caller:
        """Say whose credential this is; anonymous without one. A header goes before a certificate.

        Raises
        ------
        NotAuthenticated
            It is not valid: never silently anonymous.
        TooManyAttempts
            Too many have come that were not.
        """
        return (await self._identify(presented)).coming(presented.origin)

    async def _identify(self, presented: Presented) -> Caller:
        if presented.nothing:
            return ANONYMOUS
        key = _key(presented)
        known = self._callers.get(key)
        if known and time.monotonic() < known[1] and not _expired(known[0]):
            return known[0]
        caller = await self._check_once(key, presented)
        self._callers[key] = (caller, time.monotonic() + _MEMORY)
        self._callers.move_to_end(key)
        while len(self._callers) > _REMEMBERED:
            self._callers.popitem(last=False)
        return caller

    def forget(self, presented: Presented) -> None:
        """Identify this credential anew at its next use."""
        self._callers.pop(_key(presented), None)

    async def by_password(self, name: str, password: str, remote: str) -> Caller:
        """Say who has this name and this password.

        Raises
        ------
        NotAuthenticated
            Nobody, or he is disabled: which, nobody is told.
        TooManyAttempts
            Too many have come that were wrong.
        """
        counted = await self._throttle.begin_password(name, remote)
        found = await identities.by_name(self._database, name)
        # The same work for a name that does not exist, so that names cannot be found out by the clock.
        kept = (found[1] if found else None) or self._nobody
        async with self._checks:
            right = await asyncio.to_thread(password_fits, kept, password)
        if found is None or found[1] is None or not right:
            raise NotAuthenticated("name or password is wrong", invalid=True)
        await self._throttle.forgive(counted)
        return replace(found[0], credential=BY_PASSWORD)

    async def _check_once(self, key: bytes, presented: Presented) -> Caller:
        """Check a credential once for all who come with it at the same time: a client with many connections is one."""
        place = key, presented.remote
        if place not in self._running:
            task = self._running[place] = asyncio.create_task(self._check(presented))
            task.add_done_callback(lambda done: self._checked(place, done))
        return await asyncio.shield(self._running[place])

    def _checked(self, place: tuple[bytes, str], done: asyncio.Task[Caller]) -> None:
        del self._running[place]
        if not done.cancelled():
            done.exception()  # whoever waited for it may have gone

    async def _check(self, presented: Presented) -> Caller:
        scheme, _, credential = (presented.authorization or "").strip().partition(" ")
        if scheme.lower() == "basic" and len(credential) <= _MAX_CREDENTIAL:
            return await self.by_password(*_name_and_password(credential.strip()), presented.remote)
        try:
            return await self._check_other(presented)
        except NotAuthenticated:
            await self._throttle.wrong(presented.remote)
            raise

    async def _check_other(self, presented: Presented) -> Caller:
        if presented.authorization is None:
            return await self._check_certificate(presented.certificate or "")
        scheme, _, credential = presented.authorization.strip().partition(" ")
        if len(credential) > _MAX_CREDENTIAL:
            raise NotAuthenticated("the credential is too long", invalid=True)
        if scheme.lower() != "bearer":
            raise NotAuthenticated("only Bearer and Basic are understood", invalid=True)
        for method in self._bearers:
            if caller := await method.identify(credential.strip()):
                return caller
        raise NotAuthenticated("the token is wrong, expired or revoked", invalid=True)

    async def _check_certificate(self, name: str) -> Caller:
        found = await identities.by_identity(self._database, "x509", "", name)
        if found is None:
            raise NotAuthenticated(f"no user is linked with the name in your certificate, which is {name}")
        return replace(found[0], credential=f"x509 {name}")


def _key(presented: Presented) -> bytes:
    """Give what a credential is remembered by: nobody finds a password in our memory."""
    shown = f"{presented.authorization!r} {presented.certificate!r}"
    return hashlib.sha256(shown.encode("utf-8", "replace")).digest()


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


AUTHENTICATOR: Final = web.AppKey("authenticator", Authenticator)
