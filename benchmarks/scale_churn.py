"""A day's churn in a filled space, in minutes: what it leaves in tables and indexes, and what autovacuum makes of it.

A part of `benchmarks.scale`: some clients create, push, overwrite, change, move and delete, all over the space; what
PostgreSQL says of its tables before, at the end, and after autovacuum had its turn is told beside each other. Most of a
day's share of changes is made by statements that change a hundred nodes each: clients would need a day.
`pgstattuple` looks at every page of the indexes, so that this takes a while.
"""

from __future__ import annotations

import asyncio
import collections
import random
import time
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import asyncpg

from benchmarks import scale_operations as of
from benchmarks.scale_fill import fill
from benchmarks.scale_operations import Target
from benchmarks.systems import Space

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_SHARES = (
    (of.push, 25), (of.store, 20), (of.create_node, 15), (of.set_node, 15), (of.delete_node, 20), (of.move_leaf, 5),
)  # fmt: skip
"""What clients do, and how often: of a hundred operations, so many."""
_DAY, _AT_ONCE = 0.01, 100
"""Share of all nodes that changes in a day; nodes that one statement changes."""
_SOME = "select array(select (2 + random() * $1)::bigint from generate_series(1, $2))"
_CHANGES = {
    "created": """
        insert into nodes (parent_id, name, type, owner_id, public, group_write)
        select parent_id, 'day ' || gen_random_uuid(), 'DataNode', owner_id, public, group_write
          from nodes where id = any ($1::bigint[]) and type = 'DataNode'""",
    "overwritten": """
        with other as (
            update nodes n set location = left(o.hash, 3) || '/' || o.hash, modified = now(), changed = now()
              from (select b.id, b.storage_id, b.location, replace(gen_random_uuid()::text, '-', '') as hash
                      from nodes b where b.id = any ($1::bigint[]) and b.location is not null) o
             where n.id = o.id
            returning o.storage_id, o.location
        )
        insert into obsolete (storage_id, location) select storage_id, location from other on conflict do nothing""",
    "set": """
        update nodes set properties = properties || jsonb_build_object('ivo://ivoa.net/vospace/core#title', now()),
                         changed = now()
         where id = any ($1::bigint[]) and type = 'DataNode'""",
    "deleted": """
        with gone as (
            delete from nodes where id = any ($1::bigint[]) and type <> 'ContainerNode' returning storage_id, location
        )
        insert into obsolete (storage_id, location) select storage_id, location from gone where location is not null
        on conflict do nothing""",
}
_WATCHED = ("nodes", "containers", "jobs", "writers", "obsolete", "usage", "usage_changes", "audit")
_COUNTED = """
select relname as "table", n_live_tup as live, n_dead_tup as dead, n_tup_upd as updates, n_tup_hot_upd as hot,
       autovacuum_count as vacuums, autoanalyze_count as analyses, pg_relation_size(relid) / 1e6::float as megabytes
  from pg_stat_user_tables where relname = any ($1::text[]) order by relname
"""
_HEAPS = """
select t.name as "table", s.dead_tuple_percent::float as dead, s.approx_free_percent::float as free
  from unnest($1::text[]) as t (name), pgstattuple_approx(t.name::regclass) s
"""
_INDEXES = """
select i.relname as "index", pg_relation_size(i.oid) / 1e6::float as megabytes, s.avg_leaf_density::float as density,
       s.deleted_pages::float as deleted
  from pg_index x
  join pg_class i on i.oid = x.indexrelid
  join pg_class t on t.oid = x.indrelid,
       pgstatindex(i.oid::regclass) s
 where t.relname = any ($1::text[]) and pg_relation_size(i.oid) > 8192
 order by t.relname, i.relname
"""
_STATEMENTS = """
select left(regexp_replace(query, '[[:space:]]+', ' ', 'g'), 100) as statement, calls, mean_exec_time as milliseconds,
       (shared_blks_hit + shared_blks_read) / calls as pages
  from pg_stat_statements where calls > 1 order by total_exec_time desc limit 25
"""


async def _look(connection: Connection) -> dict[str, Any]:
    """Say how tables and indexes are."""
    heaps = {row["table"]: dict(row) for row in await connection.fetch(_HEAPS, _WATCHED)}
    return {
        "tables": {
            row["table"]: dict(row) | heaps[row["table"]] | {"rows_dead": row["dead"]}
            for row in await connection.fetch(_COUNTED, _WATCHED)
        },
        "indexes": {row["index"]: dict(row) for row in await connection.fetch(_INDEXES, _WATCHED)},
    }


async def _work(at: Target, until: float, done: collections.Counter[str]) -> None:
    operations, shares = zip(*_SHARES, strict=True)
    while time.monotonic() < until:
        [begin] = at.chance.choices(operations, shares)
        if begin is of.delete_node and not at.made:
            continue
        try:
            await (await begin(at))()
            done[begin.__name__] += 1
        except RuntimeError as error:  # two clients met at one node
            done[str(error)[:3]] += 1


async def _day(dsn: str, done: collections.Counter[str]) -> None:
    """Change a day's share of all nodes, anywhere, in equal parts by each of the changes."""
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off", "synchronous_commit": "off"})
    last = await connection.fetchval("select max(id) from nodes")
    number = await connection.fetchval("select reltuples::bigint from pg_class where relname = 'nodes'")
    for _ in range(int(number * _DAY / _AT_ONCE / len(_CHANGES))):
        for name, statement in _CHANGES.items():
            some = await connection.fetchval(_SOME, last - 2, _AT_ONCE)
            done[name] += int((await connection.execute(statement, some)).rsplit(" ", 1)[1])
    await connection.close()


async def churn(one: Space, superuser: str, *, seconds: float, clients: int = 8, wait: float = 90) -> dict[str, Any]:
    """Let clients work on a filled space, and a day pass; say how its tables were before, after, and `wait` later."""
    async with AsyncExitStack() as stack:
        connection = await asyncpg.connect(superuser, command_timeout=3600)
        stack.push_async_callback(connection.close)
        await connection.execute("create extension if not exists pgstattuple")
        user = one.home.rsplit("/", 1)[-1]
        units = await fill(one.dsn, user, 0)
        targets = [await Target.open(one, units, user, stack) for _ in range(clients)]
        for number, at in enumerate(targets):
            at.chance = random.Random(time.time_ns() + number)
        before = await _look(connection)
        await connection.execute("select pg_stat_statements_reset()")
        done: collections.Counter[str] = collections.Counter()
        until = time.monotonic() + seconds
        await asyncio.gather(_day(one.dsn, done), *(_work(at, until, done) for at in targets))
        statements = [dict(row) for row in await connection.fetch(_STATEMENTS)]
        after = await _look(connection)
        await asyncio.sleep(wait)
        settled = await _look(connection)
    moments = {"before": before, "after": after, "settled": settled}
    return {"operations": dict(done), "seconds": seconds, "statements": statements, **moments}
