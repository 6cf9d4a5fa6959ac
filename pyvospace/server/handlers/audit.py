"""``/audit``: the audit log as lines of JSON, oldest first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pyvospace.db.audit import Wanted
from pyvospace.model.audit import LINES, Action, Filters, line
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.instants import read_instant
from pyvospace.server.handlers.listing import stream
from pyvospace.server.handlers.requests import context, one, parameters
from pyvospace.server.operations import audit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from aiohttp import web

    from pyvospace.server.context import Context

_KNOWN: Final = frozenset({"TARGET", "RECURSIVE", "USER", "ACTION", "OUTCOME", "AFTER", "BEFORE", "LIMIT"})
_DIGITS: Final = 15


async def get(request: web.Request) -> web.StreamResponse:
    """Stream the rows that the caller may see."""
    ctx = context(request)
    return await stream(request, _lines(ctx, _wanted(ctx, parameters(request))), LINES)


async def _lines(ctx: Context, wanted: Wanted) -> AsyncGenerator[bytes]:
    async for page in audit.records(ctx, wanted):
        yield b"".join(map(line, page))
        await asyncio.sleep(0)  # others wait for the loop


def _wanted(ctx: Context, asked: Mapping[str, list[str]]) -> Wanted:
    if unknown := asked.keys() - _KNOWN:
        raise InvalidArgument(
            f"{min(unknown)[:80].lower()!r} is no parameter; there are {', '.join(sorted(_KNOWN)).lower()}"
        )
    target, action, limit = one(asked, "TARGET"), one(asked, "ACTION"), one(asked, "LIMIT")
    after, before = one(asked, "AFTER"), one(asked, "BEFORE")
    if action is not None and action not in set(Action):
        raise InvalidArgument(f"action: {action[:80]!r} is none of {', '.join(Action)}")
    if limit is not None and not (limit.isascii() and limit.isdigit() and len(limit) <= _DIGITS):
        raise InvalidArgument(f"limit: {limit[:80]!r} is no number of rows")
    filters = Filters(
        below=_is_true(one(asked, "RECURSIVE")),
        user=one(asked, "USER"),
        action=action,
        outcome=one(asked, "OUTCOME"),
        after=read_instant(after, of="after") if after else None,
        before=read_instant(before, of="before") if before else None,
        limit=None if limit is None else int(limit),
    )
    return Wanted(None if target is None else ctx.own_path(target), filters)


def _is_true(text: str | None) -> bool:
    if text is not None and text.lower() not in {"true", "false"}:
        raise InvalidArgument(f"recursive: {text[:80]!r} is neither true nor false")
    return text is not None and text.lower() == "true"
