"""Servers of somebody else, for transfers that go to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext

from aiohttp import web
from aiohttp.test_utils import TestServer

LOOPBACK = "127.0.0.0/8"
"""What a server under test has to allow, to reach them."""


@asynccontextmanager
async def remote(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], *, tls: SSLContext | None = None
) -> AsyncIterator[TestServer]:
    """Run a server that answers everything by `handler`, which is cancelled if its client goes away."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app, host="127.0.0.1", scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    try:
        yield server
    finally:
        await server.close()
