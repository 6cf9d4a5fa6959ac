"""What storage servers can do in the catalogue, and what they cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from pyvospace.db import jobs
from pyvospace.db.state import live_storages
from pyvospace.db.storage import LEASE
from pyvospace.model.claims import OutcomeUnknownError, StorageState
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    InternalFault,
    NodeBusy,
    NodeLocked,
    NodeNotFound,
    PermissionDenied,
    ServiceBusy,
)
from pyvospace.model.stored import Changes
from pyvospace.model.vocabulary import TYPE, NodeType, Phase
from tests.db.world import OPEN, Storage, World, age, obsolete, phase, pull, push, stored_file
from tests.support.postgres import PostgresServer

# ------------------------------------------------------------------------------------------------------------ role

FUNCTIONS = {
    "announce", "current", "claim_upload", "renew", "release", "store", "claim_download", "delivered", "claim_sweep",
    "unknown", "take_obsolete", "claim_job", "renew_job", "give_back_job", "end_job", "claim_pull", "store_pulled",
    "import_of", "set_structure", "claim_render", "reserve", "note_bytes", "claim_version",
    "offer",
    "leave", "claim_replication", "renew_replication", "release_replication", "claim_replica", "store_replica",
    "bytes_at", "note_damage", "clear_damage", "damaged", "fsck_begin", "fsck_end", "fsck_listed", "fsck_missing",
    "overdue", "note_repair", "take_unknown", "note_obsolete", "claim_scrub", "renew_scrub", "end_scrub",
    "begin_partial", "partial", "drop_partial", "drop_expired", "revert_partial", "segments_of", "claim_segment",
    "renew_segment", "reserve_segment", "store_segment", "release_segment", "claim_whole", "store_whole",
    "release_whole",
    "claim_pack", "pack_nodes", "pack_children", "claim_unpack", "unpack",
}  # fmt: skip
FORBIDDEN = [
    "select * from public.nodes",
    "select * from public.users",
    "select * from public.tokens",
    "select * from public.jobs",
    "select * from public.writers",
    "select * from public.storages",
    "select * from public.obsolete",
    "select * from public.endpoint_keys",
    "select * from public.space",
    "select * from public.migrations",
    "insert into public.obsolete (storage_id, location) values (1, 'x')",
    "update public.nodes set public = true",
    "delete from public.writers",
    "truncate public.nodes",
    "begin; lock table public.nodes",
    "rollback; select 1 from public.nodes",
    "copy public.nodes to stdout",
    "select public.groups_of(1)",
    "select public.way_is_readable(1, 0, '{}', true)",
    "select public.live_push('x', 1, 1)",
    "select nextval('public.nodes_id_seq')",
    "update storage_api.endpoint_keys set secret = ''",
    "delete from storage_api.endpoint_keys",
    "insert into storage_api.space values ('x')",
    "create table public.mine ()",
    "create table storage_api.mine ()",
    "create function storage_api.mine() returns int language sql as 'select 1'",
    "create or replace function storage_api.delivered(of_job text) returns void language sql as 'select 1'",
    "drop view storage_api.space",
    "create schema mine",
    "set role pyvospace",
    "set session authorization pyvospace",
    "grant pyvospace_storage to current_user",
    "alter role current_user createrole",
    "copy (select 1) to program 'true'",
    "select pg_read_file('/etc/passwd')",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'pyvospace'",
]


@pytest.fixture
async def login(storage_dsn: str, storage: Storage) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The role of a storage server, at a prompt."""
    connection = await asyncpg.connect(storage_dsn)
    yield connection
    await connection.close()


async def test_role_can_do_nothing_else(login: asyncpg.Connection[asyncpg.Record]) -> None:
    for statement in FORBIDDEN:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await login.execute(statement)


async def test_role_reaches_nothing_by_its_search_path(login: asyncpg.Connection[asyncpg.Record]) -> None:
    await login.execute("create temporary table nodes (id int)")
    await login.execute("create temporary table storages (uuid uuid, role name, id int)")
    with pytest.raises(asyncpg.RaiseError, match="not announced"):
        await login.fetch("select storage_api.claim_sweep($1, 0)", "00000000-0000-0000-0000-000000000000")
    await login.execute("set search_path = pg_temp, storage_api")
    with pytest.raises(asyncpg.RaiseError, match="not announced"):
        await login.fetch("select claim_sweep($1, 0)", "00000000-0000-0000-0000-000000000000")


async def test_schema_of_storage_servers_holds_what_we_know(world: World) -> None:
    rows = await world.database.fetch(
        "select proname, prosecdef, proconfig::text as config, proacl::text as rights"
        " from pg_proc where pronamespace = 'storage_api'::regnamespace"
    )
    assert {row["proname"] for row in rows} == FUNCTIONS
    for row in rows:
        assert row["prosecdef"], row["proname"]
        assert "search_path=public, pg_temp" in row["config"], row["proname"]
        assert "pyvospace_storage=X" in row["rights"]
        assert "{=" not in row["rights"]
        assert ",=" not in row["rights"]


async def test_storage_server_sees_keys_and_authority(login: asyncpg.Connection[asyncpg.Record], world: World) -> None:
    await world.database.fetchrow(
        "insert into endpoint_keys (id, secret) values ($1, $2)", "0123456789abcdef", b"s" * 32
    )
    assert await login.fetchval("select secret from storage_api.endpoint_keys") == b"s" * 32
    assert await login.fetchval("select authority from storage_api.space") == "example.org~space"


async def test_nobody_speaks_for_a_foreign_storage(world: World, storage: Storage, foreign: Storage) -> None:
    owner = await world.caller()
    await world.add("data", NodeType.DATA)
    claims = await push(world, "data", owner)
    await world.database.fetchrow("update jobs set storage_id = (select id from storages where uuid = $1)", storage.id)
    thief = replace(storage, catalogue=foreign.catalogue, database=foreign.database)
    foreign.catalogue._storage = storage.id
    calls = [
        thief.catalogue.announce(StorageState(id=storage.id, name="mine", url="http://thief", free=None)),
        foreign.catalogue.claim_upload(claims, size=None),
        foreign.catalogue.current(claims),
        foreign.catalogue.claim_download(await pull(world, "data", owner)),
        foreign.catalogue.claim_render(await pull(world, "data", owner)),
        foreign.catalogue.claim_sweep(interval=0),
        foreign.catalogue.unknown(["x"], margin=0),
        foreign.catalogue.take_obsolete(grace=0, limit=10),
    ]
    for call in calls:
        with pytest.raises(InternalFault):
            await call
    claim = await storage.catalogue.claim_upload(claims, size=None)
    foreign.catalogue._stores[claim.id] = storage.catalogue._stores[claim.id]
    with pytest.raises(InternalFault):
        await replace(foreign, id=storage.id).store(claim, stored_file())
    url = await world.database.fetchval("select url from storages where uuid = $1", storage.id)
    assert url == "http://storage"


async def test_endpoint_of_another_storage_is_refused(world: World, storage: Storage, foreign: Storage) -> None:
    claims = await push(world, "data", await world.caller())
    await world.database.fetchrow("update jobs set storage_id = (select id from storages where uuid = $1)", foreign.id)
    with pytest.raises(PermissionDenied, match="withdrawn"):
        await storage.catalogue.claim_upload(claims, size=None)
    await foreign.upload(claims)
    with pytest.raises(NodeNotFound, match="elsewhere"):
        await storage.catalogue.claim_download(await pull(world, "data", await world.caller(), with_job=False))


# ------------------------------------------------------------------------------------------------------- heartbeat


async def test_silent_storages_get_no_transfers(world: World, storage: Storage) -> None:
    caller = await world.caller()
    assert await live_storages(world.database) == 1
    await age(world, "storages", "last_seen", 31)
    assert await live_storages(world.database) == 0
    with pytest.raises(AssertionError):
        await push(world, "data", caller)
    await storage.announce()
    await push(world, "data", caller)
    assert await world.database.fetchval("select count(*) from storages") == 1


async def test_full_storages_get_no_pushes(world: World, storage: Storage) -> None:
    caller = await world.caller()
    await storage.announce(free=100)
    await push(world, "data", caller, announced=99)
    await push(world, "data", caller)
    with pytest.raises(AssertionError):
        await push(world, "data", caller, announced=100)
    await storage.announce(free=0)
    with pytest.raises(AssertionError):
        await push(world, "data", caller)


# --------------------------------------------------------------------------------------------------------- uploads


async def test_node_is_there_when_its_bytes_are(world: World, storage: Storage) -> None:
    box = await world.add("box", NodeType.CONTAINER, Changes(public=True, inherit=True, group_read=("ivo://x/g?a",)))
    owner = await world.caller("owner")
    claims = await push(world, "box/data", owner)
    claim = await storage.catalogue.claim_upload(claims, size=5)
    assert (claim.current, claim.limit, claim.discard) == (None, None, False)
    assert (await world.resolve("box/data")).node is None
    stored = stored_file(b"bytes", "text/x-weird; a=b")
    await storage.store(claim, stored)
    node = await world.node("box/data")
    assert (node.type, node.owner, node.size, node.md5) == (NodeType.DATA, "owner", 5, stored.md5)
    assert (node.public, node.group_read, node.group_write, node.inherit) == (True, ("ivo://x/g?a",), (), False)
    assert (node.storage, node.properties) == (str(storage.id), {TYPE: "text/x-weird; a=b"})
    assert node.modified is not None
    assert node.parent_id == box.id
    row = await jobs.select(world.database, claims.job_id or "")
    assert row is not None
    assert (row.phase, row.node_id) == (Phase.COMPLETED, node.id)
    assert row.started is not None
    assert row.ended is not None
    assert await obsolete(world) == []
    assert await world.database.fetchval("select count(*) from writers") == 0


async def test_new_node_is_private_unless_its_container_hands_down(world: World, storage: Storage) -> None:
    await world.add("box", NodeType.CONTAINER, OPEN)
    await storage.upload(await push(world, "box/data", await world.caller("owner")))
    assert not (await world.node("box/data")).public


async def test_replaced_bytes_are_obsolete_and_properties_gone(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA, Changes(properties={"urn:x": "y"}, public=True))
    owner = await world.caller("owner")
    first = await storage.upload(await push(world, "data", owner))
    before = await world.change("data", Changes(properties={"urn:x": "z"}))
    second = await storage.upload(await push(world, "data", owner), b"other bytes")
    after = await world.node("data")
    assert (after.size, after.md5, after.properties, after.public) == (11, second.md5, {}, True)
    assert (after.created, after.owner_id) == (before.created, before.owner_id)
    assert before.modified is not None
    assert after.modified is not None
    assert after.modified > before.modified
    assert await obsolete(world) == [first.location]


async def test_properties_are_kept_if_the_job_says_so(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA, Changes(properties={"urn:x": "y", TYPE: "text/old"}))
    owner = await world.caller("owner")
    await storage.upload(await push(world, "data", owner, keep_properties=True))
    assert (await world.node("data")).properties == {"urn:x": "y"}


async def test_second_writer_is_busy(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA)
    owner = await world.caller("owner")
    for where in ("data", "home/new"):
        caller = owner if where == "data" else await world.caller()
        first = await storage.catalogue.claim_upload(await push(world, where, caller), size=None)
        second = await push(world, where, caller)
        with pytest.raises(NodeBusy, match="another transfer"):
            await storage.catalogue.claim_upload(second, size=None)
        if where == "data":
            assert (await world.node(where)).busy
            assert [one.busy for one in await world.listing("")] == [True, False]
        await storage.catalogue.release(first, reason="cut")
        await storage.upload(second)
        assert not (await world.node(where)).busy


async def test_lease_that_ran_out_is_taken_over(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA)
    owner = await world.caller("owner")
    old_claims = await push(world, "data", owner)
    old = await storage.catalogue.claim_upload(old_claims, size=None)
    await age(world, "writers", "until", LEASE + 1)
    assert not (await world.node("data")).busy
    new = await storage.catalogue.claim_upload(await push(world, "data", owner), size=None)
    assert (await world.node("data")).busy
    assert not await storage.catalogue.renew(old)
    with pytest.raises(NodeBusy, match="took this node over"):
        await storage.store(old, stored_file())
    await storage.store(new, stored := stored_file(b"new"))
    assert (await world.node("data")).md5 == stored.md5
    assert await phase(world, old_claims.job_id) is Phase.EXECUTING
    assert await obsolete(world) == []


async def test_lease_that_ran_out_and_was_not_taken_is_good(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA)
    claim = await storage.catalogue.claim_upload(await push(world, "data", await world.caller()), size=None)
    await age(world, "writers", "until", LEASE + 1)
    assert await storage.catalogue.renew(claim)
    await storage.store(claim, stored_file())


async def test_same_endpoint_may_try_again_at_once(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA)
    claims = await push(world, "data", await world.caller())
    first = await storage.catalogue.claim_upload(claims, size=None)
    second = await storage.catalogue.claim_upload(claims, size=None)
    assert not await storage.catalogue.renew(first)
    with pytest.raises(NodeBusy):
        await storage.store(first, stored_file())
    await storage.catalogue.release(first, reason="lost")
    await storage.store(second, stored_file())


async def test_retry_while_the_first_attempt_is_released_cannot_deadlock(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA)
    claims = await push(world, "data", await world.caller())
    claim = await storage.catalogue.claim_upload(claims, size=None)

    async def again() -> None:
        await storage.catalogue.claim_upload(claims, size=None)

    for _ in range(30):
        claim = await storage.catalogue.claim_upload(claims, size=None)
        await asyncio.gather(storage.catalogue.release(claim, reason="cut"), again(), again())


async def test_failed_attempt_keeps_the_bytes_and_tells_why(world: World, storage: Storage) -> None:
    owner = await world.caller()
    first = await storage.upload(await push(world, "data", owner))
    claims = await push(world, "data", owner)
    claim = await storage.catalogue.claim_upload(claims, size=None)
    await storage.catalogue.release(claim, reason="the connection broke")
    row = await jobs.select(world.database, claims.job_id or "")
    assert row is not None
    assert (row.phase, row.message) == (Phase.EXECUTING, "the connection broke")
    assert (await world.node("data")).md5 == first.md5
    await storage.upload(claims)
    row = await jobs.select(world.database, claims.job_id or "")
    assert row is not None
    assert (row.phase, row.message) == (Phase.COMPLETED, None)


async def test_transaction_that_fails_changes_nothing(world: World, storage: Storage) -> None:
    owner = await world.caller()
    first = await storage.upload(await push(world, "data", owner))
    claims = await push(world, "data", owner)
    claim = await storage.catalogue.claim_upload(claims, size=None)

    class DiskError(Exception):
        pass

    async def fail() -> None:
        async with storage.catalogue.transaction(claim) as transaction:
            await transaction.store(stored_file(b"never"))
            raise DiskError

    with pytest.raises(DiskError):
        await fail()
    assert (await world.node("data")).md5 == first.md5
    assert await obsolete(world) == []
    assert await phase(world, claims.job_id) is Phase.EXECUTING
    await storage.store(claim, stored_file(b"second try"))


async def test_own_error_is_seen_though_the_connection_is_dead(
    world: World, storage: Storage, postgres_server: PostgresServer
) -> None:
    claim = await storage.catalogue.claim_upload(await push(world, "data", await world.caller()), size=None)

    class DiskError(Exception):
        pass

    async def fail() -> None:
        async with storage.catalogue.transaction(claim) as transaction:
            await transaction.store(stored_file(b"never"))
            await asyncio.to_thread(_kill_storage, postgres_server)
            raise DiskError

    with pytest.raises(DiskError):
        await fail()
    assert (await world.resolve("data")).node is None


def _kill_storage(server: PostgresServer) -> None:
    server.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'storage'")


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
async def test_outcome_is_unknown_if_the_commit_is_not_answered(
    world: World, storage: Storage, postgres_server: PostgresServer, *, shared: bool
) -> None:
    claim = await storage.catalogue.claim_upload(await push(world, "data", await world.caller()), size=None)

    async def lose() -> None:
        async with storage.catalogue.transaction(claim) as transaction:
            await transaction.store(stored_file(b"never"), shared=shared)
            await asyncio.to_thread(_kill_storage, postgres_server)

    with pytest.raises(OutcomeUnknownError):
        await lose()
    assert not storage.catalogue._stores


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
async def test_node_is_locked_while_its_bytes_are_published(world: World, storage: Storage, *, shared: bool) -> None:
    owner = await world.caller()
    await storage.upload(await push(world, "data", owner))
    claim = await storage.catalogue.claim_upload(await push(world, "data", owner), size=None)
    lock = "select from nodes where name = 'data' for update nowait"
    async with storage.catalogue.transaction(claim) as transaction:
        await transaction.store(stored_file(b"new"), shared=shared)
        with pytest.raises(ServiceBusy):
            await world.database.fetch(lock)
    await world.database.fetch(lock)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.AdminShutdownError("terminating connection due to administrator command"),
        # Found by the fault campaign: a statement that comes while the last words of a dying server are read.
        asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_outcome_is_unknown_whatever_the_driver_calls_it(
    world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    claim = await storage.catalogue.claim_upload(await push(world, "data", await world.caller()), size=None)

    async def commit(_: object) -> None:
        raise error

    monkeypatch.setattr("asyncpg.transaction.Transaction.commit", commit)
    with pytest.raises(OutcomeUnknownError):
        await storage.store(claim, stored_file())


# --------------------------------------------------------------------------------------- what happens in between


async def test_node_that_was_deleted_meanwhile_stays_deleted(world: World, storage: Storage) -> None:
    await world.add("data", NodeType.DATA)
    claim = await storage.catalogue.claim_upload(await push(world, "data", await world.caller()), size=None)
    await world.remove("data")
    with pytest.raises(NodeNotFound):
        await storage.store(claim, stored_file())
    await world.add("data", NodeType.DATA)  # another one of that name is another one
    with pytest.raises(NodeNotFound):
        await storage.store(claim, stored_file())
    assert (await world.node("data")).size is None


async def test_container_that_was_deleted_meanwhile_stays_deleted(world: World, storage: Storage) -> None:
    await world.add("box")
    claim = await storage.catalogue.claim_upload(await push(world, "box/data", await world.caller()), size=None)
    await world.remove("box")
    with pytest.raises(ContainerNotFound):
        await storage.store(claim, stored_file())


async def test_bytes_follow_a_node_that_was_moved(world: World, storage: Storage) -> None:
    for name in ("a", "a/box", "b"):
        await world.add(name)
    await world.add("a/box/old", NodeType.DATA)
    caller = await world.caller()
    to_old = await storage.catalogue.claim_upload(await push(world, "a/box/old", caller), size=None)
    to_new = await storage.catalogue.claim_upload(await push(world, "a/box/new", caller), size=None)
    assert await world.move("a/box", "b", "crate")
    assert await world.move("b/crate/old", "b", "renamed")
    await storage.store(to_old, old := stored_file(b"old"))
    await storage.store(to_new, new := stored_file(b"new"))
    assert (await world.node("b/renamed")).md5 == old.md5
    assert (await world.node("b/crate/new")).md5 == new.md5


async def test_node_that_somebody_made_meanwhile_is_written(world: World, storage: Storage) -> None:
    await world.add("box")
    caller = await world.caller("owner")
    claim = await storage.catalogue.claim_upload(await push(world, "box/data", caller), size=None)
    await world.add("box/data", NodeType.DATA)
    await storage.store(claim, stored := stored_file())
    assert (await world.node("box/data")).md5 == stored.md5
    claim = await storage.catalogue.claim_upload(await push(world, "box/other", caller), size=None)
    await world.add("box/other", NodeType.CONTAINER)
    with pytest.raises(DuplicateNode, match="another type"):
        await storage.store(claim, stored_file())


@pytest.mark.parametrize("where", ["box/data", "box/new"])
async def test_lock_stops_an_upload_that_had_begun(world: World, storage: Storage, where: str) -> None:
    await world.add("box")
    await world.add("box/data", NodeType.DATA)
    claim = await storage.catalogue.claim_upload(await push(world, where, await world.caller()), size=None)
    await world.change("box" if where == "box/new" else where, Changes(locked=True))
    with pytest.raises(NodeLocked):
        await storage.store(claim, stored_file())
    with pytest.raises(NodeLocked):
        await storage.catalogue.claim_upload(await push(world, where, await world.caller()), size=None)


async def test_upload_waits_for_whom_it_meets(world: World, storage: Storage) -> None:
    """A creation that is not committed yet, and goes away: the upload makes the node itself."""
    await world.add("box")
    claim = await storage.catalogue.claim_upload(await push(world, "box/data", await world.caller()), size=None)
    box = await world.node("box")
    inserted, undo = asyncio.Event(), asyncio.Event()

    async def insert_and_roll_back() -> None:
        async with world.database.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(
                "insert into nodes (parent_id, name, type, owner_id) values ($1, 'data', 'DataNode', 1)", box.id
            )
            inserted.set()
            await undo.wait()
            await transaction.rollback()

    other = asyncio.create_task(insert_and_roll_back())
    await inserted.wait()
    storing = asyncio.create_task(storage.store(claim, stored := stored_file()))
    await waiting(world, 1)
    undo.set()
    await asyncio.gather(other, storing)
    assert (await world.node("box/data")).md5 == stored.md5


async def waiting(world: World, number: int) -> None:
    """Wait until so many sessions wait for a lock."""
    for _ in range(1000):
        if await world.database.fetchval("select count(*) from pg_locks where not granted") >= number:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError
