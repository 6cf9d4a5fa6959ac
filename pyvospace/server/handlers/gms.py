"""``/gms/search``: our local groups for other services (IVOA GMS 1.0), each caller's own only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.db import identities, outside
from pyvospace.model.faults import NotAuthenticated, NotFound
from pyvospace.server.handlers.requests import context, parameters, plain
from pyvospace.server.policy import Right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from pyvospace.server.context import Context

GMS: Final = "gms/search"
"""Path of the resource."""


async def search(request: web.Request) -> web.StreamResponse:
    """Name the groups that the caller is in, one a line; of those named by ``group`` only, if there are any."""
    found = await _memberships(context(request), parameters(request).get("GROUP"))
    return plain("".join(f"{name}\n" for name in found))


async def member(request: web.Request) -> web.StreamResponse:
    """Name a group if the caller is in it. One that he is not in is not found, whether it exists or not."""
    name = request.match_info["group"]
    if not await _memberships(context(request), [name]):
        raise NotFound("you are in no such group")
    return plain(f"{name}\n")


async def _memberships(ctx: Context, names: Sequence[str] | None) -> list[str]:
    if ctx.caller.anonymous:
        ctx.policy.exempt()
        raise NotAuthenticated("log in to see your groups")
    ctx.policy.require_scope(Right.READ, ())
    if names is not None:  # what can be no name of a group is none of his
        names = [name for name in names if name.isascii() and name.isprintable()]
    found = await outside.local_groups(ctx.database, ctx.caller.id, names)
    ctx.policy.check_epoch(await identities.epoch(ctx.database))
    return found
