"""Servers of somebody else, for transfers that go to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

LOOPBACK = "127.0.0.0/8"
"""What a server under test has to allow, to reach them."""


@asynccontextmanager
async def remote(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[TestServer]:
    """Run a server that answers everything by `handler`, which is cancelled if its client goes away."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    try:
        yield server
    finally:
        await server.close()
