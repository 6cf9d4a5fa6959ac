"""A pair that speaks SFTP too."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.pair import Pair, free_ports, running_pair
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def sftp_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both servers, running; the storage server gives endpoints for SFTP."""
    port = free_ports(1)[0]
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        environment = {"PYVOSPACE_STORAGE__PROTOCOLS": json.dumps({"sftp": {"port": port}})}
        data = tmp_path_factory.mktemp("sftp")
        with running_pair(dsn, data, storage_dsn=storage_dsn, environment=environment) as running:
            yield running
