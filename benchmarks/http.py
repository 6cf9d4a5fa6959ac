"""A client that costs next to nothing: prepared requests over keep-alive connections, answers read by length."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

_LIMIT = 1 << 22
_WITHOUT_BODY = (204, 304)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Connection:
    """One connection to one server, opened again when the server closes it."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._address = (host, port)
        self._tls = tls
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer; a connection where that was broken off is used no more."""
        try:
            return await self._ask(request)
        except BaseException:
            self.close()
            raise

    async def _ask(self, request: bytes) -> Answer:
        if self._writer is None or self._writer.is_closing() or (self._reader and self._reader.at_eof()):
            self.close()
            self._reader, self._writer = await asyncio.open_connection(*self._address, limit=_LIMIT, ssl=self._tls)
        reader, writer = self._reader, self._writer
        assert reader is not None
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        status = int(head[0].split()[1])
        bare = request.startswith(b"HEAD ") or status in _WITHOUT_BODY
        body = b"" if bare else await self._body(reader, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(status, headers, body)

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return await reader.read() if headers.get("connection", "").lower() == "close" else b""
        pieces = []
        while True:
            size = int((await reader.readline()).partition(b";")[0], 16)
            pieces.append(await reader.readexactly(size + 2))
            if size == 0:
                break
        return b"".join(piece[:-2] for piece in pieces)

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def request(
    method: str,
    path: str,
    *,
    host: str = "localhost",
    token: str = "",
    body: bytes = b"",
    kind: str = "text/xml",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Write a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body or method in {"PUT", "POST"}:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


Work = Callable[[int], Awaitable[None]]


_NUMBERS = itertools.count()


async def rate(workers: list[Work], seconds: float, took: list[float] | None = None) -> tuple[int, float]:
    """Let each worker do its work again and again, with numbers that never repeat; `took` gets the seconds each took.

    Returns
    -------
    tuple
        Number of pieces of work done, seconds taken.
    """
    took = [] if took is None else took
    end = time.perf_counter() + seconds

    async def loop(work: Work) -> None:
        begun = time.perf_counter()
        while begun < end:
            await work(next(_NUMBERS))
            now = time.perf_counter()
            took.append(now - begun)
            begun = now

    started = time.perf_counter()
    tasks = [asyncio.create_task(loop(work)) for work in workers]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return len(took), time.perf_counter() - started


def send_file(host: str, port: int, path: str, file: Path) -> int:
    """PUT a file with sendfile; give the status."""
    size = file.stat().st_size
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection((host, port)) as connection, file.open("rb") as source:
        connection.sendall(head.encode())
        connection.sendfile(source)
        return int(connection.recv(4096).split()[1])


def drain_file(host: str, port: int, path: str, size: int) -> None:
    """GET `size` bytes and throw them away."""
    buffer = bytearray(1 << 20)
    with socket.create_connection((host, port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        read = 0
        while got := connection.recv_into(buffer):
            read += got
    if read < size:
        raise RuntimeError(f"{read} bytes came, not {size}")


def collect(host: str, port: int, message: bytes) -> bytes:
    """Ask on a connection of its own and keep all that comes, as it comes: the head, and chunks with their sizes."""
    kept = bytearray()
    buffer = memoryview(bytearray(1 << 20))
    with socket.create_connection((host, port)) as connection:
        connection.sendall(message.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        while got := connection.recv_into(buffer):
            kept += buffer[:got]
    return bytes(kept)


def write_durably(source: Path, target: Path) -> None:
    """Copy a file by plain reads and writes, then fsync: what a disk can do."""
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while piece := reader.read(1 << 22):
            writer.write(piece)
        os.fsync(writer.fileno())
