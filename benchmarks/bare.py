"""The ceilings of the servers: aiohttp with nothing, one prepared query, one INSERT and its commit, and files.

Run by `benchmarks.systems` as processes of its own: ``python -m benchmarks.bare PORT DSN FOLDER``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import uvloop
from aiohttp import web

_BODY = b"x" * 900
"""As large as a node document."""


class Files:
    """Small files in one folder; those that end together share the work of getting to the disk.

    The fsyncs of a group run at the same time, so that the file system commits once for all of them, and the folder is
    flushed once for a group.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []
        self._busy: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(16)

    async def put(self, request: web.Request) -> web.Response:
        """Answer when the bytes are on the disk."""
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((request.match_info["name"], await request.read(), stored))
        if self._busy is None:
            self._busy = asyncio.create_task(self._store())
        await stored
        return web.Response(status=201)

    async def get(self, request: web.Request) -> web.Response:
        """Answer with the bytes, read at once: they are few, and in memory."""
        body = (self._folder / request.match_info["name"]).read_bytes()
        return web.Response(body=body, content_type="application/fits")

    async def _store(self) -> None:
        loop = asyncio.get_running_loop()
        while group := self._waiting:
            self._waiting = []
            files = [loop.run_in_executor(self._threads, _write, self._folder / name, body) for name, body, _ in group]
            await asyncio.gather(*files)
            await loop.run_in_executor(self._threads, _flush, self._folder)
            for *_, stored in group:
                stored.set_result(None)
        self._busy = None


def _write(path: Path, body: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(file, body)
    os.fsync(file)
    os.close(file)


def _flush(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    os.fsync(file)
    os.close(file)


async def main(port: int, dsn: str, folder: Path) -> None:
    """Serve until killed."""
    pool = await asyncpg.create_pool(dsn, min_size=10, max_size=10)

    async def nothing(_: web.Request) -> web.Response:
        return web.Response(body=_BODY, content_type="text/xml")

    async def query(_: web.Request) -> web.Response:
        async with pool.acquire() as connection:
            row = await connection.fetchrow("select id, name, type, properties from nodes where id = $1", 1)
        kind = row["type"] if row else ""
        return web.Response(body=_BODY, content_type="text/xml", headers={"X-Type": kind})

    async def insert(request: web.Request) -> web.Response:
        body = await request.read()
        async with pool.acquire() as connection:
            await connection.execute("insert into bare (t) values ($1)", body.decode())
        return web.Response(status=201, body=_BODY, content_type="text/xml")

    async def post(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=_BODY, content_type="text/xml")

    app, files = web.Application(), Files(folder)
    app.router.add_get("/nothing", nothing)
    app.router.add_get("/query", query)
    app.router.add_put("/insert/{name}", insert)
    app.router.add_post("/post", post)
    app.router.add_put("/files/{name}", files.put)
    app.router.add_get("/files/{name}", files.get)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
