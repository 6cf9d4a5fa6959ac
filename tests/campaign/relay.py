"""The way to PostgreSQL: TCP on this side, its socket on the other, and whatever may happen to packets in between."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

_PIECE: Final = 1 << 16


class Relay:
    """Passes on what comes, unless it is told not to."""

    def __init__(self, socket: Path) -> None:
        self.port = 0
        self.delay = 0.0
        """Seconds that each piece is under way."""
        self._socket = socket
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    async def start(self, *hosts: str) -> None:
        """Listen at these addresses, at one port."""
        for host in hosts:
            server = await asyncio.start_server(self._serve, host, self.port)
            self.port = self.port or server.sockets[0].getsockname()[1]
            self._servers.append(server)

    def block(self) -> None:
        """Let nothing through, and tell nobody."""
        self._open.clear()

    def unblock(self) -> None:
        """Let everything through that has waited."""
        self._open.set()

    def reset(self) -> None:
        """Cut all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Stop."""
        for server in self._servers:
            server.close()
        self.unblock()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
            self._writers.add(far_writer)
            ways = [asyncio.create_task(self._pass(*way)) for way in ((reader, far_writer), (far_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                self._forget(far_writer)
        self._forget(writer)
        self._tasks.discard(task)

    def _forget(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        self._writers.discard(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._open.wait()
                writer.write(piece)
                await writer.drain()
