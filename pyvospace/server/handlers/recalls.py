"""``/recalls``: jobs that bring bytes back from cold storages (an extension of our own)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import NotAuthenticated
from pyvospace.model.jobs import Kind
from pyvospace.server.handlers.jobs import NewJob
from pyvospace.server.handlers.recursive import target_of
from pyvospace.server.handlers.requests import context, form

if TYPE_CHECKING:
    from aiohttp import web

RECALLS: Final = "recalls"
"""The list of these jobs."""


async def create(request: web.Request) -> NewJob:
    """Read whose bytes are wanted: the parameter ``target``, a node or a container with all below it."""
    ctx = context(request)
    if ctx.caller.anonymous:
        raise NotAuthenticated("log in to have bytes recalled")
    return NewJob(Kind.RECALL, {"parameters": {"target": target_of(ctx, await form(request))}})
