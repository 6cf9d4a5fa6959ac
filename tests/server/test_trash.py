"""The trash over REST: who restores what to where, how it is refused, and that nobody can tell what is in it."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE, LENGTH
from tests.server.conftest import STAFF
from tests.server.test_admin import call, told
from tests.support.agents import Agent, properties_of
from tests.support.jobs import delete_tree, move


@pytest.fixture
async def bin_(alice: Agent, folder: str) -> str:
    """Path of a container of alice with a trash: box/data of 5 bytes."""
    await told(alice, "PATCH", f"/policy?container={folder}", {"trash_days": 3})
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.push(f"{folder}/box/data", b"12345")
    return folder


async def trash(agent: Agent, folder: str) -> list[dict[str, Any]]:
    """Give what somebody sees in the trash of what was in a folder."""
    found = (await told(agent, "GET", "/trash?limit=1000"))["items"]
    return [one for one in found if f"{folder}/" in one["uri"]]


async def test_what_was_deleted_is_restored(alice: Agent, admin: Agent, bin_: str, catalogue: Database) -> None:
    (await alice.delete(f"{bin_}/box")).assert_status(204)
    (await alice.get(f"{bin_}/box/data")).assert_fault(404, "NodeNotFound")
    assert properties_of(await alice.node(bin_, limit=0))[LENGTH] == "0"
    (entry,) = await trash(alice, bin_)
    assert entry == (await trash(admin, bin_))[0]
    assert (entry["bytes"], entry["nodes"], entry["owner"], entry["deleted_by"]) == (5, 2, "alice", "alice")
    back = await told(alice, "POST", f"/trash/{entry['id']}", {})
    assert back["uri"] == entry["uri"]
    assert await alice.pull(f"{bin_}/box/data") == b"12345"
    assert await trash(alice, bin_) == []
    (await call(alice, "POST", f"/trash/{entry['id']}", {})).assert_fault(404, "NotFound")
    rows = await catalogue.fetch(
        "select action, details from audit where details ->> 'trash' = $1 order by id", str(entry["id"])
    )
    assert [row["action"] for row in rows] == ["deleteNode", "restoreNode"]
    assert json.loads(rows[0]["details"]) == {"trash": entry["id"], "nodes": 2}
    # Jobs delete in the same way: a tree as a whole, and what is moved to .null.
    done = await delete_tree(alice, f"{bin_}/box")
    done.assert_counts("COMPLETED", 2)
    (entry,) = await trash(alice, bin_)
    await told(alice, "POST", f"/trash/{entry['id']}", {"to": f"{bin_}/again"})
    await move(alice, f"{bin_}/again/data", f"{bin_}/.null")
    (entry,) = await trash(alice, bin_)
    await told(alice, "POST", f"/trash/{entry['id']}", {"to": bin_})
    assert await alice.pull(f"{bin_}/data") == b"12345"


async def test_restoring_is_refused_in_clear_words(alice: Agent, admin: Agent, shared: str, bin_: str) -> None:
    await alice.delete(f"{bin_}/box/data")
    (entry,) = await trash(alice, bin_)
    place = f"/trash/{entry['id']}"
    await alice.put(f"{bin_}/box/data")
    (await call(alice, "POST", place, {})).assert_fault(409, "DuplicateNode")
    await told(alice, "DELETE", f"/policy?container={bin_}", status=204)
    await alice.delete(f"{bin_}/box")
    (await call(alice, "POST", place, {})).assert_fault(404, "ContainerNotFound")
    (await call(alice, "POST", place, {"to": "vos://elsewhere/x"})).assert_fault(400, "InvalidURI")
    await admin.make(f"{shared}/hers", "ContainerNode", properties={CORE + "groupwrite": None})
    (await call(alice, "POST", place, {"to": f"{shared}/hers"})).assert_fault(403, "PermissionDenied")
    await told(alice, "POST", place, {"to": f"{bin_}/new name".replace(" ", "%20")})
    assert await alice.pull(f"{bin_}/new%20name") == b"12345"


async def test_trash_is_of_its_owner_and_of_who_deleted(
    alice: Agent, bea: Agent, carl: Agent, admin: Agent, shared: str
) -> None:
    """Not of others, to whom it does not exist."""
    rights = {CORE + "groupwrite": STAFF + " " + STAFF.replace("staff", "makers")}
    box = await admin.make(f"{shared}/{uuid.uuid4().hex}", "ContainerNode", properties=rights)
    await told(admin, "PATCH", f"/policy?container={box}", {"trash_days": 3})
    await alice.push(f"{box}/data", b"1")
    (await bea.delete(f"{box}/data")).assert_status(204)
    (entry,) = await trash(alice, box)
    assert (entry["owner"], entry["deleted_by"], await trash(bea, box)) == ("alice", "bea", [entry])
    assert await trash(carl, box) == []
    missing = (await call(carl, "POST", f"/trash/{1 << 50}", {})).assert_fault(404, "NotFound").text
    for method, body in (("POST", {}), ("DELETE", None)):
        text = (await call(carl, method, f"/trash/{entry['id']}", body)).assert_fault(404, "NotFound").text
        assert text == missing.replace(str(1 << 50), str(entry["id"]))
    await told(bea, "DELETE", f"/trash/{entry['id']}", status=204)
    assert await trash(admin, box) == []
    (await call(alice, "DELETE", f"/trash/{entry['id']}")).assert_fault(404, "NotFound")


async def test_endpoints_die_and_uploads_find_nothing(alice: Agent, bin_: str) -> None:
    _, reading = await alice.negotiate(f"{bin_}/box/data", "pullFromVoSpace")
    _, writing = await alice.negotiate(f"{bin_}/box/data", "pushToVoSpace")
    _, making = await alice.negotiate(f"{bin_}/box/new", "pushToVoSpace")
    await alice.delete(f"{bin_}/box")
    assert (await alice.send("GET", reading)).status in {403, 404}
    for endpoint in (writing, making):
        (await alice.send("PUT", endpoint, b"x")).assert_status(404)
    (entry,) = await trash(alice, bin_)
    assert entry["nodes"] == 2
    for path in ("/0", f"/{entry['id']}"):
        (await alice.get(path)).assert_fault(404, "NodeNotFound")
