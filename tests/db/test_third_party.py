"""Jobs of storage servers in the catalogue: who gets which, and who may end them how."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

import pytest

from pyvospace.config.settings import JobSettings
from pyvospace.db import jobs, usage
from pyvospace.db.usage import Subject
from pyvospace.model.callers import Caller
from pyvospace.model.faults import NodeBusy, NodeNotFound, PermissionDenied, QuotaExceeded
from pyvospace.model.jobs import Claimed, Kind, LostJobError
from pyvospace.model.stored import Changes
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.vocabulary import HTTP_GET, Direction, NodeType, Phase
from pyvospace.uws.third_party import StorageQueue
from pyvospace.uws.transfers import pack
from tests.db.world import Storage, World, age, path, phase, push, stored_file

KINDS = [Kind.PULL_TO, Kind.PUSH_FROM]


def queue_of(storage: Storage) -> StorageQueue:
    return StorageQueue(storage.database, storage.id, JobSettings(attempts=2))


async def queued(world: World, kind: Kind, where: str, caller: Caller) -> str:
    """Make a job and hand it to the workers, without asking whether its owner may."""
    direction = Direction.PULL_TO_VOSPACE if kind is Kind.PULL_TO else Direction.PUSH_FROM_VOSPACE
    endpoint = Protocol(HTTP_GET, "http://me:geheim@host/x")
    request = pack(Transfer("vos://example.org~space/" + where, direction, protocols=(endpoint,)))
    job = secrets.token_hex(20)
    assert await jobs.insert(
        world.database, job, owner=jobs.Owner(caller.id), list_="transfers", kind=kind, request=request,
        phase=Phase.PENDING, run_id=None, destruction=86400, waiting=10, duration=0,
    )  # fmt: skip
    found = await world.resolve(where)
    container = await world.node(path(where)[:-1])
    prepared = jobs.Prepared(where, found.node.id if found.node else None, container.id, path(where)[-1])
    assert await jobs.prepare(world.database, job, prepared)
    return job


async def claimed(storage: Storage, *, lost: bool = False) -> Claimed:
    job = await queue_of(storage).claim(KINDS, lost=lost)
    assert job is not None
    return job


async def test_bytes_come_to_whoever_has_room(world: World, storage: Storage, storage_dsn: str) -> None:
    owner = await world.caller("owner")
    await world.add("home/own")
    job = await queued(world, Kind.PULL_TO, "home/own/a", owner)
    async with AsyncExitStack() as stack:
        full = await Storage.open(storage_dsn, stack, free=0)
        assert await queue_of(full).claim(KINDS, lost=False) is None
    found = await claimed(storage)
    assert (found.id, found.kind, found.name, found.attempts) == (job, "pull_to", "a", 1)
    claim = await storage.catalogue.claim_pull(found, size=None)
    stored = stored_file()
    await storage.store(claim, stored)
    assert await phase(world, job) is Phase.COMPLETED
    node = await world.node("home/own/a")
    assert (node.size, node.storage, node.owner) == (stored.size, str(storage.id), "owner")
    assert not await queue_of(storage).renew(found)
    assert not await world.database.fetch("select from writers")


async def test_bytes_go_from_who_has_them(world: World, storage: Storage, storage_dsn: str) -> None:
    admin = await world.caller()
    await storage.upload(await push(world, "data", admin))
    job = await queued(world, Kind.PUSH_FROM, "data", admin)
    async with AsyncExitStack() as stack:
        other = await Storage.open(storage_dsn, stack)
        assert await queue_of(other).claim(KINDS, lost=False) is None
        found = await claimed(storage)
        with pytest.raises(LostJobError):
            await queue_of(other).complete(found)
    await queue_of(storage).complete(found)
    assert await phase(world, job) is Phase.COMPLETED


async def test_a_job_whose_node_is_gone_is_told_so(world: World, storage: Storage) -> None:
    admin = await world.caller()
    await storage.upload(await push(world, "data", admin))
    job = await queued(world, Kind.PUSH_FROM, "data", admin)
    await world.remove("data")
    found = await claimed(storage)
    await queue_of(storage).fail(found, NodeNotFound("gone"))
    assert await phase(world, job) is Phase.ERROR


async def test_a_dead_worker_is_followed_up_to_a_limit(world: World, storage: Storage) -> None:
    admin = await world.caller()
    job = await queued(world, Kind.PULL_TO, "a", admin)
    first = await claimed(storage)
    assert await queue_of(storage).claim(KINDS, lost=True) is None
    writer = await storage.catalogue.claim_pull(first, size=None)
    await age(world, "jobs", "until", 3600)
    second = await claimed(storage, lost=True)
    assert (second.id, second.attempts) == (job, 2)
    with pytest.raises(NodeBusy, match="other hands"):
        await storage.store(writer, stored_file())
    with pytest.raises(NodeBusy, match="other hands"):
        await storage.catalogue.claim_pull(first, size=None)
    await queue_of(storage).fail(first, PermissionDenied("late"))
    assert await phase(world, job) is Phase.EXECUTING
    await storage.store(await storage.catalogue.claim_pull(second, size=None), stored_file())
    assert await phase(world, job) is Phase.COMPLETED

    await queued(world, Kind.PULL_TO, "b", admin)
    await claimed(storage)
    for lost in (True, None):
        await age(world, "jobs", "until", 3600)
        assert (await queue_of(storage).claim(KINDS, lost=True) is None) is not lost
    assert await queue_of(storage).claim(KINDS, lost=False) is None


async def test_a_job_that_nobody_takes_over_ends(world: World, storage: Storage) -> None:
    job = await queued(world, Kind.PULL_TO, "a", await world.caller())
    await claimed(storage)
    for lost in (0, 1):
        assert await jobs.forsake(world.database, KINDS, seconds=20, batch=10) == lost
        await age(world, "jobs", "until", 60)
    assert await phase(world, job) is Phase.ERROR


async def test_work_given_back_is_not_counted(world: World, storage: Storage) -> None:
    await queued(world, Kind.PULL_TO, "a", await world.caller())
    for _ in range(4):
        await queue_of(storage).give_back(await claimed(storage, lost=_ > 0))
    assert (await claimed(storage, lost=True)).attempts == 1


async def test_its_owner_may_give_it_more_time(world: World, storage: Storage) -> None:
    owner = await world.caller("owner")
    await world.add("home/own")
    job = await queued(world, Kind.PULL_TO, "home/own/a", owner)
    found = await claimed(storage)
    for duration, expected in ((0, Phase.EXECUTING), (3600, Phase.EXECUTING), (60, Phase.ABORTED)):
        assert await jobs.set_duration(world.database, job, duration)
        await world.database.fetchrow("update jobs set started = now() - interval '10 min' where id = $1", job)
        await queue_of(storage).overrun(found)
        assert await phase(world, job) is expected


async def test_rights_are_those_of_now(world: World, storage: Storage) -> None:
    owner, stranger = await world.caller("owner"), await world.caller("stranger")
    await world.add("shared", changes=Changes(public=True, group_write=()))
    await queued(world, Kind.PULL_TO, "shared/a", stranger)
    with pytest.raises(PermissionDenied, match="withdrawn"):
        await storage.catalogue.claim_pull(await claimed(storage), size=None)
    await queued(world, Kind.PULL_TO, "shared/b", owner)
    writer = await storage.catalogue.claim_pull(await claimed(storage), size=None)
    await world.database.fetchrow("update users set disabled = true where name = 'owner'")
    with pytest.raises(PermissionDenied, match="not known any more"):
        await storage.store(writer, stored_file())


async def test_one_writer_at_a_time(world: World, storage: Storage) -> None:
    admin = await world.caller()
    await world.add("data", NodeType.DATA)
    await storage.catalogue.claim_upload(await push(world, "data", admin), size=1)
    await queued(world, Kind.PULL_TO, "data", admin)
    with pytest.raises(NodeBusy, match="another transfer"):
        await storage.catalogue.claim_pull(await claimed(storage), size=None)


async def test_what_is_fetched_must_fit_into_quotas(world: World, storage: Storage) -> None:
    await world.add("box")
    limited = Subject(container=(await world.node("box")).id)
    await world.database.transact(lambda c: usage.set_quota(c, limited, bytes=100, nodes=None))
    await queued(world, Kind.PULL_TO, "box/a", await world.caller())
    job = await claimed(storage)
    with pytest.raises(QuotaExceeded, match="limit 100 bytes, 100 left"):
        await storage.catalogue.claim_pull(job, size=101)
    unknown = await storage.catalogue.claim_pull(job, size=None)
    assert unknown.room == 100
    with pytest.raises(QuotaExceeded, match="limit 100 bytes, 100 left"):
        await storage.catalogue.reserve(unknown, size=101)
    await storage.store(await storage.catalogue.claim_pull(job, size=100), stored_file(bytes(100)))


async def test_bytes_for_null_are_dropped(world: World, storage: Storage) -> None:
    job = await queued(world, Kind.PULL_TO, ".null", await world.caller())
    claim = await storage.catalogue.claim_pull(await claimed(storage), size=None)
    assert claim.discard
    async with storage.catalogue.transaction(claim):
        pass
    assert await phase(world, job) is Phase.COMPLETED
    assert (await world.resolve(".null")).node is None


async def test_an_aborted_job_is_lost_and_forgets_its_passwords(world: World, storage: Storage) -> None:
    job = await queued(world, Kind.PULL_TO, "a", await world.caller())
    found = await claimed(storage)
    assert found.request["protocols"][0]["user"] == "me:geheim"
    found.progress.bytes_done, found.progress.bytes_total = 5, 10
    assert await queue_of(storage).renew(found)
    row = await jobs.select(world.database, job)
    assert row is not None
    assert (row.progress.bytes_done, row.progress.bytes_total) == (5, 10)
    await jobs.abort(world.database, job, "enough")
    assert not await queue_of(storage).renew(found)
    row = await jobs.select(world.database, job)
    assert row is not None
    assert row.request["protocols"][0] == {"uri": HTTP_GET, "params": [], "methods": [], "endpoint": "http://host/x"}


async def test_none_begins_what_the_state_forbids(world: World, storage: Storage) -> None:
    admin = await world.caller()
    await storage.upload(await push(world, "data", admin))
    await queued(world, Kind.PULL_TO, "a", admin)
    sent = await queued(world, Kind.PUSH_FROM, "data", admin)
    await world.database.fetchrow("update space set state = 'ReadOnly'")
    assert (await claimed(storage)).id == sent
    assert await queue_of(storage).claim(KINDS, lost=False) is None


async def test_a_storage_server_gets_no_other_jobs(world: World, storage: Storage) -> None:
    await queued(world, Kind.COPY, "a", await world.caller())
    assert await queue_of(storage).claim([*KINDS, Kind.COPY], lost=False) is None
