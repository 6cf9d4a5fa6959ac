"""What the kernel asks for, answered from what is known; only what is not known or too old becomes a request.

One process and one loop serve a mount. Reads and writes of what is here end without a suspension, so that the kernel
has its answer before anything else runs.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import pyfuse3

from pyvospace.fuse.cache.records import Version
from pyvospace.fuse.changes import Changes
from pyvospace.fuse.errors import answered
from pyvospace.fuse.listing import Listing
from pyvospace.fuse.properties import Properties

if TYPE_CHECKING:
    from pyvospace.fuse.cache import LocalFile
    from pyvospace.fuse.tree import Inode
    from pyvospace.fuse.volume import Volume
    from pyvospace.model.entries import Room

_BLOCK: Final = 4096
_ENDLESS: Final = 1 << 50
"""Bytes that there are where no quota says how many."""
_ROOM: Final = 10.0
"""Seconds for which the room that is left is believed."""
_NAME: Final = 255


class Operations(pyfuse3.Operations):
    """The mount, as pyfuse3 calls it."""

    supports_dot_lookup = False
    enable_writeback_cache = True

    def __init__(self, volume: Volume) -> None:
        super().__init__()
        self._volume = volume
        self._tree = volume.tree
        self._changes = Changes(volume)
        self._properties = Properties(volume)
        self._files: dict[int, LocalFile] = {}
        self._inodes: dict[int, Inode] = {}
        """Of the same handles."""
        self._directories: dict[int, Listing] = {}
        self._next = 1
        self._room: tuple[float, Room | None] = (0.0, None)

    @property
    def in_use(self) -> bool:
        """Whether a program has something open."""
        return bool(self._files or self._directories)

    # ------------------------------------------------------------------ names and attributes

    @answered
    async def lookup(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Find a child."""
        inode = await self._volume.child(self._tree[parent_inode], name)
        if inode is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        inode.lookups += 1
        return self._tree.told(inode)

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """Take over what the kernel has forgotten."""
        for number, times in inode_list:
            self._tree.forget(number, times)

    @answered
    async def getattr(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Tell attributes."""
        node = self._tree[inode]
        if not node.is_fresh(time.monotonic()):
            await self._volume.refresh(node)
        return self._tree.told(node)

    @answered
    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Change size, mode and time; an owner is taken without effect, since files have that of the space."""
        node = self._tree[inode]
        if fields.update_size:
            await self._truncate(node, attr.st_size)
        if fields.update_mode:
            await self._changes.set_mode(node, attr.st_mode)
        if fields.update_mtime:
            await self._changes.set_mtime(node, attr.st_mtime_ns)
        return self._tree.told(node)

    async def _truncate(self, node: Inode, size: int) -> None:
        local = self._local(node)
        if node.opens:
            await local.truncate(size)
            return
        local.retain()
        try:
            await local.truncate(size)
            await local.flush()
        finally:
            self._closed(node, local)

    @answered
    async def readlink(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.FileNameT:
        """Give the target of a link."""
        return self._tree.shown_target(self._tree[inode])

    # ------------------------------------------------------------------ changes of the tree

    @answered
    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Make a directory."""
        inode = await self._changes.new_directory(self._tree[parent_inode], name, mode)
        inode.lookups += 1
        return self._tree.told(inode)

    @answered
    async def symlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        target: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Make a link node."""
        inode = await self._changes.new_link(self._tree[parent_inode], name, target)
        inode.lookups += 1
        return self._tree.told(inode)

    @answered
    async def link(
        self,
        inode: pyfuse3.InodeT,
        new_parent_inode: pyfuse3.InodeT,
        new_name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Refuse: a node has one place."""
        raise pyfuse3.FUSEError(errno.EPERM)

    @answered
    async def mknod(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        rdev: int,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Make a file; a space has no devices and pipes."""
        if not stat.S_ISREG(mode):
            raise pyfuse3.FUSEError(errno.EPERM)
        made, attributes = await self.create(parent_inode, name, mode, os.O_WRONLY, ctx)
        await self.flush(made.fh)
        await self.release(made.fh)
        return attributes

    @answered
    async def unlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Remove a file or a link."""
        await self._changes.unlink(await self._existing(parent_inode, name))

    @answered
    async def rmdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Remove an empty directory."""
        await self._changes.rmdir(await self._existing(parent_inode, name))

    @answered
    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: pyfuse3.FileNameT,
        parent_inode_new: pyfuse3.InodeT,
        name_new: pyfuse3.FileNameT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Rename, over an existing file too; two nodes cannot change places."""
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise pyfuse3.FUSEError(errno.EINVAL)
        inode = await self._existing(parent_inode_old, name_old)
        parent = self._tree[parent_inode_new]
        there = await self._volume.child(parent, name_new)
        if there is inode:
            return
        if there is not None and flags:
            raise pyfuse3.FUSEError(errno.EEXIST)
        await self._changes.rename(inode, parent, name_new, there)

    async def _existing(self, parent: int, name: bytes) -> Inode:
        found = await self._volume.child(self._tree[parent], name)
        if found is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        if self._tree.view.read_only:
            raise pyfuse3.FUSEError(errno.EROFS)
        return found

    # ------------------------------------------------------------------ files

    def _local(self, node: Inode) -> LocalFile:
        if node.local is None:
            node.local = self._volume.cache.file(node.path, _version(node), mtime_ns=node.mtime_ns, mode=node.kept)
        return node.local

    def _opened(self, node: Inode, local: LocalFile) -> pyfuse3.FileInfo:
        local.retain()
        node.opens += 1
        handle = self._next
        self._next += 1
        self._files[handle] = local
        self._inodes[handle] = node
        # Another version is another inode: what the kernel has of this one is right.
        return pyfuse3.FileInfo(fh=handle, keep_cache=True)

    @answered
    async def open(
        self,
        inode: pyfuse3.InodeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.FileInfo:
        """Open a file as others have closed it."""
        node = self._tree[inode]
        if not await self._volume.opened(node):
            # The kernel looks the name up again, finds the other inode, and opens that.
            raise pyfuse3.FUSEError(errno.ESTALE)
        if flags & os.O_ACCMODE != os.O_RDONLY and not node.writable:
            raise pyfuse3.FUSEError(errno.EROFS if self._tree.view.read_only else errno.EACCES)
        if flags & os.O_ACCMODE != os.O_WRONLY and not node.readable:
            raise pyfuse3.FUSEError(errno.EACCES)
        if node.local is None and not node.gone:
            older = self._volume.cache.find(node.path)
            if older is not None and older.version != _version(node):
                await older.discard()  # handles of the version before go on with that
        opened = self._opened(node, self._local(node))
        if flags & os.O_TRUNC:
            # The kernel takes that for done: it asks for no truncation of its own.
            await self._local(node).truncate(0)
        return opened

    @answered
    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """Make a file and open it."""
        inode = self._changes.new_file(self._tree[parent_inode], name, mode)
        inode.lookups += 1
        return self._opened(inode, self._local(inode)), self._tree.told(inode)

    @answered
    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """Give bytes."""
        return await self._files[fh].read(off, size)

    @answered
    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        """Take bytes; the space hears of them when the file is sent."""
        return await self._files[fh].write(off, buf)

    @answered
    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        """Hand a file over to be sent, since somebody has closed it."""
        await self._files[fh].flush()

    @answered
    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        """Make what was written durable on this machine, and tell what sending it failed with."""
        await self._files[fh].fsync()

    @answered
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Forget a handle."""
        node = self._inodes.pop(fh)
        node.opens -= 1
        self._closed(node, self._files.pop(fh))

    def _closed(self, node: Inode, local: LocalFile) -> None:
        try:
            local.release()
        finally:
            self._rest(node, local)

    @staticmethod
    def _rest(node: Inode, local: LocalFile) -> None:
        if node.opens or node.local is not local or local.dirty:
            return
        node.size, node.mtime_ns = local.size, local.mtime_ns
        node.attributes = None
        node.local = None

    # ------------------------------------------------------------------ directories

    @answered
    async def opendir(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.FileHandleT:
        """Open a directory."""
        node = self._tree[inode]
        if not node.readable:
            raise pyfuse3.FUSEError(errno.EACCES)
        handle = self._next
        self._next += 1
        self._directories[handle] = Listing(self._volume, node)
        return handle

    @answered
    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Give children with their attributes."""
        await self._directories[fh].read(start_id, token)

    @answered
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """Close a directory."""
        await self._directories.pop(fh).close()

    @answered
    async def fsyncdir(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        """Wait until modes and times are in the space; directories themselves are as soon as they are made."""
        await self._volume.descriptions.settle()

    # ------------------------------------------------------------------ the rest

    @answered
    async def statfs(
        self,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.StatvfsData:
        """Tell how much room the tightest quota leaves; without one there is no end of it."""
        now = time.monotonic()
        if self._room[0] <= now:
            self._room = (now + _ROOM, (await self._volume.remote.entry(())).quota)
        return _statvfs(self._room[1])

    @answered
    async def getxattr(
        self,
        inode: pyfuse3.InodeT,
        name: pyfuse3.XAttrNameT,
        ctx: pyfuse3.RequestContext,
    ) -> bytes:
        """Give the value of a property."""
        return await self._properties.get(self._tree[inode], name)

    @answered
    async def listxattr(
        self,
        inode: pyfuse3.InodeT,
        ctx: pyfuse3.RequestContext,
    ) -> Sequence[pyfuse3.XAttrNameT]:
        """Name the properties."""
        return await self._properties.names(self._tree[inode])

    @answered
    async def setxattr(
        self,
        inode: pyfuse3.InodeT,
        name: pyfuse3.XAttrNameT,
        value: bytes,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Set a property."""
        await self._properties.set(self._tree[inode], name, value)

    @answered
    async def removexattr(
        self,
        inode: pyfuse3.InodeT,
        name: pyfuse3.XAttrNameT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """Remove a property."""
        await self._properties.remove(self._tree[inode], name)


def _version(node: Inode) -> Version | None:
    return Version(node.etag, node.size) if node.in_space else None


def _statvfs(room: Room | None) -> pyfuse3.StatvfsData:
    used = 0 if room is None else room.used
    free = _ENDLESS if room is None or room.available is None else room.available
    told = pyfuse3.StatvfsData()
    told.f_bsize = told.f_frsize = _BLOCK
    told.f_blocks = (used + free) // _BLOCK
    told.f_bfree = told.f_bavail = free // _BLOCK
    told.f_files = told.f_ffree = told.f_favail = _ENDLESS
    told.f_namemax = _NAME
    return told
