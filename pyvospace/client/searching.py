"""Searches: what is asked for as a query, and the pages of answers."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from pyvospace.client.http import Http
from pyvospace.model.instants import write_instant
from pyvospace.model.nodes import Node
from pyvospace.model.searches import Conditions
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import Detail
from pyvospace.wire.nodes import read_found

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


async def search_pages(http: Http, url: str, limit: int | None = None) -> AsyncGenerator[Node]:
    """Give what a search finds; each page says where the next one is.

    Parameters
    ----------
    limit
        Nodes that are enough.
    """
    following: str | None = url
    given = 0
    while following is not None:
        answer = await http.ask("GET", following)
        for node in read_found(answer.body):
            yield node
            given += 1
            if given == limit:
                return
        link = _NEXT.search(answer.headers.get("Link", ""))
        following = link[1] if link else None
