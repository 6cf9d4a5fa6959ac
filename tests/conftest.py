"""Fixtures for every test: a real PostgreSQL, and a database of its own for whoever asks.

Without a server the run fails; it does not skip.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pyvospace.config import Settings
from pyvospace.db.pool import Database
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support import postgres
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.resumable import CutPair
from tests.support.resumable import cut_pair as running_cut_pair

# Commands of the tests leave the keyring of whoever runs them alone.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

# How long an example takes says nothing on a machine that is shared.
settings.register_profile("pyvospace", deadline=None)
settings.load_profile("pyvospace")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for this process; `with postgres_server.clone() as name` gives further databases."""
    with postgres.postgres_server() as server:
        yield server


@pytest.fixture
def database_name(postgres_server: PostgresServer) -> Iterator[str]:
    """A fresh database with all migrations, dropped after the test."""
    with postgres_server.clone() as name:
        yield name


@pytest.fixture
def database_dsn(postgres_server: PostgresServer, database_name: str) -> str:
    """How a metadata server reaches it."""
    return postgres_server.dsn(database_name)


@pytest.fixture
def storage_dsn(postgres_server: PostgresServer, database_name: str) -> str:
    """How a storage server reaches it."""
    return postgres_server.dsn(database_name, STORAGE_ROLE)


@pytest.fixture
def database_settings(database_dsn: str, storage_dsn: str, tmp_path: Path) -> Settings:
    """Settings with it, for servers whose bytes are below the temporary directory of the test."""
    return Settings.model_validate(
        {
            # The server of the tests is quick and would not survive a power cut.
            "database": {"dsn": database_dsn, "storage_dsn": storage_dsn, "check_durability": False},
            "storage": {"path": tmp_path / "storage", "reserve": 0.0},
        }
    )


@pytest.fixture
async def database(database_dsn: str, database_settings: Settings) -> AsyncIterator[Database]:
    """Connections to it."""
    connected = await Database.connect(database_dsn, database_settings.database)
    yield connected
    await connected.close()


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """A temporary directory that every account may enter, for data of `pyvospace up`."""
    with postgres.reachable_directory() as path:
        yield path


@pytest.fixture(scope="session")
def pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both servers, running, for tests that leave them as they are; each test works below a folder of its own."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path_factory.mktemp("pair"), storage_dsn=storage_dsn) as running:
            yield running


@pytest.fixture(scope="session")
def cut_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CutPair]:
    """The same, with a proxy before the storage servers that cuts connections when a test says so."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_cut_pair(dsn, storage_dsn, tmp_path_factory.mktemp("cut")) as running:
            yield running
