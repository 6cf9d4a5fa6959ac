"""Transfers that come at the same time: what is asked for together ends as if each had asked alone."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from pyvospace.db import jobs, nodes, usage
from pyvospace.db.pool import Database, acting
from pyvospace.model.callers import Caller, Origin, Scope, TokenRight
from pyvospace.model.claims import EndpointClaims, OutcomeUnknownError, StoredFile, UploadClaim
from pyvospace.model.faults import Fault, NodeBusy, NodeNotFound, PermissionDenied, QuotaExceeded
from pyvospace.model.vocabulary import NodeType, Phase
from tests.db.world import Storage, World, obsolete, phase, pull, push, stored_file


class Counted:
    """How many connections a server has asked for."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        connection = database.connection

        def counted(**options: Any) -> object:
            self.number += 1
            return connection(**options)

        monkeypatch.setattr(database, "connection", counted)


@pytest.fixture
def counted(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(storage.database, monkeypatch)


async def claim(storage: Storage, claims: EndpointClaims) -> UploadClaim:
    return await storage.catalogue.claim_upload(claims, size=5)


async def store(storage: Storage, of: UploadClaim, file: StoredFile, address: str) -> None:
    acting.set(Caller(origin=Origin(address, "")))
    await storage.store(of, file)


async def test_uploads_together_are_those_one_by_one(world: World, storage: Storage, counted: Counted) -> None:
    owner = await world.caller()
    await storage.upload(await push(world, "old", owner))
    names = ["a", "b", "old", "c"]
    endpoints = [await push(world, name, owner) for name in names]
    counted.number = 0
    claims = await asyncio.gather(*(claim(storage, one) for one in endpoints))
    assert counted.number == 1
    assert [one.current is not None for one in claims] == [False, False, True, False]
    files = [stored_file(f"byte{number}".encode()) for number in range(4)]
    addresses = [f"192.0.2.{number}" for number in range(4)]
    await asyncio.gather(*(store(storage, *one) for one in zip(claims, files, addresses, strict=True)))
    assert counted.number == 2
    for name, file, endpoint, address in zip(names, files, endpoints, addresses, strict=True):
        node = await world.node(name)
        assert (node.md5, node.size) == (file.md5, 5)
        place = await world.database.fetchval("select location from nodes where id = $1", node.id)
        assert place == file.location
        assert await phase(world, endpoint.job_id) is Phase.COMPLETED
        told = "select remote from audit where node_id = $1 and action = 'storeBytes' order by id desc limit 1"
        assert await world.database.fetchval(told, node.id) == address
    assert len(await obsolete(world)) == 1


async def test_who_is_refused_is_refused_alone(world: World, storage: Storage) -> None:
    owner, stranger = await world.caller(), await world.caller("stranger")
    good, bad = await push(world, "good", owner), await push(world, "bad", stranger)
    claims = await asyncio.gather(claim(storage, good), claim(storage, bad), return_exceptions=True)
    assert isinstance(claims[0], UploadClaim)
    assert isinstance(claims[1], PermissionDenied)
    await storage.store(claims[0], stored_file())
    assert (await world.node("good")).size == 5


async def test_two_for_one_node_have_one_winner(world: World, storage: Storage) -> None:
    owner = await world.caller()
    endpoints = [await push(world, name, owner) for name in ("data", "other", "data")]
    claims = await asyncio.gather(*(claim(storage, one) for one in endpoints), return_exceptions=True)
    assert sorted(type(one).__name__ for one in claims) == ["NodeBusy", "UploadClaim", "UploadClaim"]
    assert not isinstance(claims[1], NodeBusy)


async def test_store_of_one_that_lost_its_lease_fails_alone(world: World, storage: Storage) -> None:
    owner = await world.caller()
    endpoints = [await push(world, name, owner) for name in ("a", "b", "c")]
    claims = [await claim(storage, one) for one in endpoints]
    await storage.catalogue.release(claims[1], reason="")
    storage.catalogue._stores[claims[1].id] = (
        storage.catalogue._stores[claims[0].id][0],
        (
            storage.id,
            endpoints[1].job_id,
            endpoints[1].user_id,
            claims[1].id,
        ),
    )
    outcomes = await asyncio.gather(*(storage.store(one, stored_file()) for one in claims), return_exceptions=True)
    assert [type(one) for one in outcomes] == [type(None), NodeBusy, type(None)]
    assert [(await world.resolve(name)).node is not None for name in ("a", "b", "c")] == [True, False, True]


async def test_others_are_stored_if_the_bytes_of_one_are_not_published(world: World, storage: Storage) -> None:
    owner = await world.caller()
    claims = [await claim(storage, await push(world, name, owner)) for name in ("a", "b", "c")]

    async def fail() -> None:
        async with storage.catalogue.transaction(claims[1]) as transaction:
            await transaction.store(stored_file(), shared=True)
            raise OSError("the disk has failed")

    outcomes = await asyncio.gather(
        storage.store(claims[0], stored_file()), fail(), storage.store(claims[2], stored_file()), return_exceptions=True
    )
    assert [type(one) for one in outcomes] == [type(None), OSError, type(None)]
    assert [(await world.resolve(name)).node is not None for name in ("a", "b", "c")] == [True, False, True]


async def test_who_publishes_slowly_holds_up_nobody_else(world: World, storage: Storage) -> None:
    owner = await world.caller()
    claims = [await claim(storage, await push(world, name, owner)) for name in ("slow", "quick")]
    published = asyncio.Event()

    async def publish() -> None:
        async with storage.catalogue.transaction(claims[0]) as transaction:
            await transaction.store(stored_file(), shared=True)
            await published.wait()

    slow = asyncio.create_task(publish())
    await storage.store(claims[1], stored_file())
    assert (await world.node("quick")).size == 5
    assert (await world.resolve("slow")).node is None
    published.set()
    await slow
    assert (await world.node("slow")).size == 5


async def test_who_waits_for_a_lock_holds_up_nobody_else(world: World, storage: Storage) -> None:
    owner = await world.caller()
    await storage.upload(await push(world, "locked", owner))
    claims = [await claim(storage, await push(world, name, owner)) for name in ("free", "locked")]
    async with locked(world, "locked"):
        storing = [asyncio.create_task(storage.store(one, stored_file(b"again"))) for one in claims]
        begun = time.monotonic()
        await storing[0]
        assert time.monotonic() - begun < 4  # the lock is waited for ten seconds
        assert not storing[1].done()
    await storing[1]
    assert (await world.node("locked")).size == (await world.node("free")).size == 5


async def test_upload_that_loses_against_others_begins_anew(world: World, storage: Storage) -> None:
    owner = await world.caller()
    claims = await push(world, "a", owner)
    await lose_thrice(world, "writers", "insert")
    claimed = await claim(storage, claims)
    await lose_thrice(world, "nodes", "insert")
    file = stored_file()
    await storage.store(claimed, file)
    assert (await world.node("a")).md5 == file.md5


async def lose_thrice(world: World, table: str, change: str) -> None:
    """Let the next changes of a table be as if others had come first."""
    for statement in (
        f"create sequence {table}_lost",
        f"""create function lose_{table}() returns trigger language plpgsql security definer as $$ begin
                if nextval('{table}_lost') <= 3 then raise serialization_failure; end if;
                return new;
            end $$""",
        f"create trigger lost before {change} on {table} for each row execute function lose_{table}()",
    ):
        await world.database.fetchval(statement)


async def test_upload_follows_its_node_into_a_container_that_others_lock(world: World, storage: Storage) -> None:
    """Whether they come first to the container is left to PostgreSQL: here they nearly always do."""
    owner = await world.caller()
    into = await world.add("c")
    for name in ("a", "b", "d"):
        await storage.upload(await push(world, name, owner))
        claimed, file = await claim(storage, await push(world, name, owner)), stored_file(b"again")
        moved, arrived = asyncio.Event(), asyncio.Event()

        async def hold(_: object, moved: asyncio.Event = moved, arrived: asyncio.Event = arrived) -> None:
            moved.set()
            await arrived.wait()

        node = await world.node(name)
        moving = asyncio.create_task(nodes.move(world.database, owner, node, into, name, then=hold))
        await moved.wait()
        locking = asyncio.create_task(lock_for_a_while(world, into.id))
        storing = asyncio.create_task(storage.store(claimed, file))
        while await world.database.fetchval("select count(*) from pg_locks where not granted") < 2:
            await asyncio.sleep(0.01)
        arrived.set()
        await asyncio.gather(moving, locking, storing)
        assert (await world.node(f"c/{name}")).md5 == file.md5


async def lock_for_a_while(world: World, container: int) -> None:
    async with world.database.connection() as connection, connection.transaction():
        await connection.execute("select from containers where id = $1 for update", container)
        await asyncio.sleep(0.05)


@asynccontextmanager
async def locked(world: World, name: str) -> AsyncIterator[None]:
    node = await world.node(name)
    async with world.database.connection() as connection, connection.transaction():
        await connection.execute("select from nodes where id = $1 for update", node.id)
        yield


async def test_outcome_is_unknown_to_all_and_nothing_is_done_again(
    world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await world.caller()
    claims = [await claim(storage, await push(world, name, owner)) for name in ("a", "b")]
    asked = 0

    async def commit(_: object) -> None:
        nonlocal asked
        asked += 1
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    monkeypatch.setattr("asyncpg.transaction.Transaction.commit", commit)
    outcomes = await asyncio.gather(*(storage.store(one, stored_file()) for one in claims), return_exceptions=True)
    assert [type(one) for one in outcomes] == [OutcomeUnknownError] * 2
    assert asked == 1


async def test_downloads_together_are_those_one_by_one(world: World, storage: Storage, counted: Counted) -> None:
    owner = await world.caller()
    for name in ("a", "b", "c"):
        await storage.upload(await push(world, name, owner), name.encode())
    endpoints = [await pull(world, name, owner, with_job=name == "b") for name in ("a", "b", "c", "a")]
    alone = [await storage.catalogue.claim_download(one) for one in endpoints]
    counted.number = 0
    assert await asyncio.gather(*map(storage.catalogue.claim_download, endpoints)) == alone
    assert counted.number == 1


async def test_downloads_that_are_refused_are_refused_alone(world: World, storage: Storage) -> None:
    owner = await world.caller()
    for name in ("a", "b", "c"):
        await storage.upload(await push(world, name, owner))
    endpoints = [await pull(world, "a", owner), await pull(world, "b", await world.caller("stranger"))]
    gone = replace(await pull(world, "c", owner, with_job=False), node_id=-1)
    found = await asyncio.gather(*map(storage.catalogue.claim_download, [*endpoints, gone]), return_exceptions=True)
    assert not isinstance(found[0], Fault)
    assert isinstance(found[1], PermissionDenied)
    assert isinstance(found[2], NodeNotFound)


async def test_deliveries_together_complete_the_jobs_that_wait(
    world: World, storage: Storage, counted: Counted
) -> None:
    owner = await world.caller()
    await storage.upload(await push(world, "data", owner))
    endpoints = [await pull(world, "data", owner) for _ in range(5)]
    claims = [await storage.catalogue.claim_download(one) for one in endpoints]
    ids = [one.job_id for one in endpoints]
    await world.database.fetchval("update jobs set shared = true where id = $1", ids[1])
    await world.database.fetchval("update jobs set phase = 'ABORTED' where id = $1", ids[2])
    counted.number = 0
    twice = claims[0]
    async with world.database.connection() as other, other.transaction():
        await other.execute("select from jobs where id = $1 for update", ids[4])
        recording = [
            asyncio.create_task(storage.catalogue.delivered(one), context=Context()) for one in [twice, *claims]
        ]
        await asyncio.wait(recording[:-1])
        assert not recording[-1].done()
    await asyncio.gather(*recording)
    assert counted.number == 1 + len(recording)  # together, then each alone
    ended = Phase.COMPLETED
    assert [await phase(world, one) for one in ids] == [ended, Phase.EXECUTING, Phase.ABORTED, ended, ended]


async def test_deliveries_together_are_one_statement(world: World, storage: Storage, counted: Counted) -> None:
    owner = await world.caller()
    await storage.upload(await push(world, "data", owner))
    claims = [await storage.catalogue.claim_download(await pull(world, "data", owner)) for _ in range(3)]
    counted.number = 0
    await asyncio.gather(*map(storage.catalogue.delivered, claims))
    assert counted.number == 1
    assert [await phase(world, one.job_id) for one in claims] == [Phase.COMPLETED] * 3


async def test_who_is_cancelled_leaves_no_lease(world: World, storage: Storage) -> None:
    owner = await world.caller()
    endpoints = [await push(world, name, owner) for name in ("a", "b")]
    claiming = [asyncio.create_task(claim(storage, one)) for one in endpoints]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    claiming[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming[0]
    await claiming[1]
    await claim(storage, await push(world, "a", owner))


class Offered:
    """Negotiates jobs, and tells what became of them."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def push(self, name: str, owner: jobs.Owner, **different: Any) -> dict[str, Any] | None:
        """Negotiate a push to a name in the root."""
        found, root = await self._world.resolve(name), await self._world.node("")
        job = secrets.token_hex(20)
        values: dict[str, Any] = {
            "owner": owner, "request": {"name": name}, "node": found.node.id if found.node else None,
            "parent": root.id, "name": name, "node_uri": f"vos://example.org~space/{name}", "discard": False,
            "keep_properties": False, "size_limit": None, "announced": None, "life": 60.0, "destruction": 90.0,
        }  # fmt: skip
        return await self._row(job, await jobs.insert_push(self._world.database, job, **values | different))

    async def pull(self, name: str, owner: jobs.Owner, **different: Any) -> dict[str, Any] | None:
        """Negotiate a pull of a node in the root."""
        node = await self._world.node(name)
        job = secrets.token_hex(20)
        values: dict[str, Any] = {
            "owner": owner, "request": {"name": name}, "node": node.id, "storage": node.storage, "node_uri": name,
            "life": 60.0, "destruction": 90.0,
        }  # fmt: skip
        return await self._row(job, await jobs.insert_pull(self._world.database, job, **values | different))

    async def _row(self, job: str, placed: jobs.Placed | None) -> dict[str, Any] | None:
        """Give the job, with what differs from one to the next as it should left out."""
        row = await self._world.database.fetchrow(
            "select *, expires - created as life, destruction - created as kept from jobs where id = $1", job
        )
        assert (row is None) == (placed is None)
        if row is None or placed is None:
            return None
        assert placed.expires == row["expires"]
        changing = {"id", "created", "expires", "destruction"}
        return {"places": placed.places} | {name: value for name, value in row.items() if name not in changing}


async def test_offers_together_are_those_one_by_one(world: World, storage: Storage) -> None:
    owner = await world.caller()
    await storage.upload(await push(world, "data", owner))
    await storage.announce(free=1000)
    await world.add("empty", NodeType.DATA)
    his, nobody = jobs.Owner(owner.id), jobs.Owner(None)
    limited = jobs.Owner(owner.id, token=7, scope=Scope(frozenset({TokenRight.READ})))
    offered = Offered(world)
    wanted: list[Callable[[], Awaitable[dict[str, Any] | None]]] = [
        lambda: offered.push("new", his, announced=5, life=5.0),
        lambda: offered.push("data", limited, size_limit=10, keep_properties=True, near="here"),
        lambda: offered.push("new too", nobody, discard=True, destruction=7.0),
        lambda: offered.push("huge", his, announced=1000),  # no storage has room
        lambda: offered.pull("data", his, life=100.0),
        lambda: offered.pull("empty", limited, near="there"),
        lambda: offered.pull("data", nobody),
    ]
    alone = [await one() for one in wanted]
    assert alone[3] is None
    assert await asyncio.gather(*(one() for one in wanted)) == alone


async def test_offers_together_are_one_statement_of_each_kind(
    world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await world.caller()
    await storage.upload(await push(world, "data", owner))
    counted = Counted(world.database, monkeypatch)
    values: dict[str, Any] = {
        "owner": jobs.Owner(owner.id),
        "request": {},
        "node_uri": "",
        "life": 60.0,
        "destruction": 90.0,
    }
    pushed = values | {
        "node": None, "parent": 1, "discard": False, "keep_properties": False, "size_limit": None, "announced": None
    }  # fmt: skip
    await asyncio.gather(
        *(jobs.insert_push(world.database, f"{one:040}", name=str(one), **pushed) for one in range(3)),
        *(jobs.insert_pull(world.database, f"{one:040}", node=1, storage=None, **values) for one in range(3, 6)),
    )
    assert counted.number == 2


async def test_jobs_read_together_are_those_read_one_by_one(
    world: World, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await world.caller()
    claims = [await push(world, "new", owner), await push(world, "old", owner)]
    await storage.upload(claims[1])
    claims.append(await pull(world, "old", owner))
    await storage.catalogue.claim_upload(claims[0], size=5)
    ids = [claims[0].job_id or "", "none", *(one.job_id or "" for one in claims[1:]), claims[0].job_id or ""]
    alone = [await jobs.select(world.database, one) for one in ids]
    assert [one.phase if one else None for one in alone] == [
        Phase.EXECUTING, None, Phase.COMPLETED, Phase.EXECUTING, Phase.EXECUTING
    ]  # fmt: skip
    counted = Counted(world.database, monkeypatch)
    together = await asyncio.gather(*(jobs.select(world.database, one) for one in ids))
    assert counted.number == 1
    now = datetime.now(UTC)
    assert [one and replace(one, now=now) for one in together] == [one and replace(one, now=now) for one in alone]


async def test_who_has_no_room_is_refused_alone(world: World, storage: Storage) -> None:
    del storage  # it is there to be chosen
    owner, other = await world.caller(), await world.caller("stranger")
    subject = usage.Subject(user=other.id)
    await world.database.transact(lambda c: usage.set_quota(c, subject, bytes=3, nodes=None))
    offered = Offered(world)
    found = await asyncio.gather(
        offered.push("a", jobs.Owner(owner.id), announced=5),
        offered.push("b", jobs.Owner(other.id), announced=5),
        offered.push("c", jobs.Owner(other.id), announced=3),
        return_exceptions=True,
    )
    assert [type(one) for one in found] == [dict, QuotaExceeded, dict]


async def test_who_asks_what_no_column_holds_is_refused_alone(world: World, storage: Storage) -> None:
    del storage
    offered = Offered(world)
    wanted = (offered.push("a", jobs.Owner(None), announced=one) for one in (5, 1 << 70))
    found = await asyncio.gather(*wanted, return_exceptions=True)
    assert isinstance(found[0], dict)
    assert isinstance(found[1], Fault)
