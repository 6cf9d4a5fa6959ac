"""Pairs that do not reach PostgreSQL as the others do: by way of a pooler, or reading from a replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pyvospace.supervisor.data import STORAGE_ROLE
from tests.server.conftest import People
from tests.support.pair import Pair, running_pair
from tests.support.poolers import MISSING, PROGRAM, pooler
from tests.support.postgres import PostgresServer
from tests.support.standby import Standby, standby


@pytest.fixture(scope="session")
def follower(postgres_server: PostgresServer) -> Iterator[Standby]:
    """A replica."""
    with standby(postgres_server) as running:
        yield running


@pytest.fixture(scope="session", params=["pooler", "replica"])
def pair(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Pair]:
    """Two metadata processes, so that who reads is not who has written."""
    if request.param == "pooler" and PROGRAM is None:
        pytest.skip(MISSING)
    with ExitStack() as stack:
        name = stack.enter_context(postgres_server.clone())
        if request.param == "pooler":
            environment = stack.enter_context(pooler(postgres_server)).environment(name)
        else:
            follower: Standby = request.getfixturevalue("follower")
            environment = {"PYVOSPACE_DATABASE__REPLICA_DSN": follower.dsn(name)}
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        folder = tmp_path_factory.mktemp(request.param)
        running = running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment, workers=2)
        yield stack.enter_context(running)


@pytest.fixture(scope="session")
def people(pair: Pair) -> People:
    return People.of(pair)
