"""Jobs from their making to their end, and how soon a thousand who wait are told, beside bare asyncpg doing the same.

The bare queue is what a job cannot do without: an INSERT, three UPDATEs with a commit each, and two notifications.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from benchmarks.http import Connection, rate, request
from benchmarks.measures import Series, Setting, Worker, container

COMPLETED, BARE = "job, from POST to COMPLETED", "bare queue in PostgreSQL"
SOON, BARE_SOON = "a waiter is woken, median", "bare LISTEN, median"
LATE, BARE_LATE = "a waiter is woken, 99th percentile", "bare LISTEN, 99th percentile"
_AT_ONCE = 4
"""Jobs that a metadata server works on at a time."""
_PATIENCE = 600
"""Tenths of a second."""
_FORM = "application/x-www-form-urlencoded"
_MOVE = (
    "<vos:transfer xmlns:vos='http://www.ivoa.net/xml/VOSpace/v2.0' version='2.1'>"
    "<vos:target>vos://{authority}{source}</vos:target><vos:direction>vos://{authority}{goal}</vos:direction>"
    "<vos:keepBytes>false</vos:keepBytes></vos:transfer>"
)
_TABLES = """
    create table if not exists bare_jobs (id text primary key, phase text not null,
                                          created timestamptz not null default now());
    create index if not exists bare_queue on bare_jobs (created) where phase = 'QUEUED'
"""
_CLAIM = """
    update bare_jobs set phase = 'EXECUTING' where id = (
        select id from bare_jobs where phase = 'QUEUED' order by created limit 1 for update skip locked)
    returning id
"""


class _Ears:
    """Those who wait for notifications of one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self._waiting: dict[str, asyncio.Future[float]] = {}

    async def listen(self, channel: str) -> None:
        await self._connection.add_listener(channel, self._heard)

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        future = self._waiting.pop(str(payload), None)
        if future is not None and not future.done():
            future.set_result(time.perf_counter())

    def wait(self, name: str) -> asyncio.Future[float]:
        """Give when a name is told."""
        self._waiting[name] = future = asyncio.get_running_loop().create_future()
        return future


class _BareQueue:
    """Makes, runs and completes rows."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], ears: _Ears) -> None:
        self._pool = pool
        self._ears = ears
        self._woken = asyncio.Condition()

    async def produce(self, _: int) -> None:
        """Make a job, run it, and wait for its end."""
        name = secrets.token_hex(20)
        ended = self._ears.wait(name)
        await self._pool.execute("insert into bare_jobs (id, phase) values ($1, 'PENDING')", name)
        await self._pool.execute("update bare_jobs set phase = 'QUEUED' where id = $1", name)
        await self._pool.execute("notify bare_queue")
        async with self._woken:
            self._woken.notify()
        await ended

    async def work(self) -> None:
        """Complete one job after the other, until cancelled."""
        while True:
            name = await self._pool.fetchval(_CLAIM)
            if name is None:
                async with self._woken:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._woken.wait(), 0.05)
                continue
            finish = "update bare_jobs set phase = 'COMPLETED' where id = $1 returning pg_notify('bare_ended', id)"
            await self._pool.execute(finish, name)


async def jobs(setting: Setting, waiters: int) -> list[Series]:
    """Measure both, in turn."""
    names = ((COMPLETED, "1/s"), (BARE, "1/s"), (SOON, "µs"), (BARE_SOON, "µs"), (LATE, "µs"), (BARE_LATE, "µs"))
    found = {name: Series(name, unit) for name, unit in names}
    async with _connections(setting) as (pool, ears):
        for _ in range(setting.rounds):
            await _round(setting, found, pool, ears)
            await _wake(setting, found, pool, waiters)
            await _wake_bare(found, pool, ears, waiters)
    return list(found.values())


@contextlib.asynccontextmanager
async def _connections(setting: Setting) -> AsyncIterator[tuple[asyncpg.Pool[asyncpg.Record], _Ears]]:
    listening = await asyncpg.connect(setting.space.dsn)
    async with asyncpg.create_pool(setting.space.dsn, min_size=10, max_size=10) as pool:
        await pool.execute(_TABLES)
        ears = _Ears(listening)
        await ears.listen("bare_ended")
        yield pool, ears
        await listening.close()


async def _round(setting: Setting, found: dict[str, Series], pool: asyncpg.Pool[asyncpg.Record], ears: _Ears) -> None:
    folder = await container(setting)
    connections = setting.connections(setting.space.port)
    movers = [_Mover(setting, connection, f"{folder}/{number}") for number, connection in enumerate(connections)]
    for mover in movers:
        await mover.prepare()
    done, seconds = await rate([mover.move for mover in movers], setting.seconds)
    found[COMPLETED].values.append(done / seconds)
    for connection in connections:
        connection.close()
    queue = _BareQueue(pool, ears)
    workers = [asyncio.create_task(queue.work()) for _ in range(_AT_ONCE)]
    producers: list[Worker] = [queue.produce for _ in range(setting.concurrency)]
    done, seconds = await rate(producers, setting.seconds)
    found[BARE].values.append(done / seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)


class _Mover:
    """Renames one node again and again."""

    def __init__(self, setting: Setting, connection: Connection, path: str) -> None:
        self._setting = setting
        self._connection = connection
        self._path = path
        self._number = 0

    async def prepare(self) -> None:
        """Make the node."""
        path = f"{self._path}-0"
        body = self._setting.node(path, "DataNode")
        await self._send("PUT", f"/nodes{path}", 201, body)

    async def move(self, _: int) -> None:
        """Make a job, run it, and wait for its end."""
        authority = self._setting.space.authority
        source, goal = (f"{self._path}-{self._number + step}" for step in (0, 1))
        self._number += 1
        body = _MOVE.format(authority=authority, source=source, goal=goal).encode()
        job = urlsplit(await self._send("POST", "/transfers", 303, body)).path
        await self._send("POST", f"{job}/phase", 303, b"PHASE=RUN", kind=_FORM)
        while "<uws:phase>COMPLETED<" not in (told := await self._send("GET", f"{job}?WAIT=60", 200)):
            if "<uws:phase>ERROR<" in told:
                raise RuntimeError(told)

    async def _send(self, method: str, path: str, status: int, body: bytes = b"", **more: Any) -> str:
        answer = await self._connection.ask(request(method, path, token=self._setting.space.token, body=body, **more))
        if answer.status != status:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer.headers["location"] if status == 303 else answer.body.decode()  # noqa: PLR2004


async def _wake(setting: Setting, found: dict[str, Series], pool: asyncpg.Pool[asyncpg.Record], waiters: int) -> None:
    """Have so many requests wait for jobs that end one by one, and measure from the change to the answer."""
    names = [secrets.token_hex(20) for _ in range(waiters)]
    await pool.execute(
        "insert into jobs (id, list, owner_id, phase, kind, request, destruction)"
        " select id, 'searches', (select owner_id from nodes where name = $2), 'EXECUTING', 'search',"
        """ '{"parameters": {}}', now() + interval '1 h' from unnest($1::text[]) id""",
        names,
        setting.space.home.rsplit("/", 1)[-1],
    )
    connections = [Connection("127.0.0.1", setting.space.port) for _ in names]
    answered: dict[str, asyncio.Task[float]] = {}
    for name, connection in zip(names, connections, strict=True):
        answered[name] = asyncio.create_task(_answer(setting, connection, name))
    await _until_watched(pool, names, list(answered.values()))
    await asyncio.sleep(0.5)  # those that are watched look once more
    update = "update jobs set phase = 'ABORTED', ended = now() where id = $1"
    taken = []
    for name in names:
        begun = time.perf_counter()
        await pool.execute(update, name)
        taken.append(await answered[name] - begun)
    _keep(found[SOON], found[LATE], taken)
    for connection in connections:
        connection.close()


async def _until_watched(
    pool: asyncpg.Pool[asyncpg.Record], names: list[str], answers: list[asyncio.Task[float]]
) -> None:
    count = "select count(*) from jobs where id = any ($1) and watched is not null"
    for _ in range(_PATIENCE):
        if await pool.fetchval(count, names) == len(names):
            return
        for one in answers:
            if one.done():
                one.result()
        await asyncio.sleep(0.1)
    raise RuntimeError("not all who were to wait do so")


async def _answer(setting: Setting, connection: Connection, name: str) -> float:
    answer = await connection.ask(request("GET", f"/searches/{name}?WAIT=60", token=setting.space.token))
    moment = time.perf_counter()
    if b"<uws:phase>ABORTED<" not in answer.body:
        raise RuntimeError(f"{answer.status} {answer.body[:300]!r}")
    return moment


async def _wake_bare(found: dict[str, Series], pool: asyncpg.Pool[asyncpg.Record], ears: _Ears, waiters: int) -> None:
    names = [secrets.token_hex(20) for _ in range(waiters)]
    await pool.execute("insert into bare_jobs (id, phase) select id, 'EXECUTING' from unnest($1::text[]) id", names)
    told = {name: ears.wait(name) for name in names}
    update = "update bare_jobs set phase = 'ABORTED' where id = $1 returning pg_notify('bare_ended', id)"
    taken = []
    for name in names:
        begun = time.perf_counter()
        await pool.execute(update, name)
        taken.append(await told[name] - begun)
    _keep(found[BARE_SOON], found[BARE_LATE], taken)


def _keep(middle: Series, late: Series, seconds: list[float]) -> None:
    middle.values.append(1e6 * median(seconds))
    late.values.append(1e6 * quantiles(seconds, n=100)[98])
