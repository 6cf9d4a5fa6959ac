"""The table of rules says what the database does: for everybody, on random trees, right by right."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import pytest

from pyvospace.db import nodes
from pyvospace.db.gathering import Question
from pyvospace.db.pool import Database
from pyvospace.model.callers import Caller, Scope, TokenRight, limited
from pyvospace.model.faults import Fault
from pyvospace.model.stored import Changes, Resolution
from pyvospace.model.vocabulary import NodeType
from pyvospace.model.vosi import Standing, State
from pyvospace.server.policy import TABLE, Bar, OneOf, Policy, Right
from tests.db.world import PEOPLE, READERS, WRITERS, World

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection

TITLE = Changes(properties={"urn:x": "y"})
OPEN = Standing()
_NODES = 45


@dataclass(frozen=True)
class Trial:
    """Statements whose effects are taken back."""

    connection: Connection

    @property
    def gathering(self) -> Self:
        return self

    async def ask(self, question: Question, *values: object) -> Any:
        return await self.connection.fetchrow(question.one, *values)

    async def fetchrow(self, sql: str, *values: object, subject: object = None) -> Any:
        del subject
        return await self.connection.fetchrow(sql, *values)


async def plant(world: World, chance: random.Random) -> list[tuple[str, ...]]:
    """Make a tree with random rights, locks and marks; give the paths of its nodes, and of some that are not there."""
    containers: list[tuple[str, ...]] = [()]
    found: list[tuple[str, ...]] = [()]
    owners = [(await world.caller(name)).id for name in ("admin", "owner", "writer")]
    for number in range(_NODES):
        where = (*chance.choice(containers), f"n{number}")
        kind = chance.choice([NodeType.CONTAINER, NodeType.CONTAINER, NodeType.DATA, NodeType.LINK])
        groups = [(), (READERS,), (WRITERS,), (READERS, WRITERS)]
        parent = await world.node(where[:-1])
        row = await world.database.fetchrow(
            "with made as (insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, target)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8) returning id, type), place as (insert into containers (id, path)"
            " select m.id, c.path || m.id::text from made m, containers c where c.id = $1 and m.type = 'ContainerNode')"
            " select id from made",
            *(parent.id, where[-1], str(kind), chance.choice(owners), chance.random() < 0.5),
            *(list(chance.choice(groups)), list(chance.choice(groups))),
            "vos://example.org~space/n0" if kind is NodeType.LINK else None,
        )
        assert row is not None
        found.append(where)
        if kind is NodeType.CONTAINER:
            containers.append(where)
    admin = await world.caller()
    for where in chance.sample(found[1:], 8):
        await world.change("/".join(where), Changes(locked=True))
    for where in chance.sample(found[1:], 4):
        node = await world.node(where)
        if not node.immutable:
            assert await nodes.update(world.database, admin, node, Changes(immutable=True))
    missing = [(*chance.choice(found), "missing", *more) for more in ((), (), (), ("below",))]
    return found + missing


async def done(database: Database, caller: Caller, right: Right, found: Resolution) -> bool | None:
    """Say whether the statement of an operation does it, and take it back; None: it is no statement of its own."""
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            return await _do(connection, caller, right, found)
        except Fault:
            return False
        finally:
            await transaction.rollback()


async def _do(connection: Connection, caller: Caller, right: Right, found: Resolution) -> bool | None:
    node = found.node
    if (node is None) is not (right is Right.CREATE):
        return None
    if node is None:
        trial: Any = Trial(connection)
        return await nodes.insert(trial, caller, found.names, kind=NodeType.DATA, changes=TITLE) is not None
    changes = {
        Right.SET: TITLE,
        Right.OWN: Changes(inherit=not node.inherit),
        Right.UNMARK: Changes(immutable=False),
    }
    if node.type is NodeType.LINK:
        changes[Right.AIM] = Changes(target="vos://example.org~space/elsewhere")
    if right in changes:
        return await nodes._update(connection, caller, node, changes[right]) is not None
    if right is Right.DELETE and not node.is_container:
        return await nodes._delete_leaf(connection, caller, node)
    if right is Right.DELETE:
        return await nodes.is_removable(connection, caller, node)
    return None


async def told(database: Database, caller: Caller, found: Resolution) -> tuple[bool, bool]:
    """Ask the functions of the database whether a node may be read and written to."""
    node = found.node
    assert node is not None
    row = await database.fetchrow(
        "select may_read(n.owner_id, n.public, n.group_read, n.group_write, $2, $3, $4) as readable,"
        " may_write(n.owner_id, n.group_write, $2, $3, $4) as writable,"
        " n.parent_id is null or way_is_readable(n.parent_id, $2, $3, $4) as way from nodes n where n.id = $1",
        *(node.id, caller.id, caller.groups, caller.admin),
    )
    assert row is not None
    return row["way"] and row["readable"], row["way"] and row["writable"]


@pytest.mark.parametrize("seed", range(3))
async def test_the_table_says_what_the_database_does(database: Database, seed: int) -> None:
    world = await World.make(database)
    paths = await plant(world, random.Random(seed))
    agreed = dict.fromkeys((True, False), 0)
    for name in PEOPLE:
        caller = await world.caller(name)
        policy = Policy(caller, "example.org~space", OPEN)
        for where in paths:
            found = await world.resolve(where, caller)
            decisions = {right: policy.explain(right, found) for right in Right}
            if found.node is not None:
                readable, writable = await told(database, caller, found)
                assert decisions[Right.READ].allowed is decisions[Right.SEE].allowed is readable, (name, where)
                fixed = found.node.locked or found.node.immutable
                assert decisions[Right.SET].allowed is writable, (name, where)
                assert decisions[Right.WRITE].allowed is (writable and not fixed), (name, where)
            for right, decision in decisions.items():
                effect = await done(database, caller, right, found)
                assert effect in {None, decision.allowed}, (name, where, right, decision)
                agreed[decision.allowed] += effect is not None
    assert min(agreed.values()) > 100


async def test_what_is_required_is_what_is_explained(database: Database) -> None:
    world = await World.make(database)
    paths = await plant(world, random.Random(7))
    everywhere = Scope.parse([], ["read", "write"])
    callers = [await world.caller(name) for name in PEOPLE]
    callers += [limited(await world.caller("owner"), scope) for scope in (everywhere, Scope.parse(["/n1"], ["read"]))]
    rules: set[str] = set()
    for caller in callers:
        for standing in (OPEN, Standing(State.READ_ONLY)):
            policy = Policy(caller, "example.org~space", standing)
            for where in paths:
                found = await world.resolve(where, caller)
                for right in Right:
                    decision = policy.explain(right, found)
                    rules.add(decision.rule)
                    assert decision.rule in decision.trail
                    assert words_of(required(policy, right, found)) == words_of(decision.fault)
    assert rules == {name for steps in TABLE.values() for step in steps for name in names_of(step)} - {"leaf"}


def required(policy: Policy, right: Right, found: Resolution) -> Fault | None:
    """Require something; give how it is refused."""
    try:
        policy.require(right, found)
    except Fault as fault:
        return fault
    return None


def words_of(fault: Fault | None) -> tuple[type, str]:
    """Give what two faults that are the same have in common."""
    return type(fault), str(fault)


def names_of(step: Bar | OneOf) -> list[str]:
    """Give the names of the rules of a step."""
    return [step.name] if isinstance(step, Bar) else [step.name, *(grant.name for grant in step.grants)]


async def test_a_leaf_is_seen_by_the_rules_of_opencadc(database: Database) -> None:
    world = await World.make(database)
    await world.add("box")
    await world.add("box/leaf", NodeType.DATA, Changes())
    stranger = await world.caller("stranger")
    found = await world.resolve("box/leaf", stranger)
    for opencadc in (False, True):
        policy = Policy(stranger, "example.org~space", OPEN, opencadc=opencadc)
        assert policy.explain(Right.SEE, found).allowed is opencadc
        assert not policy.explain(Right.READ, found).allowed


def test_an_administrator_with_a_limited_token_is_none() -> None:
    boss = Caller(id=1, name="boss", admin=True)
    assert not limited(boss, Scope(frozenset({TokenRight.READ}))).admin
    assert limited(boss, Scope(frozenset({TokenRight.ADMIN}))).admin
    assert replace(boss, admin=False) == limited(replace(boss, admin=False), None)
