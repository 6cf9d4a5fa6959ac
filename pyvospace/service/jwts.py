"""JSON Web Tokens: the only module that knows python-jose.

Tokens of our own, of which each transfer makes one and reads one, are signed by HMAC alone: that takes two lines, and a
tenth of the time. For those of others the library makes and checks signatures, and takes much else on trust: a token
without audience, any algorithm, headers that it does not know, numbers that no clock has. So all of that is settled
here, before a key is looked at and after.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

from jose import jwk, jws
from jose.backends import base
from jose.exceptions import JOSEError

log = logging.getLogger(__name__)

Key = base.Key
"""Checks signatures."""

HMAC: Final = "HS256"
"""For tokens that we make for ourselves."""
ASYMMETRIC: Final = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
}
"""For tokens of others: type and curve of the key that each algorithm wants."""
LONGEST: Final = 8192
"""Bytes of a token."""

_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
_PARTS: Final = 3
_REFUSED: Final = frozenset({"b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5u", "zip"})
"""Headers that bring a key along, or change how a token is to be read."""
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_NO_ACCESS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
"""Claims of ID tokens and of logout tokens, which tell a client who somebody is and open no door."""
_BEARERS: Final = frozenset({"Bearer", "at+jwt", "JWT"})
"""What the claim typ says of access tokens, where there is one."""
_LEAST_RSA: Final = 2048
"""Bits."""
_LAST: Final = 253402300799
"""The last second that a date can have."""
_LONGEST_SUBJECT: Final = 255
_PUBLIC: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
"""Members of a key that are looked at: no certificate in it, no URL."""


class TokenRefused(Exception):
    """A token that is not good, in words that may be shown: nothing that stands in it is repeated."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token that was read, and is not believed yet."""

    text: str = field(repr=False)
    header: Mapping[str, Any]
    algorithm: str
    kid: str | None
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token has to say."""

    issuer: str
    audiences: Collection[str]
    """One of these."""
    algorithms: Collection[str]
    """One of these, and the key is meant for it."""
    leeway: float = 0.0
    """Seconds by which clocks may differ."""


def looks_like_one(text: str) -> bool:
    """Say whether a credential is to be read as a token of this kind (or as an encrypted one, and refused)."""
    return text.count(".") >= _PARTS - 1


def read(text: str) -> Unverified:
    """Read a token without believing it.

    Raises
    ------
    TokenRefused
        It is none, or wants to be handled in a way that we do not.
    """
    parts = text.split(".") if len(text) <= LONGEST else []
    if len(parts) != _PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise TokenRefused("it is no signed token, or longer than 8 KiB")
    header, claims = _header(parts[0]), _object(parts[1])
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None):
        raise TokenRefused("its header is not well formed")
    if _REFUSED & header.keys():
        raise TokenRefused(f"its header has {', '.join(sorted(_REFUSED & header.keys()))}, which is not accepted")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused("it is of another type")
    return Unverified(text, header, algorithm, kid, claims)


def check(token: Unverified, key: Key, expected: Expected) -> Mapping[str, Any]:
    """Check a token and give its claims.

    Raises
    ------
    TokenRefused
        The signature is not that of the key, or a claim is missing or says something else.
    """
    if token.algorithm not in expected.algorithms:
        raise TokenRefused("its algorithm is not accepted")
    try:
        jws.verify(token.text, key, algorithms=[token.algorithm])
    except JOSEError as error:
        log.debug("token refused: %s", error)
        raise TokenRefused("its signature is wrong") from None
    check_claims(token.claims, expected)
    return token.claims


def check_own(token: Unverified, secret: bytes, expected: Expected) -> Mapping[str, Any]:
    """Check a token of our own and give its claims.

    Raises
    ------
    TokenRefused
        As `check`.
    """
    signed, _, signature = token.text.rpartition(".")
    if token.algorithm != HMAC or not hmac.compare_digest(_mac(signed, secret), signature):
        raise TokenRefused("its signature is wrong")
    check_claims(token.claims, expected)
    return token.claims


def check_claims(claims: Mapping[str, Any], expected: Expected) -> None:
    """Check claims that are believed to be those of the issuer.

    Raises
    ------
    TokenRefused
        One is missing, or says something else than is expected.
    """
    _check_times(claims, expected.leeway)
    if claims.get("iss") != expected.issuer:
        raise TokenRefused("it is of another issuer")
    if not _audiences(claims) & set(expected.audiences):
        raise TokenRefused("it is not for this service: its audience is another one, or missing")
    if not is_subject(claims.get("sub")):
        raise TokenRefused("it does not say whose it is: sub is missing, or no plain text")


def refuse_others(claims: Mapping[str, Any]) -> None:
    """Refuse what an issuer signs with the same key, and is no access token.

    Raises
    ------
    TokenRefused
        It is an ID token, a logout token or a refresh token, or good only together with a key that nobody has shown.
    """
    if "cnf" in claims:
        raise TokenRefused("it is bound to a key (DPoP or a certificate), which is not looked at here")
    # Keycloak says in a claim what others say in the header.
    if _NO_ACCESS & claims.keys() or str(claims.get("typ", "Bearer")) not in _BEARERS:
        raise TokenRefused("it is no access token; an ID token tells who somebody is and opens nothing")


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    """Give whom a token is for."""
    named = claims.get("aud", ())
    if isinstance(named, str):
        return {named}
    return {one for one in named if isinstance(one, str)} if isinstance(named, list) else set()


def is_subject(value: object) -> bool:
    """Say whether this can be the name of somebody: short, and plain text."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_SUBJECT and value.isprintable()


def seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """Read a moment; None: it is not there.

    Raises
    ------
    TokenRefused
        It is no moment.
    """
    value = claims.get(name)
    if value is None:
        return None
    # Compared before anything else is done with it: the numbers of JSON may have thousands of digits.
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LAST <= value <= _LAST:
        raise TokenRefused(f"{name} is no moment")
    return max(0.0, float(value))


def sign(claims: Mapping[str, Any], kid: str, secret: bytes) -> str:
    """Make a token of our own."""
    header = {"typ": "JWT", "alg": HMAC, "kid": kid}
    signed = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{signed}.{_mac(signed, secret)}"


def _mac(signed: str, secret: bytes) -> str:
    return _encoded(hmac.digest(secret, signed.encode("ascii"), "sha256"))


class KeySet:
    """The keys of an issuer that can check a signature by one of the accepted algorithms (RFC 7517).

    Raises
    ------
    TokenRefused
        It is no set of keys. A key in it that is of no use is left out; two of one name are both left out.
    """

    def __init__(self, document: object, algorithms: Collection[str]) -> None:
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise TokenRefused("it is no set of keys")
        useful = [one for one in entries if isinstance(one, dict) and _algorithms_of(one, algorithms)]
        names = [one.get("kid") for one in useful]
        self._keys: dict[tuple[str | None, str], Key] = {}
        for one in useful:
            if names.count(one.get("kid")) > 1:
                log.warning("two keys of an issuer have one name: neither is believed")
                continue
            for algorithm in _algorithms_of(one, algorithms):
                if key := _key(one, algorithm):
                    self._keys[one.get("kid"), algorithm] = key
        self._names = {kid for kid, _ in self._keys}

    def __contains__(self, kid: str | None) -> bool:
        """Say whether there is a key of this name; None: whether there is but one, which needs none."""
        return kid in self._names if kid is not None else len(self._names) == 1

    def find(self, token: Unverified) -> Key | None:
        """Give the key that a token names, for the token's algorithm; None: there is none."""
        kid = token.kid
        if kid is None and None in self:
            kid = next(iter(self._names))
        return self._keys.get((kid, token.algorithm))


def _algorithms_of(entry: Mapping[str, Any], algorithms: Iterable[str]) -> list[str]:
    """Give the algorithms for which a key is meant, as far as they are accepted."""
    operations = entry.get("key_ops", ["verify"])
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return []
    if not isinstance(entry.get("kid"), str | None):
        return []
    wanted = (entry.get("kty"), entry.get("crv") if entry.get("kty") == "EC" else None)
    return [one for one in algorithms if ASYMMETRIC[one] == wanted and entry.get("alg", one) == one]


def _key(entry: Mapping[str, Any], algorithm: str) -> Key | None:
    kind = entry["kty"]
    try:
        long_enough = kind != "RSA" or int.from_bytes(_decoded(entry["n"])).bit_length() >= _LEAST_RSA
        public = {"kty": kind, **{name: entry[name] for name in _PUBLIC[kind]}}
        return jwk.construct(public, algorithm) if long_enough else None
    except (JOSEError, ValueError, TypeError, KeyError) as error:
        log.warning("a key of an issuer is of no use: %s", type(error).__name__)
        return None


def _check_times(claims: Mapping[str, Any], leeway: float) -> None:
    now = time.time()
    expires, begins, issued = (seconds(claims, name) for name in ("exp", "nbf", "iat"))
    if expires is None:
        raise TokenRefused("it never expires, which is not accepted")
    if now >= expires + leeway:
        raise TokenRefused("it has expired")
    if max(begins or 0, issued or 0) > now + leeway:
        raise TokenRefused("it is not valid yet")


@lru_cache(maxsize=128)
def _header(part: str) -> Mapping[str, Any]:
    """Read a header, most of which say the same."""
    return MappingProxyType(_object(part))


def _object(part: str) -> dict[str, Any]:
    try:
        # Not json's own guess at an encoding.
        found = _READER.decode(_decoded(part).decode())
    except (ValueError, RecursionError):
        raise TokenRefused("it is not well formed") from None
    if not isinstance(found, dict):
        raise TokenRefused("it is not well formed")
    return found


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError("no base64url") from error


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


_READER: Final = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
"""Names that come twice are read differently by everybody."""
