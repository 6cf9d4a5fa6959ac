"""``/async-delete`` and ``/async-setprops``: jobs that do what they can of a tree (OpenCADC; R-EXT-003, R-EXT-004)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import InvalidArgument, NotAuthenticated
from pyvospace.model.jobs import Kind
from pyvospace.server.handlers.jobs import NewJob
from pyvospace.server.handlers.requests import context, document, form, one, parameters, require_text
from pyvospace.server.works.set_properties import pack
from pyvospace.wire import nodes as wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from pyvospace.server.context import Context

DELETIONS: Final = "async-delete"
"""The list of the jobs that delete trees."""
SETTINGS: Final = "async-setprops"
"""The list of the jobs that set properties of trees."""


async def create_deletion(request: web.Request) -> NewJob:
    """Read which node is to be deleted: the parameter ``target``."""
    ctx = context(request)
    _require_login(ctx)
    asked = await form(request)
    target = target_of(ctx, asked)
    rehearsal = _rehearsal(asked)
    shown = {"target": target} | ({"dryrun": "true"} if rehearsal else {})
    return NewJob(Kind.DELETE, {"parameters": shown, "rehearsal": rehearsal})


def target_of(ctx: Context, asked: Mapping[str, list[str]]) -> str:
    """Give the parameter ``target``, the URI of a node of this space."""
    require_text(asked)
    target = one(asked, "TARGET")
    if target is None:
        raise InvalidArgument("send target=… with the URI of a node")
    ctx.own_path(target)
    return target


async def create_setting(request: web.Request) -> NewJob:
    """Read a node document: its properties are set of the node that it names and of all below."""
    ctx = context(request)
    _require_login(ctx)
    wanted = wire.parse_node(await document(request), limits=ctx.service.limits)
    ctx.own_path(str(wanted.uri))
    return NewJob(Kind.SET_PROPERTIES, {"node": pack(wanted), "rehearsal": _rehearsal(parameters(request))})


def _rehearsal(asked: Mapping[str, list[str]]) -> bool:
    """Say whether nothing is to be changed, only counted."""
    word = (one(asked, "DRYRUN") or "false").lower()
    if word not in {"true", "false"}:
        raise InvalidArgument(f"dryrun: {word[:80]!r} is neither true nor false")
    return word == "true"


def _require_login(ctx: Context) -> None:
    if ctx.caller.anonymous:
        raise NotAuthenticated("log in to change trees")
