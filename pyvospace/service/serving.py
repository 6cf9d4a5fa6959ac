"""Listening: one process of a server, from its first socket to a clean end."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from pyvospace.config.settings import MetadataSettings
from pyvospace.model.faults import InternalFault, InvalidArgument, ServiceBusy
from pyvospace.service.faults import render_unasked
from pyvospace.service.headers import HEADERS
from pyvospace.service.proxies import PROXIES, Proxies, client_network

if TYPE_CHECKING:
    from pathlib import Path

    from pyvospace.config.settings import LimitSettings, ServerSettings

log = logging.getLogger(__name__)

LEAVING: Final = web.AppKey("leaving", asyncio.Event)
"""Set as soon as the server has been told to stop."""
FAREWELLS: Final = web.AppKey("farewells", tuple[Callable[[], Awaitable[None]], ...])
"""What is called then, before anything else."""
_LINE: Final = 256 * 1024
"""Longest first line of a request: the deepest path of the longest names, percent-encoded, has 150 kB."""
_HEADERS: Final = 64
"""Most headers of a request, each of up to 8 KiB."""
_BACKLOG: Final = 1024
_CUT_OFF: Final = 5.0
"""Seconds for which a request that is cut off may clean up behind itself."""
_OWN_FILES: Final = 256
"""Files that a process may open besides connections of clients: the database, bytes, what it listens at."""
_READ_AHEAD: Final = 64 << 10
"""Bytes of a body that are read before anybody wants them; each connection may hold so much, so it is not more."""


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Read certificate and key; None: plain HTTP.

    Raises
    ------
    ValueError
        They cannot be read, or do not belong together.
    """
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # names no file
        raise ValueError(
            f"tls_cert {settings.tls_cert}, tls_key {settings.tls_key}: {error.strerror or error}"
        ) from error
    if isinstance(settings, MetadataSettings) and settings.tls_client_ca:
        _ask_for_certificates(context, settings, settings.tls_client_ca)
    return context


def _ask_for_certificates(context: ssl.SSLContext, settings: MetadataSettings, authorities: Path) -> None:
    """Ask clients for a certificate, which they need not have; a wrong one ends the connection."""
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # a session that goes on elsewhere would be verified no more
    context.options |= ssl.OP_NO_TICKET
    try:
        if authorities.is_dir():
            context.load_verify_locations(capath=authorities)
        else:
            context.load_verify_locations(cafile=authorities)
        if settings.tls_client_crl:
            context.load_verify_locations(cafile=settings.tls_client_crl)
            # Of a chain that ends in a proxy certificate, the leaf is not what an authority can revoke.
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    except OSError as error:
        crl = f" or tls_client_crl {settings.tls_client_crl}" if settings.tls_client_crl else ""
        raise ValueError(f"tls_client_ca {authorities}{crl}: {error.strerror or error}") from error
    if settings.tls_client_proxies:
        context.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS


def require_staying(app: web.Application) -> None:
    """Refuse to be called ready once the server has been told to stop.

    Raises
    ------
    ServiceBusy
        It has.
    """
    if LEAVING in app and app[LEAVING].is_set():
        raise ServiceBusy("this server is about to stop")


def stop_event() -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set, in the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


class Doorkeeper:
    """Counts connections, and says who may have another one.

    Parameters
    ----------
    proxies
        From their addresses come many clients, so that only the number in all counts.
    """

    def __init__(self, settings: LimitSettings, proxies: Proxies | None) -> None:
        self._most = _affordable(settings.connections)
        self._most_of_one = settings.connections_of_one
        self._proxies = proxies
        self._open = 0
        self._by_client: dict[str, int] = {}

    def admit(self, peer: str) -> str | None:
        """Count a connection in; None: it is one too many. What is given is to be handed to `leave`."""
        client = client_network(peer)
        if self._proxies is not None and self._proxies.has(peer):
            client = ""
        count = self._by_client.get(client, 0)
        if self._open >= self._most or (client and count >= self._most_of_one):
            return None
        self._open += 1
        self._by_client[client] = count + 1
        return client

    def leave(self, client: str) -> None:
        """Count a connection out."""
        self._open -= 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]


def _affordable(wanted: int) -> int:
    """Allow this process as many files as the system lets it, and keep some of these for the service's own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < needed:
            log.warning("the system allows %d open files: no more than %d connections", soft, max(soft - _OWN_FILES, 1))
        return max(min(wanted, soft - _OWN_FILES), 1)
    return wanted


class _Connection(web.RequestHandler):
    """Answers in our words what aiohttp refuses by itself, and keeps what strangers send out of the log."""

    __slots__ = ("_client", "_doorkeeper", "_headers")

    def __init__(self, server: web.Server, doorkeeper: Doorkeeper, headers: Mapping[str, str], **options: Any) -> None:
        super().__init__(server, **options)
        self._doorkeeper = doorkeeper
        self._headers = headers
        self._client: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many: then the connection ends without a word."""
        peer = transport.get_extra_info("peername")
        self._client = self._doorkeeper.admit(str(peer[0]) if peer else "")
        if self._client is None:
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._client is not None:
            self._doorkeeper.leave(self._client)
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, if the connection was let in.

        A server that leaves closes its connections, and aiohttp drops what still comes then: also the rest of a body
        that a handler is waiting for.
        """
        if self._client is None:
            return
        leaving = self._close
        request = self._current_request
        if leaving and request is not None and not request.content.is_eof():
            self._close = False
        try:
            super().data_received(data)
        finally:
            self._close = self._close or leaving

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 (as it is called)
        """Let the request that is under way end, body and all, and be cut off after `timeout` seconds.

        aiohttp waits for it too, but takes no byte of its body meanwhile.
        """
        if self._request_in_progress and self._client is not None:
            self._handler_waiter = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._handler_waiter], timeout=timeout)
            self._handler_waiter = None
        await super().shutdown(_CUT_OFF)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request, or what failed behind every middleware."""
        del message
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("the client is gone, or has begun to get the answer") from exc
        if status == HTTPStatus.BAD_REQUEST:
            log.info("no valid HTTP from %s: %s", request.remote, type(exc).__name__)
            return render_unasked(InvalidArgument("this is no valid HTTP request"), self._headers)
        log.error("defect while answering %s", request.remote, exc_info=exc)
        return render_unasked(InternalFault(), self._headers)


class _Server(web.Server):
    doorkeeper: Doorkeeper
    headers: Mapping[str, str]

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self.doorkeeper, self.headers, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    """Runs the application on connections of ours."""

    def __init__(self, app: web.Application, doorkeeper: Doorkeeper, **options: Any) -> None:
        super().__init__(app, **options)
        self._doorkeeper = doorkeeper
        self._headers = app[HEADERS].always

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(made.request_handler, request_factory=made.request_factory, **made._kwargs)  # noqa: SLF001
        server.doorkeeper = self._doorkeeper
        server.headers = self._headers
        return server


class _Site(web.TCPSite):
    """Listens at an address; who is slow to agree about TLS is given up like who is slow to send a head."""

    def __init__(self, runner: _Runner, settings: ServerSettings, *, handshake: float) -> None:
        self._context = tls_context(settings)
        super().__init__(runner, settings.host, settings.port, ssl_context=self._context)
        self._settings = settings
        self._handshake = handshake

    async def start(self) -> None:
        """Begin to listen."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None  # noqa: S101 (for mypy: set up)
        self._server = await asyncio.get_running_loop().create_server(
            server,
            self._settings.host,
            self._settings.port,
            ssl=self._context,
            backlog=_BACKLOG,
            reuse_port=self._settings.workers > 1,
            ssl_handshake_timeout=self._handshake if self._context else None,
        )


async def serve(
    app: web.Application,
    settings: ServerSettings,
    stop: asyncio.Event,
    *,
    limits: LimitSettings,
) -> None:
    """Listen until `stop` is set, then let requests end and leave.

    Load balancers are told first (``drain_delay``); then nobody new is let in, and what is under way may end
    (``drain_time``); what has not ended then is cut off, and leaves nothing behind.

    Bodies are never inflated: what was sent is what counts against limits and what is stored.
    """
    app[LEAVING] = asyncio.Event()
    runner = _Runner(
        app,
        Doorkeeper(limits, app.get(PROXIES)),
        access_log=None,
        auto_decompress=False,
        handle_signals=False,
        max_line_size=_LINE,
        max_headers=_HEADERS,
        read_bufsize=_READ_AHEAD,
        keepalive_timeout=limits.header_timeout,  # aiohttp's only limit for a slow head
        shutdown_timeout=settings.drain_time,
    )
    await runner.setup()
    try:
        site = _Site(runner, settings, handshake=limits.header_timeout)
        await site.start()
        log.info("listening at %s:%d", settings.host, settings.port)
        await stop.wait()
        app[LEAVING].set()
        for tell in app.get(FAREWELLS, ()):
            await tell()
        await asyncio.sleep(settings.drain_delay)
        log.info("no more connections are taken; what is under way has %g s", settings.drain_time)
    finally:
        await runner.cleanup()
