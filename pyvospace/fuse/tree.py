"""What the mount knows of the space: inodes by number and by name, and for how long that is believed.

An inode stands for one node and one line of contents. The kernel owns size and time of files that it caches writes of,
and believes nothing that it is told of them later: so a file whose bytes somebody else has replaced becomes another
inode at the same name, and the old one stays with those who have it open.

What a request says is as old as its beginning. A change made here since then is newer, and wins: each inode remembers
when it was made or confirmed here (`since`), and each directory what was taken away from it (`removed`).
"""

from __future__ import annotations

import stat
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyfuse3

from pyvospace.fuse.modes import shown_mode
from pyvospace.model.entries import Entry, nanoseconds_of
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    from pyvospace.fuse.cache import LocalFile
    from pyvospace.fuse.names import Links, Names

_BLOCK: Final = 1 << 18
"""What programs are told to read and write at once."""
_REMEMBERED: Final = 120.0
"""Seconds for which a removal is remembered: longer than a listing takes."""
_ACTIVE: Final = 60.0
"""Seconds for which a directory is believed in which this mount is making things."""
NEVER: Final = float("-inf")
"""Before anything has happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How nodes are shown."""

    uid: int
    gid: int
    umask: int = 0
    """Bits that no mode shows."""
    fresh: float = 5.0
    """Seconds for which attributes and listings are believed."""
    read_only: bool = False
    user: str = ""
    """Whose links are believed: his name in the space."""


class Inode:
    """A node as the kernel knows it."""

    __slots__ = (
        "active_until", "attributes", "busy_until", "changed_ns", "children", "describing", "etag", "fresh_until",
        "gone", "in_space", "kept", "kind", "listed_at", "listed_until", "local", "lookups", "mtime_ns", "name",
        "number", "opens", "own", "parent", "public", "readable", "removed", "since", "singles", "size", "stamp",
        "target", "writable",
    )  # fmt: skip

    def __init__(self, number: int, parent: Inode | None, name: bytes, kind: int) -> None:
        self.number = number
        self.parent, self.name, self.kind = parent, name, kind
        self.size = self.mtime_ns = self.changed_ns = self.stamp = 0
        """The last: time of change as the space told it last: another one there is a change by somebody else."""
        self.etag: str | None = None
        self.kept: int | None = None
        """Mode that ``chmod`` has set."""
        self.readable = self.writable = True
        self.public = False
        self.own = True
        """The user of the mount has made it: a link may lead anywhere."""
        self.target: str | None = None
        self.in_space = False
        """The space has a node for it."""
        self.fresh_until = NEVER
        self.since = NEVER
        """When it was made or changed here for the last time; what was asked before says nothing about it."""
        self.lookups = self.opens = 0
        """How often the kernel was told of it, less what it has forgotten; and how many handles there are."""
        self.local: LocalFile | None = None
        """Bytes of a file that is open or unsent."""
        self.describing = False
        """Its mode or time are to be sent."""
        self.gone = False
        """It has no name any more."""
        self.children: dict[bytes, Inode] = {}
        self.removed: dict[bytes, float] = {}
        """Of a directory: names that were taken away here, and when."""
        self.listed_until = NEVER
        """Of a directory: until then `children` is believed to be all that there is."""
        self.listed_at = NEVER
        """When that was so for certain."""
        self.active_until = self.busy_until = NEVER
        """Of a directory: until then it is one in which this mount is making things; the same of it and all below."""
        self.singles = 0
        """Of a directory: children asked for one by one since it was listed."""
        self.attributes: pyfuse3.EntryAttributes | None = None
        """As they were told last; None: to be put together."""

    @property
    def path(self) -> Names:
        """Names from the top of the mount."""
        names: list[str] = []
        node = self
        while node.parent is not None:
            names.append(node.name.decode())
            node = node.parent
        names.reverse()
        return tuple(names)

    @property
    def is_directory(self) -> bool:
        """Whether it has children."""
        return self.kind == stat.S_IFDIR

    @property
    def unsent(self) -> bool:
        """Whether what is here is newer than what the space has."""
        return self.describing or (self.local is not None and self.local.dirty)

    def is_complete(self, now: float) -> bool:
        """Say whether `children` is believed to be all that there is.

        A directory in which this mount is making things is believed for longer. If somebody else makes the same name
        there meanwhile, one of both is kept beside the other.
        """
        return self.listed_until > now or (self.active_until > now and self.listed_at + _ACTIVE > now)

    def is_fresh(self, now: float) -> bool:
        """Say whether its attributes are believed."""
        return self.fresh_until > now or self.unsent or (self.busy_until > now and self.since + _ACTIVE > now)


_KINDS: Final = {NodeType.CONTAINER: stat.S_IFDIR, NodeType.LINK: stat.S_IFLNK}


class Tree:
    """All inodes of a mount."""

    def __init__(self, view: View, links: Links) -> None:
        self.view = view
        self._links = links
        self.root = Inode(pyfuse3.ROOT_INODE, None, b"", stat.S_IFDIR)
        self.root.lookups = 1
        self.root.in_space = True
        self._next = pyfuse3.ROOT_INODE + 1
        self._inodes: dict[int, Inode] = {pyfuse3.ROOT_INODE: self.root}
        self._idle: deque[Inode] = deque()
        """Inodes that the kernel does not know, the oldest first; some may be known again."""

    # ------------------------------------------------------------------ finding

    def __getitem__(self, number: int) -> Inode:
        """Give the inode of a number that the kernel uses."""
        return self._inodes[number]

    def __len__(self) -> int:
        """Count them."""
        return len(self._inodes)

    def at(self, path: Names) -> Inode | None:
        """Give the inode of a path; None: it is not known."""
        node: Inode | None = self.root
        for name in path:
            if node is None:
                return None
            node = node.children.get(name.encode())
        return node

    # ------------------------------------------------------------------ what the kernel is told

    def told(self, inode: Inode) -> pyfuse3.EntryAttributes:
        """Give what the kernel is told of an inode."""
        made = inode.attributes or self._attributes(inode)
        local = inode.local
        if local is not None:
            made.st_size = size = local.size
            made.st_blocks = (size + 511) >> 9
            made.st_mtime_ns = made.st_atime_ns = local.mtime_ns
        return made

    def _attributes(self, inode: Inode) -> pyfuse3.EntryAttributes:
        made = pyfuse3.EntryAttributes()
        made.st_ino = inode.number
        made.st_nlink = 0 if inode.gone else 1
        made.st_mode = self._mode(inode)
        made.st_uid = self.view.uid
        made.st_gid = self.view.gid
        made.st_size = inode.size
        made.st_blksize = _BLOCK
        made.st_blocks = (inode.size + 511) >> 9
        made.st_mtime_ns = made.st_atime_ns = inode.mtime_ns
        made.st_ctime_ns = inode.changed_ns
        made.entry_timeout = made.attr_timeout = self.view.fresh
        inode.attributes = made
        return made

    def _mode(self, inode: Inode) -> int:
        kept = inode.kept if inode.local is None or inode.local.mode is None else inode.local.mode
        mode = shown_mode(inode.kind, readable=inode.readable, writable=inode.writable, public=inode.public, kept=kept)
        return mode if inode.kind == stat.S_IFLNK else mode & ~self.view.umask

    # ------------------------------------------------------------------ what is done here

    def add(self, parent: Inode, name: bytes, kind: int) -> Inode:
        """Enter something that was made here, in the place of what was known by the name."""
        now = time.monotonic()
        inode = self._enter(parent, name, kind)
        inode.since = now
        inode.fresh_until = now + self.view.fresh
        inode.mtime_ns = inode.changed_ns = time.time_ns()
        inode.public = parent.public
        if kind == stat.S_IFDIR:
            inode.listed_until = inode.fresh_until
            inode.listed_at = now
        self._changed(parent)
        return inode

    def remove(self, inode: Inode) -> None:
        """Take away a name."""
        parent = inode.parent
        if parent is None:
            return
        self._detach(inode)
        parent.removed[inode.name] = time.monotonic()
        self._changed(parent)

    def rename(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """Give an inode another name, in the place of what was known by that."""
        old = parent.children.get(name)
        if old is not None and old is not inode:
            self._detach(old)
        if inode.parent is not None:
            inode.parent.children.pop(inode.name, None)
            inode.parent.removed[inode.name] = time.monotonic()
            self._changed(inode.parent)
        inode.parent, inode.name = parent, name
        inode.since = time.monotonic()
        parent.children[name] = inode
        parent.removed.pop(name, None)
        self._changed(parent)

    def touched(self, inode: Inode) -> None:
        """Remember that what is known of an inode is newer than any answer that is on its way."""
        inode.attributes = None
        inode.since = now = time.monotonic()
        inode.fresh_until = now + self.view.fresh

    def _changed(self, directory: Inode) -> None:
        directory.active_until = until = time.monotonic() + self.view.fresh
        above: Inode | None = directory
        while above is not None:
            above.busy_until = until
            above = above.parent
        directory.mtime_ns = directory.changed_ns = time.time_ns()
        directory.attributes = None

    def _enter(self, parent: Inode, name: bytes, kind: int) -> Inode:
        old = parent.children.get(name)
        if old is not None:
            self._detach(old)
        inode = Inode(self._next, parent, name, kind)
        self._next += 1
        self._inodes[inode.number] = inode
        parent.children[name] = inode
        if parent.removed:
            parent.removed.pop(name, None)
        self._idle.append(inode)
        return inode

    def _detach(self, inode: Inode) -> None:
        inode.gone = True
        inode.attributes = None
        if inode.parent is not None and inode.parent.children.get(inode.name) is inode:
            del inode.parent.children[inode.name]
        if inode.lookups <= 0:
            self._inodes.pop(inode.number, None)

    # ------------------------------------------------------------------ what the space says

    def learn(self, parent: Inode, name: bytes, entry: Entry, asked: float) -> Inode | None:
        """Take over what the space says of a child; gives the inode that stands for it now.

        Parameters
        ----------
        asked
            When the request began (`time.monotonic`).

        Returns
        -------
        Inode or None
            None: it was taken away here in the meantime.
        """
        kind = _KINDS.get(entry.type, stat.S_IFREG)
        inode = parent.children.get(name)
        if inode is None:
            if parent.removed.get(name, NEVER) >= asked:
                return None
            inode = self._enter(parent, name, kind)
        elif inode.since >= asked:
            return inode
        elif inode.unsent:
            inode.fresh_until = time.monotonic() + self.view.fresh
            return inode
        elif inode.kind != kind or (inode.lookups > 0 and _is_other(inode, entry)):
            inode = self._enter(parent, name, kind)
        self.take(inode, entry)
        return inode

    def take(self, inode: Inode, entry: Entry) -> None:
        """Take over what the space says of an inode."""
        mtime_ns = entry.mtime_ns
        if inode.is_directory:
            inode.mtime_ns = max(inode.mtime_ns, mtime_ns) if inode.since > NEVER else mtime_ns
        else:
            inode.mtime_ns = mtime_ns
        inode.stamp = mtime_ns
        inode.changed_ns = mtime_ns if entry.changed is entry.mtime else nanoseconds_of(entry.changed)
        inode.target = entry.target
        inode.own = entry.owner == self.view.user
        inode.size = len(self.shown_target(inode)) if inode.kind == stat.S_IFLNK else entry.length or 0
        inode.etag = entry.etag or entry.md5
        inode.kept = entry.mode
        inode.readable = entry.readable
        inode.writable = entry.writable and not entry.locked
        inode.public = entry.public
        inode.in_space = True
        inode.fresh_until = time.monotonic() + self.view.fresh
        inode.attributes = None

    def shown_target(self, inode: Inode) -> bytes:
        """Give the target of a link as a symbolic link has it."""
        parent = () if inode.parent is None else inode.parent.path
        return self._links.target_of(inode.target or "", parent, own=inode.own)

    def missing(self, parent: Inode, name: bytes, asked: float) -> Inode | None:
        """Take over that the space has no such child; gives what is there all the same, because it is unsent or new."""
        inode = parent.children.get(name)
        if inode is None:
            return None
        if inode.since >= asked or inode.unsent:
            return inode
        self._detach(inode)
        return None

    def listed(self, parent: Inode, names: Iterable[bytes], asked: float) -> list[Inode]:
        """Take over that a complete listing has been seen; gives those that are not there any more."""
        seen = set(names)
        lost = [one for name, one in parent.children.items() if name not in seen]
        lost = [one for one in lost if self.missing(parent, one.name, asked) is None]
        parent.listed_until = asked + self.view.fresh
        parent.listed_at = asked
        parent.singles = 0
        return lost

    # ------------------------------------------------------------------ forgetting

    def forget(self, number: int, times: int) -> None:
        """Take over that the kernel knows an inode less often."""
        inode = self._inodes.get(number)
        if inode is None or inode is self.root:
            return
        inode.lookups -= times
        if inode.lookups <= 0:
            if inode.gone:
                del self._inodes[number]
            else:
                self._idle.append(inode)

    def sweep(self) -> None:
        """Drop what the kernel does not know and what is too old to be believed."""
        now = time.monotonic()
        for _ in range(len(self._idle)):
            inode = self._idle.popleft()
            if inode.gone or inode.lookups > 0:
                continue
            parent = inode.parent
            kept = parent is not None and parent.is_complete(now)
            if kept or inode.local is not None or inode.children or inode.is_fresh(now) or inode.is_complete(now):
                self._idle.append(inode)
                continue
            if parent is not None:
                parent.listed_until = parent.listed_at = NEVER
            self._detach(inode)
        for inode in self._inodes.values():
            if inode.removed:
                inode.removed = {name: when for name, when in inode.removed.items() if when > now - _REMEMBERED}


def _is_other(inode: Inode, entry: Entry) -> bool:
    """Say whether somebody else has changed what the kernel believes to know of a file for ever."""
    if inode.kind != stat.S_IFREG:
        return False
    return (entry.length or 0, entry.etag or entry.md5, entry.mtime_ns) != (inode.size, inode.etag, inode.stamp)
