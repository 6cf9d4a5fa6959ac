"""What is watched during a soak: memory, open files, the database; and whether any of it grows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import asyncpg
import psutil

from benchmarks.systems import Space
from benchmarks.workers import servers

_MB = 1e6
_HOUR = 3600.0
_TABLES = """
select c.relname as name, pg_total_relation_size(c.oid) as bytes, coalesce(s.n_live_tup, 0) as live,
       coalesce(s.n_dead_tup, 0) as dead
  from pg_class c left join pg_stat_user_tables s on s.relid = c.oid
 where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
"""


@dataclass(frozen=True, slots=True)
class Size:
    """One process at one moment."""

    at: float
    part: str
    pid: int
    rss: float
    """MB."""
    pss: float
    """MB, its share of what it shares with others."""
    files: int


@dataclass(slots=True)
class History:
    """All that was seen."""

    sizes: list[Size] = field(default_factory=list)
    tables: list[tuple[float, dict[str, dict[str, int]]]] = field(default_factory=list)
    """When, and bytes, live and dead rows of each table."""

    def parts(self) -> list[str]:
        """Name the parts that were seen."""
        return sorted({one.part for one in self.sizes})

    def of(self, part: str, what: str) -> tuple[list[float], list[float]]:
        """Give times and the largest process of a part at each of them."""
        by_time: dict[float, list[float]] = {}
        for one in self.sizes:
            if one.part == part:
                by_time.setdefault(one.at, []).append(getattr(one, what))
        return list(by_time), [max(values) for values in by_time.values()]

    def growth(self, part: str, what: str) -> Growth:
        """Judge the process of a part that grew most, of those that lived for half of the time."""
        lives: dict[int, list[tuple[float, float]]] = {}
        for one in self.sizes:
            if one.part == part:
                lives.setdefault(one.pid, []).append((one.at, getattr(one, what)))
        span = max((one.at for one in self.sizes), default=0.0)
        long = [life for life in lives.values() if life[-1][0] - life[0][0] >= span / 2] or list(lives.values())
        return max((growth(*zip(*life, strict=True)) for life in long), key=lambda one: one.ratio)


@dataclass(frozen=True, slots=True)
class Growth:
    """How something was early (the second quarter of its time), late (the last), and what it gains in an hour."""

    early: float
    late: float
    hourly: float

    @property
    def ratio(self) -> float:
        """Late by early."""
        return self.late / self.early if self.early else 1.0


def growth(times: Sequence[float], values: Sequence[float]) -> Growth:
    """Compare quarters of a series; its first quarter, in which everything warms up, does not count."""
    quarter = max(1, len(values) // 4)
    early, late = values[quarter : 2 * quarter] or values, values[-quarter:]
    hourly = linear_regression(times[quarter:], values[quarter:]).slope * _HOUR if len(values) > quarter + 1 else 0.0
    return Growth(median(early), median(late), hourly)


async def watch(ours: Space, others: dict[str, int], start: float, until: float, history: History) -> None:
    """Look at everything again and again.

    Parameters
    ----------
    others
        Further processes to look at, by their names.
    """
    pause = max(1.0, min(15.0, (until - start) / 60))
    while time.monotonic() < until:
        at = time.monotonic() - start
        history.sizes += await asyncio.to_thread(lambda at=at: list(_sizes(ours, others, at)))  # type: ignore[misc]
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            history.tables.append((at, await tables(ours.dsn)))
        await asyncio.sleep(pause)


async def tables(dsn: str) -> dict[str, dict[str, int]]:
    """Give bytes, live and dead rows of each table."""
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        rows = await connection.fetch(_TABLES, timeout=10)
    finally:
        await connection.close(timeout=5)
    return {row["name"]: {key: row[key] for key in ("bytes", "live", "dead")} for row in rows}


def _sizes(ours: Space, others: dict[str, int], at: float) -> Iterable[Size]:
    found = {part: servers(ours, part) for part in ("metadata", "storage")}
    for part, pid in others.items():
        with contextlib.suppress(psutil.Error):
            found[part] = [psutil.Process(pid)]
    for part, processes in found.items():
        for one in processes:
            with contextlib.suppress(psutil.Error, OSError):
                yield Size(at, part, one.pid, one.memory_info().rss / _MB, _pss(one.pid), one.num_fds())
    yield from _backends(ours, at)


def _backends(ours: Space, at: float) -> Iterable[Size]:
    """Take all of PostgreSQL as one process, which has no pid: backends come and go."""
    pss, files = 0.0, 0
    for one in ours.process.children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            if one.name() == "postgres":
                pss += _pss(one.pid)
                files += one.num_fds()
    yield Size(at, "PostgreSQL", 0, pss, pss, files)


def _pss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / _MB
    return 0.0


def series_of_tables(history: History, most: int) -> list[dict[str, Any]]:
    """Give the sizes of the largest tables as lines of a plot, in MB."""
    if not history.tables:
        return []
    last = history.tables[-1][1]
    names = sorted(last, key=lambda name: -last[name]["bytes"])[:most]
    return [
        {
            "name": name,
            "x": [round(at, 1) for at, _ in history.tables],
            "y": [round(found.get(name, {}).get("bytes", 0) / _MB, 2) for _, found in history.tables],
        }
        for name in names
    ]
