"""The ceiling of the metadata server: aiohttp with nothing, with one prepared query, with one INSERT and its commit.

Run by `benchmarks.run` as a process of its own: ``python -m benchmarks.bare PORT DSN``.
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import uvloop
from aiohttp import web

_BODY = b"x" * 900
"""As large as a node document."""


async def main(port: int, dsn: str) -> None:
    """Serve until killed."""
    pool = await asyncpg.create_pool(dsn, min_size=10, max_size=10)
    await pool.execute("create table if not exists bare (id bigint generated always as identity primary key, t text)")

    async def nothing(_: web.Request) -> web.Response:
        return web.Response(body=_BODY, content_type="text/xml")

    async def query(_: web.Request) -> web.Response:
        async with pool.acquire() as connection:
            row = await connection.fetchrow("select id, name, type, properties from nodes where id = $1", 1)
        return web.Response(body=_BODY, content_type="text/xml", headers={"X-Type": row["type"]})

    async def insert(request: web.Request) -> web.Response:
        body = await request.read()
        async with pool.acquire() as connection:
            await connection.execute("insert into bare (t) values ($1)", body.decode())
        return web.Response(status=201, body=_BODY, content_type="text/xml")

    app = web.Application()
    app.router.add_get("/nothing", nothing)
    app.router.add_get("/query", query)
    app.router.add_put("/insert/{name}", insert)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), sys.argv[2]))
