"""Nodes that are made at the same time: each is what it would be if it had been made alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import nodes, usage
from pyvospace.db.errors import Unavailable, translated
from pyvospace.db.gathering import Gathering
from pyvospace.db.holding import on_behalf_of
from pyvospace.db.pool import Database
from pyvospace.db.usage import Subject
from pyvospace.model.callers import Caller, Origin
from pyvospace.model.faults import DuplicateNode, Fault, QuotaExceeded
from pyvospace.model.stored import Changes, StoredNode
from pyvospace.model.vocabulary import NodeType
from tests.db.world import PEOPLE, READERS, WRITERS, World, path
from tests.support.strategies import examples
from tests.support.tree_check import damages

FOLDERS = ("", "open", "open/inner", "private", "private/written", "heir", "locked", "fixed", "link", "file", "missing")
AWKWARD = ('é"\\{}', "a b", "x" * 250, "A", "a", "Z", "\U0001f600")
PLAIN = Changes()
_OWN = {"id", "parent_id", "created", "changed"}
"""What differs from one node to the next as it should."""


@dataclass(frozen=True)
class Wish:
    """A node that somebody wants to make."""

    person: str
    folder: str
    name: str
    kind: NodeType = NodeType.DATA
    changes: Changes = PLAIN
    owner: str | None = None


async def plant(world: World, top: str) -> None:
    """Make containers of all sorts in a new one."""
    await world.add(top)
    await world.add(f"{top}/open", changes=Changes(public=True, group_write=(WRITERS,)))
    await world.add(f"{top}/open/inner", changes=Changes(group_write=(READERS, WRITERS)))
    await world.add(f"{top}/private", changes=Changes(public=False))
    await world.add(f"{top}/private/written", changes=Changes(public=False, group_write=(WRITERS,)))
    rights = Changes(public=True, group_read=(READERS,), group_write=(WRITERS,), inherit=True)
    await world.add(f"{top}/heir", changes=rights)
    await world.add(f"{top}/link", NodeType.LINK, Changes(target="vos://example.org~space/home"))
    await world.add(f"{top}/file", NodeType.DATA, Changes(public=True))
    await world.add(f"{top}/open/there", NodeType.DATA)
    for name, mark in (("locked", Changes(locked=True)), ("fixed", Changes(immutable=True))):
        await world.add(f"{top}/{name}")
        await world.change(f"{top}/{name}", mark)


class Makers:
    """Those who make nodes below some container, and what they are told."""

    def __init__(self, world: World, callers: dict[str, Caller], top: str) -> None:
        self._world = world
        self._callers = callers
        self._top = path(top)

    async def make(self, wish: Wish, number: int) -> Any:
        caller = replace(self._callers[wish.person], origin=Origin("192.0.2.1", f"request {number}"))
        where = (*self._top, *path(wish.folder), wish.name)
        owner = self._callers[wish.owner].id if wish.owner else None
        try:
            made = await nodes.insert(
                self._world.database, caller, where, kind=wish.kind, changes=wish.changes, owner=owner
            )
        except Fault as fault:
            return type(fault), str(fault)
        return made and _comparable(made)

    async def alone(self, wishes: list[Wish]) -> list[Any]:
        return [await self.make(wish, number) for number, wish in enumerate(wishes)]

    async def together(self, wishes: list[Wish]) -> list[Any]:
        return list(await asyncio.gather(*(self.make(wish, number) for number, wish in enumerate(wishes))))

    async def left(self) -> Any:
        """Give what there is now: nodes, containers, sums and what the audit log says, without what must differ."""
        prefix = "/" + "/".join(self._top)
        rows = await self._world.database.fetch(
            """select substr(path_of(n.parent_id, n.name), $2) as place, n.type, n.owner_id, n.public, n.group_read,
                      n.group_write, n.inherit, n.locked, n.immutable, n.properties, n.target, c.immutable as fixed,
                      c.path = p.path || n.id::text as stands
                 from containers top join containers p on p.path <@ top.path join nodes n on n.parent_id = p.id
                 left join containers c on c.id = n.id
                where top.id = $1 order by place""",
            (await self._world.node(self._top)).id,
            len(prefix) + 1,
        )
        told = await self._world.database.fetch(
            """select user_id, name, credential, remote, request, action, substr(path, $2) as place, owner_id, outcome,
                      details, node_id = (select n.id from nodes n where path_of(n.parent_id, n.name) = path) as same
                 from audit where starts_with(path, $1 || '/') order by request, place""",
            prefix,
            len(prefix) + 1,
        )
        used = await self._world.database.fetch(
            "select u.bytes, u.nodes from usage_of($1) u", (await self._world.node(self._top)).id
        )
        return [list(map(tuple, one)) for one in (rows, told, used)]


def _comparable(made: StoredNode) -> dict[str, Any]:
    return {name: value for name, value in asdict(made).items() if name not in _OWN}


@pytest.fixture
async def callers(world: World) -> dict[str, Caller]:
    return {person: await world.caller(person) for person in PEOPLE}


RIGHTS = st.sampled_from([None, (), (READERS,), (WRITERS, READERS)])
MAYBE = st.sampled_from([None, True, False])
CHANGES = st.builds(
    Changes,
    properties=st.dictionaries(st.sampled_from(["urn:x", "urn:y"]), st.sampled_from(["", "a title", *AWKWARD])),
    public=MAYBE,
    group_read=RIGHTS,
    group_write=RIGHTS,
    inherit=MAYBE,
    locked=MAYBE,
    immutable=MAYBE,
)
WISHES = st.builds(
    Wish,
    st.sampled_from(PEOPLE),
    st.sampled_from(FOLDERS),
    st.sampled_from(["a", "b", "there", *AWKWARD]),
    st.sampled_from([NodeType.DATA, NodeType.CONTAINER, NodeType.UNSTRUCTURED]),
    CHANGES,
    st.sampled_from([None, "owner", "writer"]),
)


@given(st.lists(WISHES, max_size=32))
@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_nodes_made_together_are_those_made_alone(
    world: World, callers: dict[str, Caller], wishes: list[Wish]
) -> None:
    found = []
    number = await world.database.fetchval("select count(*) from nodes where parent_id = 1")
    for top, way in ((f"{number} alone", Makers.alone), (f"{number} together", Makers.together)):
        await plant(world, top)
        makers = Makers(world, callers, top)
        found.append((await way(makers, wishes), await makers.left()))
    assert found[0] == found[1]
    assert await damages(world.database) == []


@pytest.fixture
def statements(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write down the statements that make nodes."""
    found: list[str] = []

    def watch(name: str) -> None:
        method = getattr(world.database, name)

        def watched(sql: str, *values: object, **options: object) -> object:
            if sql in NAMED:
                found.append(NAMED[sql])
            return method(sql, *values, **options)

        monkeypatch.setattr(world.database, name, watched)

    watch("fetchrow")
    watch("fetch")
    world.database.gathering = Gathering(world.database.fetch)
    return found


NAMED = {nodes._INSERT.one: "one", nodes._INSERT.several: "several"}


async def test_nodes_made_at_the_same_time_are_one_statement(
    world: World, callers: dict[str, Caller], statements: list[str]
) -> None:
    await plant(world, "top")
    statements.clear()
    makers = Makers(world, callers, "top")
    made = await makers.together([Wish("owner", "open", f"n{number}") for number in range(20)])
    assert [one["name"] for one in made] == [f"n{number}" for number in range(20)]
    assert statements == ["several"]
    assert await makers.alone([Wish("owner", "open", "alone")])
    assert statements == ["several", "one"]


async def test_who_cannot_make_his_holds_up_nobody(
    world: World, callers: dict[str, Caller], statements: list[str]
) -> None:
    await plant(world, "top")
    statements.clear()
    makers, name = Makers(world, callers, "top"), "taken"
    wishes = [
        Wish("owner", "open", name),
        Wish("writer", "open", name, NodeType.CONTAINER),
        Wish("stranger", "open", "refused"),
        Wish("owner", "missing", "nowhere"),
        Wish("owner", "open", "there"),
        Wish("writer", "heir", "kept", NodeType.CONTAINER),
    ]
    made = await makers.together(wishes)
    assert [one and (one["type"] if isinstance(one, dict) else one[0]) for one in made] == [
        NodeType.DATA, DuplicateNode, None, None, DuplicateNode, NodeType.CONTAINER
    ]  # fmt: skip
    assert statements == ["several", "one", "one"]


async def test_a_locked_container_and_a_name_under_way_hold_up_their_own(
    world: World, callers: dict[str, Caller], database_dsn: str
) -> None:
    await plant(world, "top")
    makers = Makers(world, callers, "top")
    folder, other = await world.node("top/private"), await world.node("top/open")
    async with elsewhere(database_dsn) as connection:
        await connection.execute("select from containers where id = $1 for update", folder.id)
        await connection.execute(
            "insert into nodes (parent_id, name, type, owner_id) values ($1, 'coming', 'DataNode', 1)", other.id
        )
        wishes = [("private", "a"), ("open", "a"), ("open", "coming"), ("open/inner", "a")]
        making = [asyncio.create_task(makers.make(Wish("owner", *wish), 0)) for wish in wishes]
        assert all([await making[1], await making[3]])
        assert not making[0].done()
        assert not making[2].done()
    assert (await making[0])["name"] == "a"
    assert (await making[2])[0] is DuplicateNode


@asynccontextmanager
async def elsewhere(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Give a transaction of somebody else, which is committed in the end."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def test_who_waits_for_a_locked_container_takes_his_share_only(
    world: World, callers: dict[str, Caller], database_dsn: str
) -> None:
    await plant(world, "top")
    makers, most = Makers(world, callers, "top"), world.database.connections()["most"]
    folder = await world.node("top/private")
    async with elsewhere(database_dsn) as connection:
        await connection.execute("select from containers where id = $1 for update", folder.id)
        mark = on_behalf_of.set("somebody")
        making = [asyncio.create_task(makers.make(Wish("owner", "private", str(i)), i)) for i in range(2 * most)]
        on_behalf_of.reset(mark)
        await asyncio.wait(making, timeout=0.3)
        assert 0 < world.database.connections()["busy"] < most
    assert all([await one for one in making])


async def test_nodes_are_counted_one_by_one_where_their_number_is_limited(
    world: World, callers: dict[str, Caller], statements: list[str]
) -> None:
    await plant(world, "top")
    makers, folder = Makers(world, callers, "top"), Subject(container=(await world.node("top/open")).id)
    left = 3 + (await world.database.fetchval("select u.nodes from usage_of($1) u", folder.container))
    await world.database.transact(lambda c: usage.set_quota(c, folder, bytes=None, nodes=left))
    statements.clear()
    wishes = [Wish("owner", where, f"n{number}") for number in range(5) for where in ("open/inner", "heir")]
    made = await makers.together(wishes)
    refused = [one for one in made if not isinstance(one, dict)]
    assert [fault for fault, _ in refused] == [QuotaExceeded] * 2
    assert sorted(statements) == ["one"] * 5 + ["several"]


async def test_two_processes_that_make_the_same_nodes_make_each_once(
    world: World, callers: dict[str, Caller], database_dsn: str
) -> None:
    await plant(world, "top")
    other = await Database.connect(database_dsn, DatabaseSettings(check_durability=False))
    try:
        wishes = [Wish("owner", where, name) for name in "abcdefgh" for where in ("open", "private", "heir")]
        first, second = (Makers(one, callers, "top").together for one in (world, World(other)))
        found = await asyncio.gather(first(wishes), second(wishes[::-1]))
    finally:
        await other.close()
    for one, another in zip(found[0], found[1][::-1], strict=True):
        assert sorted(isinstance(what, dict) for what in (one, another)) == [False, True]
        assert DuplicateNode in {what[0] for what in (one, another) if isinstance(what, tuple)}


async def test_a_lost_answer_is_unknown_to_all_and_nothing_is_done_again(
    world: World, callers: dict[str, Caller], statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await plant(world, "top")
    makers, fetch = Makers(world, callers, "top"), world.database.fetch

    async def lost(sql: str, *values: object, **_: object) -> object:
        await fetch(sql, *values)
        with translated():
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    with monkeypatch.context() as patch:
        patch.setattr(world.database, "gathering", Gathering(lost))  # type: ignore[arg-type]
        statements.clear()
        made = await makers.together([Wish("owner", "open", name) for name in "ab"])
    assert [fault for fault, _ in made] == [Unavailable] * 2
    assert statements == ["several"]
    assert (await world.resolve("top/open/a")).node is not None
