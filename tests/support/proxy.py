"""A way to PostgreSQL that may fall silent, as a network does that is cut: nothing is closed, nothing is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pyvospace.supervisor.data import DATABASE
from tests.support.postgres import PostgresServer

_SOCKET = ".s.PGSQL.5432"


class Proxy:
    """Stands between a pool and PostgreSQL; `folder` is where its own socket is."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._silent = False
        self._writers: list[asyncio.StreamWriter] = []

    def dsn(self, database: str, role: str = DATABASE) -> str:
        """Give the DSN of a database behind it."""
        return replace(self._server.cluster, socket=str(self._folder)).dsn(role, database)

    def silence(self) -> None:
        """Swallow everything from now on."""
        self._silent = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on."""
        there_reader, there_writer = await asyncio.open_unix_connection(Path(self._server.cluster.socket) / _SOCKET)
        self._writers += [writer, there_writer]
        with suppress(ConnectionError):
            await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not self._silent:
                writer.write(data)
        writer.close()

    def close(self) -> None:
        """Close what is open."""
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def proxy_to(server: PostgresServer, folder: Path) -> AsyncIterator[Proxy]:
    """Have a proxy."""
    proxy = Proxy(server, folder)
    listening = await asyncio.start_unix_server(proxy.serve, folder / _SOCKET)
    yield proxy
    proxy.close()
    listening.close()
