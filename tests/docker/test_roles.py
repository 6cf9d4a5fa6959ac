"""roles.sh on a PostgreSQL that is as empty as the one of a new container."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from pyvospace.db.migrations import migrate
from pyvospace.supervisor.binaries import locate
from pyvospace.supervisor.data import DATABASE, STORAGE_ROLE, SUPERUSER, ClusterFile
from tests.docker.conftest import DOCKER
from tests.support.postgres import PostgresServer, postgres_server

PASSWORDS = {
    "METADATA_PASSWORD": "plain",
    "STORAGE_1_PASSWORD": "it's; drop role pyvospace; --",
    "STORAGE_2_PASSWORD": '"two" :metadata_password $1 \\',
}


@pytest.fixture(scope="module")
def empty_server() -> Iterator[PostgresServer]:
    """A server of its own, since roles are everybody's: without those that the tests bring."""
    with postgres_server() as server:
        server.execute(f"drop database {DATABASE} with (force)")
        server.execute(f"drop role {DATABASE}, {STORAGE_ROLE}, pyvospace_storage")
        yield server


@pytest.fixture(scope="module")
def cluster(empty_server: PostgresServer) -> ClusterFile:
    """The server after the script."""
    cluster = empty_server.cluster
    binaries = locate().folder
    subprocess.run(
        [DOCKER / "postgres/roles.sh"],
        env={
            **PASSWORDS,
            "PATH": f"{binaries}:{os.defpath}",
            "PGHOST": cluster.socket,
            "PGPORT": "5432",
            "PGPASSWORD": cluster.passwords[SUPERUSER],
            "POSTGRES_USER": SUPERUSER,
        },
        check=True,
    )
    return cluster


@contextlib.asynccontextmanager
async def connected(
    cluster: ClusterFile, user: str, password: str
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(
        host=cluster.socket, port=5432, database="pyvospace", user=user, password=password
    )
    try:
        yield connection
    finally:
        await connection.close()


async def test_the_tables_can_be_made_and_storage_servers_see_their_part(cluster: ClusterFile) -> None:
    await migrate(f"postgresql://pyvospace:plain@/pyvospace?host={cluster.socket}&port=5432")
    for number in (1, 2):
        password = PASSWORDS[f"STORAGE_{number}_PASSWORD"]
        async with connected(cluster, f"pyvospace_storage_{number}", password) as connection:
            assert await connection.fetch("select * from storage_api.space") == []
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("select * from public.nodes")


async def test_passwords_are_asked_for(cluster: ClusterFile) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        async with connected(cluster, "pyvospace_storage_1", "another"):
            pass
