"""A generator: fill a space with any number of nodes, deep, wide and as people have them.

    python -m benchmarks.scale_fill --data DIR --nodes 10000000

It works on the database of a running `pyvospace up` (or at --dsn), in units of some 10,000 nodes, a transaction each:
it may be stopped at any moment and goes on with the next unit when it is run again. A unit is

* the folder of a user of its own: 8 projects of 10 runs of 100 files, of which one in a hundred is a link. Files have
  bytes (their rows name some; there are none), rights, and most of them properties;
* a chain of 100 containers in one another, with 9 files in each;
* 1,000 more children of one wide container, which has a tenth of all nodes in the end;
* 1,000 rows of the audit log, and 100 jobs that are over.

Triggers count what comes as ever, so that `pyvospace usage` finds nothing wrong, then or later.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import asyncpg

from benchmarks import arguments
from pyvospace.config import load
from pyvospace.supervisor.data import find_dsn
from pyvospace.supervisor.errors import SupervisorError

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

TOP = "scale"
"""Container in the root that holds it all."""
WIDE = "wide"
"""The wide container in it."""
GROUP = "observers"
"""Local group that may write everywhere in it."""
PROJECTS, RUNS, FILES, DEPTH, AT_LEVEL, IN_WIDE = 8, 10, 100, 100, 9, 1000
UNIT = 2 + PROJECTS * (1 + RUNS * (1 + FILES)) + DEPTH * (1 + AT_LEVEL) + IN_WIDE
"""Nodes of a unit."""

_CONTAINERS = """
with made as (
    insert into nodes (parent_id, name, type, owner_id, public, group_read, group_write, inherit)
    select parent, $2 || case when $3 = 1 then '' else ' ' || lpad(i::text, 2, '0') end, 'ContainerNode', $4,
           $5, '{}', array[$6::text], true
      from unnest($1::bigint[]) as parent, generate_series(1, $3) as i
    returning id, parent_id
), placed as (
    insert into containers (id, path)
    select m.id, c.path || m.id::text from made m join containers c on c.id = m.parent_id
)
select array_agg(id) from made
"""
_CHAIN = """
with step as materialized (
    select i, nextval(pg_get_serial_sequence('nodes', 'id')) as id from generate_series(1, $2) as i
), linked as (
    select i, id, coalesce(lag(id) over down, $1) as parent, string_agg(id::text, '.') over down as way
      from step window down as (order by i)
), made as (
    insert into nodes (id, parent_id, name, type, owner_id, group_write, inherit)
    select id, parent, 'level ' || lpad(i::text, 3, '0'), 'ContainerNode', $3, array[$4::text], true from linked
), placed as (
    insert into containers (id, path) select l.id, c.path || l.way::ltree from linked l, containers c where c.id = $1
)
select array_agg(id) from linked
"""
_FILES = """
insert into nodes (parent_id, name, type, owner_id, public, group_write, properties, target, size, md5, sha256,
                   storage_id, location, stored_by, created, changed, modified)
select parent, 'observation ' || lpad(($3::integer + i)::text, 7, '0') || '.fits',
       case when link then 'LinkNode' else 'DataNode' end,
       $4::bigint, $5, array[$6::text],
       case when i % 10 < 3 then '{}'
            when i % 10 < 8 then '{"ivo://ivoa.net/vospace/core#type": "application/fits"}'
            else jsonb_build_object('ivo://ivoa.net/vospace/core#type', 'application/fits',
                                    'ivo://ivoa.net/vospace/core#title', 'A night of observations, number ' || ($3 + i),
                                    'ivo://ivoa.net/vospace/core#date', '2026-11-21T00:00:00') end,
       case when link then 'vos://example.org~elsewhere/observation ' || i end,
       case when not link then (10 ^ (2 + 7 * random()))::bigint end,
       case when not link then decode(hash, 'hex') end, case when not link then sha256(convert_to(hash, 'UTF8')) end,
       case when not link then $7::integer end, case when not link then left(hash, 3) || '/' || hash end,
       case when not link then $4::bigint end, moment, moment, case when not link then moment end
  from unnest($1::bigint[]) as parent, generate_series(1, $2) as i,
       lateral (select i % 100 = 0 as link, md5(parent::text || ' ' || ($3 + i)) as hash,
                       now() - 1000 * random() * interval '1 day' as moment) as its
"""
_AUDIT = """
insert into audit (at, user_id, name, credential, remote, request, action, node_id, path, owner_id, details)
select now() - random() * interval '90 days', $2, $3, 'token 1', '192.0.2.1', md5(id::text), 'createNode', id,
       path_of(parent_id, name), $2, '{"type": "DataNode"}'
  from nodes where parent_id = any ($1::bigint[]) limit 1000
"""
_JOBS = """
insert into jobs (id, owner_id, phase, request, node_id, parent_id, name, created, started, ended, destruction, kind)
select left(encode(sha256(convert_to(id::text, 'UTF8')), 'hex'), 40), $2, 'COMPLETED',
       '{"target": "vos://example.org~space/scale", "protocols": [{"uri": "ivo://ivoa.net/vospace/core#httpput"}]}', id,
       parent_id, name, now(), now(), now(), now() + interval '30 days', 'push'
  from nodes where parent_id = any ($1::bigint[]) limit 100
"""


class Filling:
    """The work on one space."""

    def __init__(self, connection: Connection, group: str, top: int, wide: int, storage: int) -> None:
        self._connection = connection
        self._group = group
        self._top = top
        self._wide = wide
        self._storage = storage

    @classmethod
    async def begin(cls, connection: Connection, user: str) -> Filling:
        """Find what all units share, or make it: the group with `user` in it and the two containers, which are his."""
        async with connection.transaction():
            owner = await connection.fetchval("select id from users where name = $1", user)
            storage = await connection.fetchval("select min(id) from storages")
            if owner is None or storage is None:
                raise RuntimeError(f"there is no user {user}, or no storage")
            group = await _group(connection, owner)
            top = await _container(connection, 1, TOP, owner, group)
            return cls(connection, group, top, await _container(connection, top, WIDE, owner, group), storage)

    async def units(self) -> int:
        """Count the units that are there."""
        last = await self._connection.fetchval(
            "select max(name) from nodes where parent_id = $1 and name like 'unit %'", self._top
        )
        return int(last.removeprefix("unit ")) if last else 0

    async def add(self, number: int) -> None:
        """Make one unit."""
        async with self._connection.transaction():
            await self._connection.execute("set local synchronous_commit = off")
            name = f"astronomer{number:06}"
            owner = await self._connection.fetchval("insert into users (name) values ($1) returning id", name)
            [home] = await self._containers([self._top], f"unit {number:06}", 1, owner, public=number % 2 == 0)
            projects = await self._containers([home], "project", PROJECTS, owner, public=number % 2 == 0)
            runs = await self._containers(projects, "run", RUNS, owner, public=number % 2 == 0)
            await self._files(runs, FILES, 0, owner, public=number % 2 == 0)
            [deep] = await self._containers([home], "deep", 1, owner, public=False)
            chain = await self._connection.fetchval(_CHAIN, deep, DEPTH, owner, self._group)
            await self._files(chain, AT_LEVEL, 0, owner, public=False)
            await self._files([self._wide], IN_WIDE, IN_WIDE * (number - 1), owner, public=True)
            await self._connection.execute(_AUDIT, runs, owner, name)
            await self._connection.execute(_JOBS, runs, owner)

    async def _containers(self, above: list[int], name: str, number: int, owner: int, *, public: bool) -> list[int]:
        found: list[int] = await self._connection.fetchval(_CONTAINERS, above, name, number, owner, public, self._group)
        return found

    async def _files(self, above: list[int], number: int, behind: int, owner: int, *, public: bool) -> None:
        await self._connection.execute(_FILES, above, number, behind, owner, public, self._group, self._storage)


async def _group(connection: Connection, owner: int) -> str:
    there = await connection.fetchval("select id from groups where name = $1", GROUP)
    if there is None:
        there = await connection.fetchval(
            "insert into groups (name, owner_id) values ($1, $2) returning id", GROUP, owner
        )
        await connection.execute("insert into members (group_id, user_id) values ($1, $2)", there, owner)
    return str(await connection.fetchval("select group_prefixes[1] || $1::text from space", GROUP))


async def _container(connection: Connection, above: int, name: str, owner: int, group: str) -> int:
    there = await connection.fetchval("select id from nodes where parent_id = $1 and name = $2", above, name)
    if there is None:
        [there] = await connection.fetchval(_CONTAINERS, [above], name, 1, owner, True, group)
    return int(there)


async def fill(dsn: str, user: str, nodes: int, *, say: Callable[[str], None] = lambda _: None) -> int:
    """Fill up to `nodes`, in whole units; give the number of units that are there then."""
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    try:
        filling = await Filling.begin(connection, user)
        there, wanted, begun = await filling.units(), -(-nodes // UNIT), time.monotonic()
        for number in range(there + 1, wanted + 1):
            await filling.add(number)
            if number % 10 == 0:
                rate = (number - there) * UNIT / (time.monotonic() - begun)
                say(f"{number * UNIT:,} nodes, {rate:,.0f} a second")
        if wanted > there:
            await connection.execute("vacuum (analyze)")
        return max(there, wanted)
    finally:
        await connection.close()


def main() -> None:
    """Fill a space."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="database of a space; otherwise that of a running `pyvospace up`")
    parser.add_argument("--data", type=Path, help="its directory")
    parser.add_argument("--user", required=True, help="who shall own the containers and may write everywhere in them")
    parser.add_argument("--nodes", type=arguments.count, default=10_000_000)
    options = parser.parse_args()
    try:
        dsn = options.dsn or find_dsn(load(None), options.data)
    except SupervisorError as error:
        parser.error(str(error))
    asyncio.run(fill(dsn, options.user, options.nodes, say=partial(print, flush=True)))


if __name__ == "__main__":
    main()
