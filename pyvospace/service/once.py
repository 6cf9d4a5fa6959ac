"""Requests that are sent once: aiohttp would send some of them again by itself when a connection breaks."""

from __future__ import annotations

import aiohttp


class HiddenError(Exception):
    """Hides a broken connection from aiohttp; its cause is what happened."""


async def send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a request, and hide from aiohttp that the connection broke (a middleware of its client)."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise HiddenError from error
