"""Logging in by password, and tokens that users make for themselves (R-AUTH-010 to 023; T24)."""

from __future__ import annotations

import asyncio
import json
import uuid
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from pyvospace.config import Settings
from pyvospace.db import identities, logins
from pyvospace.db.passwords import hash_password
from pyvospace.db.pool import Database
from pyvospace.service.challenges import challenges, login_url, security_methods
from tests.server.conftest import Space
from tests.support.agents import Agent, Answer

CERTIFICATE = "tls-with-certificate"
PASSWORD = "a pass:word with é"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def name(space: Space, catalogue: Database) -> str:
    """A user with a password."""
    name = f"u{uuid.uuid4().hex[:12]}"
    await identities.add_user(catalogue, name, password=hash_password(PASSWORD), admin=False)
    return name


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


async def log_in(agent: Agent, name: str, password: str = PASSWORD, headers: Mapping[str, str] = FORM) -> Answer:
    return await agent.send("POST", "/login", urlencode({"username": name, "password": password}), headers=headers)


def with_token(space: Space, token: str) -> Agent:
    return Agent(space.session, space.pair, token)


async def ask(agent: Agent, **asked: object) -> Answer:
    """Ask for a token."""
    return await agent.send("POST", "/profile/tokens", json.dumps(asked), headers=JSON)


async def make(space: Space, agent: Agent, **asked: object) -> Agent:
    """Give somebody who comes with a new token."""
    answer = (await ask(agent, **{"name": "test", **asked})).assert_status(201)
    return with_token(space, json.loads(answer.body)["token"])


async def listed(agent: Agent) -> list[dict[str, object]]:
    answer = (await agent.send("GET", "/profile/tokens")).assert_status(200)
    found: list[dict[str, object]] = json.loads(answer.body)["items"]
    return found


# ------------------------------------------------------------------------------------------------------------- login


@pytest.mark.clause("R-AUTH-020")
@pytest.mark.parametrize("way", ["form", "basic post", "basic get"])
async def test_a_password_gives_a_token_that_ends(space: Space, nobody: Agent, name: str, way: str) -> None:
    if way == "form":
        answer = await log_in(nobody, name)
    else:
        answer = await nobody.send("POST" if "post" in way else "GET", "/login", headers=basic(name, PASSWORD))
    answer.assert_status(200)
    assert answer.headers["X-VO-Authenticated"] == name
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.text == answer.headers["X-VO-Bearer"]
    session = with_token(space, answer.text)
    (token,) = await listed(session)
    assert token["name"] == "login"
    left = datetime.fromisoformat(f"{token['expires']}") - datetime.now(UTC)
    assert timedelta(hours=11) < left <= timedelta(hours=12)
    (await session.send("DELETE", "/login")).assert_status(204)
    (await session.send("GET", "/profile/tokens")).assert_fault(401, "NotAuthenticated")


@pytest.mark.clause("T24")
async def test_wrong_passwords_and_unknown_names_are_answered_alike(nobody: Agent, name: str) -> None:
    answers = [
        await log_in(nobody, name, "wrong"),
        await log_in(nobody, f"{name}x"),
        await log_in(nobody, name, ""),
        await nobody.send("GET", "/login", headers=basic(name, "wrong")),
        await nobody.send("GET", "/login", headers=basic(f"{name}x", PASSWORD)),
    ]
    assert {(one.status, one.text, one.challenges) for one in answers} == {
        (401, "NotAuthenticated name or password is wrong\n", answers[0].challenges)
    }


async def test_what_is_no_login(nobody: Agent, alice: Agent, name: str) -> None:
    (await nobody.send("GET", "/login")).assert_fault(401, "NotAuthenticated")
    (await nobody.send("POST", "/login", b"", headers=FORM)).assert_fault(401, "NotAuthenticated")
    (await alice.send("GET", "/login")).assert_fault(400, "InvalidArgument")
    (await log_in(alice, name, "wrong")).assert_fault(401, "NotAuthenticated")
    query = urlencode({"username": name, "password": PASSWORD})
    (await nobody.send("POST", f"/login?{query}")).assert_fault(400, "InvalidArgument")
    (await nobody.send("POST", "/login", query + "&username=other", headers=FORM)).assert_fault(400, "InvalidArgument")
    (await log_in(nobody, "a\0b")).assert_fault(400, "InvalidArgument")
    (await nobody.send("DELETE", "/login")).assert_fault(400, "InvalidArgument")
    (await nobody.send("DELETE", "/login", headers=basic(name, PASSWORD))).assert_fault(400, "InvalidArgument")


async def test_who_logs_in_is_whom_the_password_names(alice: Agent, name: str) -> None:
    assert (await log_in(alice, name)).assert_status(200).headers["X-VO-Authenticated"] == name


async def test_brute_force_ends_in_429(nobody: Agent, space: Space, name: str) -> None:
    answers = await asyncio.gather(*(log_in(nobody, name, f"wrong {number}") for number in range(15)))
    assert sorted(one.status for one in answers) == [401] * 10 + [429] * 5
    last = (await log_in(nobody, name)).assert_fault(429, "TooManyAttempts")
    assert 0 < int(last.headers["Retry-After"]) <= 60
    assert not last.challenges


async def test_only_so_many_sessions_and_their_ends(
    space: Space, nobody: Agent, catalogue: Database, name: str
) -> None:
    tokens = [(await log_in(nobody, name)).text for _ in range(3)]
    user = await catalogue.fetchval("select id from users where name = $1", name)
    async with catalogue.connection() as connection:
        await logins.add_session(connection, user, b"x" * 32, life=60, most=2)
    statuses = [(await with_token(space, one).send("GET", "/profile/tokens")).status for one in tokens]
    assert statuses == [401, 401, 200]
    await catalogue.fetch("update tokens set expires = now() - interval '2 days' where user_id = $1", user)
    before = await identities.epoch(catalogue)
    await logins.tidy(catalogue, batch=100)
    assert await catalogue.fetch("select from tokens where user_id = $1", user) == []
    assert await identities.epoch(catalogue) == before, "nobody has lost a right"


@pytest.mark.parametrize(
    ("settings", "offered"),
    [
        ({}, True),
        ({"metadata": {"host": "0.0.0.0", "public_url": "http://example.org"}}, False),
        ({"metadata": {"host": "127.0.0.1", "public_url": "http://example.org"}}, False),
        ({"metadata": {"host": "0.0.0.0", "public_url": "https://example.org/space"}}, True),
        ({"metadata": {"host": "0.0.0.0", "public_url": "http://example.org"}, "logins": {"plain_http": True}}, True),
    ],
)
def test_passwords_travel_by_tls_or_within_a_machine(settings: dict[str, object], offered: bool) -> None:
    found = Settings.model_validate(settings)
    assert (login_url(found) is not None) is offered
    assert any("sso#tls-with-password" in one for one in challenges(found)) is offered


@pytest.mark.clause("R-AUTH-012")
@pytest.mark.clause("R-AUTH-014")
@pytest.mark.clause("R-AUTH-015")
@pytest.mark.clause("R-AUTH-022")
def test_challenges() -> None:
    proxies = {"trusted": "127.0.0.1", "secret": "only the proxy knows", "certificate_header": "X-C"}
    found = Settings.model_validate(
        {"authority": "example.org~space", "metadata": {"public_url": "https://example.org"}, "proxies": proxies}
    )
    words = 'error_description="the token is wrong, expired or revoked"'
    login = 'access_url="https://example.org/login"'
    assert challenges(found, invalid=True) == [
        f'Bearer realm="example.org~space", error="invalid_token", {words}',
        f'ivoa_bearer standard_id="ivo://ivoa.net/sso#tls-with-password", {login}',
        f'ivoa_bearer standard_id="ivo://ivoa.net/sso#BasicAA", {login}',
        "ivoa_x509",
        'Basic realm="example.org~space"',
    ]
    assert security_methods(found) == tuple(f"ivo://ivoa.net/sso#{one}" for one in ("token", "BasicAA", CERTIFICATE))
    assert security_methods(Settings()) == security_methods(found)[:2]


@pytest.mark.clause("R-AUTH-018")
@pytest.mark.clause("R-AUTH-019")
async def test_who_is_logged_in_is_told_so_and_nobody_else(nobody: Agent, alice: Agent) -> None:
    for path in ("/nodes?limit=0", "/capabilities", "/views", "/nodes/home/none", "/transfers/none", "/nothing"):
        assert (await alice.send("GET", path)).headers.get("X-VO-Authenticated") == "alice"
        assert "X-VO-Authenticated" not in (await nobody.send("GET", path)).headers


# ------------------------------------------------------------------------------------------------------------ tokens


async def test_a_user_makes_lists_and_revokes_tokens(space: Space, nobody: Agent, name: str) -> None:
    user = with_token(space, (await log_in(nobody, name)).text)
    answer = (await ask(user, name="laptop", paths=[f"/home/{name}"], rights=["read"], days=1)).assert_status(201)
    made = json.loads(answer.body)
    assert answer.headers["Cache-Control"] == "no-store"
    limited = with_token(space, made["token"])
    assert (await limited.send("GET", "/capabilities")).headers["X-VO-Authenticated"] == name
    (token,) = [one for one in await listed(user) if one["name"] == "laptop"]
    assert (token["id"], token["paths"], token["rights"]) == (made["id"], [f"/home/{name}"], ["read"])
    assert (token["expires"], token["last_used"] is not None) == (made["expires"], True)
    assert made["token"] not in (await user.send("GET", "/profile/tokens")).text
    (await user.send("DELETE", f"/profile/tokens/{made['id']}")).assert_status(204)
    (await limited.send("GET", "/capabilities")).assert_fault(401, "NotAuthenticated")
    (await user.send("DELETE", f"/profile/tokens/{made['id']}")).assert_fault(404, "NotFound")


async def test_tokens_of_others(space: Space, nobody: Agent, alice: Agent, name: str) -> None:
    user = with_token(space, (await log_in(nobody, name)).text)
    (mine,) = await listed(user)
    (await alice.send("DELETE", f"/profile/tokens/{mine['id']}")).assert_fault(404, "NotFound")
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", f"/{mine['id']}")):
        (await nobody.send(method, f"/profile/tokens{path}", b"{}", headers=JSON)).assert_status(
            400 if method == "POST" else 401
        )
    (await ask(nobody, name="x")).assert_fault(401, "NotAuthenticated")


async def test_a_limited_token_makes_and_lists_none(space: Space, alice: Agent) -> None:
    for rights in (["read"], ["read", "write", "share", "admin"]):
        limited = await make(space, alice, rights=rights)
        (await ask(limited, name="more")).assert_fault(403, "PermissionDenied")
        (await limited.send("GET", "/profile/tokens")).assert_fault(403, "PermissionDenied")
        (await limited.send("DELETE", "/profile/tokens/1")).assert_fault(403, "PermissionDenied")
        (await limited.send("DELETE", "/login")).assert_status(204)


async def test_a_token_made_by_a_token_ends_with_it(space: Space, alice: Agent) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    short = await make(space, alice, expires=until.isoformat())
    for asked in ({}, {"days": 1}):
        made = json.loads((await ask(short, name="heir", **asked)).assert_status(201).body)
        assert abs(datetime.fromisoformat(made["expires"]) - until) < timedelta(seconds=1)


@pytest.mark.parametrize(
    "asked",
    [
        b"", b"x", b"[]", b"[" * 100_000, {}, {"name": 1}, {"name": ""}, {"name": "a\nb"}, {"name": "x" * 101},
        {"name": "a", "more": 1}, {"name": "a", "paths": ["/x"]}, {"name": "a", "paths": "/x", "rights": ["read"]},
        {"name": "a", "rights": ["all"]}, {"name": "a", "paths": ["/../x"], "rights": ["read"]},
        {"name": "a", "paths": ["/x"] * 101, "rights": ["read"]}, {"name": "a", "rights": {}},
        {"name": "a", "paths": 0},
        {"name": "a", "expires": "2020-01-01T00:00:00Z"}, {"name": "a", "paths": ["x"], "rights": ["read"]},
        {"name": "a", "rights": [1]}, {"name": "a", "days": 0}, {"name": "a", "days": True}, {"name": "a", "days": "1"},
        {"name": "a", "days": 10**30}, {"name": "a", "expires": "soon"}, {"name": "a", "expires": 5},
        {"name": "a", "days": 5, "expires": "2030-01-01T00:00:00Z"}, {"name": "\ud800"},
    ],
)  # fmt: skip
async def test_bad_tokens_are_not_made(alice: Agent, asked: bytes | dict[str, object]) -> None:
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    (await alice.send("POST", "/profile/tokens", body, headers=JSON)).assert_fault(400, "InvalidArgument")


async def test_a_user_has_so_many_tokens_at_most(space: Space, nobody: Agent, name: str, catalogue: Database) -> None:
    user = with_token(space, (await log_in(nobody, name)).text)
    await catalogue.fetch(
        "insert into tokens (user_id, name, hash, expires) select u.id, 'x', sha256((u.name || n)::bytea),"
        " case when n > 99 then now() end from users u, generate_series(1, 109) n where u.name = $1",
        name,
    )
    (await ask(user, name="hundred")).assert_status(201)
    (await ask(user, name="one more")).assert_fault(400, "InvalidArgument")
