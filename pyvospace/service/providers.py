"""One OpenID provider as the service sees it: its discovery document, its keys, what it says of opaque tokens.

Strangers choose what stands in a token. So nobody makes us ask more often than the settings say: a key that is not
known is looked for by one request for all who wait, at most once a minute; and what is known serves on while the
provider is away.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pyvospace.model.faults import ServiceBusy
from pyvospace.service import jwts
from pyvospace.service.jwts import Key, KeySet, TokenRefused, Unverified
from pyvospace.service.trusted import NoAnswerError

if TYPE_CHECKING:
    from pyvospace.config.credentials import ProviderSettings
    from pyvospace.service.trusted import Trusted

log = logging.getLogger(__name__)

DISCOVERY: Final = "/.well-known/openid-configuration"
_FIRST: Final = 5.0
"""Seconds between two requests while no key is known at all: a provider that starts after us is soon found."""
_AWAY: Final = 5.0
"""Seconds for which a provider that does not answer is asked about no token."""
_AT_ONCE: Final = 8
"""Questions about opaque tokens at the same time."""
_REFUSALS: Final = 10_000
_REFUSED_FOR: Final = 60.0
"""Seconds for which an opaque token stays refused."""


class Provider:
    """An OpenID provider.

    Parameters
    ----------
    trusted
        Asks it; entered by whoever made it.
    """

    def __init__(self, settings: ProviderSettings, trusted: Trusted) -> None:
        self.settings = settings
        self._trusted = trusted
        self._keys: KeySet | None = None
        self._document: Mapping[str, Any] = {}
        self._asked = self._fetched = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._questions = asyncio.Semaphore(_AT_ONCE)
        self._away = float("-inf")
        self._refused: OrderedDict[bytes, float] = OrderedDict()

    async def key(self, token: Unverified) -> Key:
        """Give the key that a token names.

        Raises
        ------
        TokenRefused
            The provider has no such key.
        ServiceBusy
            Nothing is known of its keys: it does not answer.
        """
        if token.algorithm not in self.settings.algorithms:
            raise TokenRefused("its algorithm is not accepted")
        known = self._keys is not None and token.kid in self._keys
        if not known or time.monotonic() - self._fetched > self.settings.renew:
            self._begin()
        if not known and self._fetching is not None:
            await asyncio.shield(self._fetching)
        if self._keys is None:
            raise ServiceBusy(f"{self.settings.issuer} does not answer, so that its tokens cannot be checked")
        key = self._keys.find(token)
        if key is None:
            raise TokenRefused("its key is not known, or not meant for its algorithm")
        return key

    async def introspect(self, token: str) -> Mapping[str, Any] | None:
        """Ask the provider about an opaque token (RFC 7662); None: it does not know it.

        Raises
        ------
        ServiceBusy
            It does not answer.
        """
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        if self._refused.get(digest, 0.0) > time.monotonic():
            return None
        try:
            async with self._questions:
                claims = await self._ask_about(token)
        except NoAnswerError as error:
            if time.monotonic() >= self._away:
                log.warning("%s does not answer about a token: %s", self.settings.issuer, error)
                self._away = time.monotonic() + _AWAY
            raise ServiceBusy(f"{self.settings.issuer} does not answer, so that its tokens cannot be checked") from None
        if claims is None:
            self._refused[digest] = time.monotonic() + _REFUSED_FOR
            while len(self._refused) > _REFUSALS:
                self._refused.popitem(last=False)
        return claims

    async def close(self) -> None:
        """Stop asking."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _begin(self) -> None:
        """Fetch the keys, unless that is being done or was done a moment ago."""
        pause = self.settings.refetch if self._keys is not None else min(_FIRST, self.settings.refetch)
        running = self._fetching is not None and not self._fetching.done()
        if not running and time.monotonic() - self._asked >= pause:
            self._asked = time.monotonic()
            self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        issuer = self.settings.issuer
        try:
            self._document = await self._discover()
            answer = await self._trusted.ask_json(self._endpoint("jwks_uri"))
            self._keys = KeySet(answer, self.settings.algorithms)
        except (NoAnswerError, TokenRefused) as error:
            log.warning("the keys of %s cannot be had: %s", issuer, error)
            return
        self._fetched = time.monotonic()
        log.info("fetched the keys of %s", issuer)

    async def _discover(self) -> Mapping[str, Any]:
        issuer = self.settings.issuer
        document = await self._trusted.ask_json(issuer.removesuffix("/") + DISCOVERY)
        if not isinstance(document, dict) or document.get("issuer") != issuer:
            raise NoAnswerError("its discovery document names another issuer: write it in the settings as it does")
        return document

    def _endpoint(self, name: str) -> str:
        url = self._document.get(name)
        if not isinstance(url, str) or not (self.settings.plain_http or url.startswith("https:")):
            raise NoAnswerError(f"its discovery document names no {name} by https")
        return url

    async def _ask_about(self, token: str) -> Mapping[str, Any] | None:
        settings = self.settings
        if settings.client_id is None or settings.client_secret is None:
            return None
        if time.monotonic() < self._away:
            raise NoAnswerError("it did not a moment ago")
        if not self._document:
            self._document = await self._discover()
        login = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret.get_secret_value(), safe='')}"
        answer = await self._trusted.ask_json(
            self._endpoint("introspection_endpoint"),
            headers={"Authorization": f"Basic {b64encode(login.encode()).decode()}"},
            form={"token": token, "token_type_hint": "access_token"},
        )
        if not isinstance(answer, dict) or answer.get("active") is not True:
            return None
        return self._believed(answer)

    def _believed(self, claims: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check what the provider says of an active token as the claims of a signed one are checked.

        Raises
        ------
        TokenRefused
            It is for somebody else, or no access token.
        """
        named = {"client_id": claims["client_id"]} if isinstance(claims.get("client_id"), str) else {}
        whom = claims if claims.get("aud") else {**claims, "aud": named.get("client_id", "")}
        jwts.check_claims({"iss": self.settings.issuer, **whom}, expected(self.settings))
        if str(claims.get("token_type", "Bearer")).lower() not in {"bearer", "access_token"}:
            raise TokenRefused("it is no access token")
        jwts.refuse_others(claims)
        return claims


def expected(settings: ProviderSettings) -> jwts.Expected:
    """Give what its tokens have to say."""
    return jwts.Expected(
        issuer=settings.issuer,
        audiences=settings.audience,
        algorithms=settings.algorithms,
        leeway=settings.leeway,
    )
