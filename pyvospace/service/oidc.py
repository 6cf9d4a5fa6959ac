"""Callers by OpenID Connect: an access token of a provider that the operator trusts becomes one of our users.

Who he is follows from issuer and subject alone. A name or an e-mail address is something that providers let people
choose, so neither ever leads to a user who is there already.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shlex
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pyvospace.db import identities, outside
from pyvospace.db.bootstrap import make_home
from pyvospace.model.callers import NOBODY, Caller, Scope, TokenRight, limited
from pyvospace.model.faults import NotAuthenticated, PermissionDenied
from pyvospace.service import jwts
from pyvospace.service.groups import GroupServices, Telling, groups_in
from pyvospace.service.jwts import TokenRefused
from pyvospace.service.providers import DISCOVERY, Provider, expected

if TYPE_CHECKING:
    from pyvospace.config import Settings
    from pyvospace.config.credentials import ProviderSettings
    from pyvospace.db.pool import Database
    from pyvospace.service.trusted import Trusted

log = logging.getLogger(__name__)

KIND: Final = "oidc"
_NAME: Final = re.compile(r"(?!u[0-9a-f]{12}$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A name that somebody may choose: none that could be derived for somebody else."""
_OURS: Final = re.compile(r"[0-9a-f]{64}")
"""An API token of ours, revoked perhaps: nobody else is asked about it."""
_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that is good."""

    provider: ProviderSettings
    token: str = field(repr=False)
    claims: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        """Who made it."""
        return self.provider.issuer

    @property
    def subject(self) -> str:
        """Whose it is, in the issuer's words."""
        return str(self.claims["sub"])

    @property
    def expires(self) -> datetime:
        """When it ends."""
        return datetime.fromtimestamp(jwts.seconds(self.claims, "exp") or 0, UTC)

    @property
    def made(self) -> datetime:
        """When it was made; if it does not say so, its end serves as well to tell old ones from new ones."""
        return datetime.fromtimestamp(jwts.seconds(self.claims, "iat") or self.expires.timestamp(), UTC)


class Issuers:
    """The providers whose tokens are accepted.

    Parameters
    ----------
    trusted
        Asks them.
    """

    def __init__(self, settings: Settings, database: Database, trusted: Trusted) -> None:
        self._database = database
        self._homes = settings.homes
        self._providers = {one.issuer: Provider(one, trusted) for one in settings.oidc}
        self._opaque = [one for one in self._providers.values() if one.settings.client_id is not None]
        self._services = GroupServices(settings.gms, trusted)
        self._told: OrderedDict[int, datetime] = OrderedDict()

    async def identify(self, token: str) -> Caller | None:
        """Say whose token it is; None: it is none of theirs.

        Raises
        ------
        NotAuthenticated
            It is not good.
        PermissionDenied
            It is, but its subject is no user here, or it has none of the scopes that are wanted.
        ServiceBusy
            Its issuer cannot be asked.
        """
        try:
            verified = await (self._verify(token) if jwts.looks_like_one(token) else self._ask(token))
        except TokenRefused as refused:
            log.info("a token was refused: %s", refused)
            raise NotAuthenticated(f"the token is not accepted: {refused}", invalid=True) from None
        return None if verified is None else await self._caller(verified)

    async def close(self) -> None:
        """Stop asking."""
        for provider in self._providers.values():
            await provider.close()

    async def _verify(self, text: str) -> Verified:
        token = jwts.read(text)
        issuer = token.claims.get("iss")
        provider = self._providers.get(issuer) if isinstance(issuer, str) else None
        if provider is None:
            raise TokenRefused("its issuer is not one of ours")
        claims = jwts.check(token, await provider.key(token), expected(provider.settings))
        jwts.refuse_others(claims)
        _check_requirements(provider.settings, claims)
        return Verified(provider.settings, text, claims)

    async def _ask(self, text: str) -> Verified | None:
        if _OURS.fullmatch(text) or not (text.isascii() and text.isprintable()):
            return None
        for provider in self._opaque:
            claims = await provider.introspect(text)
            if claims is not None:
                _check_requirements(provider.settings, claims)
                return Verified(provider.settings, text, claims)
        return None

    async def _caller(self, verified: Verified) -> Caller:
        found = await self._find(verified) or await self._welcome(verified)
        caller, identity = found
        if await self._tell(caller, identity, verified):
            caller, _ = await self._find(verified) or found
        ends = self._services.end(caller.id, verified.issuer)
        named = replace(
            caller,
            credential=f"{KIND} {verified.issuer} {verified.subject}",
            expires=min(verified.expires, ends) if ends else verified.expires,
        )
        return limited(named, scope_of(verified.provider, verified.claims))

    async def _find(self, verified: Verified) -> tuple[Caller, int] | None:
        return await identities.by_identity(self._database, KIND, verified.issuer, verified.subject)

    async def _welcome(self, verified: Verified) -> tuple[Caller, int]:
        """Make a user for somebody who comes for the first time."""
        who = f"{verified.subject!r} of {verified.issuer}"
        if not verified.provider.provision:
            hint = f"pyvospace user link NAME --{KIND} {verified.issuer} {shlex.quote(verified.subject)}"
            raise PermissionDenied(f"{who} is no user of this space yet; its operator makes him one: {hint}")
        proposed = verified.claims.get(verified.provider.name_claim)
        wanted = proposed if isinstance(proposed, str) and _NAME.fullmatch(proposed) and proposed != NOBODY else ""
        derived = "u" + hashlib.sha256(f"{verified.issuer}\n{verified.subject}".encode()).hexdigest()[:12]
        for name in (wanted, ""):
            made = await outside.provision(
                self._database, name, derived, issuer=verified.issuer, subject=verified.subject
            )
            if made is not None:
                log.info("made the user %s for %s", made, who)
                await make_home(self._database, made, parent=self._homes.path, quota=self._homes.quota)
            if found := await self._find(verified):
                return found
        raise NotAuthenticated("the user of this token is disabled", invalid=True)

    async def _tell(self, caller: Caller, identity: int, verified: Verified) -> bool:
        """Let the catalogue know what is new about the groups of a caller; say whether anything may be."""
        claimed = self._claimed(caller, identity, verified)
        asked = await self._services.ask(caller.id, verified.issuer, verified.token)
        for one in (*claimed, *asked):
            await outside.tell_groups(
                self._database, caller.id, one.source, sorted(one.uris), told=one.told, until=one.until
            )
        return bool(claimed or asked)

    def _claimed(self, caller: Caller, identity: int, verified: Verified) -> list[Telling]:
        """Give what a token tells of groups, unless that is known, or older than what is known."""
        provider = verified.provider
        if provider.groups_claim is None:
            return []
        key, made, uris = identity, verified.made, groups_in(provider, verified.claims)
        known = self._told.get(key)
        if known is not None and (known > made or (known == made and uris <= set(caller.groups))):
            return []
        self._told[key] = made
        self._told.move_to_end(key)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        life = provider.group_life
        until = verified.expires if life is None else datetime.now(UTC) + timedelta(seconds=life)
        return [Telling(f"{KIND} {identity}", uris, made, until)]


def scope_of(provider: ProviderSettings, claims: Mapping[str, Any]) -> Scope | None:
    """Say how far the scopes of a token go; None: as far as the rights of its user.

    Raises
    ------
    PermissionDenied
        They allow nothing here.
    """
    held = _scopes(claims)
    may_read = provider.read_scope is None or provider.read_scope in held
    may_write = provider.write_scope is None or provider.write_scope in held
    if may_read and may_write:
        return None
    if not may_read and not may_write:
        raise PermissionDenied(f"the token needs the scope {provider.read_scope} or {provider.write_scope}")
    return Scope(frozenset({TokenRight.READ} if may_read else {TokenRight.WRITE, TokenRight.SHARE}))


def _check_requirements(provider: ProviderSettings, claims: Mapping[str, Any]) -> None:
    """Refuse a token that lacks what the operator asks of all.

    Raises
    ------
    PermissionDenied
        It does.
    """
    if missing := set(provider.required_scopes) - _scopes(claims):
        raise PermissionDenied(f"the token needs the scope {min(missing)}")
    for name, value in provider.required_claims.items():
        found = claims.get(name)
        if value not in (found if isinstance(found, list) else [found]):
            raise PermissionDenied(f"the token needs the claim {name} with a value that this space asks for")


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """Give the scopes of a token: words between spaces (RFC 8693), or a list as some write it."""
    named = claims.get("scope", claims.get("scp", ""))
    if isinstance(named, str):
        return set(named.split())
    return {one for one in named if isinstance(one, str)} if isinstance(named, list) else set()


def challenges(settings: Settings) -> list[str]:
    """Say where tokens can be had: a challenge for each provider, with its discovery document.

    The client and the scopes, which no standard names, are for `pyvospace login --oidc`.
    """
    return [
        "ivoa_bearer "
        + ", ".join(
            f'{name}="{value}"'
            for name, value in (
                ("standard_id", "ivo://ivoa.net/sso#OpenID"),
                ("access_url", one.issuer),
                ("discovery_url", one.issuer.removesuffix("/") + DISCOVERY),
                ("client_id", one.login_client),
                ("scope", " ".join(one.login_scopes) if one.login_client else None),
            )
            if value is not None
        )
        for one in settings.oidc
    ]
