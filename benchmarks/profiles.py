"""Where the time of an operation goes: functions of the servers by py-spy, statements by pg_stat_statements.

Profiles are taken of a space of their own, after everything has been measured, since looking costs time as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import measures
from benchmarks.http import Connection, drain_file, rate, send_file
from benchmarks.measures import Meter, Setting, SmallFiles, Worker, asker, container, creator, getter, negotiate
from benchmarks.systems import Space, scratch, space
from pyvospace.supervisor.data import SUPERUSER, DataDirectory

_CHILDREN = 100_000
_LARGE = 256 << 20
_TOP = 25
_STATEMENTS = """
    select query, toplevel, calls, total_exec_time + total_plan_time as ms, shared_blks_hit + shared_blks_read as blocks
      from pg_stat_statements
     where query not like '%pg_stat_statements%'
     order by 4 desc limit 25
"""


def take(parent: Path, names: Iterable[str], *, seconds: float, concurrency: int) -> dict[str, Any]:
    """Look into the servers while they do what these measures measure."""
    with scratch(parent) as folder, _observed(folder) as (ours, dsn):
        setting = Setting(
            space=ours,
            bare=0,
            nginx=None,
            folder=folder,
            seconds=seconds,
            rounds=1,
            concurrency=concurrency,
            large=_LARGE,
        )
        return {name: asyncio.run(_profile(setting, dsn, _WORK[name])) for name in names if name in _WORK}


@contextlib.contextmanager
def _observed(folder: Path) -> Iterator[tuple[Space, str]]:
    """Run a space whose database counts statements; give the superuser's DSN as well."""
    with space(folder):
        asyncio.run(_superuser(folder, "alter system set shared_preload_libraries = pg_stat_statements"))
        asyncio.run(_superuser(folder, "alter system set pg_stat_statements.track = 'all'"))
    with space(folder) as ours:
        asyncio.run(_superuser(folder, "create extension pg_stat_statements"))
        yield ours, _dsn(folder)


def _dsn(folder: Path) -> str:
    cluster = DataDirectory(folder / "space").cluster()
    if cluster is None:
        raise RuntimeError("no PostgreSQL of our own runs")
    return cluster.dsn(SUPERUSER)


async def _superuser(folder: Path, statement: str) -> None:
    connection = await asyncpg.connect(_dsn(folder))
    await connection.execute(statement)
    await connection.close()


async def _profile(setting: Setting, dsn: str, work: Callable[[Setting], Awaitable[list[Worker]]]) -> dict[str, Any]:
    workers = await work(setting)
    await rate(workers, 1.0)
    connection = await asyncpg.connect(dsn)
    await connection.execute("select pg_stat_statements_reset()")
    looking = asyncio.gather(*(_functions(setting, part) for part in ("metadata", "storage")))
    meter = Meter(setting.cpu)
    done, _ = await rate(workers, setting.seconds + 1)
    used = meter.read()
    rows = await connection.fetch(_STATEMENTS)
    await connection.close()
    functions = dict(zip(("metadata", "storage"), await looking, strict=True))
    return {
        "operations": done,
        "cpu_ms": {part: 1000 * seconds / done for part, seconds in used.items()},
        "functions": {part: found for part, found in functions.items() if found},
        "statements": [
            {
                "query": " ".join(row["query"].split())[:200],
                "inside": not row["toplevel"],
                "calls": row["calls"] / done,
                "ms": row["ms"] / done,
                "blocks": row["blocks"] / done,
            }
            for row in rows
        ],
    }


async def _functions(setting: Setting, part: str) -> list[dict[str, Any]]:
    """Sample the first process of a part; nothing without py-spy."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        return []
    target = setting.folder / f"{part}-{secrets.token_hex(4)}.raw"
    pid, seconds = setting.space.processes()[part][0].pid, max(1, round(setting.seconds))
    options = ("--pid", pid, "--duration", seconds, "--rate", 200, "--function", "--format", "raw", "--output", target)
    process = await asyncio.create_subprocess_exec(
        program, "record", *map(str, options), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    await process.wait()
    return top(target.read_text()) if target.exists() else []


_IDLE = (
    "_worker (concurrent/futures/thread.py",
    "EpollSelector.select (selectors.py",
    "Runner.run (asyncio/runners.py",
)
"""Who waits: for work, for the kernel, or in the loop of uvloop, which is no Python."""


def top(stacks: str) -> list[dict[str, Any]]:
    """Add up stacks (``caller;callee count`` in each line) by function, the busiest first; waiting is left out."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith(_IDLE):
            continue
        own[frames[-1]] += int(count)
        total.update(dict.fromkeys(frames, int(count)))
    samples = max(1, own.total())
    return [
        {"function": name, "self": count / samples, "total": total[name] / samples}
        for name, count in own.most_common(_TOP)
    ]


async def _get_nodes(setting: Setting) -> list[Worker]:
    path = await container(setting)
    return [asker(one, getter(setting, path), 200) for one in setting.connections(setting.space.port)]


async def _create_nodes(setting: Setting) -> list[Worker]:
    path = await container(setting)
    return [asker(one, creator(setting, path), 201) for one in setting.connections(setting.space.port)]


async def _list(setting: Setting) -> list[Worker]:
    path = await measures.filled(setting, _CHILDREN)
    connection = Connection("127.0.0.1", setting.space.port)
    return [asker(connection, lambda _: measures.lister(setting, path), 200)]


async def _pushes(setting: Setting, *, quick: bool = False) -> list[Worker]:
    files = SmallFiles(setting, await container(setting))
    return [files.push(*pair, quick=quick) for pair in setting.pairs()]


async def _pulls(setting: Setting, *, quick: bool = False) -> list[Worker]:
    files = SmallFiles(setting, await container(setting))
    await rate([files.push(*pair) for pair in setting.pairs()], 1.0)
    return [files.pull(*pair, quick=quick) for pair in setting.pairs()]


async def _large(setting: Setting) -> tuple[Connection, str, Path]:
    source = setting.folder / f"large-{secrets.token_hex(4)}"
    await asyncio.to_thread(measures.write_random, source, setting.large)
    return Connection("127.0.0.1", setting.space.port), await container(setting), source


async def _push_large(setting: Setting) -> list[Worker]:
    meta, path, source = await _large(setting)

    async def work(_: int) -> None:
        endpoint = await negotiate(setting, meta, f"{path}/large", "pushToVoSpace", "httpput")
        await asyncio.to_thread(send_file, "127.0.0.1", setting.space.storage_port, endpoint, source)

    return [work]


async def _pull_large(setting: Setting) -> list[Worker]:
    meta, path, source = await _large(setting)
    endpoint = await negotiate(setting, meta, f"{path}/large", "pushToVoSpace", "httpput")
    await asyncio.to_thread(send_file, "127.0.0.1", setting.space.storage_port, endpoint, source)

    async def work(_: int) -> None:
        place = await negotiate(setting, meta, f"{path}/large", "pullFromVoSpace", "httpget")
        await asyncio.to_thread(drain_file, "127.0.0.1", setting.space.storage_port, place, setting.large)

    return [work]


_WORK: Mapping[str, Callable[[Setting], Awaitable[list[Worker]]]] = {
    "getNode": _get_nodes,
    "createNode": _create_nodes,
    "listing of 100,000 children": _list,
    measures.PUSH_SMALL: _pushes,
    measures.QUICK_PUSH: partial(_pushes, quick=True),
    measures.PULL_SMALL: _pulls,
    measures.QUICK_PULL: partial(_pulls, quick=True),
    measures.PUSH_LARGE: _push_large,
    measures.PULL_LARGE: _pull_large,
}
"""What can be looked into, by the name of its measure."""
