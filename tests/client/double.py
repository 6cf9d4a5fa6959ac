"""A space that misbehaves on demand: two servers in this process, each on an origin of its own."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ssl import SSLContext

from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from pyvospace.client import Retry, Space, Timeouts
from pyvospace.client.digests import Digests
from pyvospace.model.jobs import Job
from pyvospace.model.nodes import Node
from pyvospace.model.ranges import ByteRange, Conditions, Version, parse_range
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import (
    STANDARD_ENTRIES,
    STANDARD_FILES,
    STANDARD_NODES,
    STANDARD_SYNC,
    TUS,
    Direction,
    NodeType,
    Phase,
)
from pyvospace.model.vosi import Capability
from pyvospace.wire.nodes import render_node
from pyvospace.wire.transfers import parse_transfer, render_transfer
from pyvospace.wire.uws import render_job
from pyvospace.wire.vosi import render_capabilities

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

AUTHORITY = "double~space"
ROOT = NodeUri(AUTHORITY)
TOKEN = "a-secret"
QUICK = Retry(attempts=4, first=0.001, longest=0.002)


@dataclass
class Seen:
    """A request that came."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    peer: object
    """The connection that it came by."""
    body: bytes = b""


@dataclass
class Server:
    """One origin: what came, and what it does next, before it does as it should."""

    usual: Handler
    seen: list[Seen] = field(default_factory=list)
    plan: list[Handler] = field(default_factory=list)
    server: TestServer | None = None

    async def start(self, ssl: SSLContext | None = None, port: int | None = None) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.server = TestServer(app, port=port)
        await self.server.start_server(ssl=ssl)

    async def restart(self) -> None:
        assert self.server is not None
        port = self.server.port
        await self.server.close()
        await self.start(port=port)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        path = request.raw_path.partition("?")[0]
        seen = Seen(request.method, path, request.query_string, dict(request.headers), peer)
        self.seen.append(seen)
        handler = self.plan.pop(0) if self.plan else self.usual
        try:
            return await handler(request)
        finally:
            seen.body = request._read_bytes or b""

    def url(self, path: str = "") -> str:
        assert self.server is not None
        return str(self.server.make_url(path)).rstrip("/")

    def of(self, method: str) -> list[Seen]:
        return [one for one in self.seen if one.method == method]


class Double:
    """A metadata server and, elsewhere, a storage server with one file."""

    def __init__(self) -> None:
        self.service = Server(self._serve)
        self.storage = Server(self.deliver)
        self.nodes: dict[str, Node] = {"": Node(ROOT, NodeType.CONTAINER)}
        self.content = b""
        self.announced: Digests | None = None
        """What the storage says that the digests are; None: the truth."""
        self.endpoint = "/files/a-token/name"
        self.extended = False
        """It knows the extensions of our own."""

    async def start(self, ssl: SSLContext | None = None) -> None:
        await self.service.start(ssl)
        await self.storage.start(ssl)

    async def stop(self) -> None:
        for one in (self.service, self.storage):
            if one.server is not None:
                await one.server.close()

    def space(self, **options: object) -> Space:
        given: dict[str, object] = {
            "token": TOKEN,
            "home": "/",
            "retry": QUICK,
            "timeouts": Timeouts(connect=5, read=5, finish=5),
            **options,
        }
        return Space(self.service.url(), **given)  # type: ignore[arg-type]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/capabilities":
            return self.capabilities(self.service.url())
        if path.startswith("/nodes"):
            return await self._serve_node(request)
        if path == "/synctrans":
            asked = parse_transfer(await request.read())
            endpoint = self._endpoint()
            parts = self.storage.url("/tus/new")
            offered = tuple(Protocol(one.uri, parts if one.uri == TUS else endpoint) for one in asked.protocols)
            self._details = render_transfer(Transfer(asked.target, asked.direction, protocols=offered))
            raise web.HTTPSeeOther(self.service.url("/transfers/1/results/transferDetails"))
        if path.endswith("/transferDetails"):
            return web.Response(body=self._details, content_type="text/xml")
        if path.startswith("/files/") and self.extended:
            raise web.HTTPTemporaryRedirect(self._endpoint())
        return web.Response(status=404, text=f"NotFound {path}")

    def _endpoint(self) -> str:
        return self.endpoint if "://" in self.endpoint else self.storage.url(self.endpoint)

    def capabilities(self, base: str) -> web.Response:
        told: tuple[Capability, ...] = (
            Capability(STANDARD_NODES, f"{base}/nodes", "base"),
            Capability(STANDARD_SYNC, f"{base}/synctrans", "full"),
        )
        if self.extended:
            told += (
                Capability(STANDARD_FILES, f"{base}/files", "base"),
                Capability(STANDARD_ENTRIES, f"{base}/entries", "entries"),
            )
        return web.Response(body=render_capabilities(told), content_type="text/xml")

    async def _serve_node(self, request: web.Request) -> web.StreamResponse:
        name = request.path.removeprefix("/nodes").strip("/")
        await request.read()
        if request.method == "PUT":
            self.nodes[name] = Node(ROOT.child(name), NodeType.CONTAINER)
        if name not in self.nodes:
            return web.Response(status=404, text=f"NodeNotFound {ROOT.child(name)}")
        node = self.nodes[name]
        if request.method == "DELETE":
            del self.nodes[name]
            return web.Response(status=204)
        return web.Response(body=render_node(node), content_type="text/xml")

    def digests(self, content: bytes | None = None) -> Digests:
        data = self.content if content is None else content
        return self.announced or Digests(hashlib.md5(data).digest(), hashlib.sha256(data).digest())

    def headers(self) -> dict[str, str]:
        etag = f'"{hashlib.sha256(self.content).hexdigest()}"'
        return {**self.digests().headers(), "ETag": etag, "Accept-Ranges": "bytes"}

    async def deliver(self, request: web.Request) -> web.StreamResponse:
        """Take or give the file as a storage server should."""
        version = Version(hashlib.sha256(self.content).hexdigest(), datetime.now(UTC)) if self.content else None
        asked = request.headers
        conditions = Conditions(if_match=asked.get("If-Match"), if_none_match=asked.get("If-None-Match"))
        if conditions.evaluate(version, reading=request.method != "PUT") is not None:
            return web.Response(status=412, text="PreconditionFailed other bytes")
        if request.method == "PUT":
            self.content = await request.read()
            return web.Response(status=201, headers=self.headers())
        headers = self.headers()
        span = parse_range(request.headers.get("Range"), len(self.content))
        if request.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            span = None
        if not isinstance(span, ByteRange):
            return web.Response(body=self.content, headers=headers)
        headers["Content-Range"] = span.content_range(len(self.content))
        return web.Response(status=206, body=self.content[span.start : span.stop], headers=headers)

    def no_endpoints(self) -> bytes:
        """Write the details of a transfer that failed."""
        return render_transfer(Transfer(str(ROOT), Direction.PUSH_TO_VOSPACE))

    def failed_job(self, message: str) -> bytes:
        """Write a job that failed."""
        return render_job(Job("1", Phase.ERROR, None, datetime.now(UTC), fault="InternalFault", message=message))

    def cut_after(self, count: int) -> Handler:
        """Make a handler that sends so many bytes of the answer and hangs up."""

        async def handler(request: web.Request) -> web.StreamResponse:
            whole = await self.deliver(request)
            assert isinstance(whole, web.Response)
            body = bytes(whole.body)  # type: ignore[arg-type]
            headers = {name: value for name, value in whole.headers.items() if name != "Content-Type"}
            response = web.StreamResponse(status=whole.status, headers=headers)
            response.content_length = len(body)
            await response.prepare(request)
            await response.write(body[:count])
            hang_up(request)
            return response

        return handler


def answers(status: int, text: str = "", **headers: str) -> Handler:
    """Make a handler that gives a fixed answer."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(status=status, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return handler


def redirects(url: str, status: int = 307) -> Handler:
    """Make a handler that sends the client elsewhere."""
    return answers(status, Location=url)


def hang_up(request: web.Request) -> None:
    """Cut the connection."""
    if request.transport is not None:
        request.transport.abort()


async def hangs_up(request: web.Request) -> web.StreamResponse:
    """Read everything and say nothing."""
    await request.read()
    hang_up(request)
    return web.Response()


def origin(url: str) -> str:
    return str(URL(url).origin())


def b64(data: bytes) -> str:
    return b64encode(data).decode()
