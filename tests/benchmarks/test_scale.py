"""A generated space is one like any other: its sums are right, it goes on where it stopped, everything works in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from benchmarks.scale_fill import UNIT, fill
from benchmarks.scale_operations import LIMITED, PLAIN, TREES, Target
from benchmarks.systems import Space
from pyvospace.db import bootstrap
from pyvospace.db.integrity import check_catalogue
from pyvospace.db.pool import Database
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

USER = "alice"
_STORAGE = """
insert into storages (uuid, name, url, role)
values (gen_random_uuid(), 'one', 'http://localhost', current_user) returning id
"""


@pytest.fixture
def own_pair(postgres_server: PostgresServer, database_name: str, tmp_path: Path) -> Iterator[Pair]:
    """A pair that may be filled."""
    dsn, storage_dsn = postgres_server.dsn(database_name), postgres_server.dsn(database_name, STORAGE_ROLE)
    with running_pair(dsn, tmp_path, storage_dsn=storage_dsn) as running:
        yield running


async def test_generator_goes_on_where_it_stopped_and_leaves_right_sums(database: Database, database_dsn: str) -> None:
    await bootstrap.set_up(database, authority="example.org~space", group_prefixes=["ivo://example.org/gms?"])
    await bootstrap.add_user(database, USER)
    await database.fetchrow(_STORAGE)
    empty = await database.fetchval("select count(*) from nodes")
    for wanted, units in ((1, 1), (UNIT, 1), (UNIT + 1, 2)):
        assert await fill(database_dsn, USER, wanted) == units
        assert await database.fetchval("select count(*) from nodes") == empty + 2 + units * UNIT
    assert await check_catalogue(database, pause=0) == []


async def test_every_operation_works_in_a_filled_space(own_pair: Pair) -> None:
    space = Space(
        port=own_pair.port,
        storage_port=own_pair.storage_port,
        token=own_pair.token,
        authority=own_pair.authority,
        home=own_pair.home,
        dsn=own_pair.dsn,
        process=psutil.Process(),
    )
    async with AsyncExitStack() as stack:
        target = await Target.open(space, await fill(own_pair.dsn, USER, 1), USER, stack)
        for operation in (*PLAIN, *TREES, *LIMITED):
            act = await operation.begin(target)
            await act()
        assert await check_catalogue(target.database, pause=0) == []
