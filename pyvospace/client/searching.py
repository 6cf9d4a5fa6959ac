"""Searches: by the service, page by page; or by walking through the tree, if it knows no searches."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from pyvospace.client.http import Http
from pyvospace.model.faults import NodeNotFound, PermissionDenied
from pyvospace.model.instants import read_instant, write_instant
from pyvospace.model.nodes import Node
from pyvospace.model.searches import Conditions, Glob, Span
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import BTIME, CREATOR, CTIME, DATE, LENGTH, MTIME, Detail, NodeType
from pyvospace.wire.nodes import read_found

_TIMES: Final = {"date": DATE, "btime": BTIME, "ctime": CTIME, "mtime": MTIME}
_NEXT: Final = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


def search_query(below: NodeUri, wanted: Conditions, *, detail: Detail, limit: int | None) -> str:
    """Write the query of a search."""
    return urlencode([(name, value) for name, value in _parameters(below, wanted, detail, limit) if value is not None])


def _parameters(
    below: NodeUri, wanted: Conditions, detail: Detail, limit: int | None
) -> Iterator[tuple[str, object | None]]:
    yield "target", below
    yield "name", wanted.name.pattern if wanted.name is not None else None
    yield "owner", wanted.owner
    yield "detail", detail or None
    yield "limit", limit
    for kind in wanted.types:
        yield "type", kind
    for of, span in wanted.spans.items():
        yield f"min{of}", _written(span.start)
        yield f"max{of}", _written(span.end)
    for uri, glob in wanted.properties:
        yield "property", uri if glob is None else f"{uri}={glob.pattern}"


def _written(value: int | datetime | None) -> object | None:
    return write_instant(value) if isinstance(value, datetime) else value


async def walk(
    children: Callable[[NodeUri], AsyncGenerator[Node]], below: NodeUri, wanted: Conditions
) -> AsyncGenerator[Node]:
    """Look through a tree container by container; what may not be read, or goes meanwhile, is passed over.

    Parameters
    ----------
    children
        Lists a container, with all properties.
    """
    containers = [below]
    while containers:
        top = containers.pop()
        try:
            async with aclosing(children(top)) as found:
                async for node in found:
                    if _fits(node, wanted):
                        yield node
                    if node.type is NodeType.CONTAINER:
                        containers.append(node.uri)
        except (PermissionDenied, NodeNotFound):
            if top == below:
                raise


def _fits(node: Node, wanted: Conditions) -> bool:
    kinds = {node.type, NodeType.NODE, *([NodeType.DATA] if node.type.holds_bytes else [])}
    return (
        _like(wanted.name, node.uri.name)
        and (not wanted.types or not kinds.isdisjoint(wanted.types))
        and wanted.owner in {None, node.value(CREATOR)}
        and all(_within(span, _measured(node, of)) for of, span in wanted.spans.items())
        and all(_like(glob, node.value(uri)) for uri, glob in wanted.properties if glob is not None)
        and all(node.value(uri) is not None for uri, _ in wanted.properties)
    )


def _like(glob: Glob | None, text: str | None) -> bool:
    return glob is None or (text is not None and re.fullmatch(fnmatch.translate(glob.pattern), text) is not None)


def _measured(node: Node, of: str) -> Any:
    """Give the size of a node or one of its times; None: it has none."""
    if of == "size":
        return int(node.value(LENGTH) or 0) if node.type.holds_bytes else None
    written = node.value(_TIMES[of])
    return None if written is None else read_instant(written)


def _within(span: Span, value: Any) -> bool:
    if span.start is None and span.end is None:
        return True
    return value is not None and (span.start is None or value >= span.start) and (span.end is None or value <= span.end)


async def search_pages(http: Http, url: str) -> AsyncGenerator[Node]:
    """Give what a search finds; each page says where the next one is."""
    following: str | None = url
    while following is not None:
        answer = await http.ask("GET", following)
        for node in read_found(answer.body):
            yield node
        link = _NEXT.search(answer.headers.get("Link", ""))
        following = link[1] if link else None
