"""Whether costs stay flat: every operation in a small space and in a large one, in turn.

    python -m benchmarks.scale --folder FOLDER [--nodes 10000000] [--times 200] [--churn 300] [--json FILE]

Two spaces are filled (`benchmarks.scale_fill`), each with a PostgreSQL of its own that has the same settings, and are
asked the same, one request here and one there, so that whatever else the machine does meets both. For each operation
it gives the latency (median and 99th percentile), the CPU time of PostgreSQL, and what its statements touched and
wrote; at the end the bytes per node of each table and index. What FOLDER holds stays and is filled further by the next
run, so that ten million nodes (7 GB, and ten minutes) are made once. In the end clients churn the large space
(`benchmarks.scale_churn`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import psutil

from benchmarks import arguments
from benchmarks.scale_churn import churn
from benchmarks.scale_fill import TOP, fill
from benchmarks.scale_operations import LIMITED, PLAIN, TREES, Operation, Target
from benchmarks.scale_report import WANTED, line, section, text
from benchmarks.systems import Space, space
from pyvospace.db import usage
from pyvospace.db.usage import Subject
from pyvospace.supervisor.data import SUPERUSER, DataDirectory

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection as PoolConnection

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

Say: TypeAlias = Callable[[str], None]

SMALL = 10_000
_SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "max_wal_size": "8GB",
    "track_io_timing": "on",
}
"""Of both PostgreSQLs: what an operator of ten million nodes would set."""
_TOUCHED = """
select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float as buffers,
       coalesce(sum(shared_blks_read), 0)::float as read, coalesce(sum(wal_bytes), 0)::float as wal,
       coalesce(sum(total_exec_time + total_plan_time), 0)::float as milliseconds
  from pg_stat_statements
 where query !~ 'pg_stat_statements'
"""
_NODES = "select reltuples::bigint from pg_class where relname = 'nodes'"
_SIZES = """
select t.relname as "table", greatest(t.reltuples, 0)::float as rows, pg_relation_size(t.oid) as heap,
       pg_table_size(t.oid) - pg_relation_size(t.oid) as beside,
       coalesce((select json_object_agg(i.relname, pg_relation_size(i.oid) order by i.relname)
                   from pg_index x join pg_class i on i.oid = x.indexrelid where x.indrelid = t.oid), '{}') as indexes
  from pg_class t
 where t.relnamespace = 'public'::regnamespace and t.relkind = 'r'
 order by pg_total_relation_size(t.oid) desc
"""


@dataclass(slots=True)
class Costs:
    """What an operation cost in one space, for each time."""

    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0
    """Of PostgreSQL, in seconds, all times together."""
    touched: dict[str, float] = field(default_factory=dict)

    def told(self) -> dict[str, float]:
        """Give the figures."""
        times = len(self.seconds)
        ranked = sorted(self.seconds)
        return {
            "times": times,
            "median_ms": 1000 * statistics.median(ranked),
            "p99_ms": 1000 * ranked[min(times - 1, int(0.99 * times))],
            "postgres_cpu_ms": 1000 * self.cpu / times,
            "buffers": self.touched["buffers"] / times,
            "buffers_from_outside": self.touched["read"] / times,
            "wal_bytes": self.touched["wal"] / times,
            "statements_ms": self.touched["milliseconds"] / times,
        }


class Side:
    """One of the two spaces, with what it takes to look into its PostgreSQL."""

    def __init__(self, target: Target, statistics_of: Connection) -> None:
        self.target = target
        self.statistics = statistics_of

    async def begin(self) -> dict[int, int]:
        """Forget what was counted; give the CPU time of each process of PostgreSQL."""
        for connection in (self.target.meta, self.target.storage):
            connection.close()  # idle for so long that the server may be about to do so
        await self.statistics.execute("select pg_stat_statements_reset()")
        return self._cpu()

    async def end(self, costs: Costs, before: dict[int, int]) -> None:
        """Note what was used since."""
        after = self._cpu()
        costs.cpu = sum(spent - before.get(process, 0) for process, spent in after.items()) / 1e9
        row = await self.statistics.fetchrow(_TOUCHED)
        assert row
        costs.touched = dict(row)

    def _cpu(self) -> dict[int, int]:
        """Give the nanoseconds that each process of PostgreSQL has run, autovacuum left out: it comes when it comes."""
        found = {}
        for process in self.target.space.processes()["postgres"]:
            for one in (process, *_children(process)):
                with contextlib.suppress(OSError, psutil.Error):
                    if any("autovacuum worker" in word for word in one.cmdline()):
                        continue
                    found[one.pid] = int(Path(f"/proc/{one.pid}/schedstat").read_text().split()[0])
        return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return process.children()
    return []


async def compare(operation: Operation, sides: Sequence[Side], times: int) -> list[Costs]:
    """Do it in each space in turn, so many times."""
    costs = [Costs() for _ in sides]
    before = [await side.begin() for side in sides]
    for _ in range(max(3, int(times * operation.share))):
        for side, cost in zip(sides, costs, strict=True):
            act = await operation.begin(side.target)
            begun = time.perf_counter()
            await act()
            cost.seconds.append(time.perf_counter() - begun)
    for side, cost, seen in zip(sides, costs, before, strict=True):
        await side.end(cost, seen)
    return costs


async def _measure(
    spaces: Sequence[Space], folders: Sequence[Path], nodes: Sequence[int], times: int, say: Say
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        sides = [
            await _side(one, folder, number, stack, say)
            for one, folder, number in zip(spaces, folders, nodes, strict=True)
        ]
        operations = {one.name: await _compared(one, sides, times, say) for one in (*PLAIN, *TREES)}
        for side in sides:
            await stack.enter_async_context(_quotas(side.target))
        operations |= {one.name: await _compared(one, sides, times, say) for one in LIMITED}
        return {
            "nodes": [await side.statistics.fetchval(_NODES) for side in sides],
            "operations": operations,
            "sizes": _per_node([dict(row) for row in await sides[-1].statistics.fetch(_SIZES)]),
        }


async def _side(one: Space, folder: Path, nodes: int, stack: AsyncExitStack, say: Say) -> Side:
    """Fill a space as far as it is not filled, and connect to it."""
    user = one.home.rsplit("/", 1)[-1]
    units = await fill(one.dsn, user, nodes, say=say)
    connection = await asyncpg.connect(superuser(folder), command_timeout=600)
    stack.push_async_callback(connection.close)
    await _warm(connection)
    return Side(await Target.open(one, units, user, stack), connection)


async def _compared(operation: Operation, sides: Sequence[Side], times: int, say: Say) -> dict[str, Any]:
    found = _ratios(*(costs.told() for costs in await compare(operation, sides, times)))
    say(line(operation.name, found))
    return found


async def _warm(connection: Connection) -> None:
    """Have tables and indexes in memory, as far as they have room there: disks are not what is compared."""
    for extension in ("pg_stat_statements", "pg_prewarm"):
        await connection.execute(f"create extension if not exists {extension}")
    await connection.execute(
        "select pg_prewarm(oid) from pg_class"
        " where relnamespace = 'public'::regnamespace and relkind in ('r', 'i') order by relname <> 'nodes', relname"
    )


@contextlib.asynccontextmanager
async def _quotas(at: Target) -> AsyncIterator[None]:
    """Have a quota of the container of everything, and one of the user, which nobody comes near to."""
    top = await at.stored((TOP,))
    subjects = (Subject(container=top.id), Subject(user=at.caller.id))
    await _limit(at, subjects, bytes=10**18, nodes=10**12)
    yield
    await _limit(at, subjects, bytes=None, nodes=None)


async def _limit(at: Target, subjects: Sequence[Subject], **most: int | None) -> None:
    for subject in subjects:

        async def work(connection: PoolConnection, subject: Subject = subject) -> None:
            await usage.set_quota(connection, subject, bytes=most["bytes"], nodes=most["nodes"])

        await at.database.transact(work)


def _ratios(small: dict[str, float], large: dict[str, float]) -> dict[str, Any]:
    names = ("median_ms", "p99_ms", "postgres_cpu_ms", "buffers")
    ratios = {name: large[name] / small[name] if small[name] else 1.0 for name in names}
    return {
        "small": small,
        "large": large,
        "ratios": ratios,
        "flat": ratios["median_ms"] <= WANTED and ratios["p99_ms"] <= WANTED,
    }


def _per_node(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Say how large tables and indexes are, for each node and for each row."""
    number = next(one["rows"] for one in tables if one["table"] == "nodes")
    found = []
    for one in tables:
        sizes = {"heap": one["heap"], "beside": one["beside"], **json.loads(one["indexes"])}
        per_node = {name: size / number for name, size in sizes.items()}
        if sum(per_node.values()) >= 1:
            row = {"table": one["table"], "rows": one["rows"], "bytes": sum(sizes.values()), "per_node": per_node}
            found.append(row | {"per_row": sum(sizes.values()) / max(1.0, one["rows"])})
    return found


def superuser(folder: Path) -> str:
    """Give the DSN with which to look at the database of a space that runs in a folder."""
    known = DataDirectory(folder / "space").cluster()
    assert known
    return known.dsn(SUPERUSER)


@contextlib.contextmanager
def tuned(folder: Path, memory: str = "256MB") -> Iterator[Space]:
    """Run a space in a folder, with a PostgreSQL that counts its statements; a new one has so much memory."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    if not (folder / "space" / "access.env").exists():
        with space(folder):
            asyncio.run(_set(superuser(folder), {**_SETTINGS, "shared_buffers": memory}))
    with space(folder) as running:
        yield running


async def _set(dsn: str, settings: dict[str, str]) -> None:
    connection = await asyncpg.connect(dsn)
    for name, value in settings.items():
        statement = await connection.fetchval(
            "select format('alter system set %I = %L', $1::text, $2::text)", name, value
        )
        await connection.execute(statement)
    await connection.close()


def measure(
    folder: Path,
    *,
    nodes: int = 100_000,
    small: int = SMALL,
    times: int = 50,
    memory: str = "256MB",
    churned: float = 20.0,
    filled: str = "",
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Fill both spaces, measure every operation in turn, let clients churn; give what a report shows.

    Parameters
    ----------
    memory
        shared_buffers of each PostgreSQL, when it is made.
    churned
        Seconds of churn; 0: none.
    filled
        Where the large space is that was filled before, and stays; it is filled further if need be.
    """
    place = Path(filled or folder)
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Always a new one: what earlier runs have left behind is nothing in the large space, and much in this one.
        new = stack.enter_context(tempfile.TemporaryDirectory(prefix="small-", dir=place))
        folders = [Path(new), place / "large"]
        spaces = [stack.enter_context(tuned(one, memory)) for one in folders]
        found = asyncio.run(_measure(spaces, folders, (small, nodes), times, say))
        if churned:
            at_superuser = superuser(folders[-1])
            found["churn"] = asyncio.run(churn(spaces[-1], at_superuser, seconds=churned, wait=min(90, churned)))
    return section(found)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where both spaces are, or shall be")
    parser.add_argument("--nodes", type=arguments.count, default=10_000_000, help="of the large space")
    parser.add_argument("--times", type=arguments.count, default=200, help="how often each operation is done")
    parser.add_argument("--churn", type=float, default=300.0, help="seconds of churn at the end; 0: none")
    parser.add_argument("--memory", default="6GB", help="shared_buffers of each PostgreSQL, when it is made")
    parser.add_argument("--json", type=arguments.file, help="write all figures to this file")
    options = parser.parse_args()
    if options.folder.exists() and not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    say = partial(print, flush=True)
    report = measure(
        options.folder,
        nodes=options.nodes,
        times=options.times,
        memory=options.memory,
        churned=options.churn,
        say=say,
    )
    print(text(report))
    if options.json:
        options.json.write_text(json.dumps(report["raw"], indent=2) + "\n")


if __name__ == "__main__":
    main()
