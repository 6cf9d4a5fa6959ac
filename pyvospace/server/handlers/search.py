"""``/search`` and ``/searches``: what is below a container, at once in pages or as a job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from pyvospace.model.faults import NotFound
from pyvospace.model.jobs import Kind
from pyvospace.model.searches import Position
from pyvospace.model.vocabulary import Phase
from pyvospace.server.describe import describe_child
from pyvospace.server.handlers.jobs import NewJob
from pyvospace.server.handlers.listing import send, wanted_detail
from pyvospace.server.handlers.requests import context, form, one, parameters, require_text, xml
from pyvospace.server.operations import jobs, search
from pyvospace.wire import nodes as wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from aiohttp import web

    from pyvospace.db.jobs import JobRow
    from pyvospace.db.search import Hit
    from pyvospace.model.vocabulary import Detail
    from pyvospace.server.context import Context

_OF_PAGES: Final = frozenset({"AFTER", "DETAIL", "ACCEPT"})
_OF_JOBS: Final = frozenset({"PHASE", "RUNID", "ACCEPT"})


async def get(request: web.Request) -> web.StreamResponse:
    """Serve a page of what there is to find; a link leads to the next one."""
    ctx, asked = context(request), parameters(request)
    wanted = search.read(ctx, asked, besides=_OF_PAGES)
    after = one(asked, "AFTER")
    most = ctx.service.settings.limits.page
    found = await search.page(
        ctx, wanted, Position.parse(after) if after else Position(), limit=min(wanted.limit or most, most)
    )
    told = _render(ctx, found.hits, wanted_detail(asked))
    response = xml(wire.search_head() + told + wire.search_tail())
    if found.after is not None:
        again = [(name.lower(), value) for name, values in asked.items() if name != "AFTER" for value in values]
        query = urlencode([*again, ("after", str(found.after))])
        response.headers["Link"] = f'<{ctx.service.url}/search?{query}>; rel="next"'
    return response


def _render(ctx: Context, hits: Sequence[Hit], detail: Detail) -> bytes:
    return wire.render_children(
        describe_child(hit.node, ctx.uri((*hit.way, hit.node.name)), detail, seen=True) for hit in hits
    )


async def create(request: web.Request) -> NewJob:
    """Read a form that makes a job: what can be seen to be wrong is refused at once."""
    ctx, asked = context(request), await form(request)
    require_text(asked)
    search.read(ctx, asked, besides=_OF_JOBS)
    return NewJob(Kind.SEARCH, {"parameters": {name: values for name, values in asked.items() if name not in _OF_JOBS}})


async def get_details(request: web.Request) -> web.StreamResponse:
    """Serve what a job has found, as far as it is still there and its owner may still read it."""
    ctx, asked = context(request), parameters(request)
    row = await jobs.find(ctx, search.SEARCHES, request.match_info["job"])
    if row.phase is not Phase.COMPLETED:
        raise NotFound(f"a job in the phase {row.phase} has no results")
    return await send(request, _pieces(ctx, row, wanted_detail(asked)))


async def _pieces(ctx: Context, row: JobRow, detail: Detail) -> AsyncGenerator[bytes]:
    yield wire.search_head()
    async for hits in search.found(ctx, row.id):
        yield _render(ctx, hits, detail)
        await asyncio.sleep(0)  # others wait for the loop
    yield wire.search_tail()
