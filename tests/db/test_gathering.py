"""Nodes that are asked for at the same time: each is what it would be if it had been asked for alone."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvospace.db import nodes, usage
from pyvospace.db.errors import Unavailable
from pyvospace.db.gathering import Gathering
from pyvospace.db.pool import Database
from pyvospace.db.usage import Subject
from pyvospace.model.callers import ANONYMOUS, Caller
from pyvospace.model.faults import InternalFault, InvalidArgument
from pyvospace.model.stored import Changes, Resolution
from pyvospace.model.vocabulary import NodeType
from tests.db.test_nodes import NAMES
from tests.db.world import OPEN, PEOPLE, READERS, WRITERS, Storage, World, path, push
from tests.support.strategies import examples, paths

Asked = tuple[str, tuple[str, ...]]
PLACES = [
    path(place)
    for place in (
        "",
        "home",
        "box",
        "box/file",
        "box/link",
        "box/locked",
        "box/hidden",
        "box/hidden/deep",
        "box/hidden/deep/file",
        "box/shared",
        "box/shared/written",
        "odd",
    )
] + [("odd", name) for name in NAMES]


@dataclass
class Counted:
    """The statements that were gathered."""

    statements: list[str]


@pytest.fixture
def counted(world: World, monkeypatch: pytest.MonkeyPatch) -> Counted:
    found = Counted([])

    async def watched(sql: str, *args: object) -> list[asyncpg.Record]:
        found.statements.append(sql)
        return await world.database.fetch(sql, *args)

    monkeypatch.setattr(world.database, "gathering", Gathering(watched))
    return found


async def plant(world: World, storage: Storage) -> dict[str, Caller]:
    """Make something of everything that a resolution tells; give who may ask."""
    await storage.announce(free=1 << 40)
    await world.add("box", changes=Changes(public=True, properties={"urn:x": 'é"{}'}))
    await world.add("box/hidden", changes=Changes(public=False))
    await world.add("box/hidden/deep")
    for place in ("box/file", "box/hidden/deep/file"):
        await storage.upload(await push(world, place, await world.caller("owner")))
    await world.add("box/link", NodeType.LINK, replace(OPEN, target="vos://example.org~space/box/file"))
    await world.add("box/locked", changes=replace(OPEN, locked=True))
    await world.add("box/shared", changes=Changes(public=False, group_read=(READERS,)))
    await world.add("box/shared/written", NodeType.DATA, Changes(public=False, group_write=(WRITERS,)))
    await world.add("odd")
    for name in NAMES:
        await world.add(("odd", name), NodeType.DATA)
    file = await world.node("box/file")
    await world.database.fetchrow(
        "insert into damages select storage_id, location, 'missing' from nodes where id = $1", file.id
    )
    await world.database.fetchrow(
        "insert into writers values ($1, 'file', 'job', gen_random_uuid()::text, now() + interval '1 hour')",
        file.parent_id,
    )
    callers = {person: await world.caller(person) for person in PEOPLE}
    return callers | {"both": replace(callers["stranger"], groups=("ivo://x/y?a,b", READERS, WRITERS))}


@pytest.fixture(params=["free", "limited"])
async def callers(request: pytest.FixtureRequest, world: World, storage: Storage) -> dict[str, Caller]:
    """Everybody, and a tree for them to ask for; with quotas, or without."""
    found = await plant(world, storage)
    if request.param == "limited":
        box, owner = Subject(container=(await world.node("box")).id), Subject(user=found["owner"].id)
        await world.database.transact(lambda c: usage.set_quota(c, box, bytes=150, nodes=None))
        await world.database.transact(lambda c: usage.set_quota(c, owner, bytes=115, nodes=None))
    return found


async def alone(world: World, callers: dict[str, Caller], asked: list[Asked]) -> list[Resolution]:
    return [await nodes.resolve(world.database, callers[person], place) for person, place in asked]


async def together(world: World, callers: dict[str, Caller], asked: list[Asked]) -> list[Resolution]:
    return list(await asyncio.gather(*(nodes.resolve(world.database, callers[one], place) for one, place in asked)))


async def test_each_is_told_what_he_is_told_alone(world: World, counted: Counted, callers: dict[str, Caller]) -> None:
    everything = [(person, place) for person in callers for place in PLACES]
    counted.statements.clear()
    plain = await alone(world, callers, everything)
    assert counted.statements == [nodes._RESOLVE.one] * len(everything)
    counted.statements.clear()
    assert await together(world, callers, everything) == plain
    assert counted.statements == [nodes._RESOLVE.several] * math.ceil(len(everything) / 32)
    lasts = [found.last for found in plain]
    for varies in (
        "busy",
        "integrity",
        "readable",
        "writable",
        "used",
        "md5",
        "storage",
        "target",
        "locked",
        "available",
    ):
        assert len({getattr(last, varies) for last in lasts}) > 1, varies


ANY_PLACE = st.builds(lambda place, more: place + more, st.sampled_from(PLACES), paths)
NEARLY_A_PLACE = st.lists(st.sampled_from(["box", "hidden", "deep", "file", "odd", *NAMES]), max_size=5).map(tuple)


@given(st.lists(st.tuples(st.sampled_from([*PEOPLE, "both"]), ANY_PLACE | NEARLY_A_PLACE), max_size=40))
@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_places_together_are_those_alone(
    world: World, callers: dict[str, Caller], asked: list[Asked]
) -> None:
    assert await together(world, callers, asked) == await alone(world, callers, asked)


async def test_who_asks_alone_waits_for_nobody(world: World, counted: Counted) -> None:
    caller = await world.caller("owner")
    counted.statements.clear()
    for _ in range(3):
        await nodes.resolve(world.database, caller, ("home",))
    assert counted.statements == [nodes._RESOLVE.one] * 3


async def test_who_comes_later_sees_what_was_done_before(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though others have asked already, and have no answer yet."""
    caller, answered = await world.caller(), asyncio.Event()

    async def late(sql: str, *args: object) -> list[asyncpg.Record]:
        rows = await world.database.fetch(sql, *args)
        if sql == nodes._RESOLVE.several:
            await answered.wait()
        return rows

    monkeypatch.setattr(world.database, "gathering", Gathering(late))
    early = [asyncio.create_task(world.resolve("box", caller)) for _ in range(2)]
    await asyncio.sleep(0.1)
    await world.add("box")
    assert (await world.resolve("box", caller)).node is not None
    answered.set()
    assert [(await one).node for one in early] == [None, None]


async def test_fault_of_one_is_not_that_of_others(world: World) -> None:
    caller = await world.caller()
    asked = [
        (caller, ("home",)),
        (caller, ("a\0b",)),
        (caller, ()),
        (replace(caller, id=1 << 70), ()),
        (caller, ("x",)),
    ]
    answers = (nodes.resolve(world.database, *one) for one in asked)
    found = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(one) for one in found] == [Resolution, InternalFault, Resolution, InternalFault, Resolution]
    assert [one.depth for one in found if isinstance(one, Resolution)] == [1, 0, 0]


async def test_database_that_is_away_is_asked_once_for_all(
    world: World, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await world.caller()
    counted.statements.clear()

    async def fail(*_: object, **__: object) -> None:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    monkeypatch.setattr("asyncpg.connection.Connection.fetch", fail)
    asked = (nodes.resolve(world.database, caller, ()) for _ in range(5))
    assert [type(one) for one in await asyncio.gather(*asked, return_exceptions=True)] == [Unavailable] * 5
    assert counted.statements == [nodes._RESOLVE.several]


async def test_space_without_root_is_told_to_everybody(database: Database) -> None:
    asked = (nodes.resolve(database, ANONYMOUS, ()) for _ in range(3))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in found] == [InvalidArgument] * 3


async def test_who_holds_a_connection_must_not_ask(world: World) -> None:
    caller = await world.caller()
    async with world.database.connection():
        with pytest.raises(RuntimeError, match="asks for another"):
            await nodes.resolve(world.database, caller, ())
