"""Entries of a space, as they arrive; made of nodes if the service has none."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from pyvospace.client.http import Http, pieces
from pyvospace.client.nodes import Nodes
from pyvospace.client.retry import Attempts
from pyvospace.model.entries import Entry, Room, read_file_time, read_mode
from pyvospace.model.faults import ContainerNotFound, Fault, InvalidData, NodeNotFound, PermissionDenied
from pyvospace.model.nodes import Node
from pyvospace.model.uris import NodeUri, encode_path
from pyvospace.model.vocabulary import (
    AVAILABLE_SPACE,
    CORE_IS_LOCKED,
    CREATOR,
    CTIME,
    DATE,
    FILE_MODE,
    FILE_TIME,
    IS_LOCKED,
    IS_PUBLIC,
    LENGTH,
    MD5,
    MTIME,
    PUBLIC_READ,
    QUOTA,
    READABLE,
    STANDARD_ENTRIES,
    TYPE,
    WRITABLE,
    Detail,
    NodeType,
)
from pyvospace.wire.entries import EntryReader

_PIECE: Final = 1 << 17
"""Bytes of a listing that are read at once: while they are, the service makes the next."""
_NEVER: Final = (datetime(1970, 1, 1, tzinfo=UTC), 0)


class Entries(Nodes):
    """The nodes of one space as a file system wants them."""

    async def has_entries(self) -> bool:
        """Say whether the service has entries by itself: they come in the order of names then, with all digests."""
        return await self._offers(STANDARD_ENTRIES)

    async def entry(self, uri: NodeUri | str) -> Entry:
        """Tell of one node what a file system wants to know; of a link itself, not of where it leads.

        A service that has no entries (they are an extension of our own) is asked for the node: then nothing is known
        of the SHA-256 of its bytes.
        """
        wanted = await self.uri(uri)
        if not await self.has_entries():
            return entry_of(await self.get_node(wanted, detail=Detail.MAX))
        reader = EntryReader()
        found = reader.feed((await self._http.ask("GET", f"{await self._entries_url(wanted)}?limit=0")).body)
        reader.close()
        if len(found) != 1:
            raise InvalidData(f"the service tells of {len(found)} entries instead of one")
        return found[0]

    async def find_entry(self, uri: NodeUri | str) -> Entry | None:
        """Tell of one node what a file system wants to know; None: there is none."""
        try:
            return await self.entry(uri)
        except (NodeNotFound, ContainerNotFound):
            return None

    async def entries(
        self, uri: NodeUri | str, *, after: str | None = None, page: int | None = None
    ) -> AsyncGenerator[Entry]:
        """Give the children of a container as they arrive, by name in the order of code points.

        Memory does not grow with their number. A listing that breaks off goes on behind the last child. A service
        without entries lists nodes, in an order of its own.

        Parameters
        ----------
        after
            Only those whose name is greater; it need not be there.
        page
            Children for which the service is asked at once, so that a listing that is read slowly keeps no connection;
            None: all.
        """
        async with aclosing(self.entries_together(uri, after=after, page=page)) as arriving:
            async for some in arriving:
                for child in some:
                    yield child

    async def entries_together(
        self, uri: NodeUri | str, *, after: str | None = None, page: int | None = None
    ) -> AsyncGenerator[list[Entry]]:
        """Give the same as `entries`, as many at once as have arrived: quicker for those who want all of them."""
        container = await self.uri(uri)
        if await self.has_entries():
            found = _Listing(self._http, await self._entries_url(container), container, page).run(after)
        else:
            found = self._entries_of_nodes(container, after)
        async with aclosing(found) as arriving:
            async for some in arriving:
                yield some

    async def _entries_url(self, uri: NodeUri) -> str:
        base = await self._url(STANDARD_ENTRIES)
        return f"{base}/{encode_path(uri.path)}" if uri.path else base

    async def _entries_of_nodes(self, container: NodeUri, after: str | None) -> AsyncGenerator[list[Entry]]:
        async with aclosing(self.list(container, detail=Detail.MAX)) as children:
            async for child in children:
                if after is None or child.uri.name > after:
                    yield [entry_of(child)]


class _Listing:
    """The children of one container, page by page, through broken connections."""

    def __init__(self, http: Http, url: str, container: NodeUri, page: int | None) -> None:
        self._http = http
        self._url = url
        self._container = container
        self._page = page

    async def run(self, after: str | None) -> AsyncGenerator[list[Entry]]:
        attempts, count = Attempts(self._http.retry), None
        while count is None or (count and count == self._page):
            count = 0
            try:
                async with aclosing(self._children(after)) as arriving:
                    async for some in arriving:
                        attempts.progressed()
                        after = some[-1].name
                        count += len(some)
                        yield some
            except Fault as fault:
                await attempts.wait_after(fault)
                count = None

    async def _children(self, after: str | None) -> AsyncGenerator[list[Entry]]:
        """Give those of one request, as many at once as have arrived."""
        asked = {"after": after, "limit": self._page}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        reader, itself = EntryReader(), True
        async with self._http.open("GET", f"{self._url}?{query}") as response:
            async for piece in pieces(response, size=_PIECE):
                found = reader.feed(piece)
                if itself and found:
                    itself = False
                    self._require_readable(found.pop(0))
                if found:
                    yield found
        reader.close()

    def _require_readable(self, container: Entry) -> None:
        if not container.readable:
            raise PermissionDenied(f"{self._container} cannot be listed")


def entry_of(node: Node) -> Entry:
    """Tell of a node what is told of it; what the service says nothing of is taken for allowed."""
    told = {one.uri: one.value for one in node.properties if one.value is not None}
    changed = read_file_time(told.get(CTIME)) or read_file_time(told.get(DATE)) or _NEVER
    times = (read_file_time(told.get(uri)) for uri in (FILE_TIME, MTIME, DATE))
    mtime, below = next((one for one in times if one is not None), _NEVER)
    length = _number(told.get(LENGTH))
    return Entry(
        name=node.uri.name,
        type=node.type,
        mtime=mtime,
        below_microsecond=below,
        changed=changed[0],
        length=length if node.type.holds_bytes else None,
        md5=told.get(MD5),
        owner=told.get(CREATOR, ""),
        public=_says(told, IS_PUBLIC, PUBLIC_READ),
        readable=told.get(READABLE, "true") == "true",
        writable=told.get(WRITABLE, "true") == "true",
        locked=_says(told, IS_LOCKED, CORE_IS_LOCKED),
        busy=node.busy,
        target=node.target,
        mode=read_mode(told.get(FILE_MODE)),
        content_type=told.get(TYPE),
        quota=_room(told, length) if node.type is NodeType.CONTAINER else None,
    )


def _says(told: dict[str, str], *uris: str) -> bool:
    return any(told.get(uri) == "true" for uri in uris)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _room(told: dict[str, str], used: int | None) -> Room | None:
    limit, available = _number(told.get(QUOTA)), _number(told.get(AVAILABLE_SPACE))
    return None if limit is None and available is None else Room(used=used or 0, limit=limit, available=available)
