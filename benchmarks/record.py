"""The record of a run: everything that was measured, as plain values that JSON can keep."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import resource
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from benchmarks import archives, elsewhere, jobs, measures, others, quota
from benchmarks.measures import Series, Setting
from benchmarks.scenario import Group, Scenario, as_json
from benchmarks.systems import bare, nginx, space
from benchmarks.targets import judged

FORMAT = 1
CPU = (
    ("getNode", 1.0), ("createNode", 1.5), (measures.PUSH_SMALL, 8.0), (measures.PULL_SMALL, 3.0),
    (measures.PUSH_LARGE, 5.0), (measures.PULL_LARGE, 1.0),
)  # fmt: skip
"""Most CPU milliseconds of servers and database that we promise for an operation, or for a MiB."""
_MEASURES: Mapping[Group, Callable[[Setting, Scenario], Awaitable[list[Series]]]] = {
    "nodes": lambda setting, _: measures.nodes(setting),
    "listings": lambda setting, scenario: measures.listings(setting, scenario.listings),
    "small files": lambda setting, _: measures.small_files(setting),
    "quota": lambda setting, _: quota.quota(setting),
    "jobs": lambda setting, scenario: jobs.jobs(setting, scenario.waiters),
    "archives": lambda setting, scenario: archives.archives(setting, scenario.archived),
    "large files": lambda setting, _: measures.large_files(setting),
    "elsewhere": lambda setting, _: elsewhere.elsewhere(setting),
}


def take(scenario: Scenario, folder: Path) -> dict[str, Any]:
    """Run a scenario on the disk of a folder."""
    record: dict[str, Any] = {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _machine(),
        "scenario": as_json(scenario),
        "measures": [],
        "targets": [],
        "cpu": [],
        "memory": {},
        "systems": [],
        "left_out": [],
    }
    with contextlib.ExitStack() as stack:
        setting = stack.enter_context(_pair(scenario, folder)) if scenario.pair else None
        if setting is not None:
            found = asyncio.run(_measured(setting, scenario))
            record |= _judged(found) | {"measures": [as_values(one) for one in found]}
        if scenario.systems:
            compared = others.measure(scenario, folder, setting.space if setting else None)
            record |= {"memory": compared.memory, "left_out": compared.left_out}
            record["systems"] = [as_values(one) for one in compared.series]
        if setting is not None:
            record["memory"] |= setting.space.memory()
            if setting.nginx is None:
                record["left_out"].append("ceilings of large files: nginx is not installed")
    record["memory"]["client"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return record


@contextlib.contextmanager
def _pair(scenario: Scenario, folder: Path) -> Iterator[Setting]:
    with (
        space(folder, workers=scenario.workers) as ours,
        bare(folder, ours.dsn, workers=scenario.workers) as bare_port,
        nginx(folder) as nginx_port,
    ):
        yield Setting(
            space=ours,
            bare=bare_port,
            nginx=nginx_port,
            folder=folder,
            seconds=scenario.seconds,
            rounds=scenario.rounds,
            concurrency=scenario.concurrency,
            large=scenario.large,
            warm_up=scenario.warm_up,
        )


async def _measured(setting: Setting, scenario: Scenario) -> list[Series]:
    found = []
    for group in scenario.groups:
        found += await _MEASURES[group](setting, scenario)
    return found


def _judged(found: list[Series]) -> dict[str, Any]:
    by_name = {one.name: one for one in found}
    return {
        "targets": judged({name: one.median for name, one in by_name.items()}, _costs(found)),
        "cpu": [
            {"of": of, "milliseconds": median(by_name[of].cpu), "promised": most}
            for of, most in CPU
            if of in by_name and by_name[of].cpu
        ],
    }


def _costs(found: list[Series]) -> dict[str, float]:
    """Give the CPU milliseconds of all servers for one operation, of those that are measured by operations."""
    return {
        one.name: sum(median(values) for part, values in one.shares.items() if part != "client")
        for one in found
        if one.unit == "1/s"
    }


def as_values(series: Series) -> dict[str, Any]:
    """Give a series with its median, its spread, and what one operation (MiB, listing) costs whom."""
    costs = {part: median(values) for part, values in series.shares.items()}
    return {
        "name": series.name,
        "system": series.system,
        "unit": series.unit,
        "values": series.values,
        "median": series.median,
        "quartiles": _quartiles(series.values),
        "latency_ms": {"p50": median(series.p50), "p99": median(series.p99)} if series.p50 else {},
        "cpu_ms": {part: cost for part, cost in costs.items() if cost > 0},
    }


def _quartiles(values: list[float]) -> list[float]:
    if len(values) == 1:
        return values * 2
    first, _, third = quantiles(values, method="inclusive")
    return [first, third]


def _commit() -> str:
    git = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    return ""


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "memory": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "")
    return ""
