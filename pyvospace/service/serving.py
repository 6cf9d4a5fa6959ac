"""Listening: one process of a server, from its first socket to a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.model.faults import InternalFault, InvalidArgument
from pyvospace.service.faults import render_unasked

if TYPE_CHECKING:
    from pyvospace.config.settings import ServerSettings

log = logging.getLogger(__name__)

_LINE: Final = 256 * 1024
"""Longest first line of a request: the deepest path of the longest names, percent-encoded, has 150 kB."""
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
    return context


def stop_event() -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set, in the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


class _Connection(web.RequestHandler):
    """Answers in our words what aiohttp refuses by itself, and keeps what strangers send out of the log."""

    __slots__ = ()

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
            return render_unasked(InvalidArgument("this is no valid HTTP request"))
        log.error("defect while answering %s", request.remote, exc_info=exc)
        return render_unasked(InternalFault())


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    """Runs the application on connections of ours."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **made._kwargs)  # noqa: SLF001


async def serve(
    app: web.Application,
    settings: ServerSettings,
    stop: asyncio.Event,
    *,
    header_timeout: float,
    shutdown_timeout: float,
) -> None:
    """Listen until `stop` is set, then let requests end and leave.

    Bodies are never inflated: what was sent is what counts against limits and what is stored.
    """
    runner = _Runner(
        app,
        access_log=None,
        auto_decompress=False,
        handle_signals=False,
        max_line_size=_LINE,
        read_bufsize=_READ_AHEAD,
        keepalive_timeout=header_timeout,  # aiohttp's only limit for a slow head
        shutdown_timeout=shutdown_timeout,
    )
    await runner.setup()
    try:
        site = web.TCPSite(
            runner,
            settings.host,
            settings.port,
            reuse_port=settings.workers > 1,
            ssl_context=tls_context(settings),
            backlog=1024,
        )
        await site.start()
        log.info("listening at %s:%d", settings.host, settings.port)
        await stop.wait()
    finally:
        await runner.cleanup()
