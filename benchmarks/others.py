"""Systems that are known by their URL, and the pair like one of them, measured in turn by requests of standards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psutil
from botocore.exceptions import BotoCoreError

from benchmarks import systems
from benchmarks.clients import Client, DavClient, VOSpaceClient, drain, s3_clients, send
from benchmarks.measures import Meter, Series, Worker, one_round, write_random
from benchmarks.scenario import Other, Scenario
from benchmarks.systems import Space
from tests.support.engines.stores import PROGRAMS, Engine, keep

_CONTENT = os.urandom(1024)
_PROGRAMS = {"": (), "nginx": ("nginx",), "rclone": ("rclone",), **PROGRAMS}
OURS = "pyvospace"
_FAILURES = (OSError, RuntimeError, ValueError, SyntaxError, asyncio.IncompleteReadError, BotoCoreError)
"""Of a system that is away, refuses, or answers what its standard does not know (XML that is none is a SyntaxError)."""


@dataclass(slots=True)
class System:
    """A system that can be asked."""

    name: str
    open: Callable[[str], Client]
    """Make a client with a folder of that name."""
    processes: Callable[[], list[psutil.Process]]
    """Of its server, as far as they are on this machine."""
    clients: list[Client] = field(default_factory=list)
    listed: list[Client] = field(default_factory=list)
    """One client, with the folder that is listed."""
    pushed: list[str] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    series: dict[str, Series] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """Why a measure is left out, by its name."""

    def cpu(self) -> dict[str, float]:
        """Give the CPU seconds of the server."""
        return {"server": systems.seconds_of(self.processes())}


@dataclass(slots=True)
class Compared:
    """What was found of all systems."""

    series: list[Series] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)
    """Largest resident size of a process of each, in MB."""
    left_out: list[str] = field(default_factory=list)
    """What could not be measured, and why."""


def measure(scenario: Scenario, folder: Path, ours: Space | None) -> Compared:
    """Measure all of them, in turn."""
    result = Compared()
    with contextlib.ExitStack() as stack:
        found = [] if ours is None else [_pair(ours)]
        for other in scenario.systems:
            if missing := [program for program in _PROGRAMS[other.start] if not _installed(program)]:
                result.left_out.append(f"{other.name}: {', '.join(missing)} is not installed")
                continue
            found.append(stack.enter_context(_reached(other, folder)))
        asyncio.run(_compared(scenario, found, folder))
        asked = [one for one in found if one.series and one.name != OURS]
        result.memory = {one.name: size for one in asked if (size := systems.peak_of(one.processes()))}
    result.series = [one for system in found for one in system.series.values() if one.values]
    result.left_out += [f"{one.name}: {why}" for one in found for why in one.failed.values()]
    return result


def _installed(program: str) -> bool:
    return shutil.which(program) is not None or shutil.which(program, path="/usr/sbin") is not None


def _pair(ours: Space) -> System:
    url = f"http://127.0.0.1:{ours.port}"
    return System(
        OURS,
        lambda name: VOSpaceClient(url, authority=ours.authority, folder=f"{ours.home}/{name}", token=ours.token),
        lambda: [one for part in ours.processes().values() for one in part],
    )


@contextlib.contextmanager
def _reached(other: Other, folder: Path) -> Iterator[System]:
    """Start a system if the run has to, and know how to ask it."""
    if other.start in PROGRAMS:
        with _engine(other, folder) as system:
            yield system
    elif other.start == "nginx":
        own = folder / "nginx-dav"
        own.mkdir()
        with systems.nginx(own) as port:
            yield System(other.name, _dav(f"http://127.0.0.1:{port}/files", ""), lambda: systems.listening(port or 0))
    elif other.start == "rclone":
        with systems.rclone(folder) as (port, pid):
            yield System(other.name, _dav(f"http://127.0.0.1:{port}", ""), lambda: systems.tree(pid))
    else:
        yield System(other.name, _by_url(other), _beside_us(other.url))


@contextlib.contextmanager
def _engine(other: Other, folder: Path) -> Iterator[System]:
    """Run an S3 store of the tests."""
    state = folder / f"{other.start}.json"
    keeper = keep(other.start, state, os.getpid())
    try:
        engine, bucket = Engine(**json.loads(state.read_text())), f"benchmark-{secrets.token_hex(4)}"
        engine.client().create_bucket(Bucket=bucket)
        keys = {"aws_access_key_id": engine.access_key, "aws_secret_access_key": engine.secret_key}
        yield System(
            other.name,
            s3_clients(f"{engine.endpoint}/{bucket}", region_name="us-east-1", **keys),
            lambda: systems.tree(keeper.pid),
        )
    finally:
        keeper.terminate()
        keeper.wait()


def _dav(url: str, user: str) -> Callable[[str], Client]:
    return lambda name: DavClient(f"{url.rstrip('/')}/{name}", user=user)


def _by_url(other: Other) -> Callable[[str], Client]:
    secret = os.environ[other.token] if other.token else ""
    if other.kind == "webdav":
        return _dav(other.url, secret)
    if other.kind == "s3":
        return s3_clients(other.url)
    return lambda name: VOSpaceClient(
        other.url, authority=other.authority, folder=f"{other.folder}/{name}", token=secret
    )


def _beside_us(url: str) -> Callable[[], list[psutil.Process]]:
    parts = urlsplit(url)
    if parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        return list
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return lambda: systems.listening(port)


async def _compared(scenario: Scenario, found: list[System], folder: Path) -> None:
    source, name = folder / "compared", f"benchmark-{secrets.token_hex(4)}"
    await asyncio.to_thread(write_random, source, scenario.compared)
    for system in found:
        await _tried(system, "begin", _begin(system, name, scenario))
    try:
        ready = [system for system in found if not system.failed]
        for step, system in itertools.product(_STEPS * scenario.rounds, ready):
            if step.__name__ not in system.failed:
                await _tried(system, step.__name__, step(Run(scenario, system, source)))
    finally:
        for system in found:
            await _tried(system, "begin" if "begin" in system.failed else "finish", _finish(system))


async def _tried(system: System, what: str, doing: Awaitable[None]) -> None:
    """Do, or keep why it cannot be: a system that does not offer something, or fails, leaves the others alone."""
    try:
        await doing
    except _FAILURES as error:
        system.failed.setdefault(what, f"{what.strip('_').replace('_', ' ')}: {error}")


async def _begin(system: System, name: str, scenario: Scenario) -> None:
    """Make one folder for all clients, and one with children for those who list."""
    system.clients = [system.open(name) for _ in range(scenario.concurrency)]
    system.listed = [system.open(f"{name}-listed")]
    for one in system.clients + system.listed:
        await one.prepare()
    for number in range(scenario.children):
        await system.listed[0].create(f"child {number}")


async def _finish(system: System) -> None:
    for one in system.clients + system.listed:
        await one.finish()


@dataclass(frozen=True, slots=True)
class Run:
    """One measure of one round of one system."""

    scenario: Scenario
    system: System
    source: Path

    def series(self, name: str, unit: str) -> Series:
        """Give the rounds of a measure so far."""
        return self.system.series.setdefault(name, Series(name, unit, system=self.system.name))

    async def rate(self, name: str, works: list[Worker], *, unit: str = "1/s", per: float = 1.0) -> None:
        """Measure so."""
        series = self.series(name, unit)
        warm_up = 0.0 if series.values else self.scenario.warm_up
        await one_round(series, works, self.system.cpu, seconds=self.scenario.seconds, warm_up=warm_up, per=per)

    async def moved(self, name: str, move: Callable[[], None]) -> None:
        """Measure one transfer of the large file."""
        series = self.series(name, "MB/s")
        meter, started = Meter(self.system.cpu), time.perf_counter()
        await asyncio.to_thread(move)
        seconds = time.perf_counter() - started
        series.used(meter.read(), self.scenario.compared / (1 << 20))
        series.values.append(self.scenario.compared / 1e6 / seconds)


class Step(Protocol):
    """What is measured."""

    __name__: str

    async def __call__(self, run: Run) -> None:
        """Measure one round."""


async def _look(run: Run) -> None:
    def work(client: Client) -> Worker:
        return lambda _: client.look()

    await run.rate("one entry (getNode, PROPFIND, HEAD)", [work(one) for one in run.system.clients])


async def _create(run: Run) -> None:
    def work(client: Client) -> Worker:
        async def create(number: int) -> None:
            await client.create(f"empty {number}")
            run.system.created.append(f"empty {number}")

        return create

    await run.rate("new empty entry (createNode, PUT)", [work(one) for one in run.system.clients])


async def _push(run: Run) -> None:
    def work(client: Client) -> Worker:
        async def push(number: int) -> None:
            await client.push(f"small {number}", _CONTENT)
            run.system.pushed.append(f"small {number}")

        return push

    await run.rate("push of 1 KiB", [work(one) for one in run.system.clients])


async def _pull(run: Run) -> None:
    pushed = run.system.pushed

    def work(client: Client) -> Worker:
        async def pull(number: int) -> None:
            if await client.pull(pushed[number % len(pushed)]) != _CONTENT:
                raise RuntimeError(f"{run.system.name}: other bytes came back")

        return pull

    await run.rate("pull of 1 KiB", [work(one) for one in run.system.clients])


async def _list(run: Run) -> None:
    children = run.scenario.children

    async def listing(_: int) -> None:
        if (found := await run.system.listed[0].listing()) != children:
            raise RuntimeError(f"{run.system.name}: {found} of {children} children are listed")

    await run.rate(f"listing of {children:,} children", [listing], unit="nodes/s", per=children)


async def _delete(run: Run) -> None:
    """Delete what was created, as many in a round as there are: their rate is that of all together."""
    created = run.system.created
    series = run.series("delete of one", "1/s")
    number, meter, started = len(created), Meter(run.system.cpu), time.perf_counter()

    async def work(client: Client) -> None:
        while created:
            await client.delete(created.pop())

    await asyncio.gather(*(work(one) for one in run.system.clients))
    series.used(meter.read(), max(1, number))
    series.values.append(number / (time.perf_counter() - started))


async def _push_large(run: Run) -> None:
    url, headers = await run.system.clients[0].where_to_push("large")
    await run.moved("push of a large file", lambda: send(url, headers, run.source))


async def _pull_large(run: Run) -> None:
    url, headers = await run.system.clients[0].where_to_pull("large")
    await run.moved("pull of a large file", lambda: drain(url, headers, run.scenario.compared))
    await run.system.clients[0].delete("large")


_STEPS: tuple[Step, ...] = (
    _look, _create, _list, _push, _pull, _delete, _push_large, _pull_large,
)  # fmt: skip
