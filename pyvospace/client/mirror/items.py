"""What stands in folders of either side, told alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Names = tuple[str, ...]
"""A path below the top of what is mirrored."""


class Kind(StrEnum):
    """What an item is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    """A symbolic link, or a link node."""
    SPECIAL = "special"
    """A pipe, a socket, a device."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a folder."""

    name: str
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    sha256: str | None = None
    """In hex; None: nobody has told it yet."""
    md5: str | None = None
    target: str | None = None
    """Of a link node: where it leads."""

    @property
    def key(self) -> bytes:
        """Give what items are ordered by: the bytes of their names, as spaces do it."""
        return key_of(self.name)


def key_of(name: str) -> bytes:
    """Give what names are ordered by. A local name that is no UTF-8 has its place too."""
    return name.encode("utf-8", "surrogateescape")
