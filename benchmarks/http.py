"""A client that costs next to nothing: prepared requests over keep-alive connections, answers read by length."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

_LIMIT = 1 << 22


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Connection:
    """One connection to one server, opened again when the server closes it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer."""
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection(*self._address, limit=_LIMIT)
        reader, writer = self._reader, self._writer
        assert reader is not None
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self._body(reader, headers)
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split()[1]), headers, body)

    async def _body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        pieces = []
        while headers.get("transfer-encoding") == "chunked":
            size = int(await reader.readline(), 16)
            pieces.append(await reader.readexactly(size + 2))
            if size == 0:
                break
        return b"".join(piece[:-2] for piece in pieces)

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def request(method: str, path: str, *, token: str = "", body: bytes = b"", kind: str = "text/xml") -> bytes:
    """Write a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body or method in {"PUT", "POST"}:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


Work = Callable[[int], Awaitable[None]]


async def rate(workers: list[Callable[[int], Awaitable[None]]], seconds: float) -> tuple[int, float]:
    """Let each worker do its work again and again, with numbers that never repeat.

    Returns
    -------
    tuple
        Number of pieces of work done, seconds taken.
    """
    done = 0
    number = iter(range(1 << 60))
    end = time.perf_counter() + seconds

    async def loop(work: Work) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await work(next(number))
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(loop(work) for work in workers))
    return done, time.perf_counter() - started


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


def write_durably(source: Path, target: Path) -> None:
    """Copy a file by plain reads and writes, then fsync: what a disk can do."""
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        while piece := reader.read(1 << 22):
            writer.write(piece)
        os.fsync(writer.fileno())
