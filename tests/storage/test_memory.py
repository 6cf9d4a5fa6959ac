"""Memory is bounded by the configuration and not by clients or files."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.storage.test_crash import Process, running

MIB = 1 << 20
PIECE = bytes(range(256)) * 1024
FEW, MANY = 150 * MIB, 300 * MIB


def peak(server: Process) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


async def put(port: int, node: int, size: int, *, chunked: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    head = f"PUT /files/put-{node}/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}\r\n\r\n"
    writer.write(head.encode())
    for _ in range(size // len(PIECE)):
        writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    assert b" 201 " in await reader.read()
    writer.close()


async def get(port: int, node: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /files/get-{node}/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    while await reader.read(MIB):
        pass
    writer.close()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("clients", "size", "limit"), [(16, 12 * MIB, FEW), (100, 3 * MIB, MANY)])
async def test_transfers_at_once(tmp_path: Path, clients: int, size: int, limit: int, chunked: bool) -> None:
    with running(tmp_path) as server:
        await asyncio.gather(*(put(server.port, node, size, chunked=chunked) for node in range(clients)))
        await asyncio.gather(*(get(server.port, node) for node in range(clients)))
        assert peak(server) < limit
