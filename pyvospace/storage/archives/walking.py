"""Through a tree from its top, container before content, in pages: what a caller may read as of each page."""

import asyncio
import posixpath
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pyvospace.model.archives import PackClaim, PackedNode
from pyvospace.model.faults import InvalidURI, PermissionDenied
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType
from pyvospace.storage.archives.catalogue import ArchiveCatalogue
from pyvospace.storage.archives.writing import Entry

_PAGE: Final = 1000

Member = tuple[Entry, PackedNode]


@dataclass
class _Listing:
    """Containers whose children are being read."""

    parents: Sequence[int]
    after: str = ""


@dataclass(frozen=True, slots=True)
class _Top:
    """A node that was asked for, and the name that it has in the archive."""

    path: tuple[str, ...]
    name: str


@dataclass
class Walk:
    """One reading of all that goes into an archive.

    Parameters
    ----------
    authority
        Of the space: only links to its nodes can lead to a member.
    """

    catalogue: ArchiveCatalogue
    claim: PackClaim
    authority: str
    _tops: list[_Top] = field(default_factory=list)
    _paths: dict[int, str] = field(default_factory=dict)
    """Where containers stand in the archive whose children are still to come."""
    _open: list[_Listing] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the archive, without its suffix."""
        return self._tops[0].name if len(self._tops) == 1 else "package"

    async def begin(self) -> list[Member]:
        """Read the nodes that were asked for.

        Raises
        ------
        PermissionDenied
            There was one, and it may not be read (any more), or is gone.
        """
        found = await self.catalogue.nodes(self.claim, self.claim.nodes)
        if not found and len(self.claim.nodes) == 1:
            raise PermissionDenied("the right to read was withdrawn, or the node was deleted")
        taken: set[str] = set()
        for node, path in found:
            self._tops.append(_Top(path, _free_name(node.name or self.authority, taken)))
        named = [(node, top.name) for (node, _), top in zip(found, self._tops, strict=True)]
        return self._take(named)

    async def pages(self) -> AsyncGenerator[list[Member]]:
        """Give all that is below, page by page; while one is in use the next is being read."""
        reading = asyncio.create_task(self._page())
        try:
            while members := await reading:
                reading = asyncio.create_task(self._page())
                yield members
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()  # seen: nobody wants this page any more

    async def again(self, node: PackedNode) -> PackedNode | None:
        """Look at a node once more; None: the caller may not read it any more, or it is gone."""
        found = await self.catalogue.nodes(self.claim, [node.id])
        return found[0][0] if found else None

    async def _page(self) -> list[Member]:
        """Read on; empty: that was all. A page of which nothing is packed is followed by the next."""
        while self._open:
            listing = self._open[-1]
            rows = await self.catalogue.children(self.claim, listing.parents, after=listing.after, at_most=_PAGE)
            paths = self._paths
            members = self._take([(row, f"{paths[row.parent_id or 0]}/{row.name}") for row in rows])
            self._advance(listing, rows)
            if members:
                return members
        return []

    def _advance(self, listing: _Listing, rows: Sequence[PackedNode]) -> None:
        """Remember where to read on, and forget the containers whose children have all been read."""
        full = len(rows) == _PAGE
        done = listing.parents.index(rows[-1].parent_id or 0) if full else len(listing.parents)
        for parent in listing.parents[:done]:
            del self._paths[parent]
        if full:
            listing.parents, listing.after = listing.parents[done:], rows[-1].name
        else:
            self._open = [one for one in self._open if one is not listing]

    def _take(self, named: Sequence[tuple[PackedNode, str]]) -> list[Member]:
        members = []
        folders = []
        for node, path in named:
            link = self._link(node, path) if node.type == NodeType.LINK else None
            is_folder = node.type == NodeType.CONTAINER
            if is_folder:
                folders.append(node.id)
                self._paths[node.id] = path
            if node.type != NodeType.LINK or link is not None:
                size = 0 if is_folder or node.location is None else node.size
                members.append((Entry(path, node.modified, size, is_folder, link), node))
        if folders:
            self._open.append(_Listing(folders))
        return members

    def _link(self, node: PackedNode, path: str) -> str | None:
        """Give the way from a link to its target in the archive; None: it leads out of it."""
        try:
            target = NodeUri.parse(node.target or "")
        except InvalidURI:
            return None
        if target.authority != self.authority:
            return None
        for top in self._tops:
            if target.path[: len(top.path)] == top.path:
                return posixpath.relpath("/".join((top.name, *target.path[len(top.path) :])), posixpath.dirname(path))
        return None


def _free_name(name: str, taken: set[str]) -> str:
    """Give the name, with a number if it is taken already; take it."""
    stem, dot, suffix = name.partition(".")
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{stem}-{number}{dot}{suffix}"
    taken.add(free)
    return free
