"""Mixed load at 70 % of the peak while things go wrong: no error but their own, nothing lost, nothing grows.

    python -m benchmarks.soak [--minutes M] [--faults NAMES] [--rate R] [--json FILE]

It finds the peak of a mix of operations, then offers 70 % of it at a fixed rate, whether answers come or not, and lets
faults happen at known times. Every client knows what its names hold: whatever it is told has to fit, all acknowledged
bytes are read back, and each failure must belong to a fault that was there at that moment. It ends with status 1 if a
promise is broken or a process grows. ``--minutes 60`` is the long form: each ten minutes all faults happen once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Final

from benchmarks import arguments, soak_report
from benchmarks.measures import Setting, container
from benchmarks.soak_clients import Client, FailedError, WrongError
from benchmarks.soak_faults import LARGE, SMALL, Fault, Site, Struck, named, small_disk, strike
from benchmarks.soak_watch import History, watch
from benchmarks.systems import Space, free_port, process, scratch, space, wait_for

_OFFERED: Final = 0.7
_SHARE: Final = {LARGE: 0.75, SMALL: 0.25}
_ROUND: Final = 600.0
"""Seconds in which all faults happen once."""
_AT_ONCE: Final = 32
"""Clients that go on at once where the machine is to be busy, and not more."""
_PARTS: Final = 24
"""Parts of the time in which the peak is found, that are counted each by itself."""
_TOO_LATE: Final = 10.0
_SETTINGS: Final = {
    # Bytes that are not named any more go soon, so that the disks stay as full as they are.
    "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "10",
    "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "20",
}


@dataclass(frozen=True, slots=True)
class Done:
    """An operation that was due."""

    operation: str
    place: str
    due: float
    """Seconds since the load began; the latency counts from here, however late a client was free."""
    ended: float
    failure: FailedError | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """An operation that was due, and never begun."""

    place: str
    due: float
    ended: float


@dataclass(frozen=True, slots=True)
class Filling:
    """What clients keep at one moment, and what is used of the small disk."""

    at: float
    files: int
    """Of all clients."""
    large: float
    """MB of the files at the large place."""
    small: float
    """The same at the small one."""
    used: float
    """MB of the small disk, also those of files that are gone and not yet deleted."""


@dataclass(slots=True)
class Load:
    """The clients, and what came of it."""

    crowds: dict[str, list[Client]]
    start: float = 0.0
    done: list[Done] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unsent: list[Late] = field(default_factory=list)
    """Operations for which no client was free in time."""
    filling: list[Filling] = field(default_factory=list)
    peak: float = 0.0
    rate: float = 0.0
    history: History = field(default_factory=History)
    struck: list[Struck] = field(default_factory=list)

    @property
    def clients(self) -> list[Client]:
        """All of them."""
        return [client for crowd in self.crowds.values() for client in crowd]

    def now(self) -> float:
        """Give the seconds since the load began."""
        return time.monotonic() - self.start

    async def perform(self, client: Client, due: float) -> None:
        """Let a client do something, and keep what came of it."""
        operation, failure = client.choose(), None
        try:
            await client.perform(operation)
        except FailedError as error:
            failure = error
        except WrongError as error:
            self.wrong.append(f"{self.now():.1f} s, {operation}: {error}")
        self.done.append(Done(operation, client.place, due, self.now(), failure))


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How long, how many, and what goes wrong."""

    minutes: float = 10.0
    clients: int = 100
    peak_seconds: float = 30.0
    rate: float = 0.0
    """Operations a second; 0: 70 % of the peak."""
    workers: int = 2
    faults: tuple[type[Fault], ...]


def measure(folder: Path, *, faults: str = "all", **options: Any) -> dict[str, Any]:
    """Soak; give what a report shows."""
    wanted = Options(faults=named(faults), **options)
    with _site(folder, wanted.workers) as (ours, second, small, own_disk):
        setting = Setting(
            space=ours, bare=0, nginx=None, folder=folder, seconds=0, rounds=0, concurrency=wanted.clients, large=0
        )
        load = asyncio.run(_soak(setting, wanted, second, small, own_disk=own_disk))
    return soak_report.report(load, wanted, without="" if own_disk else "no disk of its own for the small storage")


async def _soak(
    setting: Setting, options: Options, second: subprocess.Popen[bytes], small: Path, *, own_disk: bool
) -> Load:
    load = Load(await _crowds(setting, options.clients))
    load.start = time.monotonic()
    load.peak = await _peak(load, options.peak_seconds)
    load.rate = options.rate or _OFFERED * load.peak
    load.done.clear()
    length = 60 * options.minutes
    load.start = time.monotonic()
    site = Site(setting.space, second, small, own_disk, load.clients[0])
    rounds = max(1, round(length / _ROUND))
    async with asyncio.TaskGroup() as group:
        group.create_task(
            watch(setting.space, {"storage (small)": second.pid}, load.start, load.start + length, load.history)
        )
        group.create_task(strike(site, options.faults * rounds, load.struck, start=load.start, length=length))
        group.create_task(_watch_filling(load, small, length))
        for place, share in _SHARE.items():
            group.create_task(_offer(load, place, share * load.rate, length))
    await _settle(load)
    return load


async def _watch_filling(load: Load, small: Path, length: float) -> None:
    """Look at what is kept, now and then."""
    while (at := load.now()) < length:
        kept = {place: [one.kept() for one in crowd] for place, crowd in load.crowds.items()}
        megabytes = {place: sum(size for _, size in of_place) / 1e6 for place, of_place in kept.items()}
        disk = os.statvfs(small)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize / 1e6
        files = sum(number for of_place in kept.values() for number, _ in of_place)
        load.filling.append(Filling(at, files, megabytes[LARGE], megabytes[SMALL], used))
        await asyncio.sleep(max(1.0, min(15.0, length / 60)))


async def _crowds(setting: Setting, number: int) -> dict[str, list[Client]]:
    """Make the clients, each with a folder whose bytes go to one of the two places."""
    crowds = {}
    top = await container(setting)
    for place, share in _SHARE.items():
        folder = f"{top}/{place}"
        maker = Client(setting, top, place, 0)
        await maker.make(folder)
        await asyncio.to_thread(_send_bytes_to, setting, folder, place)
        crowd = [Client(setting, folder, place, one) for one in range(max(1, round(share * number)))]
        maker.close()
        for several in (crowd[first : first + _AT_ONCE] for first in range(0, len(crowd), _AT_ONCE)):
            await asyncio.gather(*(client.begin() for client in several))
        crowds[place] = crowd
    return crowds


def _send_bytes_to(setting: Setting, folder: str, place: str) -> None:
    words = (sys.executable, "-m", "pyvospace", "policies", "set", folder, "--label", place)
    data = setting.folder / "space"
    subprocess.run([*words, "--data", str(data)], check=True, capture_output=True, text=True)


async def _peak(load: Load, seconds: float) -> float:
    """Find how many operations a second of the same mix are done when some clients go on at once, and keep all busy.

    The first quarter is to warm up. Of the rest the slower half counts: what is done for a moment, before the database
    writes what it has put off, cannot be done for an hour.
    """
    until = time.monotonic() + seconds

    async def go_on(client: Client) -> None:
        while time.monotonic() < until:
            await load.perform(client, load.now())

    crowd = [one for place, all_ in load.crowds.items() for one in all_[: max(1, round(_SHARE[place] * _AT_ONCE))]]
    await asyncio.gather(*map(go_on, crowd))
    width = seconds / _PARTS
    counts = Counter(int(one.ended / width) for one in load.done if one.failure is None)
    slower = sorted(counts[part] for part in range(_PARTS // 4, _PARTS))[: _PARTS * 3 // 8]
    return mean(slower) / width


async def _offer(load: Load, place: str, rate: float, length: float) -> None:
    """Let operations be due at random moments, so many a second on the average, whatever becomes of them."""
    chance = random.Random(place)
    free: asyncio.Queue[Client] = asyncio.Queue()
    for client in load.crowds[place]:
        free.put_nowait(client)

    async def work(due: float) -> None:
        async with _taken(free) as client:
            if load.now() - due > _TOO_LATE:
                load.unsent.append(Late(place, due, load.now()))
            else:
                await load.perform(client, due)

    due = 0.0
    async with asyncio.TaskGroup() as group:
        while (due := due + chance.expovariate(rate)) < length:
            await asyncio.sleep(max(0.0, due - load.now()))
            group.create_task(work(due))


@contextlib.asynccontextmanager
async def _taken(free: asyncio.Queue[Client]) -> AsyncIterator[Client]:
    client = await free.get()
    try:
        yield client
    finally:
        free.put_nowait(client)


async def _settle(load: Load) -> None:
    """Read back whatever is there, a few clients at a time."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def settle(client: Client) -> None:
        async with gate:
            load.wrong += await client.settle()
            client.close()

    await asyncio.gather(*(settle(client) for client in load.clients))


@contextlib.contextmanager
def _site(folder: Path, workers: int) -> Iterator[tuple[Space, subprocess.Popen[bytes], Path, bool]]:
    """Run a space with a second storage server, on a small disk of its own if we may.

    Yields
    ------
    tuple
        The space, the second server, where it keeps its bytes, seen from here, and whether that is a disk of its own.
    """
    small, port = folder / "small", free_port()
    small.mkdir()
    with space(folder, workers=workers, PYVOSPACE_STORAGE__LABELS=LARGE, **_SETTINGS) as ours:
        in_front = small_disk(small)
        command = (sys.executable, "-m", "pyvospace", "storage", "--data", str(folder / "space"))
        where = ("--path", str(small), "--port", str(port), "--workers", "1")
        environment = {"PYVOSPACE_STORAGE__LABELS": SMALL, "PYVOSPACE_STORAGE__NAME": SMALL, **_SETTINGS}
        with process(*in_front, *command, *where, folder=folder, name="second", **environment) as second:
            wait_for(port, second)
            seen = Path(f"/proc/{second.pid}/root{small}") if in_front else small
            yield ours, second, seen, bool(in_front)


def main() -> int:
    """Run, print the report, and judge."""
    parser = argparse.ArgumentParser(description="Mixed load at 70 % of the peak while things go wrong.")
    parser.add_argument("--minutes", type=arguments.seconds, default=10.0)
    parser.add_argument("--clients", type=arguments.count, default=100)
    parser.add_argument("--peak-seconds", type=arguments.seconds, default=30.0, help="how long to look for the peak")
    parser.add_argument("--rate", type=float, default=0.0, help="operations a second, in place of 70 %% of the peak")
    parser.add_argument("--workers", type=arguments.count, default=2, help="processes of each server")
    parser.add_argument("--faults", default="all", help="their names, with commas between them; '' for none")
    parser.add_argument("--folder", type=arguments.folder, help="where to measure (a folder on the disk in question)")
    parser.add_argument("--logs", type=Path, help="copy the logs of the servers to this folder")
    parser.add_argument("--json", type=arguments.file, help="write the report to this file")
    options = vars(parser.parse_args())
    try:
        named(options["faults"])
    except ValueError as error:
        parser.error(str(error))
    file, parent, logs = (options.pop(name) for name in ("json", "folder", "logs"))
    with scratch(parent) as folder:
        found = measure(folder, **options)
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
            for name in ("space.log", "second.log"):
                shutil.copy(folder / name, logs)
    print(soak_report.text(found))
    if file:
        file.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if found["raw"]["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
