"""Providers and group services: whom we ask, how often, and what we make of the answer (T3, T5, T6, I29, I30)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from pyvospace.config import Settings
from pyvospace.config.credentials import ProviderSettings
from pyvospace.model.faults import ServiceBusy
from pyvospace.service import jwts
from pyvospace.service.groups import GroupServices, groups_in
from pyvospace.service.jwts import TokenRefused
from pyvospace.service.providers import Provider
from pyvospace.service.trusted import Trusted
from tests.support.provider import AUDIENCE, MadeUpIssuer, claims, new_key, public, sign

KEY, EC_KEY = new_key("one"), new_key("two", "ES256")
DISCOVERY = "/.well-known/openid-configuration"


def settings(url: str, **changes: Any) -> Settings:
    told = {"issuer": url, "audience": [AUDIENCE], "plain_http": True, **changes}
    asked = {"url": f"{url}/search", "prefixes": ["ivo://there/gms?"], "issuers": [url], "plain_http": True}
    return Settings.model_validate({"oidc": [told], "gms": [asked]})


@pytest.fixture
def issuer() -> Iterator[MadeUpIssuer]:
    made = MadeUpIssuer([KEY, EC_KEY])
    yield made
    made.close()


@pytest.fixture
async def trusted(issuer: MadeUpIssuer) -> AsyncIterator[Trusted]:
    async with Trusted(settings(issuer.url)) as opened:
        yield opened


def provider(issuer: MadeUpIssuer, trusted: Trusted, **changes: Any) -> Provider:
    return Provider(settings(issuer.url, **changes).oidc[0], trusted)


async def test_keys_are_fetched_once_for_all_who_wait(issuer: MadeUpIssuer, trusted: Trusted) -> None:
    asked = provider(issuer, trusted)
    token = jwts.read(sign(KEY, claims(issuer.url)))
    await asyncio.gather(*(asked.key(token) for _ in range(50)))
    assert issuer.asked == [DISCOVERY, "/keys"]
    strange = jwts.read(sign(new_key("strange"), claims(issuer.url)))
    results = await asyncio.gather(*(asked.key(strange) for _ in range(50)), return_exceptions=True)
    assert {type(one) for one in results} == {TokenRefused}
    assert len(issuer.asked) == 2  # the first fetch was a moment ago


@pytest.mark.parametrize("path", [DISCOVERY, "/keys"])
@pytest.mark.parametrize(
    "answer",
    [
        (302, b"{}", {"Location": "/other"}),
        (500, b"{}", {}),
        (200, b"no JSON", {}),
        (200, b"\xff", {}),
        (200, b"[" * 100_000, {}),
        (200, b'{"issuer": "https://elsewhere.example.org"}', {}),
        (200, b'{"keys": 7}', {}),
        (200, b" " * 300_000, {}),
    ],
    ids=["redirect", "error", "no JSON", "no text", "deep", "another issuer", "no list", "too large"],
)
async def test_no_answer_of_use(
    issuer: MadeUpIssuer, trusted: Trusted, path: str, answer: tuple[int, bytes, dict[str, str]]
) -> None:
    issuer.answers["/other"] = issuer.answers[path]
    issuer.answers[path] = answer
    with pytest.raises(ServiceBusy):
        await provider(issuer, trusted).key(jwts.read(sign(KEY, claims(issuer.url))))
    assert "/other" not in issuer.asked


async def test_a_provider_leads_us_nowhere(issuer: MadeUpIssuer) -> None:
    """What it says of itself is not believed about our own network: only its host is allowed."""
    here = issuer.url.replace("127.0.0.1", "localhost")
    document = {"issuer": here, "jwks_uri": f"{issuer.url}/keys"}
    issuer.answers[DISCOVERY] = (200, json.dumps(document).encode(), {})
    token = jwts.read(sign(KEY, claims(here)))
    async with Trusted(settings(here)) as trusted:
        with pytest.raises(ServiceBusy):
            await Provider(settings(here).oidc[0], trusted).key(token)
    assert issuer.asked == [DISCOVERY]
    allowing = settings(here, hosts=["127.0.0.1"])
    async with Trusted(allowing) as trusted:
        await Provider(allowing.oidc[0], trusted).key(token)


async def test_a_provider_that_is_away_keeps_nobody_waiting(issuer: MadeUpIssuer, trusted: Trusted) -> None:
    asked = provider(issuer, trusted, client_id="space", client_secret="secret")
    issuer.answers[DISCOVERY] = (500, b"", {})
    results = await asyncio.gather(*(asked.introspect(f"opaque{n}") for n in range(100)), return_exceptions=True)
    assert {type(one) for one in results} == {ServiceBusy}
    assert len(issuer.asked) <= 8


def test_keys_of_no_use_are_left_out() -> None:
    short = {**public(KEY), "n": public(KEY)["n"][:100], "kid": "short"}
    keys = [
        {**public(KEY), "use": "enc"},
        {**public(KEY), "key_ops": ["encrypt"]},
        {**public(KEY), "alg": "RS512"},
        {**public(KEY), "kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        {**public(KEY), "kid": 7},
        {**public(EC_KEY), "crv": "P-384"},
        {"kty": "RSA", "kid": "one"},
        {"kty": "RSA", "kid": "one", "n": "!", "e": "AQAB"},
        {"kty": "EC", "kid": "two", "crv": "P-256", "x": "AA", "y": "AA"},
        short,
        "no key",
    ]
    for token in (sign(KEY, claims("x")), sign(EC_KEY, claims("x")), sign({**KEY, "kid": "short"}, claims("x"))):
        for key in keys:
            assert jwts.KeySet({"keys": [key]}, ["RS256", "ES256"]).find(jwts.read(token)) is None, key
    token = sign(KEY, claims("x"), kid=None)
    assert jwts.KeySet({"keys": [public(KEY)]}, ["RS256"]).find(jwts.read(token)) is not None
    assert jwts.KeySet({"keys": [public(KEY), public(EC_KEY)]}, ["RS256", "ES256"]).find(jwts.read(token)) is None


async def test_tokens_of_other_issuers_are_not_shown(issuer: MadeUpIssuer, trusted: Trusted) -> None:
    services = GroupServices(settings(issuer.url).gms, trusted)
    assert await services.ask(1, "https://elsewhere.example.org", "token") == []
    assert issuer.asked == []
    issuer.answers["/search"] = (200, b"team\n", {})
    answers = await asyncio.gather(*(services.ask(1, issuer.url, "token") for _ in range(20)))
    assert answers[0][0].uris == {"ivo://there/gms?team"}
    assert issuer.asked == ["/search"]
    assert await services.ask(1, issuer.url, "token") == []


@pytest.mark.parametrize(
    ("claim", "told", "names"),
    [
        ("groups", {"groups": ["/a/b", "c d", "é"]}, {"a/b", "c%20d", "%C3%A9"}),
        ("groups", {"groups": "one"}, {"one"}),
        ("realm_access.roles", {"realm_access": {"roles": ["r"]}}, {"r"}),
        ("wlcg.groups", {"wlcg.groups": ["/x"]}, {"x"}),
        ("https://example.org/groups", {"https://example.org/groups": ["y"]}, {"y"}),
        ("groups", {}, set()),
        ("a.b.c", {"a": {"b": 7}}, set()),
        ("groups", {"groups": ["a"] * 1001}, set()),
        ("groups", {"groups": ["\ud800"]}, {"%3F"}),
    ],
)
def test_groups_of_claims(claim: str, told: dict[str, Any], names: set[str]) -> None:
    trusting = settings("https://p", groups_claim=claim, group_prefix="ivo://p/gms?").oidc[0]
    assert groups_in(trusting, told) == {f"ivo://p/gms?{name}" for name in names}


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://p", "plain_http": False},
        {"issuer": "https://user@p"},
        {"issuer": "https://p?x"},
        {"audience": []},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"leeway": 61},
        {"client_id": "alone"},
        {"groups_claim": "alone"},
    ],
    ids=str,
)
def test_unsafe_settings_of_providers(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProviderSettings.model_validate({"issuer": "https://p", "audience": ["x"], **wrong})


@pytest.mark.parametrize("prefix", ["ivo://localhost/space/gms?", "ivo://localhost/", "ivo://cadc.nrc.ca/gms?x"])
def test_nobody_else_tells_of_local_groups(prefix: str) -> None:
    with pytest.raises(ValidationError, match="local groups"):
        settings("https://p", groups_claim="g", group_prefix=prefix)
    asked = {"url": "https://g", "prefixes": ["ivo://g/gms?"], "issuers": ["https://p"]}
    with pytest.raises(ValidationError, match="no issuer"):
        Settings.model_validate({"gms": [asked]})
