"""``/permissions``: who may do what with a node, and by which rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvospace.model.callers import NOBODY
from pyvospace.model.faults import InvalidArgument
from pyvospace.server.handlers.requests import context, json_answer, one, parameters
from pyvospace.server.operations import permissions
from pyvospace.server.policy import Right
from pyvospace.wire.permissions import render_permissions

if TYPE_CHECKING:
    from aiohttp import web


async def get(request: web.Request) -> web.StreamResponse:
    """Say what somebody may do to a node, and why: JSON, whatever the client accepts."""
    ctx, asked = context(request), parameters(request)
    target, user = one(asked, "TARGET"), one(asked, "USER")
    if target is None:
        raise InvalidArgument("target: name the node")
    about = "" if user == NOBODY else user
    return json_answer(render_permissions(await permissions.explain(ctx, ctx.own_path(target), _rights(asked), about)))


def _rights(asked: dict[str, list[str]]) -> list[Right]:
    names = asked.get("RIGHT", [])
    unknown = [name for name in names if name not in set(Right)]
    if unknown:
        raise InvalidArgument(f"right: {unknown[0][:80]!r} is none of {', '.join(Right)}")
    return [right for right in Right if right in names] or list(Right)
