"""Who am I: what a user is told of himself, and what a token that may little is not."""

from __future__ import annotations

import hashlib
import uuid

from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.callers import Scope
from tests.server.test_admin import call, told
from tests.support.agents import Agent
from tests.support.pair import PREFIXES


async def test_a_user_sees_what_he_is_and_has(alice: Agent, folder: str) -> None:
    profile = await told(alice, "GET", "/profile")
    assert (profile["name"], profile["admin"]) == ("alice", False)
    assert profile["home"] == alice.pair.uri("").rstrip("/")
    assert {one["uri"] for one in profile["groups"]} >= {f"{prefix}makers" for prefix in PREFIXES}
    assert profile["quota"]["used"]["nodes"] > 0
    assert profile["credential"]["kind"].startswith("token ")
    assert profile["jobs_waiting"] >= 0
    for url in profile["links"].values():
        (await alice.send("GET", url)).assert_status(200)


async def test_identities_are_shown_and_no_secret(admin: Agent) -> None:
    name = f"u{uuid.uuid4().hex[:12]}"
    await told(admin, "POST", "/admin/users", {"name": name, "password": "correct horse"}, status=201)
    identity = {"kind": "x509", "subject": f"CN={name}"}
    await told(admin, "POST", f"/admin/users/{name}/identities", identity, status=201)
    token = (await told(admin, "POST", f"/admin/users/{name}/tokens", {"name": "t"}, status=201))["token"]
    user = Agent(admin.session, admin.pair, token)
    answer = await call(user, "GET", "/profile")
    (shown,) = (await told(user, "GET", "/profile"))["identities"]
    assert (shown["kind"], shown["subject"]) == ("x509", f"CN={name}")
    assert token not in answer.text
    assert "argon2" not in answer.text


async def test_a_limited_token_hears_its_limits_only(alice: Agent, catalogue: Database) -> None:
    secret = uuid.uuid4().hex
    scope = Scope.parse(["/home/alice/x"], ["read"])
    digest = hashlib.sha256(secret.encode()).digest()
    number = await identities.add_token(catalogue, "alice", "limited", digest, None, scope=scope)
    profile = await told(Agent(alice.session, alice.pair, secret), "GET", "/profile")
    told_of = {name: value for name, value in profile.items() if value is not None}
    assert told_of.keys() == {"name", "credential"}
    assert told_of["credential"] == {
        "kind": f"token {number} limited",
        "token": number,
        "expires": None,
        "paths": ["/home/alice/x"],
        "rights": ["read"],
    }
