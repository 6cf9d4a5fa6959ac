"""Keeping what the mount knows as fresh as it promises, with as few requests as that takes."""

from __future__ import annotations

import asyncio
import logging
import stat
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import pyfuse3

from pyvospace.fuse.names import is_possible
from pyvospace.fuse.tree import NEVER, Inode, Tree
from pyvospace.model.faults import ContainerNotFound, LinkFound, NodeNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyvospace.fuse.cache import Cache, Sent, UnsentFile
    from pyvospace.fuse.descriptions import Descriptions
    from pyvospace.fuse.names import Links, Names
    from pyvospace.fuse.remote import Remote
    from pyvospace.model.entries import Entry

log = logging.getLogger(__name__)

_SINGLES: Final = 1
"""Children of one directory that are asked for one by one before the directory is listed instead."""
_WHOLE: Final = 2000
"""Most children for which that is worth while."""
_LARGE: Final = -200
"""Children of a directory that is larger that are asked for before somebody looks again."""
_RECENT: Final = 1.0
"""Seconds for which a file that is opened is taken to be what it was."""


class Volume:
    """A mounted container: what is known of it, what is here, and where to ask."""

    def __init__(self, tree: Tree, remote: Remote, cache: Cache, links: Links, descriptions: Descriptions) -> None:
        self.tree = tree
        self.descriptions = descriptions
        self.remote = remote
        self.cache = cache
        self.links = links
        self._listing: dict[Inode, asyncio.Task[None]] = {}
        cache.on_sent = self._sent
        cache.on_conflict = self._conflict

    def start(self, top: Entry) -> None:
        """Show the top, and what an earlier mount has left unsent."""
        self.tree.take(self.tree.root, top)
        for left in self.cache.unsent():
            self._show(left)

    def _show(self, left: UnsentFile) -> None:
        node = self.tree.root
        for name in left.path[:-1]:
            above = node.children.get(name.encode())
            if above is None:
                above = self.tree.add(node, name.encode(), stat.S_IFDIR)
                above.in_space = True
                above.fresh_until = above.listed_until = above.listed_at = above.since = above.active_until = NEVER
            node = above
        inode = self.tree.add(node, left.path[-1].encode(), stat.S_IFREG)
        inode.local = self.cache.find(left.path)
        inode.in_space = not left.new

    # ------------------------------------------------------------------ what is asked

    async def child(self, parent: Inode, name: bytes) -> Inode | None:
        """Find a child by name, fresh; None: there is none."""
        found = parent.children.get(name)
        now = time.monotonic()
        if found is not None:
            if found.is_fresh(now) or parent.listed_until > now:
                return found
        elif not is_possible(name) or parent.is_complete(now):
            return None
        return await self._ask(parent, name)

    async def _ask(self, parent: Inode, name: bytes) -> Inode | None:
        parent.singles += 1
        if self._is_worth_listing(parent):
            await self.list(parent)
            if parent.singles == 0:
                return parent.children.get(name)
        asked = time.monotonic()
        known = parent.children.get(name)
        try:
            entry = await self.remote.entry((*parent.path, name.decode()))
        except (NodeNotFound, ContainerNotFound, LinkFound):
            found = self.tree.missing(parent, name, asked)
            if found is None and known is not None:
                _tell(parent, known)
            return found
        return self.learn(parent, entry, asked)

    def _is_worth_listing(self, parent: Inode) -> bool:
        many = parent.singles > _SINGLES and len(parent.children) <= _WHOLE
        return many and parent.readable and self.tree.view.fresh > 0

    def learn(self, parent: Inode, entry: Entry, asked: float) -> Inode | None:
        """Take over what the space says of a child; see `Tree.learn`."""
        name = entry.name.encode()
        known = parent.children.get(name)
        inode = self.tree.learn(parent, name, entry, asked)
        if known is not None and inode is not known:
            _tell(parent, known)
        return inode

    async def list(self, directory: Inode) -> None:
        """Learn all children of a directory that is not large, in one request that serves all who come meanwhile."""
        task = self._listing.get(directory)
        if task is None:
            task = self._listing[directory] = asyncio.create_task(self._list(directory))
            task.add_done_callback(lambda _: self._listing.pop(directory, None))
        await asyncio.shield(task)

    async def _list(self, directory: Inode) -> None:
        asked, names = time.monotonic(), list[bytes]()
        async with aclosing(self.remote.entries(directory.path, page=_WHOLE)) as arriving:
            async for some in arriving:
                for entry in some:
                    if len(names) == _WHOLE:
                        directory.singles = _LARGE
                        return
                    names.append(entry.name.encode())
                    self.learn(directory, entry, asked)
        self.complete(directory, names, asked)

    def complete(self, directory: Inode, names: Iterable[bytes], asked: float) -> None:
        """Take over that these are all the children that the space has."""
        for lost in self.tree.listed(directory, names, asked):
            _tell(directory, lost)

    async def refresh(self, inode: Inode) -> None:
        """Ask again what the space knows of an inode; one that is there no more, or another now, stays as it was."""
        parent = inode.parent
        if parent is None:
            top = await self.remote.top()
            if top is not None:
                self.tree.take(inode, top)
        elif not inode.gone and not inode.unsent:
            await self._ask(parent, inode.name)

    async def opened(self, inode: Inode) -> bool:
        """Say whether a file still is what the kernel believes; who opens it sees what others have closed before."""
        parent = inode.parent
        if inode.gone or parent is None or inode.unsent:
            return True
        if inode.fresh_until - self.tree.view.fresh + _RECENT > time.monotonic():
            return True
        return await self._ask(parent, inode.name) is inode

    # ------------------------------------------------------------------ what the cache tells

    def _sent(self, path: Names, sent: Sent) -> None:
        inode = self.tree.at(path)
        if inode is None or inode.local is None:
            return
        inode.in_space = True
        inode.etag = sent.etag
        inode.size = sent.size
        inode.mtime_ns = inode.stamp = sent.mtime_ns
        inode.kept = sent.mode
        self.tree.touched(inode)
        if not inode.opens and not inode.local.dirty:
            inode.local = None

    def _conflict(self, path: Names, kept: Names) -> None:
        """Show the version from here, whose bytes the kernel has, by its new name; the other one is another inode."""
        inode = self.tree.at(path)
        above = self.tree.at(kept[:-1])
        if inode is None or inode.parent is None or above is None:
            return
        parent = inode.parent
        _tell(parent, inode)
        self.tree.rename(inode, above, kept[-1].encode())
        parent.removed.pop(path[-1].encode(), None)
        parent.listed_until = parent.listed_at = NEVER


def _tell(parent: Inode, child: Inode) -> None:
    """Have the kernel forget a name that stands for something else now."""
    if child.lookups > 0:
        pyfuse3.invalidate_entry_async(parent.number, child.name, ignore_enoent=True)
