"""The measures: each runs a few rounds, this server and its ceilings in turn, and keeps every round."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import asyncpg

from benchmarks.http import Connection, drain_file, rate, request, send_file, write_durably
from benchmarks.systems import Space

_MIB = 1 << 20
_CREATED = 201
_ENDPOINT = re.compile(rb"<vos:endpoint>([^<]+)</vos:endpoint>")
_NODE = (
    "<vos:node xmlns:vos='http://www.ivoa.net/xml/VOSpace/v2.0' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'"
    " xsi:type='vos:{kind}' uri='vos://{authority}{path}'><vos:properties>"
    "<vos:property uri='ivo://ivoa.net/vospace/core#title'>a title</vos:property></vos:properties>{nodes}</vos:node>"
)
_TRANSFER = (
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
    """CPU milliseconds of servers and database for one operation (or one MiB), where they were counted."""

    @property
    def median(self) -> float:
        """The figure to quote."""
        return median(self.values) if self.values else 0.0


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

    def node(self, path: str, kind: str) -> bytes:
        """Write the document of a node."""
        nodes = "<vos:nodes/>" if kind == "ContainerNode" else ""
        return _NODE.format(kind=kind, authority=self.space.authority, path=path, nodes=nodes).encode()

    def transfer(self, path: str, direction: str, protocol: str) -> bytes:
        """Write the document of a transfer."""
        return _TRANSFER.format(
            authority=self.space.authority, path=path, direction=direction, protocol=protocol
        ).encode()

    def connections(self, port: int) -> list[Connection]:
        """Open as many connections as there are clients."""
        return [Connection("127.0.0.1", port) for _ in range(self.concurrency)]


Worker = Callable[[int], Awaitable[None]]


async def timed(setting: Setting, series: Series, workers: list[Worker], *, per: float = 1.0) -> None:
    """Measure one round: a rate, and the CPU that servers and database used for one operation."""
    before = setting.space.cpu()
    done, seconds = await rate(workers, setting.seconds)
    after = setting.space.cpu()
    series.values.append(done / seconds)
    series.cpu.append(1000 * sum(after[part] - before[part] for part in after) / max(1, done) / per)


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


async def nodes(setting: Setting) -> list[Series]:
    """Measure getNode and createNode beside the bare handlers."""
    token = setting.space.token
    path = await container(setting)
    found = [
        Series("getNode", "1/s"),
        Series("bare handler, one prepared query", "1/s"),
        Series("bare handler, nothing", "1/s"),
        Series("createNode", "1/s"),
        Series("bare handler, one INSERT and commit", "1/s"),
    ]
    fetch = request("GET", f"/nodes{path}?limit=0", token=token)
    for turn in range(setting.rounds):
        ours, bare = setting.connections(setting.space.port), setting.connections(setting.bare)
        await timed(setting, found[0], [asker(one, lambda _: fetch, 200) for one in ours])
        for series, what in ((found[1], "/query"), (found[2], "/nothing")):
            message = request("GET", what)
            await timed(setting, series, [asker(one, lambda _, m=message: m, 200) for one in bare])  # type: ignore[misc]

        def create(number: int, turn: int = turn) -> bytes:
            name = f"{path}/{turn}-{number}"
            return request("PUT", f"/nodes{name}", token=token, body=setting.node(name, "DataNode"))

        await timed(setting, found[3], [asker(one, create, 201) for one in ours])

        def insert(number: int) -> bytes:
            return request("PUT", f"/insert/{number}", body=setting.node(f"{path}/{number}", "DataNode"))

        await timed(setting, found[4], [asker(one, insert, 201) for one in bare])
        for one in ours + bare:
            one.close()
    return found


async def listings(setting: Setting, sizes: tuple[int, ...]) -> list[Series]:
    """Measure whole listings of containers with so many children, in nodes a second."""
    found = []
    connection = Connection("127.0.0.1", setting.space.port)
    for size in sizes:
        path = await _filled(setting, size)
        series = Series(f"listing of {size:,} children", "nodes/s")
        message = request("GET", f"/nodes{path}", token=setting.space.token)
        for _ in range(setting.rounds):
            started = time.perf_counter()
            repeats = max(1, 2000 // size)
            for _ in range(repeats):
                body = await _ask(connection, message, 200)
            series.values.append(size * repeats / (time.perf_counter() - started))
            if body.count(b"<vos:node ") != size + 1:
                raise RuntimeError("the listing is not whole")
        found.append(series)
    connection.close()
    return found


async def _filled(setting: Setting, size: int) -> str:
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

    def push(self, meta: Connection, storage: Connection) -> Worker:
        """Push a new file each time."""

        async def work(_: int) -> None:
            name = f"{self._folder}/{len(self._pushed)}-{secrets.token_hex(4)}"
            endpoint = await negotiate(self._setting, meta, name, "pushToVoSpace", "httpput")
            await _ask(storage, request("PUT", endpoint, body=self._content, kind="application/fits"), _CREATED)
            self._pushed.append(name)

        return work

    def pull(self, meta: Connection, storage: Connection) -> Worker:
        """Pull one of the files, negotiated by document."""

        async def work(number: int) -> None:
            endpoint = await negotiate(self._setting, meta, self._some(number), "pullFromVoSpace", "httpget")
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


async def small_files(setting: Setting) -> list[Series]:
    """Measure push and pull of files of 1 KiB, negotiation by document included."""
    files = SmallFiles(setting, await container(setting))
    measured = (
        (Series("push of 1 KiB (POST, details, PUT)", "1/s"), files.push),
        (Series("pull of 1 KiB (POST, details, GET)", "1/s"), files.pull),
        (Series("pull of 1 KiB by /files", "1/s"), files.pull_by_path),
    )
    for _ in range(setting.rounds):
        pairs = list(
            zip(setting.connections(setting.space.port), setting.connections(setting.space.storage_port), strict=True)
        )
        for series, worker in measured:
            await timed(setting, series, [worker(*pair) for pair in pairs])
        for meta, storage in pairs:
            meta.close()
            storage.close()
    return [series for series, _ in measured]


async def negotiate(setting: Setting, meta: Connection, path: str, direction: str, protocol: str) -> str:
    """Negotiate by document; give the path of the endpoint."""
    token = setting.space.token
    document = setting.transfer(path, direction, protocol)
    location = await _ask(meta, request("POST", "/synctrans", token=token, body=document), 303)
    details = await _ask(meta, request("GET", urlsplit(location.decode()).path, token=token), 200)
    match = _ENDPOINT.search(details)
    if match is None:
        raise RuntimeError(f"no endpoint: {details!r}")
    return urlsplit(match[1].decode()).path


async def large_files(setting: Setting) -> list[Series]:
    """Measure push and pull of one large file beside nginx, a raw write with fsync, and MD5 in memory."""
    path, size = await container(setting), setting.large
    source = setting.folder / "source"
    with source.open("wb") as file:
        block = os.urandom(_MIB)
        for _ in range(size // _MIB):
            file.write(block)
    names = (
        "push of a large file", "nginx DAV PUT and fsync", "raw write and fsync", "MD5 in memory",
        "pull of a large file", "nginx static GET",
    )  # fmt: skip
    found = {name: Series(name, "MB/s") for name in names}
    for turn in range(setting.rounds):
        await _large_round(setting, found, f"{path}/{turn}", source, size)
    return [one for one in found.values() if one.values]


async def _large_round(setting: Setting, found: dict[str, Series], path: str, source: Path, size: int) -> None:
    space, meta = setting.space, Connection("127.0.0.1", setting.space.port)
    endpoint = await negotiate(setting, meta, path, "pushToVoSpace", "httpput")
    statuses = [_CREATED]
    await _moved(
        setting, found[_PUSH], lambda: statuses.append(send_file("127.0.0.1", space.storage_port, endpoint, source))
    )
    if statuses[-1] != _CREATED:
        raise RuntimeError(f"the push was answered with {statuses[-1]}")
    endpoint = await negotiate(setting, meta, path, "pullFromVoSpace", "httpget")
    await _pulled(setting, found[_PULL], space.storage_port, endpoint)
    if setting.nginx is not None:
        port, stored = setting.nginx, setting.folder / "files" / "large"
        stored.unlink(missing_ok=True)

        def dav() -> None:
            send_file("127.0.0.1", port, "/files/large", source)
            with stored.open("rb") as file:
                os.fsync(file.fileno())

        await _moved(setting, found["nginx DAV PUT and fsync"], dav)
        await _pulled(setting, found["nginx static GET"], port, "/files/large")
        stored.unlink()
    target = setting.folder / "target"
    await _moved(setting, found["raw write and fsync"], lambda: write_durably(source, target))
    target.unlink()
    await _moved(setting, found["MD5 in memory"], lambda: _md5(size))
    message = request("DELETE", f"/nodes{path}", token=space.token)
    await _ask(meta, message, 204)
    meta.close()


async def _pulled(setting: Setting, series: Series, port: int, path: str) -> None:
    """Measure a pull from memory: the first one, from wherever the file is, does not count.

    Large pushes go past the page cache, those of nginx do not; the disk is not what is compared here.
    """
    await asyncio.to_thread(drain_file, "127.0.0.1", port, path, setting.large)
    await _moved(setting, series, lambda: drain_file("127.0.0.1", port, path, setting.large))


_PUSH, _PULL = "push of a large file", "pull of a large file"


def _md5(size: int) -> None:
    block, digest = bytes(4 * _MIB), hashlib.md5(usedforsecurity=False)
    for _ in range(size // len(block)):
        digest.update(block)


async def _moved(setting: Setting, series: Series, move: Callable[[], object]) -> None:
    before, started = setting.space.cpu(), time.perf_counter()
    await asyncio.to_thread(move)
    seconds, after = time.perf_counter() - started, setting.space.cpu()
    series.values.append(setting.large / 1e6 / seconds)
    series.cpu.append(1000 * sum(after[part] - before[part] for part in after) / (setting.large / _MIB))
