"""Whatever stands in a token: it is good, or it is refused, and nothing else happens (I32)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jose import jws, jwt

from pyvospace.service import jwts

SECRET = b"s" * 32
EXPECTED = jwts.Expected(issuer="us", audiences=("here",), algorithms=(jwts.HMAC,))
GOOD = {"iss": "us", "aud": "here", "sub": "somebody", "exp": time.time() + 3600}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([10**400, -(10**400)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
NAMES = ["iss", "aud", "sub", "exp", "nbf", "iat", "cnf", "typ", "nonce", "scope"]
HEADERS = ["alg", "kid", "typ", "cty", "crit", "jwk", "zip", "x"]


def part(value: object) -> str:
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def sealed(header: object, claims: object) -> str:
    """Sign rightly, whatever it is."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{base64.urlsafe_b64encode(hmac.digest(SECRET, text.encode(), hashlib.sha256)).decode().rstrip('=')}"


@given(
    st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=2),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3),
)
def test_any_header_and_any_claims(header: dict[str, object], claims: dict[str, object]) -> None:
    with suppress(jwts.TokenRefused):
        token = jwts.read(sealed({"alg": jwts.HMAC, "kid": "k"} | header, GOOD | claims))
        found = jwts.check_own(token, SECRET, EXPECTED)
        jwts.refuse_others(found)
        assert found["iss"] == "us"
        assert found["aud"] == "here" or "here" in found["aud"]
        assert found["sub"].isprintable()
        assert found["exp"] > time.time() - 1
        assert not {"crit", "jwk", "zip", "cty"} & header.keys()


@given(st.text(alphabet="eyJ.AQ_-=é\0", max_size=60) | st.text(max_size=60))
def test_any_text(text: str) -> None:
    with suppress(jwts.TokenRefused):
        jwts.read(text)


@given(
    VALUES, st.dictionaries(st.sampled_from(["kty", "kid", "use", "alg", "key_ops", "n", "e", "crv", "x", "y"]), VALUES)
)
def test_any_set_of_keys(document: object, key: dict[str, object]) -> None:
    for one in (
        document,
        {"keys": document},
        {"keys": [key, {"kty": "RSA", **key}, {"kty": "EC", "crv": "P-256", **key}]},
    ):
        with suppress(jwts.TokenRefused):
            jwts.KeySet(one, list(jwts.ASYMMETRIC))


def test_a_good_token_is_good() -> None:
    token = jwts.read(sealed({"alg": jwts.HMAC, "kid": "k"}, GOOD))
    assert jwts.check_own(token, SECRET, EXPECTED)["sub"] == "somebody"


@given(st.dictionaries(st.text(), st.text() | st.integers(), max_size=4), st.binary(min_size=32, max_size=64))
def test_the_library_makes_and_reads_the_same(claims: dict[str, object], secret: bytes) -> None:
    claims = {f"x{name}": value for name, value in claims.items()} | GOOD
    ours, theirs = jwts.sign(claims, "k", secret), jwt.encode(claims, secret, headers={"kid": "k"})
    assert jwts.check_own(jwts.read(theirs), secret, EXPECTED) == claims
    assert json.loads(jws.verify(ours, secret, [jwts.HMAC])) == claims
    assert jws.get_unverified_header(ours) == jws.get_unverified_header(theirs)
    for part_of in (ours, theirs):
        with pytest.raises(jwts.TokenRefused):
            jwts.check_own(jwts.read(part_of[:-1] + ("A" if part_of[-1] != "A" else "E")), secret, EXPECTED)
