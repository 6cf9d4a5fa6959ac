"""Policies of containers over REST: what holds where, who may say so, and that the rows go with their containers."""

from __future__ import annotations

import json

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.uris import NodeUri
from tests.server.test_admin import call, told
from tests.support.agents import Agent


@pytest.fixture
async def box(alice: Agent, folder: str) -> str:
    """Path of a container in a container of alice."""
    return await alice.make(f"{folder}/box", "ContainerNode")


async def values(agent: Agent, path: str) -> dict[str, tuple[object, str]]:
    """Give what holds for a container, and the paths of those who say so."""
    found = await told(agent, "GET", f"/policy?container={path}")
    return {name: (one["value"], NodeUri.parse(one["source"]).name) for name, one in found.items() if name != "own"}


async def test_policies_are_inherited_and_tell_where_from(alice: Agent, admin: Agent, folder: str, box: str) -> None:
    await told(admin, "PATCH", f"/policy?container={folder}", {"label": "ssd", "versions": 3})
    shown = await told(alice, "PATCH", f"/policy?container={box}", {"versions": 5, "trash_days": 9})
    assert shown["own"]["label"] is None
    assert shown["versions"]["value"] == 5
    above = folder.rpartition("/")[2]
    assert await values(alice, box) == {
        "label": ("ssd", above),
        "replicas": (1, ""),
        "versions": (5, "box"),
        "trash_days": (9, "box"),
        "tier_days": (0, ""),
    }
    listed = (await told(admin, "GET", "/admin/policies?limit=1000"))["items"]
    assert any(one["uri"].endswith(box) and one["trash_days"] == 9 and one["label"] is None for one in listed)
    await told(alice, "PATCH", f"/policy?container={box}", {"versions": None})
    assert (await values(alice, box))["versions"] == (3, above)
    await told(alice, "DELETE", f"/policy?container={box}", status=204)
    assert (await values(alice, box))["trash_days"] == (0, "")


async def test_owners_set_what_is_theirs_and_administrators_the_rest(
    alice: Agent, bea: Agent, admin: Agent, nobody: Agent, folder: str, box: str
) -> None:
    for body in ({"label": "ssd"}, {"replicas": 2}, {"versions": 1, "tier_days": 1}):
        (await call(alice, "PATCH", f"/policy?container={box}", body)).assert_fault(403, "PermissionDenied")
    await told(admin, "PATCH", f"/policy?container={box}", {"replicas": 2})
    (await call(alice, "DELETE", f"/policy?container={box}")).assert_fault(403, "PermissionDenied")
    for agent, status, fault in ((bea, 403, "PermissionDenied"), (nobody, 401, "NotAuthenticated")):
        (await call(agent, "GET", f"/policy?container={box}")).assert_fault(status, fault)
        (await call(agent, "PATCH", f"/policy?container={box}", {"versions": 1})).assert_fault(status, fault)
    for wrong in ({"versions": -1}, {"replicas": 0}, {"label": "a b"}, {"trash_days": "many"}):
        (await call(admin, "PATCH", f"/policy?container={box}", wrong)).assert_fault(400, "InvalidArgument")
    (await call(admin, "PATCH", "/policy?container=/", {"versions": None})).assert_fault(400, "InvalidArgument")
    (await call(admin, "GET", "/policy")).assert_fault(400, "InvalidArgument")
    await alice.make(f"{folder}/data")
    (await call(alice, "GET", f"/policy?container={folder}/data")).assert_fault(404, "NodeNotFound")
    (await call(alice, "GET", f"/policy?container={folder}/none")).assert_fault(404, "NodeNotFound")


async def test_policies_are_audited_and_go_with_their_container(
    alice: Agent, admin: Agent, box: str, catalogue: Database
) -> None:
    await told(alice, "PATCH", f"/policy?container={box}", {"versions": 2})
    await told(alice, "PATCH", f"/policy?container={box}", {"versions": 4})
    (await alice.delete(box)).assert_status(204)
    rows = await catalogue.fetch(
        "select name, action, details from audit where path = $1 and action like '%Policy'", box
    )
    assert [(row["name"], row["action"]) for row in rows[:2]] == [("alice", "addPolicy"), ("alice", "changePolicy")]
    assert json.loads(rows[1]["details"])["to"] == {"versions": 4}
    assert not any(
        one["uri"].endswith(box) for one in (await told(admin, "GET", "/admin/policies?limit=1000"))["items"]
    )
