"""The fixtures themselves: every other test rests on them."""

import asyncpg
import pytest

from pyvospace.db.pool import Database
from tests.support.postgres import PostgresServer


async def test_each_test_has_a_database_of_its_own(database: Database, postgres_server: PostgresServer) -> None:
    await database.fetchrow("create table mark ()")
    with postgres_server.clone() as name:
        connection = await asyncpg.connect(postgres_server.dsn(name))
        assert await connection.fetchval("select to_regclass('mark')") is None
        assert await connection.fetchval("select to_regclass('nodes')") == "nodes"
        await connection.close()


async def test_storage_servers_have_a_role_of_their_own(storage_dsn: str) -> None:
    connection = await asyncpg.connect(storage_dsn)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetchval("select count(*) from public.nodes")
    await connection.close()
