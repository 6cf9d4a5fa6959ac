"""Connections and slow clients: whatever one of them does, it costs nobody else anything (T16, I34, I35)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trustme
from aiohttp import web

from pyvospace.config.credentials import ProxySettings
from pyvospace.config.settings import LimitSettings, LogSettings, ServerSettings
from pyvospace.service.faults import edge
from pyvospace.service.headers import dress
from pyvospace.service.logs import AccessLog
from pyvospace.service.proxies import Proxies
from pyvospace.service.serving import Doorkeeper, serve
from tests.support.pair import free_ports
from tests.support.raw import parse

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
LARGE = 1 << 20
_writers: list[asyncio.StreamWriter] = []


async def connect(port: int, *, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    _writers.append(writer)
    return reader, writer


async def hang_up() -> None:
    """Close what was connected."""
    while _writers:
        writer = _writers.pop()
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _answer(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


async def _large(_: web.Request) -> web.Response:
    return web.Response(body=bytes(LARGE))


@asynccontextmanager
async def serving(
    *, trusted: tuple[str, ...] = (), tls: ServerSettings | None = None, **limits: float
) -> AsyncIterator[int]:
    """Run a server of ours, as a process of it would, and give its port."""
    (port,) = free_ports(1)
    settings = ServerSettings.model_validate(
        {**(tls.model_dump() if tls else {}), "port": port, "public_url": "https://x", "drain_time": 1}
    )
    app = web.Application(middlewares=[edge(AccessLog(LogSettings(level="error")))])
    app.router.add_route("*", "/", _answer)
    app.router.add_get("/large", _large)
    dress(app, settings, vary=(), cors=None)
    Proxies.install(app, ProxySettings(trusted=trusted))
    stop = asyncio.Event()
    task = asyncio.create_task(serve(app, settings, stop, limits=LimitSettings.model_validate(limits)))
    try:
        while not task.done():
            with suppress(OSError):
                (await connect(port, source="127.0.0.9"))[1].close()
                break
            await asyncio.sleep(0.01)
        yield port
    finally:
        await hang_up()
        stop.set()
        await task


async def ask(port: int, *, source: str = "127.0.0.1") -> int:
    """Ask once; 0: the connection was closed without an answer."""
    reader, writer = await connect(port, source=source)
    with suppress(ConnectionError):
        writer.write(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    return parse(await is_closed(reader, writer)).status


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Give what comes until the other side closes."""
    received = b""
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                received += piece
    return received


async def is_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Wait until the other side has closed, and give what it said before."""
    received = await rest(reader)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return received


async def test_a_head_that_comes_byte_by_byte() -> None:
    async with serving(header_timeout=0.3) as port:
        reader, writer = await connect(port)

        async def drip() -> None:
            with suppress(ConnectionError):
                for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 1000:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await is_closed(reader, writer) == b""
        dripping.cancel()
        assert await ask(port) == 200


async def test_a_connection_that_says_nothing_and_one_that_says_nothing_more() -> None:
    async with serving(header_timeout=0.3) as port:
        silent, kept = await connect(port), await connect(port)
        kept[1].write(GET)
        assert parse(await is_closed(*kept)).status == 200
        assert await is_closed(*silent) == b""


async def test_tls_that_is_never_agreed_about(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    tls = ServerSettings(tls_cert=folder / "both.pem", tls_key=folder / "both.pem", public_url="https://x")
    async with serving(tls=tls, header_timeout=0.3) as port:
        reader, writer = await connect(port)
        writer.write(b"\x16\x03\x01\x02")
        assert await is_closed(reader, writer) == b""
        context = ssl.create_default_context()
        authority.configure_trust(context)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(GET)
        assert parse(await is_closed(reader, writer)).headers["strict-transport-security"].startswith("max-age=")


async def test_connections_of_one_address() -> None:
    """One too many is closed, others come in, and a place that becomes free is given again."""
    async with serving(connections_of_one=3, connections=5) as port:
        held = [await connect(port) for _ in range(3)]
        for _, writer in held:
            writer.write(GET)
        for reader, _ in held:
            await reader.readuntil(b"\r\n\r\n")
        assert await ask(port) == 0
        assert await ask(port, source="127.0.0.2") == 200
        others = [await connect(port, source=f"127.0.0.{number}") for number in (3, 4)]
        for reader, writer in others:
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
        assert await ask(port, source="127.0.0.5") == 0  # five in all
        held[0][1].close()
        await held[0][1].wait_closed()
        for _ in range(500):
            if await ask(port) == 200:
                break
        else:
            raise AssertionError("the place was not given again")


async def test_a_proxy_brings_many_clients() -> None:
    async with serving(connections_of_one=1, trusted=("127.0.0.1",)) as port:
        for _ in range(3):
            await connect(port)
        assert await ask(port) == 200


def test_a_household_is_one_address() -> None:
    keeper = Doorkeeper(LimitSettings(connections_of_one=1), None)
    first = keeper.admit("2001:db8::1")
    assert first is not None
    assert keeper.admit("2001:db8::2") is None
    assert keeper.admit("2001:db8:0:1::1") is not None
    keeper.leave(first)
    assert keeper.admit("2001:db8::2") is not None


@pytest.mark.parametrize(
    "flood",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(1000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 1_000_000 + b"\r\ny\r\n0\r\n\r\n",
        POST
        + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        + b"".join(b"X-%d: y\r\n" % n for n in range(100_000))
        + b"\r\n",
    ],
    ids=["many headers", "a large header", "a large line", "a large chunk extension", "many trailers"],
)
async def test_floods_of_one_request(flood: bytes) -> None:
    """Refused, or read and forgotten; never an answer of ours that failed."""
    async with serving(header_timeout=2) as port:
        reader, writer = await connect(port)
        received = asyncio.create_task(rest(reader))
        with suppress(ConnectionError):
            writer.write(flood)
            await writer.drain()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await writer.drain()
        assert parse(await received).status in {0, 200, 400}
        assert await ask(port) == 200


async def test_a_flood_of_pipelined_requests_waits_in_the_network() -> None:
    """Who sends and never reads is not read any more; others are served."""
    async with serving(header_timeout=30) as port:
        _, writer = await connect(port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        request = GET.replace(b"GET /", b"GET /large")
        sent = 0
        with suppress(TimeoutError):
            for _ in range(100_000):
                writer.write(request * 100)
                sent += 100
                await asyncio.wait_for(writer.drain(), 1)
        assert sent < 10_000_000
        assert await ask(port, source="127.0.0.2") == 200
