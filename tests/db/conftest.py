"""Fixtures of the catalogue."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db.pool import Database
from tests.db.racing import Servers
from tests.db.world import Storage, World
from tests.support.postgres import PostgresServer


@pytest.fixture
async def world(database: Database) -> World:
    """A space with some people in it."""
    return await World.make(database)


@pytest.fixture
async def servers(world: World, database_dsn: str) -> AsyncIterator[Servers]:
    """Two metadata servers."""
    other = await Database.connect(database_dsn, DatabaseSettings(check_durability=False, lock_timeout=30))
    yield Servers([world, World(other)])
    await other.close()


@pytest.fixture
async def storage(storage_dsn: str, world: World) -> AsyncIterator[Storage]:
    """A storage that serves the space, through a login role of its own."""
    async with AsyncExitStack() as stack:
        yield await Storage.open(storage_dsn, stack)


@pytest.fixture
def foreign_dsn(postgres_server: PostgresServer, database_name: str) -> Iterator[str]:
    """A second login role of storage servers."""
    role = f"storage_{secrets.token_hex(6)}"
    postgres_server.execute(f"create role {role} login password 'secret' in role pyvospace_storage")
    cluster = replace(postgres_server.cluster, passwords={role: "secret"})
    yield cluster.dsn(role, database_name)
    postgres_server.execute(f"drop role {role}")


@pytest.fixture
async def foreign(foreign_dsn: str, world: World) -> AsyncIterator[Storage]:
    """A storage of somebody else."""
    async with AsyncExitStack() as stack:
        yield await Storage.open(foreign_dsn, stack)
