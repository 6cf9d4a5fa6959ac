"""Fixtures of the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from pyvospace.db.pool import Database
from tests.db.world import Storage, World


@pytest.fixture
async def world(database: Database) -> World:
    """A space with some people in it."""
    return await World.make(database)


@pytest.fixture
async def storage(storage_dsn: str, world: World) -> AsyncIterator[Storage]:
    """A storage that serves the space, through a login role of its own."""
    async with AsyncExitStack() as stack:
        yield await Storage.open(storage_dsn, stack)
