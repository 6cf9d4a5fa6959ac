"""Dry runs of ``/async-delete`` and ``/async-setprops``: nothing changes, and the counts are those of the real run."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CADC, CORE
from tests.server.conftest import READERS, STAFF
from tests.support.agents import Agent, node_document, uri_of
from tests.support.jobs import FORM, Ended, delete_tree, run_job, set_tree

TITLE, PUBLIC, WRITE = CORE + "title", CORE + "ispublic", CORE + "groupwrite"
LOCKED = CADC + "islocked"
_NODES = 60
_BELOW = (
    "with recursive tree as (select id, name from nodes where name = $1"
    " union all select n.id, n.name from tree t join nodes n on n.parent_id = t.id)"
)


async def rehearse_deletion(agent: Agent, path: str) -> Ended:
    body = urlencode({"target": uri_of(path), "dryrun": "true"})
    return await run_job(agent, "async-delete", body, headers=FORM)


async def rehearse_setting(agent: Agent, path: str, properties: Mapping[str, str | None]) -> Ended:
    return await run_job(
        agent, "async-setprops?DRYRUN=true", node_document(path, "ContainerNode", properties=properties)
    )


async def plant(catalogue: Database, top: str, chance: random.Random) -> None:
    """Grow a tree below a container with random owners, rights and locks."""
    row = await catalogue.fetchrow("select id from nodes where name = $1", top)
    users = {one["name"]: one["id"] for one in await catalogue.fetch("select id, name from users")}
    assert row is not None
    containers: list[int] = [row["id"]]
    for number in range(_NODES):
        kind = chance.choice(["ContainerNode", "DataNode", "LinkNode"])
        made = await catalogue.fetchrow(
            "with made as (insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, target,"
            " locked) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning id, type), place as (insert into containers"
            " (id, path) select m.id, c.path || m.id::text from made m, containers c"
            " where c.id = $1 and m.type = 'ContainerNode') select id from made",
            chance.choice(containers),
            f"n{number}",
            kind,
            users[chance.choice(["admin", "bea", "bea"])],
            chance.random() < 0.5,
            chance.choice([[], [STAFF]]),
            chance.choice([[], [STAFF], [READERS, STAFF]]),
            "vos://x~y/z" if kind == "LinkNode" else None,
            chance.random() < 0.05,
        )
        assert made is not None
        if kind == "ContainerNode":
            containers.append(made["id"])


async def state(catalogue: Database, top: str) -> list[tuple[object, ...]]:
    """Give all that is kept of the tree."""
    rows = await catalogue.fetch(f"{_BELOW} select n.* from tree t join nodes n on n.id = t.id order by n.id", top)
    return [tuple(row.values()) for row in rows]


def counted(ended: Ended) -> tuple[str, str | None, str | None]:
    """Give what two runs must have in common."""
    return ended.phase, ended.results.get("successcount"), ended.results.get("errorcount")


@pytest.mark.parametrize("seed", range(4))
async def test_the_counts_are_those_of_the_real_run(
    admin: Agent, bea: Agent, shared: str, catalogue: Database, seed: int
) -> None:
    top = uuid.uuid4().hex
    rights = {PUBLIC: "true", WRITE: STAFF}
    await admin.post(shared, "ContainerNode", properties=rights)
    await admin.make(f"{shared}/{top}", "ContainerNode", properties=rights)
    await plant(catalogue, top, random.Random(seed))
    before = await state(catalogue, top)
    assert len(before) == _NODES + 1
    for properties in ({TITLE: "x"}, {CORE + "groupread": READERS}):
        found = await rehearse_setting(bea, f"{shared}/{top}", properties)
        assert await state(catalogue, top) == before
        assert counted(found) == counted(await set_tree(bea, f"{shared}/{top}", properties))
        assert found.results["dryrun"] == "final:true"
        before = await state(catalogue, top)
    found = await rehearse_deletion(bea, f"{shared}/{top}")
    assert await state(catalogue, top) == before
    assert counted(found) == counted(await delete_tree(bea, f"{shared}/{top}"))
    assert len(await state(catalogue, top)) < len(before)


async def test_what_stays_is_named_with_the_rule(admin: Agent, bea: Agent, shared: str) -> None:
    rights = {PUBLIC: "true", WRITE: STAFF}
    await admin.post(shared, "ContainerNode", properties=rights)
    for path, own in (("t", rights), ("t/theirs", {PUBLIC: "true"}), ("t/secret", {})):
        await admin.make(f"{shared}/{path}", "ContainerNode", properties=own)
    for path in ("t/a", "t/b", "t/theirs/a", "t/secret/hidden"):
        await admin.make(f"{shared}/{path}", properties=rights)
    await admin.post(f"{shared}/t/b", properties={LOCKED: "true"})
    found = await rehearse_deletion(bea, f"{shared}/t")
    assert f"[{uri_of(shared)}/t/b locked: the node is locked]" in found.summary
    assert f"[{uri_of(shared)}/t/theirs/a private: nobody but its owner" in found.summary
    assert f"[{uri_of(shared)}/t/secret something in it stays]" in found.summary
    assert "hidden" not in found.summary
    replace(found, results={name: of for name, of in found.results.items() if name != "dryrun"}).assert_counts(
        "ABORTED", 1, 5
    )
    (await delete_tree(bea, f"{shared}/t")).assert_counts("ABORTED", 1, 5)
    found = await rehearse_setting(bea, f"{shared}/t", {PUBLIC: "false"})
    assert (found.phase, found.error) == ("ERROR", "PermissionDenied")
    assert f"[{uri_of(shared)}/t private: nobody but its owner and administrators]" in found.summary


async def test_large_containers_are_counted_in_pieces(admin: Agent, shared: str, catalogue: Database) -> None:
    top = uuid.uuid4().hex
    await admin.make(f"{shared}/{top}", "ContainerNode")
    await catalogue.fetchrow(
        "insert into nodes (parent_id, name, type, owner_id) select n.id, 'file ' || i, 'DataNode', n.owner_id"
        "  from nodes n, generate_series(1, 2500) as i where n.name = $1",
        top,
    )
    for found in (
        await rehearse_deletion(admin, f"{shared}/{top}"),
        await rehearse_setting(admin, f"{shared}/{top}", {TITLE: "x"}),
    ):
        assert counted(found) == ("COMPLETED", "final:2501", None)
    assert len(await state(catalogue, top)) == 2501


async def test_a_dry_run_says_so(alice: Agent, folder: str) -> None:
    body = urlencode({"target": uri_of(folder), "dryrun": "perhaps"})
    (await alice.send("POST", "/async-delete", body, headers=FORM)).assert_fault(400, "InvalidArgument")
    ended = await rehearse_deletion(alice, folder)
    parameters = await alice.send("GET", f"{ended.url}/parameters")
    assert 'id="dryrun">true<' in parameters.text
    (await alice.get(folder)).assert_status(200)
