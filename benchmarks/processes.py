"""Push of small files with more and more storage processes.

    python -m benchmarks.processes [--processes 1,2,4,8] [--rounds N] [--seconds S] [--folder FOLDER]

The negotiation is counted; there are two processes of the metadata server each time.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from statistics import median

from benchmarks.measures import Setting, small_files
from benchmarks.systems import scratch, space


def main() -> None:
    """Measure, and print a line for each number."""
    parser = argparse.ArgumentParser(description="Push small files to more and more storage processes.")
    parser.add_argument("--processes", default="1,2,4,8", help="numbers, with commas between them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where to measure (a folder on the disk in question)")
    options = parser.parse_args()
    first = None
    for number in map(int, options.processes.split(",")):
        rate = _measure(number, options)
        first = first or rate
        print(f"{number} storage processes: {rate:6.0f} pushes of 1 KiB a second, {rate / first:.2f} times the first")


def _measure(number: int, options: argparse.Namespace) -> float:
    environment = {"PYVOSPACE_STORAGE__WORKERS": str(number), "PYVOSPACE_METADATA__WORKERS": "2"}
    with scratch(options.folder) as folder, space(folder, workers=None, **environment) as ours:
        setting = Setting(
            space=ours,
            bare=0,
            nginx=None,
            folder=folder,
            seconds=options.seconds,
            rounds=options.rounds,
            concurrency=options.concurrency,
            large=0,
        )
        pushes, *_ = asyncio.run(small_files(setting))
        return median(pushes.values)


if __name__ == "__main__":
    main()
