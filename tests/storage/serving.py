"""A storage server in the test's own loop, over a catalogue in memory, and clients that speak raw HTTP."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

from pyvospace.config import Settings
from pyvospace.config.settings import LimitSettings, StorageSettings
from pyvospace.model.claims import EndpointClaims, Operation
from pyvospace.model.faults import PermissionDenied
from pyvospace.storage.app import make_app
from pyvospace.storage.backend import StorageBackend
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.testing.doubles import MemoryCatalogue


class OpenVerifier:
    """Takes ``get-7``, ``put-7`` and ``render-7`` for endpoints of node 7."""

    async def verify_credential(self, user: str, password: str) -> EndpointClaims:
        return await self.verify(f"{user}-{password}")

    async def verify(self, token: str) -> EndpointClaims:
        operation, _, node = token.partition("-")
        known: dict[str, Operation] = {"get": "get", "put": "put", "render": "render"}
        if operation not in known or not node.isdigit():
            raise PermissionDenied("not one of our endpoints")
        return EndpointClaims(
            operation=known[operation],
            node_id=int(node),
            job_id=None,
            user_id=1,
            expires=datetime.now(UTC) + timedelta(hours=1),
        )


@dataclass(frozen=True)
class Answer:
    """What came back from a raw connection."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool


@dataclass
class Server:
    """A running storage server."""

    port: int
    catalogue: MemoryCatalogue
    backend: StorageBackend
    tls: ssl.SSLContext | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> "Connection":
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.tls, server_hostname="localhost" if self.tls else None
        )
        self.writers.append(writer)
        return Connection(reader, writer)

    async def put(self, data: bytes, node: int = 1, headers: dict[str, str] | None = None, **more: str) -> Answer:
        return await (await self.connect()).put(data, node, **(headers or {}), **more)

    async def get(
        self, node: int = 1, method: str = "GET", headers: dict[str, str] | None = None, **more: str
    ) -> Answer:
        connection = await self.connect()
        await connection.send(connection.head(method, f"/files/get-{node}/x", (headers or {}) | more))
        return await connection.answer(method)

    async def hang_up(self) -> None:
        """End all connections, at both ends."""
        for writer in self.writers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        self.writers.clear()
        await asyncio.sleep(0.02)

    @property
    def url(self) -> str:
        return f"http{'s' * (self.tls is not None)}://127.0.0.1:{self.port}"


class Connection:
    """One connection of a client without manners."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @staticmethod
    def head(method: str, path: str, headers: dict[str, str]) -> bytes:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def put(self, data: bytes, node: int = 1, **headers: str) -> Answer:
        headers.setdefault("Content_Length", str(len(data)))
        await self.send(self.head("PUT", f"/files/put-{node}/x", headers) + data)
        return await self.answer("PUT")

    async def answer(self, method: str = "GET", *, wait: bool = True) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        code = int(status.split()[1])
        if code == 100:
            return Answer(code, headers, b"", closed=False)
        length = 0 if method == "HEAD" else int(headers.get("content-length", "0"))
        body = await self.reader.readexactly(length)
        closed = headers.get("connection") == "close"
        if closed and wait:
            assert await self.reader.read() == b""
        return Answer(code, headers, body, closed)


def make_settings(path: Path, *, limits: dict[str, Any] | None = None, **storage: Any) -> Settings:
    defaults: dict[str, Any] = {"path": path / "store", "idle_timeout": 30.0, "reserve": 0.0}
    return Settings(storage=StorageSettings(**(defaults | storage)), limits=LimitSettings(**(limits or {})))


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    catalogue: MemoryCatalogue | None = None,
    backend: StorageBackend | None = None,
    authority: trustme.CA | None = None,
    patience: float = 5,
) -> AsyncIterator[Server]:
    """Run a server until the block is left; afterwards nothing may be left in the loop."""
    catalogue = catalogue or MemoryCatalogue()
    backend = backend or PosixBackend(settings.storage.path)
    identity = await backend.start()
    app = make_app(settings, catalogue=catalogue, backend=backend, identity=identity, verifier=OpenVerifier())
    runner = web.AppRunner(
        app, access_log=None, auto_decompress=False, read_bufsize=1 << 16, shutdown_timeout=patience, lingering_time=1
    )
    await runner.setup()
    offered = trusted = None
    if authority is not None:
        offered = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(offered)
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=offered)
    await site.start()
    server = Server(runner.addresses[0][1], catalogue, backend, trusted)
    try:
        yield server
    finally:
        for writer in server.writers:
            writer.close()
        await runner.cleanup()
        await backend.close()


def staged(settings: Settings) -> list[str]:
    return [path.name for path in (settings.storage.path / "staging").iterdir()]


def stored(settings: Settings) -> list[Path]:
    return [path for path in (settings.storage.path / "data").rglob("*") if path.is_file()]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens behind an answer."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came true")
