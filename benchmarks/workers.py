"""Two workers beside one: what a second process of a server is worth.

    python -m benchmarks.workers [--numbers 1,2] [--share SHARE] [--rounds N] [--seconds S] [--json FILE]

Two spaces (or more), the one with one worker of each server, the other with two, are measured in turn. *Limited* gives
each worker of the server in question no more than a share of a core, so that clients, database and the other server
have room on any machine: that is what the design costs. *Raw* gives nobody a limit: what this machine has left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import psutil

from benchmarks import arguments
from benchmarks.http import Connection, rate, request
from benchmarks.measures import Setting, SmallFiles, Worker, asker, container
from benchmarks.shares import limited, missing
from benchmarks.systems import Space, scratch, space

Server = Literal["metadata", "storage"]
_WANTED = 1.8
_LIMITED, _ALIKE, _RAW = "limited", "limited, as many clients", "raw"
_OPERATIONS: tuple[tuple[str, Server], ...] = (
    ("getNode", "metadata"),
    ("createNode", "metadata"),
    ("push of 1 KiB", "storage"),
    ("pull of 1 KiB", "storage"),
)
"""What is measured, and the server whose workers are counted and limited."""


@dataclass(slots=True)
class _Measured:
    """A space with so many workers, and what is known of it."""

    setting: Setting
    workers: int
    folder: str
    files: SmallFiles
    rates: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    """CPU milliseconds of the server in question for one operation."""


def measure(
    folder: Path,
    *,
    numbers: Sequence[int] = (1, 2),
    share: float = 0.15,
    rounds: int = 5,
    seconds: float = 3.0,
    concurrency: int = 32,
) -> dict[str, Any]:
    """Measure spaces with so many workers in turn; give what a report shows, in ratios to the first of them."""
    why = missing()
    with contextlib.ExitStack() as stack:
        spaces = [_started(stack, folder, number, concurrency) for number in numbers]
        asyncio.run(_measure(spaces, rounds, seconds, None if why else share))
    ways = (_RAW,) if why else (_LIMITED, _ALIKE, _RAW)
    rows = [row for way in ways for operation, _ in _OPERATIONS for row in _rows(spaces, operation, way)]
    return {
        "title": "Two workers",
        "text": [
            _TEXT.format(share=share, clients=concurrency) + (f" Limited rows are missing: {why}." if why else "")
        ],
        "targets": [_target(row, share) for row in rows if (row[1], row[3]) in {(_LIMITED, 2), (_ALIKE, 2)}],
        "tables": [{"title": "Operations a second", "columns": list(_COLUMNS), "rows": rows}],
        "raw": {str(one.workers): {"rates": one.rates, "cpu_ms": one.cpu} for one in spaces},
    }


_TEXT = (
    "Spaces with one worker of each server and with more are measured in turn. *Limited*: each worker of the server in "
    "question has {share:g} of a core, so that clients, database and the other server have room, and there are "
    "{clients} clients for each worker. *As many clients*: {clients} in all, however many workers there are. What "
    "comes to a worker at the same time is done together, so that one that has fewer clients pays more for each. "
    "*Raw*: nobody is limited, {clients} clients share the machine with workers and database."
)
_COLUMNS = ("operation", "way", "server", "workers", "1/s", "ratio to the first", "CPU ms of the server")


def _rows(spaces: list[_Measured], operation: str, way: str) -> list[list[Any]]:
    key, server = f"{operation}, {way}", dict(_OPERATIONS)[operation]
    first = median(spaces[0].rates[key])
    return [
        [
            *(operation, way, server, one.workers, round(median(one.rates[key]))),
            *(round(median(one.rates[key]) / first, 2), round(median(one.cpu[key]), 2)),
        ]
        for one in spaces
    ]


def _target(row: list[Any], share: float) -> dict[str, Any]:
    operation, way, server, _, _, ratio, cost = row
    clients = "as many clients in all" if way == _ALIKE else "as many clients for each"
    limit = f"{share:g} of a core for each worker of the {server} server"
    return {
        "what": f"two workers / one: {operation}, {limit}, {clients}",
        "is": ratio,
        "wanted": _WANTED,
        "better": "more",
        "why": f"{cost} ms of CPU of the {server} server for one operation",
    }


def _started(stack: contextlib.ExitStack, folder: Path, number: int, concurrency: int) -> _Measured:
    place = folder / f"workers-{number}"
    place.mkdir()
    ours = stack.enter_context(space(place, workers=number))
    setting = Setting(
        space=ours, bare=0, nginx=None, folder=place, seconds=0, rounds=0, concurrency=concurrency, large=0
    )
    path = asyncio.run(container(setting))
    return _Measured(setting, number, path, SmallFiles(setting, path))


async def _measure(spaces: list[_Measured], rounds: int, seconds: float, share: float | None) -> None:
    for turn in range(rounds):
        for operation, server in _OPERATIONS:
            for one in spaces if turn % 2 else reversed(spaces):
                if share is not None:
                    with limited([each.pid for each in servers(one.setting.space, server)], share):
                        await _round(one, operation, server, _LIMITED, seconds)
                        await _round(one, operation, server, _ALIKE, seconds)
                await _round(one, operation, server, _RAW, seconds)


async def _round(one: _Measured, operation: str, server: Server, way: str, seconds: float) -> None:
    key, clients = f"{operation}, {way}", one.setting.concurrency
    setting = replace(one.setting, concurrency=clients * one.workers) if way == _LIMITED else one.setting
    meta, storage = (setting.connections(port) for port in (setting.space.port, setting.space.storage_port))
    workers = [_MAKERS[operation](one, *both) for both in zip(meta, storage, strict=True)]
    await rate(workers, seconds / 4)  # connections and plans are there
    before = _seconds(setting.space, server)
    done, took = await rate(workers, seconds)
    used = _seconds(setting.space, server) - before
    for connection in meta + storage:
        connection.close()
    one.rates.setdefault(key, []).append(done / took)
    one.cpu.setdefault(key, []).append(1000 * used / max(1, done))


def _get(one: _Measured, meta: Connection, _: Connection) -> Worker:
    message = request("GET", f"/nodes{one.folder}?limit=0", token=one.setting.space.token)
    return asker(meta, lambda _: message, 200)


def _create(one: _Measured, meta: Connection, _: Connection) -> Worker:
    def make(_: int) -> bytes:
        name = f"{one.folder}/{secrets.token_hex(8)}"
        return request("PUT", f"/nodes{name}", token=one.setting.space.token, body=one.setting.node(name, "DataNode"))

    return asker(meta, make, 201)


def _push(one: _Measured, meta: Connection, storage: Connection) -> Worker:
    return one.files.push(meta, storage)


def _pull(one: _Measured, meta: Connection, storage: Connection) -> Worker:
    return one.files.pull_by_path(meta, storage)


_MAKERS: dict[str, Callable[[_Measured, Connection, Connection], Worker]] = {
    "getNode": _get,
    "createNode": _create,
    "push of 1 KiB": _push,
    "pull of 1 KiB": _pull,
}


def servers(ours: Space, part: str) -> list[psutil.Process]:
    """Give the processes of a server, and not the backends of PostgreSQL that serve it."""
    found = []
    for child in ours.process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if part in child.cmdline():
                found.append(child)
    return found


def _seconds(ours: Space, part: str) -> float:
    times = [one.cpu_times() for one in servers(ours, part)]
    return sum(one.user + one.system for one in times)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Measure two workers beside one.")
    parser.add_argument("--numbers", type=arguments.counts, default="1,2", help="of workers, with commas between them")
    parser.add_argument(
        "--share", type=arguments.seconds, default=0.15, help="of a core, for each worker in limited rounds"
    )
    parser.add_argument("--rounds", type=arguments.count, default=5)
    parser.add_argument("--seconds", type=arguments.seconds, default=3.0, help="length of a round")
    parser.add_argument("--concurrency", type=arguments.count, default=32)
    parser.add_argument("--json", type=arguments.file, help="write all figures to this file")
    parser.add_argument("--folder", type=arguments.folder, help="where to measure (a folder on the disk in question)")
    options = vars(parser.parse_args())
    file, parent = options.pop("json"), options.pop("folder")
    with scratch(parent) as folder:
        report = measure(folder, **options)
    (table,) = report["tables"]
    for row in (table["columns"], *table["rows"]):
        print("".join(f"{cell!s:>21}" for cell in row))
    if file:
        file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
