"""``/async-delete`` and ``/async-setprops`` (R-EXT-003, R-EXT-004; J4, J5)."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import asyncpg
import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CADC, CORE
from tests.server.conftest import READERS, STAFF
from tests.support.agents import Agent, children_of, node_document, properties_of, uri_of
from tests.support.jobs import FORM, U, delete_tree, document, ended, make_job, run, set_tree

TITLE, PUBLIC, WRITE, LOCKED = CORE + "title", CORE + "ispublic", CORE + "groupwrite", CADC + "islocked"
HERS = {PUBLIC: "true", WRITE: STAFF}
"""Rights of what bea may write to."""


async def make_tree(agent: Agent, top: str) -> list[str]:
    """Make seven nodes, the top among them; give their paths."""
    paths = [top, f"{top}/a", f"{top}/a/b", f"{top}/a/b/c", f"{top}/a/file", f"{top}/a/link", f"{top}/file"]
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        kind = "DataNode" if name == "file" else "LinkNode" if name == "link" else "ContainerNode"
        await agent.make(path, kind, target=uri_of(top) if kind == "LinkNode" else None)
    return paths


async def fill(catalogue: Database, path: str, number: int) -> None:
    """Add many files to a container, as the administrator's, writable for the staff."""
    name = path.rsplit("/", 1)[-1]
    await catalogue.fetchrow(
        "insert into nodes (parent_id, name, type, owner_id, public, group_write)"
        " select n.id, 'file ' || i, 'DataNode', n.owner_id, true, n.group_write"
        "   from nodes n, generate_series(1, $2) as i where n.name = $1",
        name,
        number,
    )


# ---------------------------------------------------------------------------------------------------- async-delete


async def test_tree_is_deleted_and_counted(alice: Agent, folder: str) -> None:
    paths = await make_tree(alice, f"{folder}/t")
    (await delete_tree(alice, f"{folder}/t")).assert_counts("COMPLETED", len(paths))
    (await alice.get(f"{folder}/t")).assert_fault(404, "NodeNotFound")
    await alice.push(f"{folder}/data", b"bytes")
    (await delete_tree(alice, f"{folder}/data")).assert_counts("COMPLETED", 1)
    assert children_of(await alice.node(folder)) == []


async def test_job_as_vos_runs_it(alice: Agent, folder: str) -> None:
    """J4: it never reads PENDING after RUN, and its parameter is in it."""
    await alice.make(f"{folder}/a")
    body = urlencode({"target": uri_of(f"{folder}/a").replace("~", "!")})
    job = await make_job(alice, "async-delete", body, headers=FORM)
    assert await alice.phase(job) == "PENDING"
    await run(alice, job)
    root = await document(alice, job, 6)
    assert root.findtext(U + "phase") == "COMPLETED"
    assert [one.get("id") for one in root.iterfind(f"{U}parameters/{U}parameter")] == ["target"]
    assert [one.get("id") for one in root.iterfind(f"{U}results/{U}result")] == ["successcount"]


async def test_what_may_not_be_deleted_stays(alice: Agent, folder: str) -> None:
    """Children of a locked container, what is locked itself, and the containers above both."""
    for path in ("t", "t/closed", "t/closed/box", "t/open"):
        await alice.make(f"{folder}/{path}", "ContainerNode")
    for path in ("t/closed/a", "t/closed/box/a", "t/open/a", "t/open/b", "t/c"):
        await alice.make(f"{folder}/{path}")
    await alice.post(f"{folder}/t/closed", "ContainerNode", properties={LOCKED: "true"})
    await alice.post(f"{folder}/t/open/b", properties={LOCKED: "true"})
    # Gone: closed/box/a, open/a, c. Left: closed with a and box, open with b, and the top.
    (await delete_tree(alice, f"{folder}/t")).assert_counts("ABORTED", 3, 6)
    assert children_of(await alice.node(f"{folder}/t")) == ["closed", "open"]
    assert children_of(await alice.node(f"{folder}/t/closed")) == ["a", "box"]
    found = await delete_tree(alice, f"{folder}/t/open/b")
    assert (found.phase, found.error) == ("ERROR", "PermissionDenied")
    found.assert_counts("ERROR", 0, 1)


async def test_rights_of_each_container_count(bea: Agent, admin: Agent, shared: str) -> None:
    await admin.make(f"{shared}/box", "ContainerNode", properties=HERS)
    for path, rights in (("t", HERS), ("t/theirs", {PUBLIC: "true"}), ("t/secret", {}), ("t/secret/hers", HERS)):
        await admin.make(f"{shared}/box/{path}", "ContainerNode", properties=rights)
    for path in ("t/a", "t/theirs/a", "t/secret/a", "t/secret/hers/a"):
        await admin.make(f"{shared}/box/{path}", properties={PUBLIC: "true"})
    # What is in a container that she may not read is neither touched nor counted.
    (await delete_tree(bea, f"{shared}/box/t")).assert_counts("ABORTED", 1, 4)
    for path in ("t/theirs/a", "t/secret/a", "t/secret/hers/a"):
        (await admin.get(f"{shared}/box/{path}")).assert_status(200)


async def test_errors_stop_it(bea: Agent, admin: Agent, shared: str, catalogue: Database) -> None:
    """More than a hundred."""
    await admin.make(f"{shared}/box", "ContainerNode", properties=HERS)
    for name in ("a", "z"):
        await admin.make(f"{shared}/box/{name}", "ContainerNode", properties={**HERS, LOCKED: "true"})
    await admin.make(f"{shared}/box/last", properties=HERS)
    name = f"{shared}/box/a"
    await catalogue.fetchrow(
        "insert into nodes (parent_id, name, type, owner_id) select a.id, 'file ' || i, 'DataNode', a.owner_id"
        "  from nodes a join nodes b on b.id = a.parent_id join nodes s on s.id = b.parent_id,"
        "       generate_series(1, 101) as i where a.name = 'a' and s.name = $1",
        shared.strip("/"),
    )
    found = await delete_tree(bea, f"{shared}/box")
    found.assert_counts("ABORTED", 1, 101)
    (await admin.get(name, limit=0)).assert_status(200)


async def test_large_containers_go_in_pieces(alice: Agent, folder: str, catalogue: Database) -> None:
    await alice.make(f"{folder}/t", "ContainerNode")
    name = folder.rsplit("/", 1)[-1]
    large = f"large-{name}"
    await alice.make(f"{folder}/t/{large}", "ContainerNode")
    await alice.make(f"{folder}/t/small", "ContainerNode")
    await fill(catalogue, large, 2500)
    (await delete_tree(alice, f"{folder}/t")).assert_counts("COMPLETED", 2503)
    assert children_of(await alice.node(folder)) == []


async def test_deep_trees(alice: Agent, folder: str) -> None:
    """A locked node at the bottom keeps the whole way down to it."""
    path = folder
    for _ in range(190):
        path = await alice.make(f"{path}/d", "ContainerNode")
    await alice.make(f"{path}/locked", properties={LOCKED: "true"})
    (await delete_tree(alice, f"{folder}/d")).assert_counts("ERROR", 0, 101)
    await alice.post(f"{path}/locked", properties={LOCKED: "false"})
    (await set_tree(alice, f"{folder}/d", {TITLE: "deep"})).assert_counts("COMPLETED", 191)
    (await delete_tree(alice, f"{folder}/d")).assert_counts("COMPLETED", 191)


async def test_requests_that_make_no_deletion(alice: Agent, nobody: Agent, folder: str) -> None:
    (await alice.send("POST", "/async-delete", "", headers=FORM)).assert_fault(400, "InvalidArgument")
    for target in ("nonsense", "vos://elsewhere.org~space/a"):
        answer = await alice.send("POST", "/async-delete", urlencode({"target": target}), headers=FORM)
        answer.assert_fault(400, "InvalidURI")
    target = urlencode({"target": uri_of(folder)})
    (await nobody.send("POST", "/async-delete", target, headers=FORM)).assert_fault(401, "NotAuthenticated")
    (await delete_tree(alice, f"{folder}/missing")).assert_error("NodeNotFound", "Node Not Found")
    (await delete_tree(alice, "")).assert_error("PermissionDenied")
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/box/a")
    await alice.make(f"{folder}/link", "LinkNode", target=uri_of(f"{folder}/box"))
    (await delete_tree(alice, f"{folder}/link/a")).assert_error("LinkFound")
    (await delete_tree(alice, f"{folder}/link")).assert_counts("COMPLETED", 1)
    assert children_of(await alice.node(f"{folder}/box")) == ["a"]


# -------------------------------------------------------------------------------------------------- async-setprops


async def test_properties_of_everything(alice: Agent, folder: str) -> None:
    paths = await make_tree(alice, f"{folder}/t")
    await alice.post(f"{folder}/t/a/file", properties={"urn:old": "x", "urn:kept": "y", LOCKED: "true"})
    wanted = {
        TITLE: "all",
        "quality": "good",
        "urn:old": None,
        PUBLIC: "true",
        CORE + "groupread": f"{STAFF} {READERS}",
    }
    for _ in range(2):  # twice is as once (R-SET-013)
        (await set_tree(alice, f"{folder}/t", wanted)).assert_counts("COMPLETED", len(paths))
        for path in paths:
            found = properties_of(await alice.node(path))
            assert (found[TITLE], found["quality"], found[PUBLIC]) == ("all", "good", "true")
            assert found[CORE + "groupread"] == f"{STAFF} {READERS}"
            assert "urn:old" not in found
    found = properties_of(await alice.node(f"{folder}/t/a/file"))
    assert (found["urn:kept"], found[LOCKED]) == ("y", "true")  # locks are no hindrance
    (await set_tree(alice, f"{folder}/t", {CORE + "groupread": None, PUBLIC: "false"})).assert_counts("COMPLETED", 7)
    assert CORE + "groupread" not in properties_of(await alice.node(f"{folder}/t/a/b"))
    (await set_tree(alice, f"{folder}/t/file", {TITLE: "one"}, "DataNode")).assert_counts("COMPLETED", 1)
    assert properties_of(await alice.node(f"{folder}/t"))[TITLE] == "all"


async def test_rights_of_each_node_count(bea: Agent, admin: Agent, shared: str) -> None:
    for path, rights in (("t", HERS), ("t/theirs", {PUBLIC: "true"}), ("t/secret", {}), ("t/secret/hers", HERS)):
        await admin.make(f"{shared}/{path}", "ContainerNode", properties=rights)
    for path, rights in (("t/a", HERS), ("t/theirs/a", HERS), ("t/theirs/b", {PUBLIC: "true"}), ("t/secret/a", HERS)):
        await admin.make(f"{shared}/{path}", properties=rights)
    # Changed: t, a, theirs/a. Not: theirs and its b, secret, below which she sees nothing.
    (await set_tree(bea, f"{shared}/t", {TITLE: "x"})).assert_counts("ABORTED", 3, 3)
    for path, changed in (("t/theirs/a", True), ("t/theirs", False), ("t/secret/hers", False), ("t/secret/a", False)):
        assert (TITLE in properties_of(await admin.node(f"{shared}/{path}"))) is changed
    # Rights are the owner's to change.
    found = await set_tree(bea, f"{shared}/t", {PUBLIC: "false"})
    found.assert_counts("ERROR", 0, 6)


@pytest.mark.parametrize("name", [CORE + "quota", CORE + "immutable"])
async def test_what_is_not_for_trees(alice: Agent, folder: str, name: str) -> None:
    """What only an administrator could set: ERROR without results."""
    await make_tree(alice, f"{folder}/t")
    found = await set_tree(alice, f"{folder}/t", {TITLE: "x", name: "1"})
    assert (found.phase, dict(found.results)) == ("ERROR", {})
    assert TITLE not in properties_of(await alice.node(f"{folder}/t"))


async def test_large_containers_are_set_in_pieces(alice: Agent, folder: str, catalogue: Database) -> None:
    name = f"large-{folder.rsplit('/', 1)[-1]}"
    await alice.make(f"{folder}/{name}", "ContainerNode")
    await fill(catalogue, name, 2500)
    for number in range(3):
        await alice.make(f"{folder}/{name}/box {number}".replace(" ", "%20"), "ContainerNode")
        await alice.make(f"{folder}/{name}/box%20{number}/file")
    (await set_tree(alice, f"{folder}/{name}", {TITLE: "x"})).assert_counts("COMPLETED", 2507)
    query = (
        "select count(*) from nodes where properties = $2::jsonb and parent_id = (select id from nodes where name = $1)"
    )
    assert await catalogue.fetchval(query, name, f'{{"{TITLE}": "x"}}') == 2503


async def test_requests_that_set_nothing(alice: Agent, nobody: Agent, folder: str) -> None:
    (await alice.send("POST", "/async-setprops", "nonsense")).assert_fault(400, "InvalidArgument")
    elsewhere = node_document("", uri="vos://elsewhere.org~space/a")
    (await alice.send("POST", "/async-setprops", elsewhere)).assert_fault(400, "InvalidURI")
    (await nobody.send("POST", "/async-setprops", node_document(folder))).assert_fault(401, "NotAuthenticated")
    (await set_tree(alice, f"{folder}/missing", {TITLE: "x"})).assert_error("NodeNotFound", "Node Not Found")
    (await set_tree(alice, folder, {PUBLIC: "perhaps"})).assert_error("InvalidArgument")
    (await set_tree(alice, folder, {TITLE: "x"}, "DataNode")).assert_error("InvalidArgument")


# ------------------------------------------------------------------------------------------------------------ both


async def test_abort(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a")
    job = await make_job(alice, "async-delete", urlencode({"target": uri_of(f"{folder}/a")}), headers=FORM)
    (await alice.send("POST", f"{job}/phase?PHASE=ABORT")).assert_status(303)
    assert (await ended(alice, job)).phase == "ABORTED"
    (await alice.send("POST", f"{job}/phase?PHASE=RUN")).assert_fault(403, "PermissionDenied")
    (await alice.get(f"{folder}/a")).assert_status(200)


async def hold(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Keep everybody from changing the nodes named t."""
    await connection.execute("select from nodes n join containers c on c.id = n.id where n.name = 't' for update")


@pytest.mark.parametrize("of_job", ["async-delete", "async-setprops"])
async def test_users_change_meanwhile(alice: Agent, folder: str, catalogue: Database, of_job: str) -> None:
    """The owner is identified anew, as often as it takes."""
    paths = await make_tree(alice, f"{folder}/t")
    await alice.make(f"{folder}/t/z", properties={LOCKED: "true"})
    body = request_of(of_job, f"{folder}/t")
    job = await make_job(alice, of_job, body, headers=FORM if of_job == "async-delete" else None)
    holding = await asyncpg.connect(alice.pair.dsn)
    async with holding.transaction():
        await hold(holding)
        await run(alice, job)
        assert await alice.phase(job) == "EXECUTING"
        await catalogue.fetchrow("update space set epoch = epoch + 1")
    await holding.close()
    found = await ended(alice, job)
    if of_job == "async-delete":
        found.assert_counts("ABORTED", len(paths) - 1, 2)
    else:
        found.assert_counts("COMPLETED", len(paths) + 1)


async def test_owner_is_disabled_meanwhile(carl: Agent, catalogue: Database) -> None:
    """What was done until then is told."""
    top = await carl.make("/home/carl/t", "ContainerNode")
    await carl.make(f"{top}/a")
    job = await make_job(carl, "async-setprops", request_of("async-setprops", top))
    holding = await asyncpg.connect(carl.pair.dsn)
    async with holding.transaction():
        await hold(holding)
        await run(carl, job)
        await catalogue.fetchrow("update users set disabled = true where name = 'carl'")
    await holding.close()
    while await catalogue.fetchval("select phase from jobs where id = $1", job.rsplit("/", 1)[-1]) == "EXECUTING":
        await asyncio.sleep(0.02)
    await catalogue.fetchrow("update users set disabled = false where name = 'carl'")
    (await ended(carl, job)).assert_counts("ABORTED", 1)
    (await carl.delete(top)).assert_status(204)


def request_of(of_job: str, path: str) -> str:
    """Write what makes a job for a tree."""
    if of_job == "async-delete":
        return urlencode({"target": uri_of(path)})
    return node_document(path, "ContainerNode", properties={TITLE: "x"})


@pytest.mark.parametrize("of_job", ["async-delete", "async-setprops"])
async def test_abort_in_the_middle(alice: Agent, folder: str, of_job: str) -> None:
    """It ends at once, though its worker waits for somebody else, and does nothing afterwards."""
    await make_tree(alice, f"{folder}/t")
    body = request_of(of_job, f"{folder}/t")
    job = await make_job(alice, of_job, body, headers=FORM if of_job == "async-delete" else None)
    holding = await asyncpg.connect(alice.pair.dsn)
    async with holding.transaction():
        await hold(holding)
        await run(alice, job)
        assert await alice.phase(job) == "EXECUTING"
        (await alice.send("POST", f"{job}/phase?PHASE=ABORT")).assert_status(303)
        assert await alice.phase(job) == "ABORTED"
        waiting = "select count(*) from pg_locks where not granted and pid <> pg_backend_pid()"
        while await holding.fetchval(waiting):
            await asyncio.sleep(0.02)
    await holding.close()
    assert (await ended(alice, job)).results == {}
    assert properties_of(await alice.node(f"{folder}/t/a/file")).get(TITLE) is None
