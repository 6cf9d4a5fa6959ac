"""The two sides of a mirror: a folder of this machine, and a container of a space."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyvospace.client.mirror.items import Item, Kind, Names
from pyvospace.client.mirror.spools import in_order
from pyvospace.model.entries import write_file_time
from pyvospace.model.faults import ContainerNotFound, InvalidArgument, InvalidURI, NodeNotFound
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import RESERVED, NodeUri, check_name
from pyvospace.model.vocabulary import FILE_TIME, Detail, NodeType

if TYPE_CHECKING:
    from pyvospace.client.space import Space
    from pyvospace.model.entries import Entry

_BATCH: Final = 1000
"""Entries of a directory that are read in one go."""
_PAGE: Final = 5000
"""Entries of a container that are asked for at once: nothing stays open while what they tell is worked on."""


class LocalSide:
    """A folder of this machine. Symbolic links below it are not followed."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def shown(self, path: Names) -> str:
        """Write a path for people."""
        return str(self.path(path))

    def path(self, path: Names) -> Path:
        """Give where something is."""
        return self.top.joinpath(*path)

    async def kind(self) -> Kind | None:
        """Say what the top is."""
        try:
            mode = (await asyncio.to_thread(self.top.stat)).st_mode
        except FileNotFoundError:
            return None
        return Kind.FOLDER if stat.S_ISDIR(mode) else Kind.FILE if stat.S_ISREG(mode) else Kind.SPECIAL

    async def listing(self, path: Names) -> AsyncGenerator[Item]:
        """Give what is in a folder, by name."""
        async with aclosing(in_order(self._scanned(self.path(path)))) as items:
            async for item in items:
                yield item

    async def _scanned(self, folder: Path) -> AsyncGenerator[Item]:
        with await asyncio.to_thread(os.scandir, folder) as entries:
            while batch := await asyncio.to_thread(_items, entries):
                for item in batch:
                    if item is not None:
                        yield item

    async def make_folder(self, path: Names) -> None:
        """Make a folder, the top with all above it; one that is there is fine, but no symbolic link below the top."""
        await asyncio.to_thread(self._make_folder, self.path(path), top=not path)

    def _make_folder(self, folder: Path, *, top: bool) -> None:
        try:
            folder.mkdir(parents=top)
        except FileExistsError:
            if not stat.S_ISDIR((folder.stat() if top else folder.lstat()).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "is there and is no folder", str(folder)) from None

    async def delete(self, path: Names, kind: Kind) -> None:
        """Delete something, a folder with all below it; what is gone is fine."""
        with suppress(FileNotFoundError):
            if kind is Kind.FOLDER:
                await asyncio.to_thread(shutil.rmtree, self.path(path))
            else:
                await asyncio.to_thread(self.path(path).unlink)

    async def delete_empty(self, path: Names) -> bool:
        """Delete a folder if nothing is in it; say whether it is gone."""
        try:
            await asyncio.to_thread(self.path(path).rmdir)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
                raise
            return error.errno == errno.ENOENT
        return True

    async def date(self, path: Names, item: Item) -> None:
        """Note when a file was changed."""
        times = (item.mtime_ns, item.mtime_ns)
        await asyncio.to_thread(os.utime, self.path(path), ns=times, follow_symlinks=False)


def _items(entries: os._ScandirIterator[str]) -> list[Item | None]:
    return [_local_item(entry) for entry in islice(entries, _BATCH)]


def _local_item(entry: os.DirEntry[str]) -> Item | None:
    """Tell of one thing in a directory; None: it has gone meanwhile."""
    try:
        state = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    mode = state.st_mode
    if stat.S_ISDIR(mode):
        return Item(entry.name, Kind.FOLDER)
    if stat.S_ISREG(mode):
        return Item(entry.name, Kind.FILE, state.st_size, state.st_mtime_ns)
    return Item(entry.name, Kind.LINK if stat.S_ISLNK(mode) else Kind.SPECIAL)


class SpaceSide:
    """A container of a space."""

    def __init__(self, space: Space, top: NodeUri) -> None:
        self.space = space
        self.top = top

    def shown(self, path: Names) -> str:
        """Write a path for people."""
        return str(NodeUri(self.top.authority, self.top.path + path))

    def uri(self, path: Names) -> NodeUri:
        """Give where something is.

        Raises
        ------
        InvalidURI
            No node can be called that.
        """
        if path and path[-1] in RESERVED:
            raise InvalidURI(f"{path[-1]!r} has a meaning of its own in a space")
        return NodeUri(self.top.authority, self.top.path + tuple(check_name(name) for name in path))

    async def kind(self) -> Kind | None:
        """Say what the top is."""
        node = await self.space.find(self.top)
        if node is None:
            return None
        self.top = node.uri  # where a link leads, if it is one
        return _kind(node.type)

    async def listing(self, path: Names) -> AsyncGenerator[Item]:
        """Give what is in a container, by name."""
        children = self._children(self.uri(path))
        sorted_here = children if await self.space.has_entries() else in_order(children)
        async with aclosing(sorted_here) as items:
            async for item in items:
                yield item

    async def _children(self, container: NodeUri) -> AsyncGenerator[Item]:
        async with aclosing(self.space.entries(container, page=_PAGE)) as entries:
            async for entry in entries:
                yield _space_item(entry)

    async def make_folder(self, path: Names) -> None:
        """Make a container."""
        await self.space.ensure_container(self.uri(path), parents=not path)

    async def delete(self, path: Names, kind: Kind) -> None:  # noqa: ARG002 (the service knows)
        """Delete a node."""
        with suppress(NodeNotFound, ContainerNotFound):
            await self.space.delete_node(self.uri(path))

    async def delete_empty(self, path: Names) -> bool:
        """Delete a container if nothing is in it."""
        try:
            await self.space.delete_node(self.uri(path), only_empty=True)
        except InvalidArgument:
            return False
        except (NodeNotFound, ContainerNotFound):
            return True
        return True

    async def date(self, path: Names, item: Item) -> None:
        """Note when a file was changed."""
        uri = self.uri(path)
        node = await self.space.get_node(uri, detail=Detail.MIN)
        time = Property(FILE_TIME, write_file_time(item.mtime_ns))
        await self.space.set_node(Node(uri, node.type, (time,)))


Side = LocalSide | SpaceSide
"""Where files are, or come to be. Paths are names below its top."""


def _kind(kind: NodeType) -> Kind:
    if kind is NodeType.CONTAINER:
        return Kind.FOLDER
    return Kind.LINK if kind is NodeType.LINK else Kind.FILE


def _space_item(entry: Entry) -> Item:
    kind = _kind(entry.type)
    return Item(
        entry.name, kind, entry.length or 0, entry.mtime_ns, sha256=entry.etag, md5=entry.md5, target=entry.target
    )
