"""The children of a container, as many as there are, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final
from urllib.parse import urlencode

from pyvospace.client.http import Http, pieces
from pyvospace.client.retry import Attempts
from pyvospace.model.faults import Fault, InvalidData, InvalidURI, NodeNotFound
from pyvospace.model.nodes import Node
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import Detail
from pyvospace.wire.nodes import NodeReader

_CAPPED: Final = 500
"""A listing of fewer children is complete; of more, the service is asked whether there are further ones: it may cap
a page (VOSpace 2.1, section 6.3.1)."""


def node_query(*, detail: Detail = Detail.FULL, limit: int | None = None, uri: NodeUri | None = None) -> str:
    """Write the query of getNode; empty if everything is as usual."""
    said = {"detail": detail or None, "limit": limit, "uri": uri}
    query = urlencode({name: value for name, value in said.items() if value is not None})
    return f"?{query}" if query else ""


async def list_children(http: Http, url: str, container: NodeUri, detail: Detail) -> AsyncGenerator[Node]:
    """Give the children as they arrive; a listing that breaks off goes on at the last child.

    Parameters
    ----------
    container
        What the caller calls the container. Children are named below it, whatever the service calls it (it may have
        been reached through a link).

    Raises
    ------
    InvalidData
        The service names something that can be no child.
    """
    pages = _Pages(http, url, detail)
    while not pages.ended:
        async with aclosing(pages.next_page()) as page:
            async for child in page:
                yield replace(child, uri=container.child(child.uri.name))


class _Pages:
    """The pages of one listing: the next one begins with the last child of the one before."""

    def __init__(self, http: Http, url: str, detail: Detail) -> None:
        self._http = http
        self._url = url
        self._detail = detail
        self._attempts = Attempts(http.retry)
        self._last: NodeUri | None = None
        self._count = 0
        self._broken: Fault | None = None
        """Why the page before did not come to its end."""
        self.ended = False

    async def next_page(self) -> AsyncGenerator[Node]:
        start = self._last
        try:
            async with aclosing(self._page(start)) as page:
                async for child in page:
                    if child.uri != start:
                        self._last = child.uri
                        self._count += 1
                        self._attempts.progressed()
                        yield child
        except (InvalidURI, NodeNotFound):
            # The child at which this page was to begin has gone meanwhile.
            if start is None:
                raise
            if self._broken is not None:
                raise self._broken from None
            self.ended = True
        except Fault as fault:
            self._broken = fault
            await self._attempts.wait_after(fault)
        else:
            self._broken = None
            self.ended = self._count < _CAPPED or self._last == start

    async def _page(self, start: NodeUri | None) -> AsyncGenerator[Node]:
        reader = NodeReader()
        async with self._http.open("GET", self._url + node_query(detail=self._detail, uri=start)) as response:
            async for piece in pieces(response):
                for child in _fed(reader, piece):
                    yield child
        reader.close()


def _fed(reader: NodeReader, piece: bytes) -> list[Node]:
    try:
        children = reader.feed(piece)
    except InvalidURI as fault:
        raise InvalidData(f"the service lists what cannot be a node: {fault.detail}") from None
    if any(not child.uri.path for child in children):
        raise InvalidData("the service lists a root as a child")
    return children
