"""The space as a tree of files, for one session: what SFTP asks for becomes operations of the standard.

Who may what, quotas and the audit log are the service's: all is done with a token of the user.
"""

from __future__ import annotations

import posixpath
import secrets
import stat
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import asyncssh
from asyncssh import FXF_APPEND, FXF_CREAT, FXF_EXCL, FXF_TRUNC, FXF_WRITE, SFTPAttrs, SFTPName, SFTPVFSAttrs

from pyvospace.doors.sftp.attributes import attributes, entry, folder, kept_time, room
from pyvospace.doors.sftp.faults import told
from pyvospace.doors.sftp.sessions import LONGEST_READ, Server
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    InvalidArgument,
    InvalidURI,
    NodeNotFound,
    OperationNotSupported,
    PermissionDenied,
)
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import NodeUri, encode_path
from pyvospace.model.vocabulary import IS_PUBLIC, Detail, NodeType

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from pyvospace.doors.sftp.spaces import Blocks, DoorSpace
    from pyvospace.doors.sftp.spool import Spool, SpooledFile

_MISSING: Final = (NodeNotFound, ContainerNotFound)


@dataclass(slots=True)
class Reader:
    """A file that is being read."""

    node: Node
    blocks: Blocks


@dataclass(slots=True)
class Writer:
    """A file that is being written."""

    uri: NodeUri
    spooled: SpooledFile
    append: bool
    changed: bool
    """What is there now differs from what the service has."""
    when: int | None = None
    """The time that the file is to have."""


class Tree(Server):
    """A session.

    Parameters
    ----------
    space
        Gives the client of the moment.
    home
        Where paths begin that do not begin at the root.
    open_files
        How many there may be.
    """

    def __init__(
        self,
        chan: asyncssh.SSHServerChannel[bytes],
        space: Callable[[], Awaitable[DoorSpace]],
        spool: Spool,
        *,
        home: str,
        open_files: int,
    ) -> None:
        super().__init__(chan)
        self._space = space
        self._spool = spool
        self._home = home
        self._left = open_files

    # ------------------------------------------------------------------ names

    async def _uri(self, path: bytes) -> NodeUri:
        return NodeUri(await (await self._space()).authority(), self._names(path))

    def _names(self, path: bytes) -> tuple[str, ...]:
        return tuple(name for name in posixpath.normpath(posixpath.join(self._home, _text(path))).split("/") if name)

    def realpath(self, path: bytes) -> bytes:
        """Give the path from the root; links are left as they are."""
        try:
            return b"/" + "/".join(self._names(path)).encode()
        except InvalidURI as fault:
            raise asyncssh.SFTPInvalidFilename(str(fault)) from None

    async def _node(self, path: bytes) -> Node:
        return await (await self._space()).get_node(await self._uri(path), detail=Detail.PROPERTIES)

    async def _find(self, path: bytes) -> Node | None:
        try:
            return await self._node(path)
        except _MISSING:
            return None

    # ------------------------------------------------------------------ looking

    @told
    async def lstat(self, path: bytes) -> SFTPAttrs:
        """Tell of a node."""
        return attributes(await self._node(path))

    @told
    async def stat(self, path: bytes) -> SFTPAttrs:
        """Tell of what a link leads to."""
        return attributes(await self._followed(path))

    async def _followed(self, path: bytes) -> Node:
        node = await self._node(path)
        if node.type is not NodeType.LINK:
            return node
        space = await self._space()
        return await space.get_node((await space.follow(node)).uri, detail=Detail.PROPERTIES)

    async def children(self, path: bytes) -> AsyncIterator[SFTPName]:
        """List a container, page by page."""
        yield folder(b".")
        yield folder(b"..")
        async with aclosing(await self._children(path)) as children:
            while (child := await self._next(children)) is not None:
                yield entry(child)

    @told
    async def _children(self, path: bytes) -> AsyncGenerator[Node]:
        node = await self._followed(path)
        if node.type is not NodeType.CONTAINER:
            raise asyncssh.SFTPNotADirectory("that is no folder")
        return (await self._space()).list(node.uri, detail=Detail.PROPERTIES)

    @told
    async def _next(self, children: AsyncGenerator[Node]) -> Node | None:
        return await anext(children, None)

    @told
    async def readlink(self, path: bytes) -> bytes:
        """Tell where a link leads to: a path, or a URI of elsewhere."""
        node = await self._node(path)
        if node.type is not NodeType.LINK:
            raise InvalidArgument("that is no link")
        target = node.target or ""
        with suppress(InvalidURI):
            uri = NodeUri.parse(target)
            if uri.authority == node.uri.authority:
                return b"/" + "/".join(uri.path).encode()
        return target.encode()

    @told
    async def statvfs(self, path: bytes) -> SFTPVFSAttrs:
        """Tell how much room there is, by the quota."""
        node = await self._followed(path)
        if node.type is not NodeType.CONTAINER:
            node = await (await self._space()).get_node(node.uri.parent, detail=Detail.PROPERTIES)
        return room(node)

    # ------------------------------------------------------------------ the tree

    @told
    async def mkdir(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Make a container; who may what there is inherited or its owner's, whatever mode is asked for."""
        del attrs
        await (await self._space()).create_node(Node(await self._uri(path), NodeType.CONTAINER))

    @told
    async def rmdir(self, path: bytes) -> None:
        """Delete an empty container."""
        node = await self._node(path)
        if node.type is not NodeType.CONTAINER:
            raise asyncssh.SFTPNotADirectory("that is no folder")
        try:
            await (await self._space()).delete_node(node.uri, only_empty=True)
        except InvalidArgument as fault:
            raise asyncssh.SFTPDirNotEmpty(str(fault)) from fault

    @told
    async def remove(self, path: bytes) -> None:
        """Delete a file or a link."""
        node = await self._node(path)
        if node.type is NodeType.CONTAINER:
            raise asyncssh.SFTPFileIsADirectory("that is a folder")
        await (await self._space()).delete_node(node.uri, only_empty=True)

    @told
    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Move a node to a name that nothing has."""
        if await self._find(newpath) is not None:
            raise DuplicateNode("something has that name already")
        await self._move(await self._uri(oldpath), await self._uri(newpath))

    @told
    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Move a node to a name that a file may have, which goes then.

        The standard has no such move: the file steps aside first, and comes back if the move fails.
        """
        source, target = await self._uri(oldpath), await self._uri(newpath)
        there = await self._find(newpath)
        if there is None or source == target:
            if there is None:
                await self._move(source, target)
            return
        if there.type is NodeType.CONTAINER:
            raise asyncssh.SFTPFileIsADirectory("a folder has that name")
        await self._node(oldpath)  # before anything is moved
        aside = replace(target, path=(*target.path[:-1], f".renamed-{secrets.token_hex(8)}"))
        await self._move(target, aside)
        try:
            await self._move(source, target)
        except BaseException:
            await self._move(aside, target)
            raise
        await (await self._space()).delete_node(aside)

    async def _move(self, source: NodeUri, target: NodeUri) -> None:
        await (await self._space()).move(source, target)

    @told
    async def symlink(self, oldpath: bytes, newpath: bytes) -> None:
        """Make a link that leads to a path, or to a URI."""
        link, target = await self._uri(newpath), _text(oldpath)
        if not urlsplit(target).scheme:
            place = posixpath.join("/", *link.path[:-1], target)
            names = tuple(name for name in posixpath.normpath(place).split("/") if name)
            target = f"vos://{link.authority}/{encode_path(names)}"
        await (await self._space()).create_node(Node(link, NodeType.LINK, target=target))

    # ------------------------------------------------------------------ bytes

    @told
    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> Reader | Writer:
        """Open a file. The mode that is asked for is not taken: files of people are readable to others by default."""
        del attrs
        if not self._left:
            raise OperationNotSupported("too many files are open")
        opened = await (self._open_to_write(path, pflags) if pflags & FXF_WRITE else self._open_to_read(path))
        self._left -= 1
        return opened

    async def _open_to_read(self, path: bytes) -> Reader:
        node = await self._followed(path)
        _require_file(node)
        space = await self._space()
        return Reader(node, await space.blocks(node.uri, attributes(node).size or 0))

    async def _open_to_write(self, path: bytes, flags: int) -> Writer:
        space, uri, node = await self._space(), await self._uri(path), None
        with suppress(*_MISSING):
            node = await self._followed(path)
        if node is None and not flags & FXF_CREAT:
            raise NodeNotFound(str(uri))
        if node is not None:
            if flags & FXF_CREAT and flags & FXF_EXCL:
                raise DuplicateNode("the file is there already")
            _require_file(node)
            uri = node.uri
        await space.may_push(uri)
        spooled = await self._spool.file()
        new = node is None or bool(flags & FXF_TRUNC)
        writer = Writer(uri, spooled, append=bool(flags & FXF_APPEND), changed=new)
        try:
            if node is not None and not new:
                await self._fill(writer, node)
        except BaseException:
            await spooled.close()
            raise
        return writer

    async def _fill(self, writer: Writer, node: Node) -> None:
        """Begin with what the file holds: who opens it without truncating writes into that, or behind it."""
        if not attributes(node).size:
            return
        position = 0
        async with aclosing((await self._space()).read(node.uri)) as pieces:
            async for piece in pieces:
                await writer.spooled.write(position, piece)
                position += len(piece)

    @told
    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Give some bytes."""
        size = min(size, LONGEST_READ)
        if isinstance(file_obj, Reader):
            return await file_obj.blocks.read(offset, size)
        assert isinstance(file_obj, Writer)  # noqa: S101 (open gives nothing else)
        return await file_obj.spooled.read(offset, size)

    @told
    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Take some bytes, anywhere."""
        if not isinstance(file_obj, Writer):
            raise PermissionDenied("this file was opened for reading")
        await file_obj.spooled.write(file_obj.spooled.size if file_obj.append else offset, data)
        file_obj.changed = True
        return len(data)

    @told
    async def close(self, file_obj: object) -> None:
        """Store what was written, unless the client was cut off; it hears of it when that is done, or has failed."""
        self._left += 1
        if isinstance(file_obj, Reader):
            await file_obj.blocks.close()
            return
        assert isinstance(file_obj, Writer)  # noqa: S101 (open gives nothing else)
        try:
            if self.closing:
                await self._store(file_obj)
        finally:
            await file_obj.spooled.close()

    async def _store(self, writer: Writer) -> None:
        space = await self._space()
        if writer.changed:
            writer.spooled.file.seek(0)
            await space.push(writer.spooled.file, writer.uri)
        if writer.when is not None:
            node = await space.get_node(writer.uri, detail=Detail.MIN)
            await space.set_node(Node(writer.uri, node.type, (kept_time(writer.when),)))

    @told
    async def fstat(self, file_obj: object) -> SFTPAttrs:
        """Tell of an open file."""
        if isinstance(file_obj, Reader):
            return attributes(file_obj.node)
        assert isinstance(file_obj, Writer)  # noqa: S101 (open gives nothing else)
        return SFTPAttrs(size=file_obj.spooled.size, permissions=stat.S_IFREG | 0o600, nlink=1)

    @told
    async def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Change size and time of a file that is being written. Its mode stays: it is what `put -p` copies."""
        _require_no_owner(attrs)
        if not isinstance(file_obj, Writer):
            raise PermissionDenied("this file was opened for reading")
        if attrs.size is not None:
            await file_obj.spooled.truncate(attrs.size)
            file_obj.changed = True
        file_obj.when = file_obj.when if attrs.mtime is None else int(attrs.mtime)

    @told
    async def setstat(self, path: bytes, attrs: SFTPAttrs, follow_symlinks: bool = True) -> None:  # noqa: FBT001, FBT002 (asyncssh's)
        """Change the time of a node, or its size; a mode that others may not read takes the public flag away."""
        _require_no_owner(attrs)
        node = await (self._followed(path) if follow_symlinks else self._node(path))
        if attrs.size is not None:
            await self._cut(node, attrs.size)
        changes: list[Property] = []
        if attrs.mtime is not None:
            changes.append(kept_time(int(attrs.mtime)))
        hidden = attrs.permissions is not None and not attrs.permissions & 0o004
        if hidden and node.type is not NodeType.LINK and node.value(IS_PUBLIC) == "true":
            changes.append(Property(IS_PUBLIC, "false"))
        if changes:
            await (await self._space()).set_node(Node(node.uri, node.type, tuple(changes)))

    @told
    async def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Do the same, also of a link."""
        await self.setstat(path, attrs, False)

    async def _cut(self, node: Node, size: int) -> None:
        _require_file(node)
        writer = Writer(node.uri, await self._spool.file(), append=False, changed=True)
        try:
            if size:
                await self._fill(writer, node)
            await writer.spooled.truncate(size)
            await self._store(writer)
        finally:
            await writer.spooled.close()


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidURI("names are in UTF-8") from None


def _require_file(node: Node) -> None:
    if node.type is NodeType.CONTAINER:
        raise asyncssh.SFTPFileIsADirectory("that is a folder")
    if not node.type.holds_bytes:
        raise InvalidArgument("that is no file")


def _require_no_owner(attrs: SFTPAttrs) -> None:
    if attrs.uid is not None or attrs.gid is not None:
        raise OperationNotSupported("owners are not changed here")
