"""Administration over REST: who may, what comes of it, and what is refused in which words."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.callers import Scope
from pyvospace.server.administration.routes import Needs, Route
from pyvospace.server.administration.table import ROUTES, document
from tests.server.conftest import Space
from tests.support.agents import Agent, Answer

_NAMES = {"identity": "1", "token": "1", "storage": "1", "job": "0" * 40}


async def call(agent: Agent, method: str, path: str, body: object = None) -> Answer:
    content = None if body is None else json.dumps(body)
    return await agent.send(method, path, content, headers={"Content-Type": "application/json"} if content else None)


async def told(agent: Agent, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
    answer = (await call(agent, method, path, body)).assert_status(status)
    return json.loads(answer.body) if answer.body else None


@pytest.fixture
def name() -> str:
    """Give the name of somebody who is not there yet."""
    return f"u{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def limited(space: Space, catalogue: Database) -> AsyncIterator[Agent]:
    """The administrator with a token that may everything but act as one."""
    secret = uuid.uuid4().hex
    scope = Scope.parse([], ["read", "write", "share"])
    digest = hashlib.sha256(secret.encode()).digest()
    number = await identities.add_token(catalogue, "admin", "limited", digest, None, scope=scope)
    yield Agent(space.session, space.pair, secret)
    await identities.revoke_token(catalogue, "admin", number)


def _path(route: Route) -> str:
    return route.path.format_map({place: _NAMES.get(place, "nobody") for place in route.places})


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_no_route_is_open(route: Route, nobody: Agent, carl: Agent, limited: Agent) -> None:
    """Whoever is not who a route is for hears so, whatever he sends."""
    body = {"bad": 1} if route.body else None
    (await call(nobody, route.method, _path(route), body)).assert_fault(401, "NotAuthenticated")
    if route.needs is Needs.ADMINISTRATOR:
        (await call(carl, route.method, _path(route), body)).assert_fault(403, "PermissionDenied")
    if route.needs is not Needs.ANY_TOKEN:
        (await call(limited, route.method, _path(route), body)).assert_fault(403, "PermissionDenied")


@pytest.mark.parametrize("route", [one for one in ROUTES if one.body], ids=lambda route: f"{route.method} {route.path}")
async def test_unknown_members_are_refused(route: Route, admin: Agent) -> None:
    answer = (await call(admin, route.method, _path(route), {"bad": 1})).assert_fault(400, "InvalidArgument")
    assert "bad: unknown; there are" in answer.text
    for wrong in (b"", b"[]", b"{", b'{"a": "\\ud800"}', b"\xff", b"[" * 5000):
        if wrong or route.method == "POST":
            answer = await admin.send(route.method, _path(route), wrong, headers={"Content-Type": "application/json"})
            assert answer.status in {400, 404}, answer.text
    (await admin.send(route.method, _path(route), b"{}", headers={"Content-Type": "text/xml"})).assert_status(415)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "no number from 1 to 1000"),
        ("limit=1001", "no number from 1 to 1000"),
        ("limit=x", "no number"),
        ("limit=1&limit=2", "2 times"),
        ("after=%00", "cannot be"),
        ("page=2", "no parameter here; there are limit, after, prefix"),
    ],
)
async def test_odd_queries_are_refused(admin: Agent, query: str, words: str) -> None:
    answer = (await call(admin, "GET", f"/admin/users?{query}")).assert_fault(400, "InvalidArgument")
    assert words in answer.text


async def test_numbers_beyond_all_ids_find_nothing(admin: Agent) -> None:
    for page in ("storages", "quotas", "allocations"):
        assert (await told(admin, "GET", f"/admin/{page}?after={10**18 - 1}"))["items"] == []
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        (await call(admin, method, f"/admin/storages/{10**18 - 1}", body)).assert_fault(404, "NotFound")


async def test_odd_names_are_nobody(admin: Agent) -> None:
    for odd in ("%00", "%ff", "..%2f", "x" * 2000, "%ed%a0%80"):
        (await call(admin, "GET", f"/admin/users/{odd}")).assert_fault(404, "NotFound")


async def test_a_user_comes_and_is_disabled(admin: Agent, name: str) -> None:
    made = await told(admin, "POST", "/admin/users", {"name": name, "password": "long enough"}, status=201)
    assert (made["name"], made["admin"], made["has_password"], made["tokens"]) == (name, False, True, 0)
    (await call(admin, "POST", "/admin/users", {"name": name})).assert_fault(409, "AlreadyExists")
    (await call(admin, "POST", "/admin/users", {"name": "a b"})).assert_fault(400, "InvalidArgument")
    token = await told(admin, "POST", f"/admin/users/{name}/tokens", {"name": "t"}, status=201)
    user = Agent(admin.session, admin.pair, token["token"])
    (await user.get(f"/home/{name}")).assert_status(200)
    assert (await told(admin, "PATCH", f"/admin/users/{name}", {"disabled": True}))["disabled"]
    (await user.get(f"/home/{name}")).assert_fault(401, "NotAuthenticated")
    assert not (await told(admin, "PATCH", f"/admin/users/{name}", {"disabled": False}))["disabled"]
    (await user.get(f"/home/{name}")).assert_status(200)
    assert await told(admin, "PUT", f"/admin/users/{name}/home") == {"uri": f"vos://{admin.pair.authority}/home/{name}"}
    for missing in ("GET", "PATCH"):
        (await call(admin, missing, "/admin/users/none", {} if missing == "PATCH" else None)).assert_fault(
            404, "NotFound"
        )


async def test_what_an_administrator_does_is_in_the_audit_log(admin: Agent, catalogue: Database, name: str) -> None:
    await told(admin, "POST", "/admin/users", {"name": name, "password": "correct horse"}, status=201)
    await told(admin, "PUT", f"/admin/quota?user={name}", {"bytes": 7})
    rows = await catalogue.fetch(
        "select a.action, a.name, a.credential, a.remote, a.details::text from audit a"
        " join users u on u.id = a.owner_id where u.name = $1 order by a.id",
        name,
    )
    assert [row["action"] for row in rows] == ["addUser", "createNode", "addQuota"]
    for row in rows:
        assert (row["name"], row["remote"]) == ("admin", "127.0.0.1")
        assert row["credential"].startswith("token ")
        assert "horse" not in row["details"]
        assert "argon2" not in row["details"]


async def test_an_administrator_does_not_lock_himself_out(admin: Agent) -> None:
    for body in ({"disabled": True}, {"admin": False}):
        (await call(admin, "PATCH", "/admin/users/admin", body)).assert_fault(400, "InvalidArgument")


async def test_users_come_in_pages(admin: Agent, name: str) -> None:
    names = [f"{name}{number}" for number in range(5)]
    for one in names:
        await told(admin, "POST", "/admin/users", {"name": one, "home": False}, status=201)
    found: list[str] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        page = await told(admin, "GET", f"/admin/users?limit=2&prefix={name}&after={page['next']}")
        found += [one["name"] for one in page["items"]]
    assert found == names


async def test_tokens_are_listed_limited_and_revoked(admin: Agent, name: str) -> None:
    await told(admin, "POST", "/admin/users", {"name": name}, status=201)
    wanted = {"name": "reads", "days": 1, "paths": [f"/home/{name}"], "rights": ["read"]}
    made = await told(admin, "POST", f"/admin/users/{name}/tokens", wanted, status=201)
    (listed,) = (await told(admin, "GET", f"/admin/users/{name}/tokens"))["items"]
    assert (listed["id"], listed["paths"], listed["rights"]) == (made["id"], [f"/home/{name}"], ["read"])
    assert made["token"] not in json.dumps(listed)
    user = Agent(admin.session, admin.pair, made["token"])
    (await user.get(f"/home/{name}")).assert_status(200)
    (await user.put(f"/home/{name}/x")).assert_fault(403, "PermissionDenied")
    await told(admin, "DELETE", f"/admin/users/{name}/tokens/{made['id']}", status=204)
    (await user.get(f"/home/{name}")).assert_fault(401, "NotAuthenticated")
    (await call(admin, "DELETE", f"/admin/users/{name}/tokens/{made['id']}")).assert_fault(404, "NotFound")
    answer = await call(admin, "POST", f"/admin/users/{name}/tokens", {"name": "x", "paths": ["/a"]})
    answer.assert_fault(400, "InvalidArgument")


async def test_tokens_that_may_administer(admin: Agent) -> None:
    """Of an administrator: one that is good for it everywhere is, one that is good for a place is not."""
    for paths, status in (([], 200), (["/home"], 403)):
        wanted = {"name": "t", "days": 1, "paths": paths, "rights": ["admin"]}
        made = await told(admin, "POST", "/admin/users/admin/tokens", wanted, status=201)
        agent = Agent(admin.session, admin.pair, made["token"])
        answer = (await call(agent, "GET", "/admin/users?limit=1")).assert_status(status)
        assert status == 403 or answer.headers["Cache-Control"] == "no-store"
        await told(admin, "DELETE", f"/admin/users/admin/tokens/{made['id']}", status=204)


async def test_identities_are_linked_once(admin: Agent, name: str) -> None:
    await told(admin, "POST", "/admin/users", {"name": name, "home": False}, status=201)
    place = f"/admin/users/{name}/identities"
    wanted = {"kind": "x509", "subject": f"/C=XX/CN={name}"}
    linked = await told(admin, "POST", place, wanted, status=201)
    (await call(admin, "POST", place, {**wanted, "subject": f"cn={name},c=xx"})).assert_fault(409, "AlreadyExists")
    (await call(admin, "POST", place, {"kind": "oidc", "subject": "1"})).assert_fault(400, "InvalidArgument")
    await told(admin, "POST", place, {"kind": "oidc", "issuer": "https://id.example.org", "subject": name}, status=201)
    found = (await told(admin, "GET", place))["items"]
    assert [one["kind"] for one in found] == ["x509", "oidc"]
    assert linked in found
    await told(admin, "DELETE", f"{place}/{linked['id']}", status=204)
    (await call(admin, "DELETE", f"{place}/{linked['id']}")).assert_fault(404, "NotFound")


async def test_storages_are_listed_and_stay_while_they_are_used(admin: Agent) -> None:
    (storage,) = (await told(admin, "GET", "/admin/storages"))["items"]
    assert storage["live"]
    answer = await call(admin, "DELETE", f"/admin/storages/{storage['id']}")
    assert "is there" in answer.assert_fault(400, "InvalidArgument").text
    (await call(admin, "DELETE", "/admin/storages/999")).assert_fault(404, "NotFound")
    (await call(admin, "DELETE", "/admin/storages/x")).assert_fault(404, "NotFound")


async def test_a_storage_that_is_gone_is_forgotten(admin: Agent, catalogue: Database) -> None:
    number = await catalogue.fetchval(
        "insert into storages (uuid, name, url, role, last_seen)"
        " values (gen_random_uuid(), 'old', 'http://gone', 'nobody', now() - interval '1 day') returning id"
    )
    await told(admin, "PATCH", f"/admin/storages/{number}", {"name": "older"}, status=204)
    listed = (await told(admin, "GET", f"/admin/storages?after={number - 1}"))["items"]
    assert [(one["name"], one["live"]) for one in listed] == [("older", False)]
    await told(admin, "DELETE", f"/admin/storages/{number}", status=204)
    assert (await told(admin, "GET", f"/admin/storages?after={number - 1}"))["items"] == []


async def test_jobs_of_everybody_are_seen_and_aborted(admin: Agent, alice: Agent, folder: str) -> None:
    answer = await alice.send("POST", f"/async-delete?target={alice.pair.uri('x')}")
    job = answer.assert_status(303).location.rpartition("/")[2]
    after = f"{int(job, 16) - 1:040x}"
    (found,) = (await told(admin, "GET", f"/admin/jobs?user=alice&phase=PENDING&limit=1&after={after}"))["items"]
    assert (found["id"], found["owner"], found["list"]) == (job, "alice", "async-delete")
    for _ in range(2):
        await told(admin, "POST", f"/admin/jobs/{job}/abort", status=204)
    assert await alice.phase(answer.location) == "ABORTED"
    assert "administrator" in (await alice.send("GET", answer.location)).text
    (await call(admin, "POST", f"/admin/jobs/{'0' * 40}/abort")).assert_fault(404, "NotFound")
    (await call(admin, "GET", "/admin/jobs?phase=GONE")).assert_fault(400, "InvalidArgument")
    (await call(admin, "GET", "/admin/jobs?user=none")).assert_fault(404, "NotFound")


async def test_the_state_is_told(admin: Agent) -> None:
    state = await told(admin, "GET", "/admin/state")
    assert state["state"] == "read-write"
    assert await told(admin, "PUT", "/admin/state", {"state": "read-write", "note": "as ever"}) == {
        **state,
        "note": "as ever",
    }
    assert await told(admin, "PUT", "/admin/state", {"state": "read-write"}) == {**state, "note": ""}
    (await call(admin, "PUT", "/admin/state", {"state": "closed"})).assert_fault(400, "InvalidArgument")


async def test_the_document_describes_every_route(admin: Agent) -> None:
    served = await told(admin, "GET", "/admin")
    assert served == document()
    assert {(method.upper(), path) for path, item in served["paths"].items() for method in item} == {
        (route.method, route.path) for route in ROUTES
    }
    named = json.dumps(served)
    assert all(f"#/components/schemas/{one}" in named for one in served["components"]["schemas"])
