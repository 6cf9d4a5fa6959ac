"""A proxy in front of Azurite that fails when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.engines.azurite import ACCOUNT

DROPPED = {"connection", "content-length", "date", "keep-alive", "transfer-encoding"}
BUSY = b"<?xml version='1.0'?><Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>"


@dataclass
class Flaky:
    """What goes wrong; ``faults`` maps the name of a request (`named`) to what is done with the next ones.

    ``busy``: 503, nothing reaches the store. ``lost``: it does its work, and the connection is cut before the answer.
    ``cut``: half of the body comes. ``flipped``: one bit of the body is another.
    """

    url: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _: None
    """Called with the name of each request."""

    def next_fault(self, name: str) -> str:
        self.asked.append(name)
        self.before(name)
        waiting = self.faults.get(name, [])
        return waiting.pop(0) if waiting else ""


def named(request: web.BaseRequest) -> str:
    """Say what a request does: ``block``, ``blocklist``, ``read``, ``list``, or method and nothing more."""
    part = request.query.get("comp", "")
    reads = request.method == "GET" and not part and request.path.count("/") > 3
    return part or ("read" if reads else request.method)


@asynccontextmanager
async def flaky_azurite(target: str) -> AsyncIterator[Flaky]:
    """Run the proxy."""
    flaky = Flaky()
    origin = urlsplit(target)

    async def forward(request: web.BaseRequest) -> web.StreamResponse:
        fault = flaky.next_fault(named(request))
        body = await request.read()
        if fault == "busy":
            return web.Response(status=503, body=BUSY, headers={"x-ms-error-code": "ServerBusy"})
        url = URL(f"http://{origin.netloc}{request.raw_path}", encoded=True)
        async with session.request(
            request.method, url, data=body or None, headers=request.headers, skip_auto_headers=["Content-Type"]
        ) as answer:
            content = await answer.read()
        transport = request.transport
        if fault == "lost" and transport is not None:
            transport.abort()
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in DROPPED}
        if fault == "flipped":
            content = bytes([content[0] ^ 1]) + content[1:]
        response = web.StreamResponse(status=answer.status, headers={**headers, "Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: len(content) // 2] if fault == "cut" else content)
        if fault == "cut" and transport is not None:
            transport.close()
        return response

    async with aiohttp.ClientSession(auto_decompress=False) as session:
        runner = web.ServerRunner(web.Server(forward))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        flaky.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{ACCOUNT}"
        yield flaky
        await runner.cleanup()
