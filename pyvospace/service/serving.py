"""Listening: one process of a server, from its first socket to a clean end."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from pyvospace.config.settings import ServerSettings

log = logging.getLogger(__name__)


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """Read certificate and key; None: plain HTTP."""
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


def stop_event() -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set, in the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


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
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        handle_signals=False,
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
