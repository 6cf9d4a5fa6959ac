"""A protocol of two requests, each on a connection of its own: ``GET user password`` and ``PUT user password size``.

The answer is a line, ``OK size`` or the name of a fault and words; behind a GET the bytes follow.
"""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from pyvospace.storage.jobpool import Fault, JobPool, Origin
from pyvospace.storage.protocols import Offer, ProtocolConfig, ProtocolServer

URI = "ivo://example.org/protocols#lines"


class LineServer(ProtocolServer):
    """The server of this protocol."""

    def __init__(self, host: str, port: int, idle: float) -> None:
        self._host, self._port, self._idle = host, port, idle
        self._clients: set[asyncio.Task[None]] = set()

    @classmethod
    def configure(cls, config: ProtocolConfig) -> Self:
        """Read the table ``[storage.protocols.lines]``."""
        if set(config.options) != {"port"}:
            raise ValueError("storage.protocols.lines: give port, and nothing else")
        return cls(config.public_host, int(config.options["port"]), config.idle)

    async def start(self, pool: JobPool) -> Sequence[Offer]:
        """Listen."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(pool, reader, writer))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

        self._pool = pool
        self._server = await asyncio.start_server(serve, self._host, self._port, reuse_port=True)
        return [Offer(URI, f"lines://{self._host}:{self._port}")]

    async def close(self) -> None:
        """Take nobody new, let transfers end, and cut off who is still there."""
        self._server.close()
        await self._pool.drain()
        for task in self._clients:
            task.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    async def _serve(self, pool: JobPool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Origin(writer.get_extra_info("peername")[0], secrets.token_hex(8))
        with suppress(ConnectionError, TimeoutError):  # the client is gone
            try:
                async with asyncio.timeout(self._idle):
                    verb, user, password, *more = (await reader.readline()).decode("ascii").split()
                endpoint = await pool.log_in(user, password, peer)
                if verb == "GET":
                    async with endpoint.download() as download:
                        writer.write(f"OK {download.size}\n".encode())
                        async for piece in download.pieces():
                            writer.write(piece)
                            async with asyncio.timeout(self._idle):
                                await writer.drain()
                else:
                    async with endpoint.upload(size=int(more[0])) as upload:
                        while piece := await reader.read(1 << 18):
                            await upload.write(piece)
                        await upload.commit()  # the service knows by the size whether all has come
                    writer.write(f"OK {more[0]}\n".encode())
            except Fault as fault:
                writer.write(f"{fault.code} {fault}\n".encode())
            except (ValueError, IndexError):
                writer.write(b"InvalidArgument that is no request\n")
        writer.close()
