"""What Prometheus is told by each process, what connects the logs of both servers, and how a server leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from pyvospace.service.logs import trace_of
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.pair import Pair, free_ports, running_pair
from tests.support.postgres import PostgresServer

_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def ports() -> list[int]:
    return free_ports(2)


@pytest.fixture(scope="module")
def watched(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, ports: list[int]
) -> Iterator[Pair]:
    """A pair that Prometheus may ask, which logs JSON and takes a moment to leave."""
    environment = {
        "PYVOSPACE_METRICS__METADATA": str(ports[0]),
        "PYVOSPACE_METRICS__STORAGE": str(ports[1]),
        "PYVOSPACE_LOG__FORMAT": "json",
        "PYVOSPACE_STORAGE__DRAIN_DELAY": "2",
    }
    with (
        postgres_server.clone() as name,
        running_pair(
            postgres_server.dsn(name),
            tmp_path_factory.mktemp("watched"),
            storage_dsn=postgres_server.dsn(name, STORAGE_ROLE),
            environment=environment,
        ) as running,
    ):
        yield running


@pytest.fixture
async def http(watched: Pair) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {watched.token}"}) as session:
        yield session


async def samples(http: aiohttp.ClientSession, port: int) -> dict[tuple[str, str], float]:
    async with http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.status == 200
        return {(name, labels): float(value) for name, labels, value in _SAMPLE.findall(await answer.text())}


async def test_every_process_counts(watched: Pair, http: aiohttp.ClientSession, ports: list[int]) -> None:
    """Requests by route and never by path, bytes, uploads, places, connections, memory."""
    before = await samples(http, ports[1])
    url = f"{watched.url}/files{watched.home}/secret-name"
    async with http.put(url, data=b"x" * 1000) as answer:
        assert answer.status == 201
    async with http.get(url) as answer:
        assert len(await answer.read()) == 1000
    metadata, storage = [await samples(http, port) for port in ports]
    assert metadata["pyvospace_requests_total", 'method="GET",route="/files/{path}",status="303"'] == 1
    assert storage["pyvospace_requests_total", 'method="PUT",route="/files/{token}/{name}",status="201"'] == 1
    for direction in ("received", "sent"):
        name = "pyvospace_bytes_total", f'direction="{direction}"'
        assert storage[name] - before[name] == 1000
    stored = "pyvospace_uploads_total", 'outcome="stored"'
    assert storage[stored] - before[stored] == 1
    place = next(labels for name, labels in metadata if name == "pyvospace_storage_servers")
    assert metadata["pyvospace_storage_servers", place] == 1
    assert metadata["pyvospace_storage_free_bytes", place] > 0
    for told in (metadata, storage):
        assert told["pyvospace_database_connections", 'state="most"'] == 10
        assert told["process_resident_memory_bytes", ""] > 0
        assert not any("secret-name" in labels for _, labels in told)


async def test_clients_are_not_told(watched: Pair, http: aiohttp.ClientSession) -> None:
    """Numbers are for the operator: they have a listener of their own."""
    for base in (watched.url, watched.storage_url):
        async with http.get(f"{base}/metrics") as answer:
            assert answer.status == 404


async def test_one_trace_in_both_logs(watched: Pair, http: aiohttp.ClientSession) -> None:
    """Whoever looks for a transfer finds the lines of both servers, by the trace of the client or by ours."""
    url = f"{watched.url}/files{watched.home}/traced"
    async with http.put(url, data=b"1", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}) as answer:
        assert answer.status == 201
    async with http.get(url) as answer:
        assert answer.history[0].headers["X-Request-Id"]
        began = answer.history[0].headers["X-Request-Id"]
    for trace in (TRACE, began):
        for name in ("metadata", "storage"):
            await _logged(watched, name, trace)


async def _logged(pair: Pair, name: str, trace: str) -> None:
    async with asyncio.timeout(10):
        while True:
            lines = [json.loads(line) for line in pair.log(name).splitlines() if line.startswith("{")]
            if any(line.get("trace") == trace and line.get("path") for line in lines):
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("header", [None, "", "00-xyz", f"00-{TRACE}-00f067aa0ba902b7", f"01-{TRACE}-0-01", "\n" * 9])
def test_no_trace(header: str | None) -> None:
    """What is no traceparent is none."""
    assert trace_of(header) is None


async def test_leaving(watched: Pair, http: aiohttp.ClientSession, ports: list[int]) -> None:
    """A server that is told to stop says so, lets what is under way end, and loses nothing. (Last of this module.)"""
    url = f"{watched.url}/files{watched.home}/late"
    go = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"a" * 100_000
        await go.wait()
        yield b"b" * 100_000

    async with http.put(url, data=b"", allow_redirects=False) as answer:
        endpoint = answer.headers["Location"]
    upload = asyncio.create_task(http.put(endpoint, data=body()).__aenter__())
    async with asyncio.timeout(10):
        while not (await samples(http, ports[1])).get(("pyvospace_requests_open", "")):
            await asyncio.sleep(0.05)
    process = watched.processes["storage"]
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        while True:
            async with http.get(f"{watched.storage_url}/readyz") as answer:
                if answer.status == 503:
                    assert "about to stop" in await answer.text()
                    break
            await asyncio.sleep(0.05)
    with contextlib.suppress(ConnectionRefusedError):
        while True:  # until nobody new is let in
            _, writer = await asyncio.open_connection("127.0.0.1", watched.storage_port)
            writer.close()
            await asyncio.sleep(0.1)
    go.set()
    answer = await upload
    assert answer.status == 201
    answer.release()
    assert await asyncio.to_thread(process.wait, 20) == 0
    watched.start("storage")
    async with http.get(url) as answer:
        assert await answer.read() == b"a" * 100_000 + b"b" * 100_000
