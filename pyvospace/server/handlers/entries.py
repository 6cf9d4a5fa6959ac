"""``/entries``: a node and its children, a line of JSON each, as quickly as the database can tell (our own)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.server.describe import describe_entry
from pyvospace.server.handlers.listing import stream, wanted_limit
from pyvospace.server.handlers.requests import context, node_path, one, parameters
from pyvospace.server.operations import entries
from pyvospace.wire.entries import render_entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from aiohttp import web

    from pyvospace.model.stored import StoredNode
    from pyvospace.server.context import Context

ENTRIES: Final = "entries"


async def get(request: web.Request) -> web.StreamResponse:
    """Tell of a node, and of a container's children behind the name ``after``, ``limit`` of them."""
    ctx, path, asked = context(request), node_path(request), parameters(request)
    limit, after = wanted_limit(asked), one(asked, "AFTER") or ""
    node, room = await entries.get(ctx, path)
    first = render_entry(describe_entry(node, writable=ctx.policy.writes(node), room=room))
    return await stream(request, _pieces(ctx, first, node, after, limit), "application/x-ndjson")


async def _pieces(ctx: Context, first: bytes, node: StoredNode, after: str, limit: int | None) -> AsyncGenerator[bytes]:
    yield first
    if node.is_container and node.readable:
        async for text in entries.children(ctx, node, after=after, limit=limit):
            yield text
