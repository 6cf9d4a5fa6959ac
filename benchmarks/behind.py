"""What it costs to reach PostgreSQL by way of a pooler, and what a replica takes off the primary.

    python -m benchmarks.behind [--rounds N] [--seconds S] [--concurrency N] [--json FILE]

Three pairs, on databases of one server, are measured in turn: one that reaches it as usual, one by way of PgBouncer in
transaction mode, one that reads from a replica. What counts is the CPU time of each part for one operation: on a
machine of few cores all of them share what there is, and rates say little.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from benchmarks import arguments
from benchmarks.http import Connection, rate, request
from benchmarks.measures import NODE, Worker, asker
from benchmarks.systems import scratch, seconds_of, tree
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.pair import Pair, running_pair
from tests.support.poolers import PROGRAM, pooler
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.standby import standby

_PARTS: Final = ("metadata", "primary", "pooler", "replica")
_CHILDREN: Final = 1000
_COLUMNS: Final = ("operation", "reached", "a second", *(f"{part}, ms" for part in _PARTS))
_TEXT: Final = (
    "CPU milliseconds of each part for one operation, of pairs that reach PostgreSQL as usual, by way of PgBouncer in "
    "transaction mode (which keeps no plan of a statement), and reading from a replica that is never older."
)


@dataclass(slots=True)
class _Measured:
    """A pair, and what is known of it."""

    name: str
    pair: Pair
    database: str
    primary: psutil.Process
    further: dict[str, int]
    """Process ids of pooler and replica."""
    found: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def cpu(self) -> dict[str, float]:
        """Give the CPU seconds that each part has used for this pair."""
        backends = [one for one in self.primary.children() if self.database in " ".join(one.cmdline())]
        used = dict.fromkeys(_PARTS, 0.0)
        used["metadata"] = seconds_of(tree(self.pair.processes["metadata"].pid))
        used["primary"] = seconds_of(backends)
        return used | {part: seconds_of(tree(pid)) for part, pid in self.further.items()}


def measure(folder: Path, *, rounds: int = 5, seconds: float = 2.0, concurrency: int = 8) -> dict[str, Any]:
    """Measure three pairs in turn; give what a report shows."""
    with contextlib.ExitStack() as stack:
        pairs = _start(stack, stack.enter_context(postgres_server()), folder)
        asyncio.run(_measure(pairs, rounds, seconds, concurrency))
    rows = [
        [
            operation,
            one.name,
            *(round(median(row[column] for row in one.found[operation]), 3) for column in _COLUMNS[2:]),
        ]
        for operation in _OPERATIONS
        for one in pairs
    ]
    return {
        "title": "Behind a pooler, and with a replica",
        "text": [_TEXT],
        "tables": [{"title": "Cost of an operation", "columns": list(_COLUMNS), "rows": rows}],
        "raw": {one.name: one.found for one in pairs},
    }


def _start(stack: contextlib.ExitStack, server: PostgresServer, folder: Path) -> list[_Measured]:
    postmaster = psutil.Process(int((Path(server.cluster.socket) / "pg18/postmaster.pid").read_text().split()[0]))
    follower = stack.enter_context(standby(server))
    bouncer = stack.enter_context(pooler(server)) if PROGRAM else None
    pairs = []
    for name in ("as usual", *(["by a pooler"] if bouncer else []), "with a replica"):
        database = stack.enter_context(server.clone())
        environment, further = {}, {}
        if name == "by a pooler" and bouncer:
            environment, further = bouncer.environment(database), {"pooler": bouncer.pid}
        elif name == "with a replica" and follower.process:
            environment = {"PYVOSPACE_DATABASE__REPLICA_DSN": follower.dsn(database)}
            further = {"replica": follower.process.pid}
        place = folder / name.replace(" ", "-")
        place.mkdir()
        dsn, storage = server.dsn(database), server.dsn(database, STORAGE_ROLE)
        pair = stack.enter_context(running_pair(dsn, place, storage_dsn=storage, environment=environment))
        pairs.append(_Measured(name, pair, database, postmaster, further))
    return pairs


async def _measure(pairs: list[_Measured], rounds: int, seconds: float, concurrency: int) -> None:
    for one in pairs:
        await _fill(one.pair)
    for number in range(rounds):
        for operation, make in _OPERATIONS.items():
            for one in pairs:
                message = make(one.pair, number)
                expected = 201 if operation == "createNode" else 200
                workers = [
                    asker(Connection("127.0.0.1", one.pair.port), lambda n, w=w, m=message: m(w, n), expected)  # type: ignore[misc]
                    for w in range(concurrency)
                ]
                await _round(one, operation, workers, seconds)


async def _round(one: _Measured, operation: str, workers: list[Worker], seconds: float) -> None:
    before = one.cpu()
    done, needed = await rate(workers, seconds)
    after = one.cpu()
    cost = {f"{part}, ms": 1000 * (after[part] - before[part]) / max(1, done) for part in _PARTS}
    one.found.setdefault(operation, []).append({"a second": done / needed, **cost})


async def _fill(pair: Pair) -> None:
    connection = Connection("127.0.0.1", pair.port)
    for name in ("", *(f"/{number}" for number in range(_CHILDREN))):
        await asker(connection, lambda _, name=name: _creation(pair, f"{pair.home}/box{name}"), 201)(0)  # type: ignore[misc]


def _creation(pair: Pair, path: str) -> bytes:
    kind = "ContainerNode" if path.endswith("/box") else "DataNode"
    nodes = "<vos:nodes/>" if kind == "ContainerNode" else ""
    document = NODE.format(kind=kind, authority=pair.authority, path=path, nodes=nodes).encode()
    return request("PUT", f"/nodes{path}", token=pair.token, body=document)


def _get(pair: Pair, _: int) -> Callable[[int, int], bytes]:
    return lambda _, number: request("GET", f"/nodes{pair.home}/box/{number % _CHILDREN}", token=pair.token)


def _list(pair: Pair, _: int) -> Callable[[int, int], bytes]:
    return lambda *_: request("GET", f"/entries{pair.home}/box", token=pair.token)


def _create(pair: Pair, round_: int) -> Callable[[int, int], bytes]:
    return lambda worker, number: _creation(pair, f"{pair.home}/{round_}-{worker}-{number}")


_OPERATIONS: Final[dict[str, Callable[[Pair, int], Callable[[int, int], bytes]]]] = {
    "getNode": _get,
    "entries of 1,000": _list,
    "createNode": _create,
}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Measure a pooler and a replica.")
    parser.add_argument("--rounds", type=arguments.count, default=5)
    parser.add_argument("--seconds", type=arguments.seconds, default=2.0, help="length of a round")
    parser.add_argument("--concurrency", type=arguments.count, default=8)
    parser.add_argument("--json", type=arguments.file, help="write all figures to this file")
    options = vars(parser.parse_args())
    file = options.pop("json")
    with scratch(None) as folder:
        report = measure(folder, **options)
    (table,) = report["tables"]
    for row in (table["columns"], *table["rows"]):
        print("".join(f"{cell!s:>18}" for cell in row))
    if file:
        file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
