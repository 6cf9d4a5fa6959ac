"""A proxy in front of an S3 store that fails when a test says so."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy
from yarl import URL

_OF_THE_HOP = {"connection", "keep-alive", "transfer-encoding", "date"}
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
_QUOTA = b"<Error><Code>QuotaExceeded</Code></Error>"


@dataclass
class Flaky:
    """What goes wrong: ``faults`` maps the name of a request (`named`) to what is done with the next ones.

    ``busy``: 503, and nothing reaches the store. ``quota``: 403, likewise. ``lost``: it does its work, and the
    connection is cut before the answer. ``cut``: half of the body comes. ``short``: as much, and the head says that it
    is all. ``slow``: the answer takes a second. ``other``: the body is another, of the same length.
    """

    url: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    asked: list[tuple[str, CIMultiDictProxy[str]]] = field(default_factory=list)
    """Names and headers of all requests."""
    at_once: dict[str, int] = field(default_factory=dict)
    """Requests of each name under way."""
    most_at_once: dict[str, int] = field(default_factory=dict)

    def fault_of(self, name: str) -> str:
        waiting = self.faults.get(name, [])
        return waiting.pop(0) if waiting else ""

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


def named(request: web.BaseRequest) -> str:
    """Say what a request does: ``begin``, ``part``, ``complete``, ``abort``, ``put``, ``read``, or its method."""
    query, whole = request.query, request.path.count("/") > 1
    if "uploads" in query:
        return "begin" if request.method == "POST" else "uploads"
    if "uploadId" in query:
        return {"PUT": "part", "POST": "complete", "DELETE": "abort"}.get(request.method, "parts")
    if whole and request.method in {"PUT", "GET"} and "/data/" in request.path:
        return {"PUT": "put", "GET": "read"}[request.method]
    return request.method


@asynccontextmanager
async def flaky_s3(target: str) -> AsyncIterator[Flaky]:
    """Run the proxy."""
    flaky = Flaky()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        name = named(request)
        flaky.asked.append((name, request.headers))
        flaky.at_once[name] = flaky.at_once.get(name, 0) + 1
        flaky.most_at_once[name] = max(flaky.most_at_once.get(name, 0), flaky.at_once[name])
        try:
            return await _forward(session, target, request, flaky.fault_of(name))
        finally:
            flaky.at_once[name] -= 1

    async with aiohttp.ClientSession(auto_decompress=False) as session:
        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        flaky.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield flaky
        finally:
            await runner.cleanup()


async def _forward(
    session: aiohttp.ClientSession, target: str, request: web.BaseRequest, fault: str
) -> web.StreamResponse:
    assert request.transport is not None
    if "Expect" in request.headers:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await request.content.read()  # of any size
    if fault in {"busy", "quota"}:
        busy = fault == "busy"
        return web.Response(status=503 if busy else 403, body=_SLOW_DOWN if busy else _QUOTA)
    if fault == "slow":
        await asyncio.sleep(1)
    if fault == "other":
        body = bytes(len(body))
    url = URL(target + request.raw_path, encoded=True)
    async with session.request(
        request.method,
        url,
        data=io.BytesIO(body) if body else None,
        headers=request.headers,
        skip_auto_headers=["Content-Type"],
    ) as found:
        content = await found.read()
    if fault == "lost":
        request.transport.abort()
    headers = {name: value for name, value in found.headers.items() if name.lower() not in _OF_THE_HOP}
    half = content[: len(content) // 2]
    if fault == "short":
        content = half
        headers["Content-Length"] = str(len(content))
    response = web.StreamResponse(status=found.status, headers=headers)
    await response.prepare(request)
    await response.write(half if fault == "cut" else content)
    if fault == "cut":
        request.transport.close()
    return response
