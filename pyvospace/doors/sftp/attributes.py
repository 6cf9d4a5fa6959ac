"""What SFTP tells of a node: kind, size, times, and a mode that says who may what."""

from __future__ import annotations

import stat
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from asyncssh import SFTPAttrs, SFTPName, SFTPVFSAttrs

from pyvospace.model.faults import InvalidArgument
from pyvospace.model.instants import read_instant, write_instant
from pyvospace.model.nodes import Property
from pyvospace.model.vocabulary import (
    AVAILABLE_SPACE,
    CREATOR,
    DATE,
    FILE_TIME,
    GROUP_READ,
    GROUP_WRITE,
    IS_PUBLIC,
    LENGTH,
    MTIME,
    QUOTA,
    NodeType,
)

if TYPE_CHECKING:
    from pyvospace.model.nodes import Node

_KINDS: Final = {NodeType.CONTAINER: stat.S_IFDIR | 0o700, NodeType.LINK: stat.S_IFLNK | 0o777}
_BLOCK: Final = 4096
_ENDLESS: Final = 1 << 50
"""Bytes that there are where no quota says how many."""
_RECENT: Final = 180 * 86400
"""Seconds for which a listing tells the time of the day."""


def attributes(node: Node) -> SFTPAttrs:
    """Give what is told of a node. Owner and group are names here, and SFTP wants numbers: there are none."""
    when = _modified(node)
    return SFTPAttrs(size=_size(node), permissions=_mode(node), nlink=1, atime=when, mtime=when)


def entry(node: Node) -> SFTPName:
    """Give the line of a listing."""
    told = attributes(node)
    when = told.mtime or 0
    shown = time.gmtime(when)
    day = time.strftime("%b %e %H:%M" if abs(time.time() - when) < _RECENT else "%b %e  %Y", shown)
    owner = node.value(CREATOR) or "-"
    line = f"{stat.filemode(told.permissions or 0)}    1 {owner:<8} {'-':<8} {told.size or 0:>12} {day} {node.uri.name}"
    return SFTPName(node.uri.name.encode(), line.encode("utf-8", "replace"), told)


def folder(name: bytes) -> SFTPName:
    """Give the line of ``.`` or ``..``."""
    return SFTPName(name, attrs=SFTPAttrs(permissions=stat.S_IFDIR | 0o700, nlink=1, size=0, atime=0, mtime=0))


def kept_time(when: int) -> Property:
    """Give the property that keeps the time of a file, in seconds since 1970.

    Raises
    ------
    InvalidArgument
        There is no such time.
    """
    try:
        return Property(FILE_TIME, write_instant(datetime.fromtimestamp(when, UTC)))
    except (ValueError, OverflowError, OSError):
        raise InvalidArgument(f"{when} is no time of a file") from None


def room(node: Node) -> SFTPVFSAttrs:
    """Give how much there is, and is left, by the quota of a container."""
    free = _number(node.value(AVAILABLE_SPACE), _ENDLESS)
    total = max(_number(node.value(QUOTA), free), free)
    blocks, left = total // _BLOCK, free // _BLOCK
    return SFTPVFSAttrs(_BLOCK, _BLOCK, blocks, left, left, _ENDLESS, _ENDLESS, _ENDLESS, 0, 0, 255)


def _size(node: Node) -> int:
    return _number(node.value(LENGTH), 0) if node.type.holds_bytes else 0


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else default


def _mode(node: Node) -> int:
    mode = _KINDS.get(node.type, stat.S_IFREG | 0o600)
    if node.type is NodeType.LINK:
        return mode
    reads = (node.value(GROUP_READ) and 0o040) or 0
    writes = (node.value(GROUP_WRITE) and 0o060) or 0
    mode |= reads | writes | (0o004 if node.value(IS_PUBLIC) == "true" else 0)
    return mode | (mode & 0o444) >> 2 if node.type is NodeType.CONTAINER else mode


def _modified(node: Node) -> int:
    """Give the time that a client has told, else when the bytes came."""
    for uri in (FILE_TIME, MTIME, DATE):
        text = node.value(uri)
        if text is not None:
            try:
                return max(0, min(int(read_instant(text).timestamp()), 0xFFFFFFFF))
            except InvalidArgument:
                continue
    return 0
