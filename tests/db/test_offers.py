"""Negotiated transfers: what claims decide by, what waits for the disk, and since when bytes move."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pyvospace.db import jobs
from pyvospace.model.faults import PermissionDenied
from pyvospace.model.jobs import Kind
from pyvospace.model.stored import Changes
from pyvospace.model.vocabulary import NodeType, Phase
from tests.db.world import PEOPLE, READERS, WRITERS, Storage, World, pull, push, stored_file

if TYPE_CHECKING:
    from pyvospace.model.callers import Caller

_RIGHTS = (
    Changes(),
    Changes(public=True),
    Changes(group_read=(READERS,)),
    Changes(group_write=(WRITERS,)),
    Changes(group_read=(READERS,), group_write=("ivo://elsewhere/gms?other", WRITERS)),
)


@pytest.mark.parametrize("way", _RIGHTS)
async def test_claims_let_in_whom_the_tree_lets_in(world: World, storage: Storage, way: Changes) -> None:
    """Claims ask for groups only if they must: that changes no answer."""
    await world.add("box", NodeType.CONTAINER, way)
    for number, own in enumerate(_RIGHTS):
        where = f"box/{number}"
        await world.add(where, NodeType.DATA, own)
        first = await storage.catalogue.claim_upload(await push(world, where, await world.caller()), size=None)
        await storage.store(first, stored_file(where.encode()))
        for name in PEOPLE:
            caller = await world.caller(name)
            found, made = await world.resolve(where, caller), await world.resolve("box/new", caller)
            assert found.node is not None
            wanted = {
                "replace": found.way_readable and found.node.writable,
                "make": made.way_readable and made.last.readable and made.last.writable,
                "read": found.way_readable and found.node.readable,
            }
            claimed = {
                "replace": await _may_write(world, storage, where, caller),
                "make": await _may_write(world, storage, "box/new", caller),
                "read": await _may_read(world, storage, where, caller),
            }
            assert claimed == wanted, (name, own)


async def _may_write(world: World, storage: Storage, where: str, caller: Caller) -> bool:
    with suppress(PermissionDenied):
        claim = await storage.catalogue.claim_upload(await push(world, where, caller), size=None)
        await storage.catalogue.release(claim, reason="")
        return True
    return False


async def _may_read(world: World, storage: Storage, where: str, caller: Caller) -> bool:
    with suppress(PermissionDenied):
        await storage.catalogue.claim_download(await pull(world, where, caller))
        return True
    return False


async def test_only_new_offers_need_not_wait_for_the_disk(world: World, storage: Storage) -> None:
    del storage  # it is there to be chosen
    container = (await world.node("")).id
    await world.database.fetchrow("create table commits (job text, waits boolean)")
    await world.database.fetchrow("""
        create function note_commit() returns trigger language plpgsql as $$
        begin
            insert into commits values (new.id, current_setting('synchronous_commit') <> 'off');
            return new;
        end $$""")
    await world.database.fetchrow("create trigger commits before insert or update on jobs for each row "
                                  "when (new.phase = 'EXECUTING') execute function note_commit()")  # fmt: skip

    async def pushed(*, waited: bool = False) -> str:
        job = secrets.token_hex(20)
        if waited:
            await jobs.insert(
                world.database, job, owner=jobs.Owner(None), list_="transfers", kind=Kind.PUSH, request={},
                phase=Phase.PENDING, run_id=None, destruction=1000.0, waiting=10, duration=0,
            )  # fmt: skip
        assert await jobs.insert_push(
            world.database, job, owner=jobs.Owner(None), request={}, node=None, parent=container, name="data",
            node_uri="", discard=False, keep_properties=False, size_limit=None, announced=None, life=60.0,
            destruction=1000.0, waited=waited,
        )  # fmt: skip
        return job

    async def pulled(*, shared: bool) -> str:
        job = secrets.token_hex(20)
        assert await jobs.insert_pull(
            world.database, job, owner=jobs.Owner(None), request={}, node=container, storage=None, node_uri="",
            life=60.0, destruction=1000.0, shared=shared,
        )  # fmt: skip
        return job

    before = await world.database.fetchval("show synchronous_commit") != "off"
    waiting = [await pushed(waited=True), await pulled(shared=True)]
    alone = [await pushed(), await pulled(shared=False)]
    together = await asyncio.gather(pushed(), pushed(), pulled(shared=False), pulled(shared=False))
    rows = await world.database.fetch("select job, waits from commits")
    assert {row[0]: row[1] for row in rows} == dict.fromkeys(waiting, before) | dict.fromkeys(
        [*alone, *together], False
    )


async def test_start_is_known_as_soon_as_bytes_come(world: World, storage: Storage) -> None:
    claims = await push(world, "data", await world.caller())
    job = claims.job_id or ""

    async def row() -> jobs.JobRow:
        found = await jobs.select(world.database, job)
        assert found is not None
        return found

    assert (await row()).started is None
    claim = await storage.catalogue.claim_upload(claims, size=None)
    begun = (await row()).started
    assert begun is not None
    await storage.catalogue.release(claim, reason="broken off")
    assert (await row()).started == begun
    await storage.store(await storage.catalogue.claim_upload(claims, size=None), stored_file())
    assert (await row()).started == begun


async def test_time_to_execute_counts_from_the_first_byte(world: World, storage: Storage) -> None:
    claims = await push(world, "data", await world.caller())
    await storage.catalogue.claim_upload(claims, size=None)
    assert await jobs.set_duration(world.database, claims.job_id or "", 1)
    await world.database.fetchrow("update jobs set started = started - interval '2 seconds'")
    await jobs.tidy(world.database, batch=10, attempts=3, archive=0)
    found = await jobs.select(world.database, claims.job_id or "")
    assert found is not None
    assert found.phase is Phase.ABORTED
