"""Changes that a mount makes to the tree of a space: making, removing, renaming, describing."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

from pyvospace.fuse.cache.records import Version
from pyvospace.fuse.modes import kept_mode, kept_time
from pyvospace.fuse.names import text_of
from pyvospace.fuse.tree import Inode
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    from pyvospace.fuse.cache import LocalFile
    from pyvospace.fuse.names import Names
    from pyvospace.fuse.volume import Volume


class Changes:
    """What programs do to names and attributes; what they do to bytes is the cache's."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._tree = volume.tree
        self._remote = volume.remote
        self._cache = volume.cache
        self._descriptions = volume.descriptions

    # ------------------------------------------------------------------ making

    def new_file(self, parent: Inode, name: bytes, mode: int) -> Inode:
        """Make a file, here only: the space hears of it when it is sent."""
        self._require_writable(parent)
        path = (*parent.path, text_of(name))
        inode = self._tree.add(parent, name, stat.S_IFREG)
        inode.local = self._cache.file(path, None, mtime_ns=inode.mtime_ns, mode=kept_mode(mode))
        return inode

    async def new_directory(self, parent: Inode, name: bytes, mode: int) -> Inode:
        """Make a directory; it is known to be empty."""
        self._require_writable(parent)
        path = (*parent.path, text_of(name))
        await self._remote.create(path, NodeType.CONTAINER, mode=kept_mode(mode))
        inode = self._tree.add(parent, name, stat.S_IFDIR)
        inode.kept = kept_mode(mode)
        inode.in_space = True
        return inode

    async def new_link(self, parent: Inode, name: bytes, target: bytes) -> Inode:
        """Make a link node."""
        self._require_writable(parent)
        above = parent.path
        uri = self._volume.links.uri_of(target, above)
        await self._remote.create((*above, text_of(name)), NodeType.LINK, target=uri)
        inode = self._tree.add(parent, name, stat.S_IFLNK)
        inode.in_space = True
        inode.target = uri
        inode.size = len(self._tree.shown_target(inode))
        return inode

    def _require_writable(self, directory: Inode) -> None:
        # The kernel asks ordinary users for permission before it asks us; root it lets through.
        if self._tree.view.read_only:
            raise OSError(errno.EROFS, "mounted read-only")
        if not directory.writable:
            raise OSError(errno.EACCES, "the space lets nobody write here")
        if directory.gone:
            raise OSError(errno.ENOENT, "the directory was removed")

    # ------------------------------------------------------------------ removing

    async def unlink(self, inode: Inode) -> None:
        """Remove a file or a link; who has it open goes on with it."""
        path = inode.path
        known = _is_in_space(inode)
        if inode.local is not None:
            known = await inode.local.discard() or known
        if known:
            async with self._cache.held(path):
                await self._remote.delete(path)
        self._tree.remove(inode)

    async def rmdir(self, inode: Inode) -> None:
        """Remove an empty directory.

        Raises
        ------
        OSError
            ENOTEMPTY.
        """
        path = inode.path
        if self._cache.unsent_below(path):
            raise OSError(errno.ENOTEMPTY, "files that are not sent yet are in it")
        try:
            await self._remote.delete(path, only_empty=True)
        except InvalidArgument:
            raise OSError(errno.ENOTEMPTY, "it is not empty") from None
        self._tree.remove(inode)

    # ------------------------------------------------------------------ renaming

    async def rename(self, inode: Inode, parent: Inode, name: bytes, there: Inode | None) -> None:
        """Give an inode another place, that of `there` if it is not None."""
        self._require_writable(parent)
        old, new = inode.path, (*parent.path, text_of(name))
        if there is not None:
            self._require_alike(inode, there, new)
        local = inode.local
        if local is not None and local.dirty and inode.kind == stat.S_IFREG:
            if local.version is None and not local.sending:
                await self._rename_unsent(inode, local, new, there)
                self._tree.rename(inode, parent, name)
                return
            await self._cache.settle(old)
        elif inode.is_directory:
            await self._cache.settle(old)
        replaced = there is not None and _is_in_space(there)
        if there is not None and there.local is not None:
            replaced = await there.local.discard() or replaced
        async with self._cache.held(old, new):
            await self._move(old, new, there, replace=replaced)
            self._cache.moved(old, new)
        self._tree.rename(inode, parent, name)

    def _require_alike(self, inode: Inode, there: Inode, path: Names) -> None:
        if inode.is_directory and not there.is_directory:
            raise OSError(errno.ENOTDIR, "what is there is no directory")
        if there.is_directory and not inode.is_directory:
            raise OSError(errno.EISDIR, "what is there is a directory")
        if there.is_directory and (there.children or self._cache.unsent_below(path)):
            raise OSError(errno.ENOTEMPTY, "the directory that is there is not empty")

    async def _move(self, old: Names, new: Names, there: Inode | None, *, replace: bool) -> None:
        try:
            await self._remote.move(old, new, replace=replace)
        except InvalidArgument:
            if there is None or not there.is_directory:
                raise
            raise OSError(errno.ENOTEMPTY, "what is there is not empty") from None

    async def _rename_unsent(self, inode: Inode, local: LocalFile, new: Names, there: Inode | None) -> None:
        """Let a file that the space does not know take a place, without a request if it can be."""
        base: Version | None = None
        if there is not None:
            if there.local is not None:
                await there.local.discard()
            if there.kind == stat.S_IFLNK:
                await self._remote.delete(new)
            elif _is_in_space(there):
                base = _version(there)
        self._cache.moved(inode.path, new)
        if base is not None:
            local.rebase(base)
            inode.in_space = True

    # ------------------------------------------------------------------ describing

    async def set_mode(self, inode: Inode, mode: int) -> None:
        """Keep a mode."""
        before = inode.kept if inode.local is None or inode.local.mode is None else inode.local.mode
        kept = kept_mode(mode)
        if kept == before or inode.kind == stat.S_IFLNK:
            return
        if inode.local is None or not inode.local.touch(mode=kept):
            await self._descriptions.describe(inode, mode=kept)
        inode.kept = kept
        self._tree.touched(inode)

    async def set_mtime(self, inode: Inode, mtime_ns: int) -> None:
        """Set when a file was changed."""
        local, mtime_ns = inode.local, kept_time(mtime_ns)
        if mtime_ns == (inode.mtime_ns if local is None else local.mtime_ns):
            return
        if local is None or not local.touch(mtime_ns=mtime_ns):
            if not inode.gone:
                await self._descriptions.describe(inode, mtime_ns=mtime_ns)
            inode.stamp = mtime_ns
        inode.mtime_ns = mtime_ns
        self._tree.touched(inode)


def _is_in_space(inode: Inode) -> bool:
    local = inode.local
    return inode.in_space or (local is not None and local.version is not None)


def _version(inode: Inode) -> Version:
    if inode.local is not None and inode.local.version is not None:
        return inode.local.version
    return Version(inode.etag, inode.size)
