"""One command: run the pair beside its ceilings and print ratios with medians.

    python -m benchmarks.run [--quick] [--workers N] [--rounds N] [--seconds S] [--large BYTES] [--json FILE]

It measures on the disk of --folder (default: the working directory). Quote ratios and medians: single figures depend
on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks import archives, elsewhere, jobs, measures, quota
from benchmarks.measures import Series, Setting
from benchmarks.systems import bare, nginx, scratch, space

RATIOS = (
    ("getNode", "bare handler, one prepared query", 0.5),
    ("createNode", "bare handler, one INSERT and commit", 0.4),
    ("push of a large file", "the slower of nginx DAV PUT with fsync and MD5", 0.6),
    ("pull of a large file", "nginx static GET", 0.9),
    (elsewhere.PULLED, elsewhere.CURLED, 0.3),
    (archives.PACKED, archives.GNU_PACKED, 0.2),
    (jobs.COMPLETED, jobs.BARE, 0.1),
    (jobs.BARE_SOON, jobs.SOON, 0.15),
    (jobs.BARE_LATE, jobs.LATE, 0.1),
    (quota.UPLOADS, quota.FREE_UPLOADS, 0.8),
    (quota.CREATED, quota.FREE_CREATED, 0.7),
)
"""Ours, its ceiling, and the least ratio that we promise; of times, the ceiling is first."""
CPU = (
    ("getNode", 1.0), ("createNode", 1.5), ("push of 1 KiB (POST, details, PUT)", 8.0),
    ("pull of 1 KiB (POST, details, GET)", 3.0), ("push of a large file", 5.0), ("pull of a large file", 1.0),
)  # fmt: skip
"""Most CPU milliseconds that we promise for an operation, or for a MiB."""


def main() -> None:
    """Measure and report."""
    options = _options()
    with (
        scratch(options.folder) as folder,
        space(folder, workers=options.workers) as ours,
        bare(folder, ours.dsn) as bare_port,
        nginx(folder) as nginx_port,
    ):
        setting = Setting(
            space=ours,
            bare=bare_port,
            nginx=nginx_port,
            folder=folder,
            seconds=options.seconds,
            rounds=options.rounds,
            concurrency=options.concurrency,
            large=options.large,
        )
        found = asyncio.run(_measure(setting, options))
        memory = ours.memory()
    report = _report(found, memory, options)
    print(_text(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure this server beside its ceilings.")
    parser.add_argument("--quick", action="store_true", help="short rounds and small files: does it work?")
    parser.add_argument("--workers", type=int, default=1, help="processes of each server")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="length of a round")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--large", type=int, help="bytes of a large file")
    parser.add_argument("--folder", type=Path, help="where to measure (a folder on the disk in question)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    quick = options.quick
    options.rounds = options.rounds or (1 if quick else 5)
    options.seconds = options.seconds or (0.3 if quick else 4.0)
    options.large = options.large or (8 << 20 if quick else 1 << 30)
    options.waiters = 100 if quick else 1000
    options.archived = 100 if quick else 10_000
    options.listings = (10, 1000) if quick else (10, 1000, 100_000)
    return options


async def _measure(setting: Setting, options: argparse.Namespace) -> list[Series]:
    found = await measures.nodes(setting)
    found += await measures.listings(setting, options.listings)
    found += await measures.small_files(setting)
    found += await quota.quota(setting)
    found += await jobs.jobs(setting, options.waiters)
    found += await archives.archives(setting, options.archived)
    found += await measures.large_files(setting)
    return found + await elsewhere.elsewhere(setting)


def _report(found: list[Series], memory: dict[str, float], options: argparse.Namespace) -> dict[str, object]:
    by_name = {one.name: one for one in found}
    slower = [by_name[name].median for name in ("nginx DAV PUT and fsync", "MD5 in memory") if name in by_name]
    ceilings = {name: one.median for name, one in by_name.items()}
    ceilings["the slower of nginx DAV PUT with fsync and MD5"] = min(slower)
    return {
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "options": {name: str(value) for name, value in vars(options).items()},
        "series": [asdict(one) | {"median": one.median} for one in found],
        "ratios": [
            {"of": of, "to": to, "ratio": by_name[of].median / ceilings[to], "promised": least}
            for of, to, least in RATIOS
            if to in ceilings
        ],
        "cpu": [{"of": of, "milliseconds": measures.median(by_name[of].cpu), "promised": most} for of, most in CPU],
        "memory": memory,
    }


def _text(report: dict[str, object]) -> str:
    lines = [f"{'':44} {'median':>10} {'min':>10} {'max':>10}"]
    for one in report["series"]:  # type: ignore[attr-defined]
        values = one["values"]
        row = f"{one['median']:10,.0f} {min(values):10,.0f} {max(values):10,.0f}"
        lines.append(f"{one['name']:44} {row} {one['unit']}")
    lines += ["", f"{'ratio of medians':86} {'is':>6} {'promised':>9}"]
    for one in report["ratios"]:  # type: ignore[attr-defined]
        lines.append(f"{one['of'] + ' / ' + one['to']:86} {one['ratio']:6.2f} {one['promised']:9.2f}")
    lines += ["", f"{'CPU of servers and database, ms for an operation or a MiB':86} {'is':>6} {'promised':>9}"]
    for one in report["cpu"]:  # type: ignore[attr-defined]
        lines.append(f"{one['of']:86} {one['milliseconds']:6.2f} {one['promised']:9.2f}")
    lines += ["", "largest resident size of a process, MB"]
    lines += [f"{name:86} {size:6.0f}" for name, size in report["memory"].items()]  # type: ignore[attr-defined]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
