"""Tokens of OpenID providers for the command line: by a code that the user enters in a browser (RFC 8628).

How a browser of the same machine brings one is in `pyvospace.client.browsers`. The service says in its challenge which
providers it believes, and which public client asks them for tokens.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from pyvospace.client.http import Answer, Http
from pyvospace.model.faults import InvalidData, NotAuthenticated, OperationNotSupported

_CHALLENGE: Final = re.compile(r'ivoa_bearer\s+((?:\w+="[^"]*"(?:\s*,\s*)?)+)', re.IGNORECASE)
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')
_DEVICE: Final = "urn:ietf:params:oauth:grant-type:device_code"
_DEVICES: Final = "device_authorization_endpoint"
_PAUSE: Final = 5.0
"""Seconds between two questions whether the user is done, if the provider does not say."""
_LONGEST: Final = 1800.0
"""Seconds after which nobody is waited for any more."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A provider whose tokens a service believes."""

    issuer: str
    discovery_url: str
    client_id: str | None
    """Of the public client; None: the service names none."""
    scope: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider gave."""

    access: str = field(repr=False)
    expires: float | None
    """Seconds since 1970; None: it does not say."""
    refresh: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enter:
    """What the user is to do."""

    url: str
    code: str
    complete_url: str | None
    """Needs no code to be entered."""


def read_offers(challenges: list[str]) -> list[Offer]:
    """Find the providers in the challenges of a service."""
    found = []
    for parameters in _CHALLENGE.findall(", ".join(challenges)):
        named = {name.lower(): value for name, value in _PARAMETER.findall(parameters)}
        if "discovery_url" in named:
            issuer = named.get("access_url", "")
            found.append(Offer(issuer, named["discovery_url"], named.get("client_id"), named.get("scope", "openid")))
    return found


class TokenSource:
    """Gets tokens of one provider for one public client.

    Parameters
    ----------
    plain
        Whether it may be reached without TLS, as the service is itself.
    """

    def __init__(self, client_id: str, *, ca_file: Path | None = None, plain: bool = False) -> None:
        self.client = client_id
        self._ca_file = ca_file
        self._plain = plain

    async def discover(self, offer: Offer) -> Mapping[str, Any]:
        """Read the discovery document of a provider.

        Raises
        ------
        InvalidData
            It is none, or that of another one.
        """
        document = read_object(await self.ask("GET", offer.discovery_url))
        if document.get("issuer") != offer.issuer:
            raise InvalidData(f"{offer.discovery_url} is not the document of {offer.issuer}")
        return document

    async def by_device(self, document: Mapping[str, Any], scope: str, show: Callable[[Enter], None]) -> Tokens:
        """Let the user log in with a browser, wherever that is, and wait for it.

        Raises
        ------
        NotAuthenticated
            He did not, or not in time.
        OperationNotSupported
            The provider has no such way.
        """
        if _DEVICES not in document:
            raise OperationNotSupported(f"{document['issuer']} has no login by device code: try --browser")
        form = {"client_id": self.client, "scope": scope}
        answer = read_object(await self.ask("POST", str(document[_DEVICES]), form))
        if "device_code" not in answer:
            raise NotAuthenticated(reason(answer))
        complete = answer.get("verification_uri_complete")
        show(Enter(str(answer["verification_uri"]), str(answer["user_code"]), str(complete) if complete else None))
        end = time.monotonic() + min(_LONGEST, _number(answer.get("expires_in"), _LONGEST))
        pause = _number(answer.get("interval"), _PAUSE)
        code = {"grant_type": _DEVICE, "device_code": str(answer["device_code"]), "client_id": self.client}
        while time.monotonic() < end:
            await asyncio.sleep(pause)
            told = read_object(await self.ask("POST", str(document["token_endpoint"]), code))
            if told.get("error") == "slow_down":
                pause += _PAUSE
            elif told.get("error") != "authorization_pending":
                return read_tokens(told)
        raise NotAuthenticated("nobody has logged in in time")

    async def refreshed(self, endpoint: str, refresh: str) -> Tokens:
        """Get a new token for an old one.

        Raises
        ------
        NotAuthenticated
            The provider does not give one any more.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh, "client_id": self.client}
        return read_tokens(read_object(await self.ask("POST", endpoint, form)))

    async def ask(self, method: str, url: str, form: Mapping[str, str] | None = None) -> Answer:
        """Send a request to the provider; what it refuses is given like any other answer.

        Raises
        ------
        NotAuthenticated
            It would travel in the clear.
        """
        if urlsplit(url).scheme != "https" and not self._plain:
            raise NotAuthenticated(f"{url} is not https, though the service is: no token is asked for there")
        http = Http(url, ca_file=self._ca_file)
        try:
            return await http.ask(
                method,
                url,
                body=None if form is None else urlencode(form).encode(),
                headers={"Accept": "application/json"}
                | ({} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}),
                repeatable=False,
                follow=False,
                refused=False,
            )
        finally:
            await http.close()


def read_object(answer: Answer) -> dict[str, Any]:
    """Read an answer.

    Raises
    ------
    InvalidData
        It is no JSON.
    """
    try:
        found = json.loads(answer.body.decode())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidData(f"{answer.url} answers with what is no JSON (HTTP status {answer.status})")
    return found


def read_tokens(told: Mapping[str, Any]) -> Tokens:
    """Read an answer with tokens.

    Raises
    ------
    NotAuthenticated
        It has none, and perhaps says why.
    """
    access, refresh = told.get("access_token"), told.get("refresh_token")
    if not isinstance(access, str) or not isinstance(refresh, str | None):
        raise NotAuthenticated(reason(told))
    life = _number(told.get("expires_in"), 0.0)
    return Tokens(access, time.time() + life if life else None, refresh)


def reason(told: Mapping[str, Any]) -> str:
    """Say in the words of a provider why there is no token."""
    words = ": ".join(str(told[name])[:300] for name in ("error", "error_description") if name in told)
    return f"the provider gives no token ({words or 'without saying why'})"


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < _LONGEST * 1000 else default
