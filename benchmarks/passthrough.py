"""A mount of a local directory with pyfuse3 and nothing between: the ceiling of every mount that is written in Python.

    python -m benchmarks.passthrough SOURCE MOUNTPOINT

The kernel keeps pages and writes them back late, as for our own mount; calls go to the disk from the loop itself.
There are no hard links, as in a space. The suite of tests/fuse runs against it to show that the suite is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import pyfuse3
import pyfuse3.asyncio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

_P = ParamSpec("_P")
_T = TypeVar("_T")
_KEPT = 60.0
"""Seconds that the kernel keeps names and attributes: nobody else changes them."""
_TAKEN_OVER = (
    "st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_atime_ns", "st_mtime_ns",
    "st_ctime_ns",
)  # fmt: skip


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell the kernel what the disk said."""
    try:
        yield
    except OSError as error:
        raise pyfuse3.FUSEError(error.errno or errno.EIO) from None


def _telling(method: Callable[_P, Coroutine[Any, Any, _T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    @wraps(method)
    async def asked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with _told():
            return await method(*args, **kwargs)

    return asked


@dataclass(slots=True)
class _Inode:
    """One file or directory that the kernel knows."""

    parent: int
    name: str
    lookups: int = 0
    linked: bool = True
    handles: list[int] = field(default_factory=list)


class Passthrough(pyfuse3.Operations):
    """Operations on a directory. An inode is its name in its parent, so that a renamed directory takes all along."""

    enable_writeback_cache = True

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = source
        self._inodes: dict[int, _Inode] = {pyfuse3.ROOT_INODE: _Inode(0, "", lookups=1)}
        self._opened: dict[int, int] = {}
        self._listings: dict[int, tuple[int, list[str]]] = {}
        self._root = os.stat(source).st_ino

    def _path(self, number: int) -> str:
        names = []
        while number != pyfuse3.ROOT_INODE:
            inode = self._inodes[number]
            if not inode.linked:
                raise OSError(errno.ENOENT, "unlinked")
            names.append(inode.name)
            number = inode.parent
        return "/".join([self._source, *reversed(names)])

    def _child(self, parent: int, name: FileNameT) -> str:
        return f"{self._path(parent)}/{os.fsdecode(name)}"

    def _place(self, number: int, handle: int | None = None) -> str | int:
        """Give the path of an inode, or a descriptor of it if it is open: it may have no name any more."""
        if handle is not None:
            return handle
        inode = self._inodes[number]
        return inode.handles[0] if inode.handles else self._path(number)

    def _attributes(self, found: os.stat_result) -> EntryAttributes:
        entry = EntryAttributes()
        for name in _TAKEN_OVER:
            setattr(entry, name, getattr(found, name))
        if found.st_ino == self._root:
            entry.st_ino = pyfuse3.ROOT_INODE
        entry.entry_timeout = entry.attr_timeout = _KEPT
        entry.st_blksize = 1 << 20
        entry.st_blocks = found.st_blocks
        return entry

    def _look(self, parent: int, name: str) -> EntryAttributes:
        """Give the attributes of a child, without counting that the kernel knows it."""
        return self._attributes(os.lstat(f"{self._path(parent)}/{name}"))

    def _known(self, parent: int, name: str, number: int) -> None:
        inode = self._inodes.setdefault(number, _Inode(parent, name))
        inode.parent, inode.name, inode.linked = parent, name, True
        inode.lookups += 1

    def _learn(self, parent: int, name: FileNameT) -> EntryAttributes:
        entry = self._look(parent, os.fsdecode(name))
        self._known(parent, os.fsdecode(name), entry.st_ino)
        return entry

    @_telling
    async def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        return self._learn(parent_inode, name)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for number, times in inode_list:
            inode = self._inodes.get(number)
            if inode is None or number == pyfuse3.ROOT_INODE:
                continue
            inode.lookups -= times
            if inode.lookups <= 0:
                del self._inodes[number]

    @_telling
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        place = self._place(inode)
        return self._attributes(os.fstat(place) if isinstance(place, int) else os.lstat(place))

    @_telling
    async def setattr(
        self, inode: InodeT, attr: EntryAttributes, fields: SetattrFields, fh: FileHandleT | None, ctx: RequestContext
    ) -> EntryAttributes:
        place = self._place(inode, fh)
        # Descriptors cannot be told not to follow; what is open is no link.
        follow = {} if isinstance(place, int) else {"follow_symlinks": False}
        if fields.update_size:
            os.truncate(place, attr.st_size)
        if fields.update_mode:
            os.chmod(place, stat.S_IMODE(attr.st_mode))
        if fields.update_uid or fields.update_gid:
            owner = attr.st_uid if fields.update_uid else -1
            os.chown(place, owner, attr.st_gid if fields.update_gid else -1, **follow)
        if fields.update_atime or fields.update_mtime:
            old = os.stat(place, **follow)
            read = attr.st_atime_ns if fields.update_atime else old.st_atime_ns
            os.utime(place, ns=(read, attr.st_mtime_ns if fields.update_mtime else old.st_mtime_ns), **follow)
        return self._attributes(os.fstat(place) if isinstance(place, int) else os.lstat(place))

    @_telling
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        return FileNameT(os.fsencode(os.readlink(self._path(inode))))

    @_telling
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        os.symlink(os.fsdecode(target), self._child(parent_inode, name))
        return self._learn(parent_inode, name)

    @_telling
    async def mkdir(self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        path = self._child(parent_inode, name)
        os.mkdir(path)
        os.chmod(path, stat.S_IMODE(mode & ~ctx.umask))
        return self._learn(parent_inode, name)

    @_telling
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        path = self._child(parent_inode, name)
        number = os.lstat(path).st_ino
        os.unlink(path)
        if number in self._inodes:
            self._inodes[number].linked = False

    @_telling
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        path = self._child(parent_inode, name)
        number = os.lstat(path).st_ino
        os.rmdir(path)
        if number in self._inodes:
            self._inodes[number].linked = False

    @_telling
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: str,
        parent_inode_new: InodeT,
        name_new: str,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        old = self._child(parent_inode_old, name_old)  # type: ignore[arg-type]
        new = self._child(parent_inode_new, name_new)  # type: ignore[arg-type]
        if flags & pyfuse3.RENAME_EXCHANGE:
            raise OSError(errno.EINVAL, "no exchange")
        if flags & pyfuse3.RENAME_NOREPLACE and os.path.lexists(new):
            raise OSError(errno.EEXIST, new)
        number = os.lstat(old).st_ino
        replaced = os.lstat(new).st_ino if os.path.lexists(new) else None
        os.rename(old, new)
        if replaced in self._inodes and replaced != number:
            self._inodes[replaced].linked = False
        if number in self._inodes:
            inode = self._inodes[number]
            inode.parent, inode.name = parent_inode_new, os.fsdecode(name_new)

    def _hold(self, number: int, descriptor: int) -> FileInfo:
        self._inodes[number].handles.append(descriptor)
        self._opened[descriptor] = number
        return FileInfo(fh=FileHandleT(descriptor), keep_cache=True)

    @_telling
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        place = self._place(inode)
        path = f"/proc/self/fd/{place}" if isinstance(place, int) else place
        return self._hold(inode, os.open(path, _for_writing_back(flags) & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)))

    @_telling
    async def create(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        descriptor = os.open(self._child(parent_inode, name), _for_writing_back(flags) | os.O_CREAT, 0o600)
        os.fchmod(descriptor, stat.S_IMODE(mode & ~ctx.umask))
        entry = self._learn(parent_inode, name)
        return self._hold(entry.st_ino, descriptor), entry

    @_telling
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return os.pread(fh, size, off)

    @_telling
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return os.pwrite(fh, buf, off)

    async def flush(self, fh: FileHandleT) -> None:
        """Do nothing: what is written is in the file."""

    @_telling
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:  # noqa: FBT001 - pyfuse3 calls it
        await asyncio.to_thread(os.fdatasync if datasync else os.fsync, fh)

    @_telling
    async def release(self, fh: FileHandleT) -> None:
        number = self._opened.pop(fh)
        if number in self._inodes:
            self._inodes[number].handles.remove(fh)
        os.close(fh)

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        handle = max(self._listings, default=0) + 1
        self._listings[handle] = (inode, [])
        return FileHandleT(handle)

    @_telling
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        inode, names = self._listings[fh]
        if start_id == 0:
            names[:] = os.listdir(self._path(inode))
        for number, name in enumerate(names[start_id:], start_id + 1):
            with contextlib.suppress(FileNotFoundError):
                entry = self._look(inode, name)
                if not pyfuse3.readdir_reply(token, FileNameT(os.fsencode(name)), entry, number):
                    break
                self._known(inode, name, entry.st_ino)

    async def releasedir(self, fh: FileHandleT) -> None:
        del self._listings[fh]

    @_telling
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        found, told = os.statvfs(self._source), StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(told, name, getattr(found, name))
        told.f_namemax = found.f_namemax
        return told

    # Attributes of the system are refused in a way that `ls -l` remembers, else it asks twice for each file.
    @_telling
    async def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        _require_of_user(name)
        os.setxattr(self._place(inode), name, value)

    @_telling
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        _require_of_user(name)
        return os.getxattr(self._place(inode), name)

    @_telling
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return [XAttrNameT(os.fsencode(name)) for name in os.listxattr(self._place(inode))]

    @_telling
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        _require_of_user(name)
        os.removexattr(self._place(inode), name)


def _require_of_user(name: XAttrNameT) -> None:
    if not name.startswith(b"user."):
        raise OSError(errno.ENOTSUP, os.fsdecode(name))


def _for_writing_back(flags: int) -> int:
    """Change how a file is opened: a kernel that writes back reads what is around, and appends by itself."""
    flags &= ~os.O_APPEND
    return (flags & ~os.O_ACCMODE) | os.O_RDWR if flags & os.O_ACCMODE == os.O_WRONLY else flags


def main() -> None:
    """Mount until somebody unmounts."""
    source, mountpoint = sys.argv[1:]
    # What the kernel asks for has its umask applied already, or is as the caller wants it.
    os.umask(0)
    pyfuse3.asyncio.enable()
    pyfuse3.init(Passthrough(source), mountpoint, {*pyfuse3.default_options, "fsname=passthrough"})
    try:
        asyncio.run(pyfuse3.main())  # type: ignore[arg-type]
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    main()
