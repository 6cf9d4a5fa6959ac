"""The measures: each runs a few rounds, this server and its ceilings in turn, and keeps every round."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlencode, urlsplit

import asyncpg

from benchmarks.http import Connection, collect, drain_file, rate, request, send_file, write_durably
from benchmarks.systems import Space, ceilings_cpu

PUSH_SMALL, BARE_PUSH_SMALL = "push of 1 KiB (POST, details, PUT)", "bare POST and PUT, fsync grouped"
PULL_SMALL, BARE_PULL_SMALL = "pull of 1 KiB (POST, details, GET)", "bare POST and GET"
QUICK_PUSH, QUICK_PULL = "push of 1 KiB (POST of parameters, PUT)", "pull of 1 KiB (POST of parameters, GET)"
PUSH_LARGE, PULL_LARGE = "push of a large file", "pull of a large file"
DAV, MD5 = "nginx DAV PUT and fsync", "MD5 in memory"
_NOT_OURS = ("client", "bare", "nginx")
_MIB = 1 << 20
_PULLS = 4
"""Times that a large file is pulled in a round."""
_CREATED = 201
_ENDPOINT = re.compile(rb"<vos:endpoint>([^<]+)</vos:endpoint>")
NODE = (
    "<vos:node xmlns:vos='http://www.ivoa.net/xml/VOSpace/v2.0' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'"
    " xsi:type='vos:{kind}' uri='vos://{authority}{path}'><vos:properties>"
    "<vos:property uri='ivo://ivoa.net/vospace/core#title'>a title</vos:property></vos:properties>{nodes}</vos:node>"
)
TRANSFER = (
    "<vos:transfer xmlns:vos='http://www.ivoa.net/xml/VOSpace/v2.0' version='2.1'>"
    "<vos:target>vos://{authority}{path}</vos:target><vos:direction>{direction}</vos:direction>"
    "<vos:protocol uri='ivo://ivoa.net/vospace/core#{protocol}'/></vos:transfer>"
)


@dataclass(slots=True)
class Series:
    """All rounds of one measure."""

    name: str
    unit: str
    values: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """CPU milliseconds of servers and database for one operation (MiB, listing), where they were counted."""
    shares: dict[str, list[float]] = field(default_factory=dict)
    """The same by who used them, the client included."""
    p50: list[float] = field(default_factory=list)
    """Median latency of each round, in milliseconds, where one operation follows the other."""
    p99: list[float] = field(default_factory=list)
    system: str = "pyvospace"
    """Whom it was measured of; the ceilings say so by their names."""

    @property
    def median(self) -> float:
        """The figure to quote."""
        return median(self.values) if self.values else 0.0

    def used(self, seconds: Mapping[str, float], pieces: float) -> None:
        """Keep the CPU of a round of so many operations (or MiB)."""
        cost = {part: 1000 * used / pieces for part, used in seconds.items()}
        self.cpu.append(sum(cost[part] for part in cost if part not in _NOT_OURS))
        for part, milliseconds in cost.items():
            self.shares.setdefault(part, []).append(milliseconds)

    def latencies(self, took: list[float]) -> None:
        """Keep the latencies of a round."""
        ordered = sorted(took)
        self.p50.append(1000 * median(ordered))
        self.p99.append(1000 * ordered[len(ordered) * 99 // 100])


class Meter:
    """CPU seconds from now on, of everybody whom `cpu` knows and of this client; looking at others does not count."""

    def __init__(self, cpu: Callable[[], dict[str, float]]) -> None:
        self._cpu = cpu
        self._before = cpu()
        self._client = time.process_time()

    def read(self) -> dict[str, float]:
        """Tell what was used so far."""
        client = time.process_time() - self._client
        used = {part: seconds - self._before.get(part, 0.0) for part, seconds in self._cpu().items()}
        return used | {"client": client}


@dataclass(frozen=True, slots=True)
class Setting:
    """What all measures share."""

    space: Space
    bare: int
    """Port of the bare handlers."""
    nginx: int | None
    folder: Path
    seconds: float
    rounds: int
    concurrency: int
    large: int
    """Bytes of a large file."""
    warm_up: float = 0.0
    """Seconds of each measure, before its first round, that do not count."""

    def cpu(self) -> dict[str, float]:
        """Give the CPU seconds of each part of the pair and of its ceilings."""
        return self.space.cpu() | ceilings_cpu()

    def pairs(self) -> list[tuple[Connection, Connection]]:
        """Open one connection to each server of ours, for each client."""
        return list(zip(self.connections(self.space.port), self.connections(self.space.storage_port), strict=True))

    def node(self, path: str, kind: str) -> bytes:
        """Write the document of a node."""
        nodes = "<vos:nodes/>" if kind == "ContainerNode" else ""
        return NODE.format(kind=kind, authority=self.space.authority, path=path, nodes=nodes).encode()

    def transfer(self, path: str, direction: str, protocol: str) -> bytes:
        """Write the document of a transfer."""
        return TRANSFER.format(
            authority=self.space.authority, path=path, direction=direction, protocol=protocol
        ).encode()

    def connections(self, port: int) -> list[Connection]:
        """Open as many connections as there are clients."""
        return [Connection("127.0.0.1", port) for _ in range(self.concurrency)]


Worker = Callable[[int], Awaitable[None]]


async def timed(setting: Setting, series: Series, workers: list[Worker], *, per: float = 1.0) -> None:
    """Measure one round of the pair or of a ceiling."""
    warm_up = 0.0 if series.values else setting.warm_up
    await one_round(series, workers, setting.cpu, seconds=setting.seconds, warm_up=warm_up, per=per)


async def one_round(
    series: Series,
    workers: list[Worker],
    cpu: Callable[[], dict[str, float]],
    *,
    seconds: float,
    warm_up: float,
    per: float = 1.0,
) -> None:
    """Measure a rate (of pieces that count `per`), latencies, and the CPU that everybody used for one piece."""
    if warm_up:
        await rate(workers, warm_up)
    took: list[float] = []
    meter = Meter(cpu)
    done, needed = await rate(workers, seconds, took)
    series.used(meter.read(), max(1, done))
    series.values.append(done * per / needed)
    series.latencies(took)


async def _ask(connection: Connection, message: bytes, expected: int) -> bytes:
    answer = await connection.ask(message)
    if answer.status != expected:
        raise RuntimeError(f"{answer.status} instead of {expected}: {answer.body[:300]!r}")
    return answer.headers.get("location", "").encode() if expected in {303, 307} else answer.body


def asker(connection: Connection, make: Callable[[int], bytes], expected: int) -> Worker:
    """Ask one thing after the other."""

    async def work(number: int) -> None:
        await _ask(connection, make(number), expected)

    return work


async def container(setting: Setting) -> str:
    """Make a new container and give its path."""
    path = f"{setting.space.home}/{secrets.token_hex(4)}"
    connection = Connection("127.0.0.1", setting.space.port)
    message = request("PUT", f"/nodes{path}", token=setting.space.token, body=setting.node(path, "ContainerNode"))
    await _ask(connection, message, 201)
    connection.close()
    return path


def getter(setting: Setting, path: str) -> Callable[[int], bytes]:
    """Ask for one node again and again."""
    message = request("GET", f"/nodes{path}?limit=0", token=setting.space.token)
    return lambda _: message


def creator(setting: Setting, path: str) -> Callable[[int], bytes]:
    """Ask for a new node each time."""

    def create(number: int) -> bytes:
        name = f"{path}/{number}"
        return request("PUT", f"/nodes{name}", token=setting.space.token, body=setting.node(name, "DataNode"))

    return create


async def nodes(setting: Setting) -> list[Series]:
    """Measure getNode and createNode beside the bare handlers."""
    path = await container(setting)
    ours, bare = setting.space.port, setting.bare
    query, nothing = request("GET", "/query"), request("GET", "/nothing")

    def insert(number: int) -> bytes:
        return request("PUT", f"/insert/{number}", body=setting.node(f"{path}/{number}", "DataNode"))

    measured: tuple[tuple[str, int, Callable[[int], bytes], int], ...] = (
        ("getNode", ours, getter(setting, path), 200),
        ("bare handler, one prepared query", bare, lambda _: query, 200),
        ("bare handler, nothing", bare, lambda _: nothing, 200),
        ("createNode", ours, creator(setting, path), _CREATED),
        ("bare handler, one INSERT and commit", bare, insert, _CREATED),
    )
    found = [Series(name, "1/s") for name, *_ in measured]
    for _ in range(setting.rounds):
        for series, (_, port, make, expected) in zip(found, measured, strict=True):
            connections = setting.connections(port)
            await timed(setting, series, [asker(one, make, expected) for one in connections])
            for one in connections:
                one.close()
    return found


async def listings(setting: Setting, sizes: tuple[int, ...]) -> list[Series]:
    """Measure whole listings of containers with so many children, in nodes a second."""
    found = []
    for size in sizes:
        path = await filled(setting, size)
        series = Series(f"listing of {size:,} children", "nodes/s")
        for _ in range(setting.rounds):
            await _listed(setting, series, lister(setting, path), size)
        found.append(series)
    return found


def lister(setting: Setting, path: str) -> bytes:
    """Ask for all children."""
    return request("GET", f"/nodes{path}", token=setting.space.token)


async def _listed(setting: Setting, series: Series, message: bytes, size: int) -> None:
    repeats, took = max(1, 2000 // size), []
    meter = Meter(setting.cpu)
    for _ in range(repeats):
        started = time.perf_counter()
        body = await asyncio.to_thread(collect, "127.0.0.1", setting.space.port, message)
        took.append(time.perf_counter() - started)
        # Chunks end between nodes: what stands between them hides none.
        if not body.startswith(b"HTTP/1.1 200 ") or body.count(b"<vos:node ") != size + 1:
            raise RuntimeError("the listing is not whole")
    series.used(meter.read(), repeats)
    series.values.append(size * repeats / sum(took))
    series.latencies(took)


async def filled(setting: Setting, size: int) -> str:
    """Make a container with so many children, in the database directly."""
    path = await container(setting)
    connection = await asyncpg.connect(setting.space.dsn)
    try:
        await connection.execute(
            "insert into nodes (parent_id, name, type, owner_id, properties)"
            " select n.id, 'observation ' || to_char(i, 'FM0000000') || '.fits', 'DataNode', n.owner_id,"
            """ '{"ivo://ivoa.net/vospace/core#title": "a title"}' from nodes n, generate_series(1, $2) as i"""
            " where n.name = $1",
            path.rsplit("/", 1)[-1],
            size,
        )
        await connection.execute("analyze nodes")
    finally:
        await connection.close()
    return path


class SmallFiles:
    """Pushes and pulls of files of 1 KiB over a pair of connections."""

    def __init__(self, setting: Setting, folder: str) -> None:
        self._setting = setting
        self._folder = folder
        self._content = os.urandom(1024)
        self._pushed: list[str] = []

    def push(self, meta: Connection, storage: Connection, *, quick: bool = False) -> Worker:
        """Push a new file each time, negotiated by document or, if `quick`, by parameters."""
        agree = negotiate_quickly if quick else negotiate

        async def work(_: int) -> None:
            name = f"{self._folder}/{len(self._pushed)}-{secrets.token_hex(4)}"
            endpoint = await agree(self._setting, meta, name, "pushToVoSpace", "httpput")
            await _ask(storage, request("PUT", endpoint, body=self._content, kind="application/fits"), _CREATED)
            self._pushed.append(name)

        return work

    def pull(self, meta: Connection, storage: Connection, *, quick: bool = False) -> Worker:
        """Pull one of the files, negotiated by document or, if `quick`, by parameters."""
        agree = negotiate_quickly if quick else negotiate

        async def work(number: int) -> None:
            endpoint = await agree(self._setting, meta, self._some(number), "pullFromVoSpace", "httpget")
            await self._fetch(storage, endpoint)

        return work

    def pull_by_path(self, meta: Connection, storage: Connection) -> Worker:
        """Pull one of the files by its path."""

        async def work(number: int) -> None:
            message = request("GET", f"/files{self._some(number)}", token=self._setting.space.token)
            await self._fetch(storage, urlsplit((await _ask(meta, message, 303)).decode()).path)

        return work

    def _some(self, number: int) -> str:
        return self._pushed[number % len(self._pushed)]

    async def _fetch(self, storage: Connection, endpoint: str) -> None:
        if await _ask(storage, request("GET", endpoint), 200) != self._content:
            raise RuntimeError("other bytes came back")


class BareFiles:
    """The same of the bare handlers: the same documents and bytes, one process for each kind of request."""

    def __init__(self, setting: Setting) -> None:
        self._document = request("POST", "/post", body=setting.transfer("/bare", "pushToVoSpace", "httpput"))
        self._content = os.urandom(1024)
        self._pushed = 0

    def push(self, meta: Connection, storage: Connection) -> Worker:
        """Push a new file each time."""

        async def work(_: int) -> None:
            await _ask(meta, self._document, 200)
            name, self._pushed = self._pushed, self._pushed + 1
            await _ask(storage, request("PUT", f"/files/{name}", body=self._content, kind="application/fits"), _CREATED)

        return work

    def pull(self, meta: Connection, storage: Connection) -> Worker:
        """Pull one of the files."""

        async def work(number: int) -> None:
            await _ask(meta, self._document, 200)
            if await _ask(storage, request("GET", f"/files/{number % self._pushed}"), 200) != self._content:
                raise RuntimeError("other bytes came back")

        return work


async def small_files(setting: Setting) -> list[Series]:
    """Measure push and pull of files of 1 KiB, negotiation included, beside the bare handlers."""
    files, bare = SmallFiles(setting, await container(setting)), BareFiles(setting)
    ours = setting.space.port, setting.space.storage_port
    measured: list[tuple[str, Callable[[Connection, Connection], Worker], tuple[int, int]]] = [
        (PUSH_SMALL, files.push, ours),
        (QUICK_PUSH, partial(files.push, quick=True), ours),
        (PULL_SMALL, files.pull, ours),
        (QUICK_PULL, partial(files.pull, quick=True), ours),
        ("pull of 1 KiB by /files", files.pull_by_path, ours),
    ]
    if setting.bare:
        beside = setting.bare, setting.bare + 1
        measured += [(BARE_PUSH_SMALL, bare.push, beside), (BARE_PULL_SMALL, bare.pull, beside)]
    found = [Series(name, "1/s") for name, *_ in measured]
    for _ in range(setting.rounds):
        for series, (_, worker, ports) in zip(found, measured, strict=True):
            pairs = list(zip(*map(setting.connections, ports), strict=True))
            await timed(setting, series, [worker(*pair) for pair in pairs])
            for one in itertools.chain(*pairs):
                one.close()
    return found


async def negotiate(setting: Setting, meta: Connection, path: str, direction: str, protocol: str) -> str:
    """Negotiate by document; give the path of the endpoint."""
    token = setting.space.token
    document = setting.transfer(path, direction, protocol)
    location = await _ask(meta, request("POST", "/synctrans", token=token, body=document), 303)
    return _endpoint(await _ask(meta, request("GET", urlsplit(location.decode()).path, token=token), 200))


async def negotiate_quickly(setting: Setting, meta: Connection, path: str, direction: str, protocol: str) -> str:
    """Negotiate by parameters (VOSpace 2.1, section 3.6.2): the answer to them has the endpoint."""
    asked = {
        "TARGET": f"vos://{setting.space.authority}{path}",
        "DIRECTION": direction,
        "PROTOCOL": f"ivo://ivoa.net/vospace/core#{protocol}",
    }
    body, kind = urlencode(asked).encode(), "application/x-www-form-urlencoded"
    message = request("POST", "/synctrans", token=setting.space.token, body=body, kind=kind)
    return _endpoint(await _ask(meta, message, 200))


def _endpoint(details: bytes) -> str:
    match = _ENDPOINT.search(details)
    if match is None:
        raise RuntimeError(f"no endpoint: {details!r}")
    return urlsplit(match[1].decode()).path


async def large_files(setting: Setting) -> list[Series]:
    """Measure push and pull of one large file beside nginx, a raw write with fsync, and MD5 in memory."""
    path, size = await container(setting), setting.large
    source = setting.folder / "source"
    write_random(source, size)
    names = (PUSH_LARGE, DAV, "raw write and fsync", MD5, PULL_LARGE, "nginx static GET")
    found = {name: Series(name, "MB/s") for name in names}
    for turn in range(setting.rounds):
        await _large_round(setting, found, f"{path}/{turn}", source, size)
    return [one for one in found.values() if one.values]


def write_random(path: Path, size: int) -> None:
    """Write a large file whose bytes no compression makes fewer."""
    block = os.urandom(_MIB)
    with path.open("wb") as file:
        for written in range(0, size, _MIB):
            file.write(block[: size - written])


async def _large_round(setting: Setting, found: dict[str, Series], path: str, source: Path, size: int) -> None:
    space, meta = setting.space, Connection("127.0.0.1", setting.space.port)
    endpoint = await negotiate(setting, meta, path, "pushToVoSpace", "httpput")
    statuses = [_CREATED]
    await _moved(
        setting,
        found[PUSH_LARGE],
        lambda: statuses.append(send_file("127.0.0.1", space.storage_port, endpoint, source)),
    )
    if statuses[-1] != _CREATED:
        raise RuntimeError(f"the push was answered with {statuses[-1]}")
    endpoint = await negotiate(setting, meta, path, "pullFromVoSpace", "httpget")
    pulls = [(found[PULL_LARGE], space.storage_port, endpoint)]
    stored = setting.folder / "files" / "large"
    if setting.nginx is not None:
        port, url = setting.nginx, "/files/large"
        pulls.append((found["nginx static GET"], port, url))
        stored.unlink(missing_ok=True)

        def dav() -> None:
            send_file("127.0.0.1", port, url, source)
            with stored.open("rb") as file:
                os.fsync(file.fileno())

        await _moved(setting, found[DAV], dav)
    await _pulled(setting, pulls)
    stored.unlink(missing_ok=True)
    target = setting.folder / "target"
    await _moved(setting, found["raw write and fsync"], lambda: write_durably(source, target))
    target.unlink()
    await _moved(setting, found[MD5], lambda: _md5(size))
    message = request("DELETE", f"/nodes{path}", token=space.token)
    await _ask(meta, message, 204)
    meta.close()


async def _pulled(setting: Setting, pulls: list[tuple[Series, int, str]]) -> None:
    """Measure pulls from memory, in turn: the first one, from wherever the file is, does not count.

    Large pushes go past the page cache, those of nginx do not; the disk is not what is compared here. One takes a
    fraction of a second, in which much depends on which core does what.
    """
    for turn in range(1 + _PULLS):
        for series, port, path in pulls:
            drain = partial(drain_file, "127.0.0.1", port, path, setting.large)
            await (_moved(setting, series, drain) if turn else asyncio.to_thread(drain))


def _md5(size: int) -> None:
    block, digest = bytes(4 * _MIB), hashlib.md5(usedforsecurity=False)
    for _ in range(size // len(block)):
        digest.update(block)


async def _moved(setting: Setting, series: Series, move: Callable[[], object]) -> None:
    meter, started = Meter(setting.cpu), time.perf_counter()
    await asyncio.to_thread(move)
    seconds = time.perf_counter() - started
    series.used(meter.read(), setting.large / _MIB)
    series.values.append(setting.large / 1e6 / seconds)
