"""How long endpoints are good, what downloads learn, and what becomes of bytes that no node names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from pyvospace.db import jobs
from pyvospace.db.storage import LEASE
from pyvospace.model.faults import (
    EndpointUsed,
    NodeNotFound,
    PermissionDenied,
    RequestEntityTooLarge,
)
from pyvospace.model.vocabulary import NodeType, Phase
from tests.db.world import Storage, World, age, obsolete, phase, pull, push, stored_file

# ------------------------------------------------------------------------------------------------ life of endpoints


async def test_success_may_be_repeated_for_a_while(world: World, storage: Storage) -> None:
    claims = await push(world, "data", await world.caller())
    first = await storage.upload(claims)
    second = await storage.upload(claims, b"repeated")
    assert (await world.node("data")).md5 == second.md5
    assert await obsolete(world) == [first.location]
    late = await storage.catalogue.claim_upload(claims, size=None)
    await age(world, "jobs", "ended", 61)
    await storage.store(late, stored_file())  # it began in time
    await age(world, "jobs", "ended", 61)
    with pytest.raises(EndpointUsed):
        await storage.catalogue.claim_upload(claims, size=None)
    assert await storage.catalogue.current(claims) is not None


async def test_repetition_does_not_bring_back_a_deleted_node(world: World, storage: Storage) -> None:
    claims = await push(world, "data", await world.caller())
    await storage.upload(claims)
    await world.remove("data")
    with pytest.raises(NodeNotFound):
        await storage.upload(claims)


async def test_endpoint_expires(world: World, storage: Storage) -> None:
    caller = await world.caller()
    claims = await push(world, "data", caller)
    begun = await storage.catalogue.claim_upload(claims, size=None)
    await age(world, "jobs", "expires", 3601)
    with pytest.raises(PermissionDenied, match="expired"):
        await storage.catalogue.current(claims)
    with pytest.raises(PermissionDenied, match="expired"):
        await storage.catalogue.claim_upload(claims, size=None)
    assert await jobs.tidy(world.database, batch=100, attempts=3, archive=0.0) == 0  # its bytes are on the way
    assert await storage.catalogue.renew(begun)
    await storage.store(begun, stored_file())
    assert await phase(world, claims.job_id) is Phase.COMPLETED
    reading = await pull(world, "data", caller)
    await age(world, "jobs", "expires", 3601)
    with pytest.raises(PermissionDenied, match="withdrawn"):
        await storage.catalogue.claim_download(reading)


async def test_unused_endpoint_is_aborted(world: World, storage: Storage) -> None:
    claims = await push(world, "data", await world.caller())
    gone = await push(world, "other", await world.caller())
    await storage.catalogue.claim_upload(gone, size=None)  # and never heard of again
    await age(world, "jobs", "expires", 3601)
    await age(world, "writers", "until", LEASE + 3601)
    assert await jobs.tidy(world.database, batch=100, attempts=3, archive=0.0) == 2
    assert await world.database.fetchval("select count(*) from writers") == 0
    for one in (claims, gone):
        row = await jobs.select(world.database, one.job_id or "")
        assert row is not None
        assert (row.phase, row.message) == (Phase.ABORTED, "the endpoint expired unused")
    await age(world, "jobs", "destruction", 86401)
    assert await jobs.tidy(world.database, batch=100, attempts=3, archive=0.0) == 2
    assert await jobs.select(world.database, claims.job_id or "") is None
    with pytest.raises(PermissionDenied, match="withdrawn"):
        await storage.catalogue.claim_upload(claims, size=None)


async def test_aborted_job_takes_no_bytes(world: World, storage: Storage) -> None:
    caller = await world.caller()
    claims = await push(world, "data", caller)
    begun = await storage.catalogue.claim_upload(claims, size=None)
    assert await jobs.abort(world.database, claims.job_id or "", "as you wish")
    assert not await storage.catalogue.renew(begun)
    with pytest.raises(PermissionDenied, match="aborted"):
        await storage.store(begun, stored_file())
    with pytest.raises(PermissionDenied, match="aborted"):
        await storage.catalogue.claim_upload(claims, size=None)
    assert (await world.resolve("data")).node is None
    await storage.upload(await push(world, "data", caller))  # nobody is busy there
    reading = await pull(world, "data", caller)
    await jobs.abort(world.database, reading.job_id or "", "as you wish")
    with pytest.raises(PermissionDenied, match="withdrawn"):
        await storage.catalogue.claim_download(reading)


async def succeeds(call: Awaitable[object]) -> bool:
    try:
        await call
    except PermissionDenied:
        return False
    return True


async def test_abort_and_completion_compete(world: World, storage: Storage) -> None:
    caller = await world.caller()
    for turn in range(20):
        claims = await push(world, "data", caller)
        claim = await storage.catalogue.claim_upload(claims, size=None)
        file = stored_file(f"turn {turn}".encode())

        stored, aborted = await asyncio.gather(
            succeeds(storage.store(claim, file)), jobs.abort(world.database, claims.job_id or "", "no")
        )
        assert stored is not aborted
        node = (await world.resolve("data")).node
        assert (node is not None and node.md5 == file.md5) is stored
        assert await phase(world, claims.job_id) is (Phase.COMPLETED if stored else Phase.ABORTED)


async def test_endpoints_do_one_thing(world: World, storage: Storage) -> None:
    caller = await world.caller()
    await storage.upload(await push(world, "data", caller))
    reading, writing = await pull(world, "data", caller), await push(world, "data", caller)
    with pytest.raises(PermissionDenied, match="withdrawn"):
        await storage.catalogue.claim_upload(reading, size=None)
    with pytest.raises(PermissionDenied, match="withdrawn"):
        await storage.catalogue.claim_download(writing)
    claim = await storage.catalogue.claim_download(reading)
    await storage.catalogue.delivered(replace(claim, job_id=writing.job_id))
    assert await phase(world, writing.job_id) is Phase.EXECUTING
    other = await world.add("other", NodeType.DATA)
    with pytest.raises(PermissionDenied, match="withdrawn"):
        await storage.catalogue.claim_download(replace(reading, node_id=other.id))
    stranger = await world.caller("stranger")
    for forged in (replace(writing, user_id=stranger.id), replace(writing, user_id=None)):
        with pytest.raises(PermissionDenied, match="withdrawn"):
            await storage.catalogue.claim_upload(forged, size=None)


async def test_size_limit_is_kept(world: World, storage: Storage) -> None:
    claims = await push(world, "data", await world.caller(), size_limit=10)
    with pytest.raises(RequestEntityTooLarge, match="11 bytes are more than the limit of 10"):
        await storage.catalogue.claim_upload(claims, size=11)
    assert (await storage.catalogue.claim_upload(claims, size=10)).limit == 10
    assert (await storage.catalogue.claim_upload(claims, size=None)).limit == 10


async def test_discarded_bytes_leave_no_trace(world: World, storage: Storage) -> None:
    caller = await world.caller("owner")
    claims = await push(world, "x", caller, discard=True)
    assert await storage.catalogue.current(claims) is None
    claim = await storage.catalogue.claim_upload(claims, size=5)
    assert claim.discard
    other = await storage.catalogue.claim_upload(await push(world, "x", caller, discard=True), size=5)
    for one in (claim, other):
        async with storage.catalogue.transaction(one):
            pass
    assert await phase(world, claims.job_id) is Phase.COMPLETED
    assert (await world.resolve("x")).node is None
    assert await obsolete(world) == []


async def test_current_tells_what_the_node_has(world: World, storage: Storage) -> None:
    caller = await world.caller()
    assert await storage.catalogue.current(await push(world, "data", caller)) is None
    first = await push(world, "data", caller)
    stored = stored_file(b"12345", "text/plain")
    await storage.store(await storage.catalogue.claim_upload(first, size=None), stored)
    assert await storage.catalogue.current(first) == stored
    claim = await storage.catalogue.claim_upload(await push(world, "data", caller), size=None)
    assert claim.current == stored


# ------------------------------------------------------------------------------------------------------- downloads


async def test_download_tells_where_the_bytes_are(world: World, storage: Storage) -> None:
    caller = await world.caller()
    stored = stored_file(b"12345", "text/plain")
    claims = await push(world, "data", caller)
    await storage.store(await storage.catalogue.claim_upload(claims, size=None), stored)
    reading = await pull(world, "data", caller)
    claim = await storage.catalogue.claim_download(reading)
    node = await world.node("data")
    assert (claim.name, claim.modified, claim.location) == ("data", node.modified, stored.location)
    assert (claim.size, claim.md5, claim.sha256) == (5, stored.md5, stored.sha256)
    assert (claim.content_type, claim.job_id) == ("text/plain", reading.job_id)
    await storage.catalogue.delivered(claim)
    assert await phase(world, reading.job_id) is Phase.COMPLETED
    again = await storage.catalogue.claim_download(reading)
    assert (again.job_id, again.location) == (None, stored.location)
    without = await storage.catalogue.claim_download(await pull(world, "data", caller, with_job=False))
    assert (without.job_id, without.location) == (None, stored.location)


async def test_node_without_bytes_is_empty(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA)
    claim = await storage.catalogue.claim_download(await pull(world, "data", await world.caller("anonymous")))
    assert (claim.location, claim.size, claim.md5) == (None, 0, None)
    await world.remove("data")
    await world.add("data", NodeType.DATA)
    reading = await pull(world, "data", await world.caller())
    await world.remove("data")
    with pytest.raises(NodeNotFound):
        await storage.catalogue.claim_download(reading)


# -------------------------------------------------------------------------------------------------- obsolete bytes


async def test_bytes_of_deleted_nodes_are_obsolete(world: World, storage: Storage) -> None:
    caller = await world.caller()
    await world.add("box")
    await world.add("box/inner")
    names = ("leaf", "box/a", "box/inner/b")
    stored = [await storage.upload(await push(world, name, caller)) for name in names]
    await world.remove("leaf")
    assert await obsolete(world) == [stored[0].location]
    await world.remove("box")
    assert set(await obsolete(world)) == {one.location for one in stored}


async def test_obsolete_bytes_are_taken_once(world: World, storage: Storage, storage_dsn: str) -> None:
    caller = await world.caller()
    locations = {(await storage.upload(await push(world, "data", caller))).location for _ in range(41)}
    locations -= {(await storage.catalogue.claim_download(await pull(world, "data", caller))).location or ""}
    assert await storage.catalogue.take_obsolete(grace=600, limit=100) == []
    await age(world, "obsolete", "since", 601)
    async with AsyncExitStack() as stack:
        other = await Storage.open(storage_dsn, stack)
        assert await other.catalogue.take_obsolete(grace=600, limit=100) == []  # another place
        other.catalogue._storage = storage.id  # a second process of the same place
        takes = await asyncio.gather(*(one.catalogue.take_obsolete(grace=600, limit=7) for one in (storage, other) * 5))
    assert all(len(taken) <= 7 for taken in takes)
    everything = [location for taken in takes for location in taken]
    assert len(everything) == len(set(everything))
    everything += await storage.catalogue.take_obsolete(grace=600, limit=100)
    assert set(everything) == locations
    assert await obsolete(world) == []


async def test_unknown_is_what_nothing_names(world: World, storage: Storage, foreign: Storage) -> None:
    caller = await world.caller()
    claims = await push(world, "data", caller)
    await world.database.fetchrow("update jobs set storage_id = (select id from storages where uuid = $1)", storage.id)
    first = await storage.upload(claims)
    second = await storage.upload(claims)
    known = [first.location, second.location]
    assert await storage.catalogue.unknown([*known, "aaa/lost"], margin=0) == ["aaa/lost"]
    assert await storage.catalogue.unknown([], margin=0) == []
    assert sorted(await foreign.catalogue.unknown(known, margin=0)) == sorted(known)


async def test_one_process_sweeps(world: World, storage: Storage) -> None:
    turns = await asyncio.gather(*(storage.catalogue.claim_sweep(interval=3600) for _ in range(5)))
    assert sorted(turns) == [False] * 4 + [True]
    await age(world, "storages", "swept", timedelta(hours=2).total_seconds())
    assert await storage.catalogue.claim_sweep(interval=3600)
    assert not await storage.catalogue.claim_sweep(interval=3600)


async def test_catalogue_is_ready(storage: Storage) -> None:
    await storage.catalogue.ready()
