"""What the cache of a mount is asked for, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Names = tuple[str, ...]
"""A path below the root of a mount, or of a space."""

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a cache may take, and how long it waits."""

    bytes: int = 10 << 30
    """Most bytes kept of what is in the space as well. What is not there yet has no limit but the disk's."""
    block: int = 4 * MIB
    """Bytes that are fetched at once by those who read on and on."""
    read_ahead: int = 8
    """Most blocks that are fetched before they are asked for."""
    write_back: float = 1.0
    """Seconds that a file rests before it is sent; 0: whoever closes it waits until it is in the space."""
    patience: float = 60.0
    """Seconds that a reader waits for a service that does not answer."""
    uploads: int = 4
    """Files that are sent at once."""


@dataclass(frozen=True, slots=True)
class Version:
    """The bytes of a node that is in the space."""

    etag: str | None
    """SHA-256 in hex; None: it never had bytes, or the service does not tell."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What the space has since a file was sent."""

    etag: str | None
    size: int
    mtime_ns: int
    mode: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsentFile:
    """A file that the space does not know as it is here."""

    path: Names
    size: int
    mtime_ns: int
    mode: int | None
    new: bool
    """The space has no node of this name, as far as is known."""
    failure: str | None = None
    """Why it was not taken; None: nothing was said against it yet."""


SentListener = Callable[[Names, Sent], None]
"""Hears that a file is in the space."""
ConflictListener = Callable[[Names, Names], None]
"""Hears of a conflict: what was to be sent as the one is to be in the space as the other."""
