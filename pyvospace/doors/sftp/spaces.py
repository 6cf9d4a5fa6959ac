"""The space as one user sees it: the client, with what a door needs besides."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from pyvospace.client import Space
from pyvospace.client.content import Content
from pyvospace.client.download import Reading
from pyvospace.client.failures import ContentChanged
from pyvospace.model.vocabulary import Direction
from pyvospace.storage.windows import Windows

if TYPE_CHECKING:
    from pyvospace.client.negotiation import Endpoints
    from pyvospace.model.uris import NodeUri


class Blocks:
    """The bytes of one node, in any order; of one version, or of none."""

    def __init__(self, space: DoorSpace, uri: NodeUri, endpoints: Endpoints, size: int) -> None:
        self._space = space
        self._uri = uri
        self._endpoints = endpoints
        self._content: Content | None = None
        self.size = size
        self._windows = Windows(self._fetch, size, ahead=True)

    async def read(self, offset: int, size: int) -> bytes:
        """Give up to `size` bytes from `offset` on, less only at the end.

        Raises
        ------
        ContentChanged
            The node has other bytes by now.
        """
        return await self._windows.read(offset, min(offset + size, self.size)) if offset < self.size else b""

    async def close(self) -> None:
        """Let go of what is on its way."""
        await self._windows.close()

    async def _fetch(self, start: int, stop: int) -> bytes:
        reading = self._space.reading(self._endpoints, self._uri, start, stop)
        content = await reading.open()
        self._content = self._content or content
        if not content.same(self._content) or content.total not in {None, self.size}:
            await reading.close()
            raise ContentChanged(f"{self._uri} changed while it was read")
        async with aclosing(reading.pieces()) as pieces:
            return b"".join([piece async for piece in pieces])


class DoorSpace(Space):
    """A `Space` whose files can be opened."""

    def reading(self, endpoints: Endpoints, uri: NodeUri, start: int, stop: int) -> Reading:
        """Ask for a part of the bytes of a node."""
        return Reading(self._http, endpoints, what=uri, start=start, stop=stop)

    async def blocks(self, uri: NodeUri, size: int) -> Blocks:
        """Open a file of this size for reading.

        Raises
        ------
        Fault
            Its bytes are not for the user.
        """
        endpoints = await self._endpoints(uri, Direction.PULL_FROM_VOSPACE, None)
        if size:
            await endpoints.current()
        return Blocks(self, uri, endpoints, size)

    async def may_push(self, uri: NodeUri) -> None:
        """Find out whether bytes are welcome at a node, before they are sent.

        Raises
        ------
        Fault
            They are not.
        """
        await (await self._endpoints(uri, Direction.PUSH_TO_VOSPACE, None)).current()
