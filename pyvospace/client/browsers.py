"""A login by a browser on this machine: authorization code with PKCE (RFC 7636, RFC 8252; OpenID Connect Core, 3.1)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from pyvospace.client.loopback import Loopback
from pyvospace.client.oidc import Tokens, TokenSource, read_object, read_tokens, reason
from pyvospace.model.faults import NotAuthenticated, OperationNotSupported
from pyvospace.service import jwts

_ENDPOINT: Final = "authorization_endpoint"
_LEEWAY: Final = 60.0
"""Seconds by which the clock of a provider may differ from ours."""
_LONGEST: Final = 900.0
"""Seconds after which nobody is waited for any more."""


async def by_browser(
    source: TokenSource, document: Mapping[str, Any], scope: str, show: Callable[[str], None]
) -> Tokens:
    """Let the user log in at a provider, and wait for it.

    The code is good for nobody else: only who has made the verifier gets a token for it (PKCE), `state` says that the
    browser comes from where we have sent it, and `nonce` that the provider answers to this question.

    Parameters
    ----------
    document
        Of the provider's discovery.
    show
        Is given the URL at which the browser is to begin.

    Raises
    ------
    NotAuthenticated
        He did not log in, or not in time, or what came is not the answer to what was asked.
    OperationNotSupported
        The provider has no such way.
    """
    if _ENDPOINT not in document:
        raise OperationNotSupported(f"{document['issuer']} has no login by browser: try --device")
    state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
    async with Loopback(state) as loopback:
        asked = {
            "response_type": "code",
            "client_id": source.client,
            "redirect_uri": loopback.url,
            "scope": scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": _text(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        if "offline_access" in scope.split():  # of which OpenID Connect says that the user is to be asked
            asked["prompt"] = "consent"
        where = str(document[_ENDPOINT])
        show(f"{where}{'&' if urlsplit(where).query else '?'}{urlencode(asked)}")
        try:
            async with asyncio.timeout(_LONGEST):
                told = await loopback.answer()
        except TimeoutError:
            raise NotAuthenticated("nobody has logged in in time") from None
    if "code" not in told or told.get("iss", document["issuer"]) != document["issuer"]:
        raise NotAuthenticated(reason(told))
    form = {"grant_type": "authorization_code", "code": told["code"], "redirect_uri": loopback.url}
    form |= {"client_id": source.client, "code_verifier": verifier}
    answer = read_object(await source.ask("POST", str(document["token_endpoint"]), form))
    tokens = read_tokens(answer)
    if "openid" in scope.split():
        await _check_identity(source, document, answer.get("id_token"), nonce)
    return tokens


async def _check_identity(source: TokenSource, document: Mapping[str, Any], text: object, nonce: str) -> None:
    """Check that an ID token is of the provider, for us, and the answer to our question."""
    keys = read_object(await source.ask("GET", str(document["jwks_uri"])))
    expected = jwts.Expected(
        issuer=str(document["issuer"]), audiences=(source.client,), algorithms=jwts.ASYMMETRIC, leeway=_LEEWAY
    )
    try:
        claims = _claims(str(text), jwts.KeySet(keys, jwts.ASYMMETRIC), expected)
    except jwts.TokenRefused as refused:
        raise NotAuthenticated(f"the ID token of the provider is not accepted: {refused}") from None
    if not hmac.compare_digest(str(claims.get("nonce")).encode(), nonce.encode()):
        raise NotAuthenticated("the ID token of the provider is the answer to another question")


def _claims(text: str, keys: jwts.KeySet, expected: jwts.Expected) -> Mapping[str, Any]:
    token = jwts.read(text)
    key = keys.find(token)
    if key is None:
        raise jwts.TokenRefused("the provider has no key of that name")
    return jwts.check(token, key, expected)


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
