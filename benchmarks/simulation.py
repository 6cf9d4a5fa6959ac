"""A space of one billion nodes and a hundred storage servers, on paper: what breaks first, and at which load.

    python -m benchmarks.simulation [--figures docs/performance.json] [--scale scale.json] [--json FILE]

Measured costs of requests go into a network of queues: metadata processes, the cores of the database, its disk (pages
that are not in memory), the flush of its log (one for all who wait), storage processes. What each can do at the most
follows from the costs alone; how long requests take below that, and what an outage of a database does, is simulated.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import arguments

_MILLI: Final = 1000.0
_GB: Final = 1e9
_HOUR: Final = 3600.0
NODES: Final = 1_000_000_000
SERVERS: Final = 100
_PATIENCE: Final = 10.0
"""Seconds that a request waits for the database before it is answered with 503 (database.acquire_timeout)."""
_PAGE_READ: Final = 0.0001
"""Seconds in which a solid-state disk reads a page."""
_FLUSH: Final = 0.001
"""Seconds of a flush of the log, on its own disk and at a synchronous replica."""
_NAME_LOOKUP: Final = 12.0e-6
"""CPU seconds of the database to look for the name of a location."""
_ROOTS: Final = 10_000
_SKEW: Final = 0.8
"""Root containers, and how unequally they are asked for (the exponent of Zipf's law)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs, in CPU milliseconds, with everything in memory."""

    share: float
    """Of all requests."""
    metadata: float
    postgres: float
    storage: float = 0.0
    pages: float = 0.0
    """Pages that did not come from 128 MB of buffers, when nodes out of ten millions were asked for at random."""
    flushes: int = 0
    """How often it waits for the log."""
    turn: float = 0.0
    """Milliseconds in which nobody else in the same database changes the tree, or sums up usage."""
    reads: bool = False
    """It decides nothing about a change: a replica may answer."""


_FOLD: Final = 0.018
"""Milliseconds in which a change of usage is taken into the sums above it."""
COSTS: Final[Mapping[str, Cost]] = {
    "getNode": Cost(0.35, 0.42, 0.58, pages=7.8, reads=True),
    "listing of a folder of 100": Cost(0.10, 4.0, 2.15, pages=14.5, reads=True),
    "createNode": Cost(0.05, 0.71, 0.85, pages=10.2, flushes=1, turn=_FOLD),
    "setNode": Cost(0.04, 0.9, 1.38, pages=11.7, flushes=1),
    "deleteNode": Cost(0.04, 0.7, 0.84, pages=10.0, flushes=1, turn=_FOLD),
    "move of a file": Cost(0.01, 1.0, 2.74, pages=11.3, flushes=1),
    "deletion of this tree": Cost(0.001, 1.0, 13.2, pages=100.0, flushes=1, turn=13.2),
    "pull of 1 KiB by /files": Cost(0.299, 0.5, 0.9, storage=0.93, pages=8.2),
    "push of 1 KiB by path, stored": Cost(0.11, 0.9, 3.48, storage=2.12, pages=8.7, flushes=2, turn=_FOLD),
}
"""As measured while this was written; `costs` takes newer ones."""
_NAMES: Final = {
    "push of 1 KiB by path, stored": "push of 1 KiB (POST, details, PUT)",
}
"""What the report calls it, where that is something else."""
BYTES_OF_A_NODE: Final = 614
BYTES_OF_A_CHANGE: Final = 341
"""A row of the audit log."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An installation."""

    name: str
    shards: int = 1
    """Databases, each with the root containers that fall to it."""
    cores: int = 32
    """Of each database."""
    memory: float = 256.0
    """GB of each database."""
    disk_reads: int = 64
    """Pages that its disk reads at the same time."""
    replicas: int = 0
    """Of each database, that answer what only reads."""
    metadata: int = 256
    """Processes of metadata servers, one core each."""
    storage: int = 8
    """Processes of each storage server."""
    look_hours: float = 0.26
    """Hours in which each location is looked at once: by sweeps (each hour), and for copies that are missing (each ten
    minutes; of a hundred storages at the same time, 200 locations in 25 ms)."""
    nodes: int = NODES

    def hit(self) -> float:
        """Estimate how many pages are in memory: with Zipf's law, (what fits / all) to the power of 1 - exponent."""
        size = self.nodes * BYTES_OF_A_NODE / self.shards
        return float(min(1.0, self.memory * _GB / size) ** (1 - _SKEW))

    def hottest(self) -> float:
        """Give the share of all requests that the busiest database gets."""
        weights = [1 / rank**_SKEW for rank in range(1, _ROOTS + 1)]
        loads = [0.0] * self.shards
        for weight in weights:  # the rebalancing of a cluster does no worse than the next one to the emptiest
            least = min(range(self.shards), key=loads.__getitem__)
            loads[least] += weight
        return float(max(loads) / sum(weights))


PLANS: Final = (
    Plan("10 million nodes, one database", nodes=10_000_000, metadata=32, storage=4, look_hours=0.14),
    Plan("one database"),
    Plan("one database, looked through weekly", look_hours=84),
    Plan("one database, 3 replicas", look_hours=84, replicas=3),
    Plan("8 databases", look_hours=84, shards=8),
    Plan("32 databases", look_hours=84, shards=32, metadata=1024),
    Plan("32 databases, 2 replicas each", look_hours=84, shards=32, replicas=2, metadata=1024),
)


def costs(figures: Mapping[str, Any] | None, scale: Mapping[str, Any] | None) -> dict[str, Cost]:
    """Take what was measured in place of what stands here, as far as it is there.

    Parameters
    ----------
    figures
        ``docs/performance.json``.
    scale
        What ``benchmarks.scale --json`` wrote.
    """
    measured = {one["name"]: one.get("cpu_ms", {}) for one in (figures or {}).get("measures", [])}
    found = dict(COSTS)
    for name, cost in COSTS.items():
        cpu = measured.get(name) or measured.get(_NAMES.get(name, "")) or {}
        parts = {part: cpu[part] for part in ("metadata", "storage", "postgres") if part in cpu}
        of_scale = (scale or {}).get("operations", {}).get(name, {})
        if of_scale:
            parts["postgres"] = of_scale["small"]["postgres_cpu_ms"]
            parts["turn"] = parts["postgres"] if cost.turn > _FOLD else cost.turn
        found[name] = replace(cost, **parts)
    return found


@dataclass(frozen=True, slots=True)
class Demand:
    """What an average request asks of a station, and how much of that it can give in a second."""

    seconds: float
    servers: float

    @property
    def most(self) -> float:
        """Requests a second of the whole space at which it is busy all the time."""
        return self.servers / self.seconds if self.seconds else float("inf")


def demands(plan: Plan, of: Mapping[str, Cost]) -> dict[str, Demand]:
    """Add up what requests ask of each station; of the databases that of the busiest one."""
    missed, hottest = 1 - plan.hit(), plan.hottest()
    readers = plan.replicas or 1
    primary = [one for one in of.values() if not (one.reads and plan.replicas)]
    reading = [one for one in of.values() if one.reads and plan.replicas]
    looks = looked_at(plan)
    found = {
        "metadata processes": Demand(_sum(of.values(), "metadata") / _MILLI, plan.metadata),
        "storage processes": Demand(_sum(of.values(), "storage") / _MILLI, plan.storage * SERVERS),
        "cores of a database": Demand(
            hottest * _sum(primary, "postgres") / _MILLI, max(0.0, plan.cores - looks * _NAME_LOOKUP)
        ),
        "disk of a database": Demand(
            hottest * _sum(primary, "pages") * missed * _PAGE_READ,
            max(0.0, plan.disk_reads - looks * missed * _PAGE_READ),
        ),
    }
    turns = _sum(of.values(), "turn") / _MILLI
    found["turns at changing trees"] = Demand(hottest * turns, 1)
    if reading:
        found["cores of replicas"] = Demand(hottest * _sum(reading, "postgres") / _MILLI, plan.cores * readers)
        found["disks of replicas"] = Demand(
            hottest * _sum(reading, "pages") * missed * _PAGE_READ, plan.disk_reads * readers
        )
    return found


def looked_at(plan: Plan) -> float:
    """Give how many locations a database is asked for in a second on behalf of all storages."""
    return plan.nodes / plan.shards / (plan.look_hours * _HOUR)


def _sum(of: Iterable[Cost], what: str) -> float:
    return float(sum(one.share * getattr(one, what) for one in of))


@dataclass(slots=True)
class Station:
    """Servers with one queue."""

    servers: int
    together: bool = False
    """One server serves all who wait at once: a flush of the log."""
    busy: int = 0
    waiting: deque[Request] = field(default_factory=deque)
    until: float = 0.0
    """It is away until then."""


@dataclass(slots=True)
class Request:
    """One request on its way."""

    begun: float
    way: list[tuple[Station, float]]
    arrived: float = 0.0
    at: int = 0
    refused: bool = False


def simulate(
    plan: Plan, of: Mapping[str, Cost], rate: float, *, seconds: float, away: tuple[float, float] = (0.0, 0.0)
) -> list[Request]:
    """Let requests come to the busiest database at random moments, with servers of all kinds in its proportion.

    Parameters
    ----------
    rate
        Of the whole space.
    away
        When the database does not answer; who waits for it for more than ten seconds is refused.

    Returns
    -------
    list
        All requests in the order of their ends; `arrived` is when they ended.
    """
    chance, share = random.Random(1), plan.hottest()
    stations = _stations(plan, share)
    events: list[_Event] = []
    at = 0.0
    kinds, weights = list(of.values()), [one.share for one in of.values()]
    while (at := at + chance.expovariate(rate * share)) < seconds:
        cost = chance.choices(kinds, weights)[0]
        heapq.heappush(events, (at, len(events), "comes", Request(at, _way(plan, cost, stations, chance))))
    if away[1] > away[0]:
        heapq.heappush(events, (away[0], -2, "leaves", None))
        heapq.heappush(events, (away[1], -1, "returns", None))
    return _Run(events, stations["cores"], away[1]).all()


def _stations(plan: Plan, share: float) -> dict[str, Station]:
    looks = looked_at(plan)
    missed = 1 - plan.hit()
    return {
        "metadata": Station(max(1, round(plan.metadata * share))),
        "cores": Station(max(1, round(plan.cores - looks * _NAME_LOOKUP))),
        "disk": Station(max(1, round(plan.disk_reads - looks * missed * _PAGE_READ))),
        "log": Station(1, together=True),
        "turns": Station(1),
        "reading cores": Station(plan.cores * plan.replicas),
        "reading disks": Station(plan.disk_reads * plan.replicas),
        "storage": Station(max(1, round(plan.storage * SERVERS * share))),
    }


def _way(plan: Plan, cost: Cost, stations: Mapping[str, Station], chance: random.Random) -> list[tuple[Station, float]]:
    """Give where a request goes, and for how long it is served there."""
    missed = cost.pages * (1 - plan.hit())
    pages = int(missed) + (chance.random() < missed % 1)
    front = "reading " if cost.reads and plan.replicas else ""
    cores, disk = stations[f"{front}cores"], stations[f"{front}disks" if front else "disk"]

    def drawn(milliseconds: float) -> float:
        return chance.expovariate(_MILLI / milliseconds)

    way = [(stations["metadata"], drawn(cost.metadata)), (cores, drawn(cost.postgres))]
    way += [(disk, chance.expovariate(1 / _PAGE_READ)) for _ in range(pages)]
    if cost.storage:
        way.append((stations["storage"], drawn(cost.storage)))
    if cost.turn > _FOLD:  # sums are folded behind the answer
        way.append((stations["turns"], drawn(cost.turn)))
    return way + [(stations["log"], _FLUSH)] * cost.flushes


class _Run:
    """What happens, one thing after the other, until nothing is left.

    Parameters
    ----------
    events
        When, in which order, what, and whom it concerns.
    """

    def __init__(self, events: list[_Event], database: Station, back: float) -> None:
        self.done: list[Request] = []
        self._events = events
        self._number = len(events)
        self._database = database
        self._back = back

    def all(self) -> list[Request]:
        """Let it all happen; give the requests as they end."""
        while self._events:
            now, _, what, whom = heapq.heappop(self._events)
            _HAPPENS[what](self, now, whom)
        return self.done

    def come(self, now: float, one: Request) -> None:
        """Let a request come to the next station on its way."""
        one.arrived = now
        if one.refused or one.at == len(one.way):
            self.done.append(one)
            return
        station = one.way[one.at][0]
        station.waiting.append(one)
        self._begin(now, station)

    def served(self, now: float, whom: tuple[Station, list[Request]]) -> None:
        """Let those who were served go on, and the next one in."""
        station, served = whom
        station.busy -= 1
        for one in served:
            one.at += 1
            self.come(now, one)
        self._begin(now, station)

    def leave(self, _: float, __: None) -> None:
        """Take the database away."""
        self._database.until = self._back

    def come_back(self, now: float, _: None) -> None:
        """Have it again."""
        self._begin(now, self._database)

    def _begin(self, now: float, station: Station) -> None:
        while station.waiting and station.busy < station.servers and now >= station.until:
            served = [station.waiting.popleft()]
            if station.together:
                served += station.waiting
                station.waiting.clear()
            seconds = served[0].way[served[0].at][1]
            if station is self._database and now - served[0].arrived > _PATIENCE:
                served[0].refused, seconds = True, 0.0
            station.busy += 1
            self._number += 1
            heapq.heappush(self._events, (now + seconds, self._number, "served", (station, served)))


_Event = tuple[float, int, str, Any]
_HAPPENS: Final[Mapping[str, Callable[[_Run, float, Any], None]]] = {
    "comes": _Run.come,
    "served": _Run.served,
    "leaves": _Run.leave,
    "returns": _Run.come_back,
}


_LOADS: Final = (0.5, 0.7, 0.9)
_TEXT: Final = (
    "By the costs of the first table: what an installation can do at the most, what breaks first there, and how long "
    "requests to its busiest database take below that. What stands behind it, and what follows: "
    "docs/explanation/billion.md."
)
_SIMULATED: Final = 10_000
"""Requests of a run: the first quarter, in which queues fill, does not count."""
_AWAY: Final = 30.0
"""Seconds until a replica of a database has taken its place (Patroni's ttl)."""


def measure(
    folder: Path | None = None, *, figures: str = "docs/performance.json", scale: str = "", requests: int = _SIMULATED
) -> dict[str, Any]:
    """Simulate; give what a report shows. Nothing is started, and `folder` is not needed."""
    del folder
    report = _read(figures)
    known = report.get("sections", {}).get("scale", {}).get("raw", {})
    of = costs(report, _read(scale) or known)
    return {
        "title": "A billion nodes",
        "text": [
            _TEXT,
        ],
        "tables": [_costs(of), _room(), _most(of), _times(of, requests), _outages(of)],
        "plots": [_plot(of, requests)],
        "raw": {"plans": [plan.name for plan in PLANS]},
    }


def _read(file: str) -> dict[str, Any]:
    path = Path(file)
    return json.loads(path.read_text()) if file and path.exists() else {}


def _costs(of: Mapping[str, Cost]) -> dict[str, Any]:
    columns = ["request", "share, %", "metadata, ms", "database, ms", "storage, ms", "pages missed", "flushes"]
    rows = [
        [
            name,
            round(100 * one.share),
            round(one.metadata, 2),
            round(one.postgres, 2),
            round(one.storage, 2),
            round(one.pages, 1),
            one.flushes,
        ]
        for name, one in of.items()
    ]
    return {"title": "Costs of a request, CPU with everything in memory", "columns": columns, "rows": rows}


def _room() -> dict[str, Any]:
    rows = [
        [f"{nodes:,}", round(nodes * BYTES_OF_A_NODE / _GB), round(nodes / 100 * BYTES_OF_A_NODE / _GB, 1),
         round(changes), round(changes * 86400 * 365 * BYTES_OF_A_CHANGE / _GB)]
        for nodes, changes in ((10_000_000, 20), (100_000_000, 200), (NODES, 2000))
    ]  # fmt: skip
    columns = ["nodes", "catalogue, GB", "of it hot (1 %), GB", "changes a second", "audit log of a year, GB"]
    return {"title": "Room in the database", "columns": columns, "rows": rows}


def first(plan: Plan, of: Mapping[str, Cost]) -> tuple[str, float]:
    """Name the station that breaks first, and the requests a second of the whole space at which it does."""
    found = demands(plan, of)
    name = min(found, key=lambda one: found[one].most)
    return name, found[name].most


def _most(of: Mapping[str, Cost]) -> dict[str, Any]:
    columns = ["installation", "pages in memory", "busiest database", "first to break", "at requests a second", "then"]
    rows = []
    for plan in PLANS:
        found = demands(plan, of)
        ordered = sorted(found, key=lambda one: found[one].most)
        then = f"{ordered[1]}, {found[ordered[1]].most:,.0f}"
        shares = (f"{100 * plan.hit():.0f} %", f"{100 * plan.hottest():.1f} %")
        rows.append([plan.name, *shares, ordered[0], round(found[ordered[0]].most), then])
    return {"title": "What breaks first", "columns": columns, "rows": rows}


def _times(of: Mapping[str, Cost], requests: int) -> dict[str, Any]:
    columns = ["installation", *(f"{what}, at {100 * load:.0f} %" for load in _LOADS for what in ("p50", "p99"))]
    rows = [
        [plan.name, *(round(one, 1) for load in _LOADS for one in _latency(plan, of, load, requests))] for plan in PLANS
    ]
    return {"title": "Milliseconds that a request takes, at shares of that rate", "columns": columns, "rows": rows}


def _latency(plan: Plan, of: Mapping[str, Cost], load: float, requests: int) -> tuple[float, float]:
    rate = load * first(plan, of)[1]
    seconds = requests / (rate * plan.hottest())
    took = sorted(
        one.arrived - one.begun for one in simulate(plan, of, rate, seconds=seconds) if one.begun > seconds / 4
    )
    return _MILLI * took[len(took) // 2], _MILLI * took[int(0.99 * len(took))]


def _outages(of: Mapping[str, Cost]) -> dict[str, Any]:
    """Take one database of one core away: more cores only make the same picture longer to draw."""
    plan = replace(PLANS[0], cores=1)
    rows = []
    for load in _LOADS[:2]:
        rate = load * first(plan, of)[1]
        begun, seconds = 10.0, 4 * _AWAY
        done = simulate(plan, of, rate, seconds=seconds, away=(begun, begun + _AWAY))
        refused = [one for one in done if one.refused]
        slow = [one.begun for one in done if not one.refused and one.arrived - one.begun > 1.0]
        met = [one for one in done if begun <= one.begun < begun + _AWAY]
        rows.append(
            [f"{100 * load:.0f} %", f"{100 * len(refused) / max(1, len(met)):.0f} %",
             round(max(0.0, max(slow, default=0.0) - begun - _AWAY), 1)]
        )  # fmt: skip
    columns = ["load", "refused, of the requests of that time", "seconds afterwards until nobody waits for a second"]
    return {"title": f"A database that is away for {_AWAY:.0f} seconds", "columns": columns, "rows": rows}


def _plot(of: Mapping[str, Cost], requests: int) -> dict[str, Any]:
    loads = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    lines = []
    for plan in PLANS[:1] + PLANS[2:]:
        most = first(plan, of)[1]
        y = [round(_latency(plan, of, load, requests // 4)[1], 1) for load in loads]
        lines.append({"name": plan.name, "x": [round(load * most) for load in loads], "y": y})
    x, unit = "requests a second of the whole space", "milliseconds"
    title = "99th percentile of requests by load"
    return {"name": "billion", "title": title, "kind": "lines", "x": x, "y": unit, "log": "xy", "lines": lines}


def text(found: Mapping[str, Any]) -> str:
    """Write the tables for a terminal."""
    lines: list[str] = []
    for table in found["tables"]:
        lines += ["", table["title"], *_aligned([table["columns"], *table["rows"]])]
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[Any]]) -> list[str]:
    cells = [[f"{cell:,}" if isinstance(cell, (int, float)) else cell for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def main() -> None:
    """Simulate, and print the tables."""
    parser = argparse.ArgumentParser(description="What a billion nodes need, from measured costs.")
    parser.add_argument("--figures", default="docs/performance.json", help="the report whose costs count; '': none")
    parser.add_argument("--scale", default="", help="what benchmarks.scale wrote, if not that report")
    parser.add_argument("--requests", type=arguments.count, default=_SIMULATED, help="requests of each run")
    parser.add_argument("--json", type=arguments.file, help="write everything to this file")
    options = parser.parse_args()
    for name in {options.figures, options.scale} - {"", parser.get_default("figures")}:
        try:
            arguments.figures(name)
        except argparse.ArgumentTypeError as error:
            parser.error(str(error))
    found = measure(figures=options.figures, scale=options.scale, requests=options.requests)
    print(text(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
