"""``/nodes``: createNode, getNode, setNode, deleteNode (VOSpace 2.1, sections 6.2 and 6.3)."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp import web

from pyvospace.model.faults import InvalidArgument, InvalidURI, OptionNotSupported, ViewNotSupported
from pyvospace.model.stored import Page
from pyvospace.model.transfers import Protocol
from pyvospace.model.uris import encode_path
from pyvospace.model.vocabulary import CLIENT_PROTOCOLS, CORE, Detail, SortKey
from pyvospace.server.describe import describe
from pyvospace.server.handlers.listing import ahead, send, wanted_detail, wanted_limit
from pyvospace.server.handlers.requests import context, document, node_path, one, parameters, see_other, xml
from pyvospace.server.operations import nodes, transfers
from pyvospace.server.telling import tell
from pyvospace.wire import nodes as wire
from pyvospace.wire import service as service_wire
from pyvospace.wire.shorthand import Children

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from pyvospace.model.nodes import Node
    from pyvospace.server.context import Context

_ORDERS = {"asc": False, "desc": True}


async def put(request: web.Request) -> web.StreamResponse:
    """Serve createNode."""
    ctx, path = context(request), node_path(request)
    wanted = await _document(request, path)
    path, made = await nodes.create(ctx, path, wanted)
    return xml(tell(made, ctx.uri(path), Detail.MAX, base=ctx.service.url), status=201)


async def post(request: web.Request) -> web.StreamResponse:
    """Serve setNode, or tell the protocols of a node: the root element decides (rulings of A-20)."""
    ctx, path = context(request), node_path(request)
    if service_wire.root_name(await document(request), ctx.service.limits) == "protocols":
        service_wire.parse_protocols_request(await document(request), ctx.service.limits)
        await nodes.get(ctx, path)
        accepts = [Protocol(uri) for uri in CLIENT_PROTOCOLS]
        provides = [Protocol(uri) for uri in await transfers.provided(ctx)]
        return xml(service_wire.render_protocols(accepts, provides))
    changed = await nodes.set_properties(ctx, path, await _document(request, path))
    return xml(tell(changed, ctx.uri(path), Detail.FULL, base=ctx.service.url))


async def delete(request: web.Request) -> web.StreamResponse:
    """Serve deleteNode; with ``recursive=false`` no container with something in it."""
    ctx = context(request)
    word = one(parameters(request), "RECURSIVE")
    await nodes.delete(ctx, node_path(request), only_empty=(word or "").lower() == "false")
    return web.Response(status=200 if ctx.service.opencadc else 204)


async def get(request: web.Request) -> web.StreamResponse:
    """Serve getNode."""
    ctx, path, asked = context(request), node_path(request), parameters(request)
    node = await nodes.get(ctx, path)
    view = one(asked, "VIEW")
    if view is not None:
        return _view(ctx, path, view)
    detail, page = wanted_detail(asked), _page(ctx, path, asked)
    uri, base = ctx.uri(path), ctx.service.url
    if not node.is_container or page.limit == 0:
        return xml(tell(node, uri, detail, base=base))
    whole = describe(node, uri, detail, base=base)
    return await send(request, _pieces(whole, nodes.children(ctx, node, page, detail)))


def _view(ctx: Context, path: tuple[str, ...], view: str) -> web.StreamResponse:
    if view != "data":
        raise ViewNotSupported(view[:300])
    return see_other(f"{ctx.service.url}/files/{encode_path(path)}")


async def _document(request: web.Request, path: tuple[str, ...]) -> Node:
    ctx = context(request)
    return wire.parse_node(await document(request), expected=ctx.uri(path), limits=ctx.service.limits)


def _page(ctx: Context, path: tuple[str, ...], asked: Mapping[str, list[str]]) -> Page:
    limit = wanted_limit(asked)
    return Page(
        start=_start(ctx, path, one(asked, "URI")),
        limit=limit,
        sort=_sort(one(asked, "SORT")),
        descending=_descending(one(asked, "ORDER")),
    )


def _start(ctx: Context, path: tuple[str, ...], uri: str | None) -> str:
    if uri is None:
        return ""
    child = ctx.own_path(uri)
    if child[:-1] != path or not child:
        raise InvalidURI(f"{uri[:300]} is no child of {ctx.uri(path)}")
    return child[-1]


def _sort(text: str | None) -> SortKey:
    if text is None:
        return SortKey.NAME
    try:
        return SortKey(text.removeprefix(CORE).lower())
    except ValueError:
        raise OptionNotSupported(f"sort: children are listed by name, length or date, not by {text[:80]!r}") from None


def _descending(text: str | None) -> bool:
    if text is not None and text.lower() not in _ORDERS:
        raise InvalidArgument(f"order: {text[:80]!r} is neither asc nor desc")
    return text is not None and _ORDERS[text.lower()]


async def _pieces(whole: Node, pages: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield wire.node_head(whole)
    children = Children(whole.uri)
    async with aclosing(ahead(pages)) as following:
        async for page in following:
            yield children.render(page)
    yield wire.node_tail()
