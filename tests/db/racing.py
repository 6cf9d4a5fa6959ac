"""Two servers on one database, and what many do there at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pyvospace.db import copies, nodes, trash
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    Fault,
    InvalidArgument,
    NodeBusy,
    NodeNotFound,
    NotFound,
)
from pyvospace.model.stored import StoredNode
from pyvospace.model.vocabulary import NodeType
from tests.db.world import OPEN, World, path

if TYPE_CHECKING:
    from pyvospace.db.nodes import Then

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds after which something hangs."""
LOST = (DuplicateNode, InvalidArgument, ContainerNotFound, NodeNotFound, NodeBusy, NotFound)
"""How one may lose against others."""


@dataclass
class Servers:
    """Two metadata servers on one database."""

    worlds: Sequence[World]

    def any(self, rng: random.Random) -> World:
        return rng.choice(self.worlds)


async def deadlocks(world: World) -> int:
    """Count the deadlocks that PostgreSQL had to resolve."""
    await world.database.fetchval("select pg_stat_force_next_flush()")
    number = await world.database.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    assert isinstance(number, int)
    return number


async def outcome(call: Awaitable[T]) -> T | Fault:
    """Give the result, or the fault by which it lost; every other error fails the test."""
    try:
        return await call
    except LOST as fault:
        return fault


async def race(*calls: Awaitable[T]) -> list[T | Fault]:
    """Start all at once, and see all of them end."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*map(outcome, calls))


async def move(world: World, source: str, container: str, name: str) -> StoredNode | None:
    """Move as an operation does: look, act, and look again if something has changed."""
    admin = await world.caller()
    for _ in range(100):
        found, into = await world.resolve(source, admin), await world.resolve(container, admin)
        if found.node is None or into.node is None or not into.node.is_container:
            raise NodeNotFound(source)
        if moved := await nodes.move(world.database, admin, found.node, into.node, name):
            return moved
    raise AssertionError(source)


async def copy(world: World, source: str, container: str, name: str, *, then: Then | None = None) -> int:
    """Copy as an operation does; give the number of nodes."""
    admin = await world.caller()
    for _ in range(100):
        found, into = await world.resolve(source, admin), await world.resolve(container, admin)
        if found.node is None or into.node is None or not into.node.is_container:
            raise NodeNotFound(source)
        if made := await copies.copy(world.database, admin, found.node, into.node, name, then=then):
            return made
    raise AssertionError(source)


async def delete(world: World, where: str) -> bool:
    admin = await world.caller()
    for _ in range(100):
        found = await world.resolve(where, admin)
        if found.node is None:
            raise NodeNotFound(where)
        if await nodes.delete(world.database, admin, found.node):
            return True
    raise AssertionError(where)


async def restore(world: World, entry: trash.Entry, container: str, name: str) -> bool:
    admin = await world.caller()
    for _ in range(100):
        found = await world.resolve(container, admin)
        if found.node is None or not found.node.is_container:
            raise NodeNotFound(container)
        if await trash.restore(world.database, admin, entry, found.node, name):
            return True
    raise AssertionError(container)


async def create(world: World, where: str, kind: NodeType = NodeType.CONTAINER) -> StoredNode:
    admin = await world.caller()
    for _ in range(100):
        if made := await nodes.insert(world.database, admin, path(where), kind=kind, changes=OPEN):
            return made
        if (await world.resolve(where, admin)).container is None:
            raise ContainerNotFound(where)
    raise AssertionError(where)


def won(results: Sequence[object]) -> int:
    return sum(not isinstance(one, Fault) for one in results)
