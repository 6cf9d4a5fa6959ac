"""Quotas and allocations over REST, owners by documents, and homes that users make themselves."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pyvospace.model.vocabulary import CORE, CREATOR
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.server.test_admin import call, told
from tests.support.agents import Agent
from tests.support.pair import PREFIXES, Pair, running_pair
from tests.support.postgres import PostgresServer


def _properties(node: object) -> dict[str, str]:
    return {one.get("uri"): one.text for one in node.iterfind("{*}properties/{*}property")}  # type: ignore[attr-defined]


@pytest.fixture
def place() -> str:
    return f"/{uuid.uuid4().hex}"


async def test_a_project_has_an_owner_and_a_quota(admin: Agent, alice: Agent, bea: Agent, place: str) -> None:
    group = PREFIXES[0] + "staff"
    wanted = {"path": place, "owner": "alice", "bytes": 100, "nodes": 2, "group_read": [group]}
    made = await told(admin, "POST", "/admin/allocations", wanted, status=201)
    assert made["quota"] == {"bytes": 100, "nodes": 2, "used": {"bytes": 0, "nodes": 0}}
    assert (made["owner"], made["group_read"]) == ("alice", [group])
    await alice.make(f"{place}/x")
    await alice.push(f"{place}/x", b"x" * 60)
    assert await bea.pull(f"{place}/x") == b"x" * 60
    (await bea.put(f"{place}/y")).assert_fault(403, "PermissionDenied")
    found = _properties(await alice.node(place))
    assert (found[CREATOR], found[CORE + "quota"], found[CORE + "length"]) == ("alice", "100", "60")

    changed = await told(
        admin, "POST", "/admin/allocations", {"path": f"vos://{admin.pair.authority}{place}", "owner": "bea"}
    )
    assert (changed["owner"], changed["group_read"], changed["quota"]["bytes"]) == ("bea", [group], 100)
    changed = await told(admin, "POST", "/admin/allocations", {"path": place, "bytes": 50})
    assert changed["quota"] == {"bytes": 50, "nodes": 2, "used": {"bytes": 60, "nodes": 1}}
    uris: list[str] = []
    page: dict[str, Any] = {"next": "0"}
    while page["next"]:
        page = await told(admin, "GET", f"/admin/allocations?limit=2&after={page['next']}")
        uris += [one["uri"] for one in page["items"]]
    assert len(uris) == len(set(uris))
    assert {changed["uri"], alice.pair.uri("").rstrip("/")} <= set(uris)


async def test_odd_allocations_are_refused(admin: Agent, alice: Agent, place: str) -> None:
    for body, status, fault in (
        ({"path": "/"}, 400, "InvalidArgument"),
        ({"path": "/a/../b"}, 400, "InvalidURI"),
        ({"path": "vos://elsewhere/x"}, 400, "InvalidURI"),
        ({"path": f"{place}/below"}, 404, "ContainerNotFound"),
        ({"path": place, "owner": "none"}, 400, "InvalidArgument"),
        ({"path": place, "bytes": -1}, 400, "InvalidArgument"),
    ):
        (await call(admin, "POST", "/admin/allocations", body)).assert_fault(status, fault)
    (await alice.get(place)).assert_fault(404, "NodeNotFound")
    await admin.make(place)
    (await call(admin, "POST", "/admin/allocations", {"path": place})).assert_fault(409, "DuplicateNode")


async def test_quotas_of_everybody_and_everything(admin: Agent, place: str) -> None:
    await admin.make(place, "ContainerNode")
    name = f"u{uuid.uuid4().hex[:12]}"
    await told(admin, "POST", "/admin/users", {"name": name}, status=201)
    for of in (f"container={place}", f"user={name}", f"group={PREFIXES[0]}{name}"):
        before = await told(admin, "GET", f"/admin/quota?{of}")
        assert (before["bytes"], before["nodes"]) == (None, None)
        for _ in range(2):
            assert (await told(admin, "PUT", f"/admin/quota?{of}", {"bytes": 7}))["bytes"] == 7
        quotas = (await told(admin, "GET", "/admin/quotas?limit=1000"))["items"]
        assert [(one["name"], one["bytes"]) for one in quotas if one["name"] in of] == [(of.partition("=")[2], 7)]
        for _ in range(2):
            await told(admin, "DELETE", f"/admin/quota?{of}", status=204)
        assert await told(admin, "GET", f"/admin/quota?{of}") == before
    (await call(admin, "PUT", f"/admin/quota?user={name}", {})).assert_fault(400, "InvalidArgument")
    (await call(admin, "GET", "/admin/quota")).assert_fault(400, "InvalidArgument")
    (await call(admin, "GET", "/admin/quota?user=a&group=b")).assert_fault(400, "InvalidArgument")
    (await call(admin, "GET", "/admin/quota?user=none")).assert_fault(404, "NotFound")
    (await call(admin, "GET", "/admin/quota?container=/none")).assert_fault(404, "NodeNotFound")


async def test_administrators_give_nodes_away(admin: Agent, alice: Agent, bea: Agent, shared: str) -> None:
    """As at OpenCADC; what others say of the creator is ignored."""
    await alice.make(f"{shared}/x", properties={CREATOR: "bea"})
    assert _properties(await alice.node(f"{shared}/x"))[CREATOR] == "alice"
    (await alice.post(f"{shared}/x", properties={CREATOR: "bea"})).assert_status(200)
    assert _properties(await alice.node(f"{shared}/x"))[CREATOR] == "alice"
    for _ in range(2):
        (await admin.post(f"{shared}/x", properties={CREATOR: "bea"})).assert_status(200)
        assert _properties(await bea.node(f"{shared}/x"))[CREATOR] == "bea"
    (await admin.post(f"{shared}/x", properties={CREATOR: "none"})).assert_fault(400, "InvalidArgument")
    await admin.make(f"{shared}/y", properties={CREATOR: "bea"})
    (await bea.post(f"{shared}/y", properties={CORE + "ispublic": "true"})).assert_status(200)


async def test_a_gift_has_to_fit(admin: Agent, alice: Agent, shared: str) -> None:
    name = f"u{uuid.uuid4().hex[:12]}"
    await told(admin, "POST", "/admin/users", {"name": name, "home": False}, status=201)
    await told(admin, "PUT", f"/admin/quota?user={name}", {"bytes": 5})
    await alice.push(f"{shared}/x", b"x" * 6)
    (await admin.post(f"{shared}/x", properties={CREATOR: name})).assert_fault(413, "QuotaExceeded")
    await alice.push(f"{shared}/x", b"x" * 4)
    (await admin.post(f"{shared}/x", properties={CREATOR: name})).assert_status(200)
    quota = await told(admin, "GET", f"/admin/quota?user={name}")
    assert quota == {"bytes": 5, "nodes": None, "used": {"bytes": 4, "nodes": 1}}


@pytest.fixture(scope="module")
def homely(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair on which users make their homes."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {
            "PYVOSPACE_HOMES__SELF_SERVICE": "true",
            "PYVOSPACE_HOMES__QUOTA": "1000",
            "PYVOSPACE_HOMES__GROUP": PREFIXES[0] + "makers",
            "PYVOSPACE_GROUPS__SELF_SERVICE": "true",
            "PYVOSPACE_GROUPS__MOST": "2",
        }
        folder = tmp_path_factory.mktemp("homely")
        with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


@pytest.fixture
def chief(homely: Pair, session: aiohttp.ClientSession) -> Agent:
    return Agent(session, homely, homely.admin_token)


async def newcomer(chief: Agent, *, member: bool) -> tuple[str, Agent]:
    name = f"u{uuid.uuid4().hex[:12]}"
    await told(chief, "POST", "/admin/users", {"name": name, "home": False}, status=201)
    if member:
        await call(chief, "PUT", "/groups/makers", {})
        await told(chief, "PUT", f"/groups/makers/members/{name}", status=201)
    token = await told(chief, "POST", f"/admin/users/{name}/tokens", {"name": "t"}, status=201)
    return name, Agent(chief.session, chief.pair, token["token"])


async def test_a_user_makes_his_own_home(chief: Agent) -> None:
    name, user = await newcomer(chief, member=True)
    (await user.put(f"/home/{name}x", "ContainerNode")).assert_fault(403, "PermissionDenied")
    (await user.put("/home/alice", "ContainerNode")).assert_status(403 if name != "alice" else 409)
    (await user.put(f"/home/{name}")).assert_fault(403, "PermissionDenied")
    assert (await told(user, "GET", "/profile"))["home"] is None
    await user.make(f"/home/{name}", "ContainerNode")
    found = _properties(await user.node(f"/home/{name}"))
    assert (found[CREATOR], found[CORE + "quota"], found[CORE + "ispublic"]) == (name, "1000", "false")
    (await user.put(f"/home/{name}", "ContainerNode")).assert_fault(409, "DuplicateNode")
    assert (await told(user, "GET", "/profile"))["home"] == f"vos://{chief.pair.authority}/home/{name}"


async def test_others_make_no_home(chief: Agent) -> None:
    name, user = await newcomer(chief, member=False)
    (await user.put(f"/home/{name}", "ContainerNode")).assert_fault(403, "PermissionDenied")


@pytest.fixture
def welcoming(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    """A pair that makes homes by itself."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_HOMES__SELF_SERVICE": "true", "PYVOSPACE_HOMES__AT_LOGIN": "true"}
        with running_pair(dsn, tmp_path, storage_dsn=storage_dsn, environment=environment) as running:
            yield running


async def test_a_home_is_there_at_the_first_login(welcoming: Pair, session: aiohttp.ClientSession) -> None:
    chief = Agent(session, welcoming, welcoming.admin_token)
    name, user = await newcomer(chief, member=False)
    limits = {"name": "t", "paths": ["/home/none"], "rights": ["read", "write"]}
    token = await told(chief, "POST", f"/admin/users/{name}/tokens", limits, status=201)
    await Agent(session, welcoming, token["token"]).send("GET", "/capabilities")
    (await chief.get(f"/home/{name}")).assert_status(404)
    assert _properties(await user.node(f"/home/{name}"))[CREATOR] == name


async def test_groups_of_users(chief: Agent) -> None:
    owner, user = await newcomer(chief, member=False)
    friend, other = await newcomer(chief, member=False)
    names = [f"g{uuid.uuid4().hex[:12]}" for _ in range(3)]
    made = await told(user, "PUT", f"/groups/{names[0]}", {}, status=201)
    assert (made["owner"], made["members"], made["uri"]) == (owner, 0, PREFIXES[0] + names[0])
    await told(user, "PUT", f"/groups/{names[1]}", {}, status=201)
    (await call(user, "PUT", f"/groups/{names[2]}", {})).assert_fault(403, "PermissionDenied")
    (await call(other, "PUT", f"/groups/{names[0]}", {"owner": friend})).assert_fault(404, "NotFound")
    await told(user, "PUT", f"/groups/{names[0]}/members/{friend}", status=201)
    assert (await told(user, "PUT", f"/groups/{names[0]}/members/{friend}")) == {"user": friend}
    assert (await told(other, "GET", f"/groups/{names[0]}"))["members"] is None
    for method, path, body in (
        ("GET", "/members", None),
        ("PUT", f"/members/{owner}", None),
        ("PUT", "", {"owner": friend}),
        ("DELETE", "", None),
    ):
        (await call(other, method, f"/groups/{names[0]}{path}", body)).assert_fault(403, "PermissionDenied")
    assert (await told(user, "GET", f"/groups/{names[0]}/members"))["items"] == [{"user": friend}]
    assert (await told(user, "PUT", f"/groups/{names[0]}", {"owner": friend}))["owner"] == friend
    (await call(user, "GET", f"/groups/{names[0]}")).assert_fault(404, "NotFound")
    await told(other, "DELETE", f"/groups/{names[0]}/members/{friend}", status=204)
    await told(other, "DELETE", f"/groups/{names[0]}", status=204)
    (await call(other, "GET", f"/groups/{names[0]}")).assert_fault(404, "NotFound")


async def test_nobody_makes_groups_for_others_or_takes_their_names(chief: Agent) -> None:
    """Nodes name groups that are gone: who could make one of that name could read them."""
    owner, user = await newcomer(chief, member=False)
    victim, other = await newcomer(chief, member=False)
    names = [f"g{uuid.uuid4().hex[:12]}" for _ in range(4)]
    (await call(user, "PUT", f"/groups/{names[0]}", {"owner": victim})).assert_fault(403, "PermissionDenied")
    for name in names[:2]:
        await told(other, "PUT", f"/groups/{name}", {}, status=201)
    await told(user, "PUT", f"/groups/{names[2]}", {"owner": owner}, status=201)
    (await call(user, "PUT", f"/groups/{names[2]}", {"owner": victim})).assert_fault(403, "PermissionDenied")
    await told(other, "DELETE", f"/groups/{names[0]}", status=204)
    (await call(user, "PUT", f"/groups/{names[0]}", {})).assert_fault(403, "PermissionDenied")
    await told(other, "PUT", f"/groups/{names[0]}", {}, status=201)
    await told(chief, "PUT", f"/groups/{names[3]}", {}, status=201)
    await told(chief, "DELETE", f"/groups/{names[3]}", status=204)
    (await call(user, "PUT", f"/groups/{names[3]}", {})).assert_fault(403, "PermissionDenied")
    await told(chief, "PUT", f"/groups/{names[3]}", {"owner": owner}, status=201)
