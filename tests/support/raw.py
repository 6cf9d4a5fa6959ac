"""HTTP byte by byte, for what no client library would send."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

_PATIENCE = 30.0
_MOST = 1 << 20


@dataclass(frozen=True)
class RawAnswer:
    """The first answer on a connection."""

    status: int
    """0: the connection was closed without one."""
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        """Give the body as text."""
        return self.body.decode(errors="replace")


def parse(received: bytes) -> RawAnswer:
    """Read the first answer of what came."""
    if not received:
        return RawAnswer(0, {}, b"")
    head, _, rest = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    if first.split()[1] == "100":
        return parse(rest)
    fields = [line.partition(":") for line in lines]
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    return RawAnswer(int(first.split()[1]), headers, rest[: int(headers.get("content-length", len(rest)))])


async def talk(port: int, *pieces: bytes, pause: float = 0, hang_up: bool = False) -> RawAnswer:
    """Send the pieces, with a pause between them, and give the answer.

    Parameters
    ----------
    hang_up
        Close our side behind the last piece.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = asyncio.create_task(_receive(reader))
    try:
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(pause)
            if received.done():
                break
            writer.write(piece)
            await writer.drain()
        if hang_up:
            writer.write_eof()
        return parse(await received)
    except ConnectionError:
        return parse(await received)
    finally:
        received.cancel()
        writer.close()


async def _receive(reader: asyncio.StreamReader) -> bytes:
    """Receive one answer, whole, or what there is of it before the end."""
    received = b""
    async with asyncio.timeout(_PATIENCE):
        try:
            while not _is_whole(received) and (piece := await reader.read(_MOST)):
                received += piece
        except ConnectionError:
            pass
    return received


def _is_whole(received: bytes) -> bool:
    head, end, rest = received.partition(b"\r\n\r\n")
    if not end:
        return False
    if b" 100 " in head.split(b"\r\n")[0]:
        return _is_whole(rest)
    answer = parse(received)
    if "content-length" in answer.headers:
        return len(rest) >= int(answer.headers["content-length"])
    return rest.endswith(b"0\r\n\r\n")
