"""moveNode (VOSpace 2.1, section 6.2.2; R-MOVE, I12)."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CADC, CORE
from tests.server.conftest import STAFF
from tests.support.agents import Agent, children_of, properties_of, type_of, uri_of
from tests.support.jobs import U, document, ended, make_job, move, run, transfer
from tests.support.pair import Pair


async def test_file_takes_everything_with_it(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/a", "DataNode", properties={CORE + "title": "A", CORE + "ispublic": "true"})
    await alice.push(f"{folder}/a", b"bytes")
    _, endpoint = await alice.negotiate(f"{folder}/a", "pullFromVoSpace")
    await alice.post(f"{folder}/a", properties={CORE + "title": "A"})
    before = await alice.node(f"{folder}/a")
    (await move(alice, f"{folder}/a", f"{folder}/box/b")).assert_moved(f"{folder}/box/b")
    (await alice.get(f"{folder}/a")).assert_fault(404, "NodeNotFound")
    after = await alice.node(f"{folder}/box/b")
    changed = {CORE + "ctime"}
    assert type_of(after) == type_of(before)
    assert {k: v for k, v in properties_of(after).items() if k not in changed} == {
        k: v for k, v in properties_of(before).items() if k not in changed
    }
    assert await alice.pull(f"{folder}/box/b") == b"bytes"
    assert (await alice.send("GET", endpoint)).body == b"bytes"  # what was agreed on is of the node, not of its path


async def test_job(alice: Agent, folder: str) -> None:
    """J1: PENDING, then RUN, then the phase as a bare word."""
    await alice.make(f"{folder}/a")
    job = await make_job(alice, "transfers", transfer(f"{folder}/a", f"{folder}/b", keep=False))
    assert await alice.phase(job) == "PENDING"
    (await alice.get(f"{folder}/a")).assert_status(200)
    await run(alice, job)
    assert await alice.phase(job) in {"QUEUED", "EXECUTING", "COMPLETED"}
    (await ended(alice, job)).assert_moved(f"{folder}/b")
    assert (await document(alice, job)).findtext(U + "phase") == "COMPLETED"
    again = await alice.send("POST", f"{job}/phase?PHASE=RUN")
    assert again.status in {303, 403}
    (await alice.get(f"{folder}/b")).assert_status(200)


async def test_tree(alice: Agent, folder: str) -> None:
    for path in ("t", "t/a", "t/a/b", "box"):
        await alice.make(f"{folder}/{path}", "ContainerNode")
    await alice.push(f"{folder}/t/a/b/data", b"deep")
    # Into a container that is there, under its own name; the name may need encoding.
    (await move(alice, f"{folder}/t", f"{folder}/box")).assert_moved(f"{folder}/box/t")
    (await alice.get(f"{folder}/t")).assert_fault(404, "NodeNotFound")
    assert await alice.pull(f"{folder}/box/t/a/b/data") == b"deep"
    (await move(alice, f"{folder}/box/t", f"{folder}/%C3%A9%20%25")).assert_moved(f"{folder}/%C3%A9%20%25")
    assert await alice.pull(f"{folder}/%C3%A9%20%25/a/b/data") == b"deep"


async def test_name_is_taken(alice: Agent, folder: str) -> None:
    for path in ("box", "t"):
        await alice.make(f"{folder}/{path}", "ContainerNode")
    await alice.push(f"{folder}/a", b"a")
    await alice.push(f"{folder}/b", b"b")
    await alice.push(f"{folder}/box/a", b"inner")
    await alice.make(f"{folder}/link", "LinkNode", target=uri_of(f"{folder}/box"))
    for source, goal in (("a", "b"), ("a", "box"), ("t", "b"), ("a", "link"), ("a", "a"), ("a", "")):
        (await move(alice, f"{folder}/{source}", f"{folder}/{goal}")).assert_error("DuplicateNode", "Duplicate Node")
    assert [await alice.pull(f"{folder}/{name}") for name in ("a", "b", "box/a")] == [b"a", b"b", b"inner"]


async def test_missing(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a")
    (await move(alice, f"{folder}/x", f"{folder}/y")).assert_error("NodeNotFound", "Node Not Found", f"{folder}/x")
    (await move(alice, f"{folder}/x/y", f"{folder}/y")).assert_error("NodeNotFound", f"{folder}/x/y")
    for goal in ("no/b", "a/b", "no/.auto"):
        found = await move(alice, f"{folder}/a", f"{folder}/{goal}")
        found.assert_error("NodeNotFound", uri_of(f"{folder}/{goal.split('/')[0]}") + ":")
    (await alice.get(f"{folder}/a")).assert_status(200)


async def test_bad_uris(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a")
    elsewhere = "vos://elsewhere.org~space/a"
    (await move(alice, elsewhere, f"{folder}/b")).assert_error("InvalidURI", "Invalid URI")
    (await move(alice, f"{folder}/a", elsewhere)).assert_error("InvalidURI", "Invalid URI")
    (await move(alice, f"{folder}/a", f"{folder}/b%2Fc")).assert_error("InvalidURI")
    answer = await alice.send("POST", "/transfers", transfer(f"{folder}/a", "vos:", keep=False))
    assert answer.status in {303, 400}
    (await alice.get(f"{folder}/a")).assert_status(200)


async def test_below_itself(alice: Agent, folder: str) -> None:
    for path in ("t", "t/a", "t/a/b"):
        await alice.make(f"{folder}/{path}", "ContainerNode")
    words = "Cannot move container node into its descendants"
    for goal in ("t", "t/x", "t/a", "t/a/b", "t/a/b/x"):
        (await move(alice, f"{folder}/t", f"{folder}/{goal}")).assert_error("InvalidArgument", words)
    assert children_of(await alice.node(f"{folder}/t/a")) == ["b"]


async def test_reserved_names(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/a")
    found = await move(alice, f"{folder}/a", f"{folder}/.auto")
    (name,) = children_of(await alice.node(folder))
    found.assert_moved(f"{folder}/{name}")
    await alice.make(f"{folder}/t", "ContainerNode")
    await alice.make(f"{folder}/t/a")
    for source in (name, "t"):
        (await move(alice, f"{folder}/{source}", f"{folder}/.null")).assert_moved(f"{folder}/.null")
    assert children_of(await alice.node(folder)) == []
    (await move(alice, f"{folder}/.null", f"{folder}/a")).assert_error("NodeNotFound")


async def test_links(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/box", "ContainerNode")
    await alice.make(f"{folder}/box/a")
    target = uri_of(f"{folder}/box")
    await alice.make(f"{folder}/link", "LinkNode", target=target)
    (await move(alice, f"{folder}/link/a", f"{folder}/link/b")).assert_moved(f"{folder}/box/b")  # on the way
    (await move(alice, f"{folder}/link", f"{folder}/other")).assert_moved(f"{folder}/other")
    moved = await alice.node(f"{folder}/other")
    assert (type_of(moved), moved.findtext("{*}target")) == ("LinkNode", target)
    assert children_of(await alice.node(f"{folder}/box")) == ["b"]


async def test_rights(alice: Agent, bea: Agent, carl: Agent, admin: Agent, shared: str) -> None:
    """What it takes is to write to both containers; the owner stays."""
    staff = {CORE + "ispublic": "true", CORE + "groupwrite": STAFF}
    for path, rights in (("from", staff), ("to", staff), ("closed", {CORE + "ispublic": "true"})):
        await admin.make(f"{shared}/{path}", "ContainerNode", properties=rights)
        await admin.make(f"{shared}/{path}/a", properties={CORE + "ispublic": "true"})
    (await move(bea, f"{shared}/closed/a", f"{shared}/to/b")).assert_error("PermissionDenied", "Permission Denied")
    (await move(bea, f"{shared}/from/a", f"{shared}/closed/b")).assert_error("PermissionDenied")
    (await move(carl, f"{shared}/from/a", f"{shared}/to/b")).assert_error("PermissionDenied")
    (await move(bea, f"{shared}/from/a", f"{shared}/to/b")).assert_moved(f"{shared}/to/b")
    assert properties_of(await bea.node(f"{shared}/to/b"))[CORE + "creator"] == "admin"
    for path in ("", "/home", "/home/alice"):
        (await move(alice, path or uri_of(""), f"{shared}/x")).assert_error("PermissionDenied")


async def test_locks(alice: Agent, folder: str) -> None:
    locked = {CADC + "islocked": "true"}
    await alice.make(f"{folder}/data", properties=locked)
    await alice.make(f"{folder}/t", "ContainerNode")
    await alice.make(f"{folder}/t/a", properties=locked)
    await alice.make(f"{folder}/closed", "ContainerNode", properties=locked)
    await alice.make(f"{folder}/free")
    for source, goal in (("data", "x"), ("t", "x"), ("free", "closed"), ("free", "closed/x"), ("closed", "x")):
        (await move(alice, f"{folder}/{source}", f"{folder}/{goal}")).assert_error("NodeLocked", "Node Locked")
    await alice.post(f"{folder}/data", properties={CADC + "islocked": "false"})
    (await move(alice, f"{folder}/data", f"{folder}/x")).assert_moved(f"{folder}/x")


async def test_immutable(alice: Agent, folder: str) -> None:
    await alice.make(f"{folder}/t", "ContainerNode")
    await alice.make(f"{folder}/t/a", properties={CORE + "immutable": "true"})
    await alice.make(f"{folder}/box", "ContainerNode", properties={CORE + "immutable": "true"})
    await alice.make(f"{folder}/free")
    for source, goal in (("t/a", "x"), ("t", "x"), ("free", "box"), ("t/a", ".null"), ("t", ".null")):
        (await move(alice, f"{folder}/{source}", f"{folder}/{goal}")).assert_error("PermissionDenied", "immutable")


async def test_sync(alice: Agent, folder: str) -> None:
    """Rulings of A-34: it runs at once."""
    await alice.make(f"{folder}/a")
    answer = await alice.send("POST", "/synctrans", transfer(f"{folder}/a", f"{folder}/b", keep=False))
    details = answer.assert_status(303).location
    (await alice.send("GET", details)).assert_status(200)
    (await ended(alice, details.removesuffix("/results/transferDetails"))).assert_moved(f"{folder}/b")


async def test_sync_of_a_caller_who_has_changed(alice: Agent, catalogue: Database, folder: str) -> None:
    """He is identified again before anything is done, so that it is done once."""
    await alice.make(f"{folder}/a")
    await catalogue.fetch("update space set epoch = epoch + 1")
    answer = await alice.send("POST", "/synctrans", transfer(f"{folder}/a", f"{folder}/b", keep=False))
    job = answer.assert_status(303).location.removesuffix("/results/transferDetails")
    (await ended(alice, job)).assert_moved(f"{folder}/b")
    rows = await catalogue.fetch("select from audit where action = 'moveNode' and path = $1", f"{folder}/a")
    assert len(rows) == 1


@pytest.mark.parametrize("keep", [False, True])
async def test_abort(alice: Agent, folder: str, keep: bool) -> None:
    """It ends at once, though its worker waits for somebody else, and nothing happens any more."""
    for path in ("t", "box"):
        await alice.make(f"{folder}/{path}", "ContainerNode")
    job = await make_job(alice, "transfers", transfer(f"{folder}/t", f"{folder}/box", keep=keep))
    holding = await asyncpg.connect(alice.pair.dsn)
    async with holding.transaction():
        await holding.execute("select from containers c join nodes n on n.id = c.id where n.name = 'box' for update")
        await run(alice, job)
        assert await alice.phase(job) == "EXECUTING"
        (await alice.send("POST", f"{job}/phase?PHASE=ABORT")).assert_status(303)
        found = await ended(alice, job)
        while await holding.fetchval("select count(*) from pg_locks where not granted and pid <> pg_backend_pid()"):
            await asyncio.sleep(0.02)
    await holding.close()
    assert (found.phase, found.results) == ("ABORTED", {})
    assert children_of(await alice.node(folder)) == ["box", "t"]
    assert children_of(await alice.node(f"{folder}/box")) == []


@pytest.mark.parametrize("goal", ["x", "t/a/x"])
async def test_opencadc(opencadc_pair: Pair, alice: Agent, goal: str) -> None:
    """Links on the way and locks as OpenCADC has them, the rest as everywhere."""
    agent = Agent(alice.session, opencadc_pair, opencadc_pair.token)
    top = await agent.make(f"{opencadc_pair.home}/{goal.replace('/', '-')}", "ContainerNode")
    for path in ("t", "t/a"):
        await agent.make(f"{top}/{path}", "ContainerNode")
    await agent.make(f"{top}/locked", "ContainerNode", properties={CADC + "islocked": "true"})
    (await move(agent, f"{top}/t/a", f"{top}/locked")).assert_error("PermissionDenied")
    found = await move(agent, f"{top}/t", f"{top}/{goal}")
    if goal == "x":
        found.assert_moved(f"{top}/x")
    else:
        found.assert_error("InvalidArgument", "Cannot move container node into its descendants")
