"""Answers that are lists of nodes, however many: what is read is written before more is read."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from aiohttp import web

from pyvospace.model.faults import InvalidArgument
from pyvospace.model.vocabulary import Detail
from pyvospace.server.handlers.requests import JSON, one, wants_json
from pyvospace.wire import json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

log = logging.getLogger(__name__)

_SMALL: Final = 256 * 1024
"""A listing up to this size is sent in one piece, with its length."""
_DIGITS: Final = 15
"""Of a number of children, at the most."""


def wanted_detail(asked: Mapping[str, list[str]]) -> Detail:
    """Read how much of each node is wanted; InvalidArgument if the parameter says nonsense."""
    text = one(asked, "DETAIL") or ""
    try:
        return Detail(text.lower())
    except ValueError:
        raise InvalidArgument(f"detail: {text[:80]!r} is none of min, properties, max") from None


def wanted_limit(asked: Mapping[str, list[str]]) -> int | None:
    """Read how many children are wanted at the most; None: all. InvalidArgument if it is no number."""
    limit = one(asked, "LIMIT")
    if limit is not None and not (limit.isascii() and limit.isdigit() and len(limit) <= _DIGITS):
        raise InvalidArgument(f"limit: {limit[:80]!r} is no number of children")
    return int(limit) if limit is not None else None


async def send(request: web.Request, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
    """Answer with a document that comes in pieces of XML, in the form that the client wants."""
    as_json = wants_json(request)
    return await stream(request, _converted(pieces) if as_json else pieces, JSON if as_json else "text/xml")


async def stream(request: web.Request, pieces: AsyncGenerator[bytes], content_type: str) -> web.StreamResponse:
    """Answer with what comes in pieces, as it comes."""
    headers = {"Content-Type": content_type}
    start = b""
    async with aclosing(ahead(pieces)) as following:
        async for piece in following:
            start += piece
            if len(start) > _SMALL:
                if request.method == "HEAD":  # aiohttp would send what is streamed, and nobody knows the length
                    return web.Response(headers=headers)
                return await _stream(request, web.StreamResponse(headers=headers), start, following)
    return web.Response(body=start, headers=headers)


async def ahead(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Have the next piece made while one is used; no more than one, so that a slow client costs no memory."""
    following = asyncio.ensure_future(anext(pieces, None))
    try:
        while (piece := await following) is not None:
            following = asyncio.ensure_future(anext(pieces, None))
            yield piece
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await pieces.aclose()


async def _converted(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    converter = json.Converter()
    async with aclosing(pieces):
        async for piece in pieces:
            yield converter.feed(piece)


async def _stream(
    request: web.Request, response: web.StreamResponse, start: bytes, pieces: AsyncGenerator[bytes]
) -> web.StreamResponse:
    response.enable_chunked_encoding()
    await response.prepare(request)
    try:
        await response.write(start)
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except Exception:
        # The head is out: cut the connection, so that nobody takes the torso for the whole.
        log.exception("a listing broke off")
        if request.transport is not None:
            request.transport.abort()
    return response
