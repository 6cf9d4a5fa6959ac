"""Entries: nodes as a file system wants them, all that it needs in one flat record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pyvospace.model.faults import InvalidArgument
from pyvospace.model.instants import read_instant
from pyvospace.model.vocabulary import NodeType

MTIME_HEADER: Final = "X-OC-Mtime"
"""Of a request that stores bytes: seconds since 1970, decimals allowed (known from ownCloud)."""
MODE_HEADER: Final = "X-Pyvospace-Mode"
"""Of the same: permissions, octal."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MODE: Final = re.compile("[0-7]{1,4}")
_BELOW: Final = re.compile(r"\.[0-9]{6}([0-9]{1,3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How many bytes there may be in a container, by the tightest limit that holds there."""

    used: int
    limit: int | None = None
    """None: nobody limits them."""
    available: int | None = None
    """None: nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A node as a file system wants it."""

    name: str
    """Empty for the root."""
    type: NodeType
    mtime: datetime
    """When the file was changed, as the client that brought it said; else when the node was."""
    changed: datetime
    """When the service changed the node for the last time, by its own clock."""
    below_microsecond: int = 0
    """Nanoseconds that `mtime` has no room for."""
    length: int | None = None
    """Bytes; None: it holds none, or none have come yet."""
    etag: str | None = None
    """SHA-256 of the bytes, in hex; None: there are none, or the service does not tell."""
    md5: str | None = None
    """In hex."""
    owner: str = ""
    public: bool = False
    readable: bool = True
    """The caller may read the bytes, or list the container."""
    writable: bool = True
    """The caller may replace the bytes, or create something in the container."""
    locked: bool = False
    busy: bool = False
    target: str | None = None
    """Of a link: any URI."""
    mode: int | None = None
    """Permissions of the file at home, as the client that brought it said."""
    content_type: str | None = None
    quota: Room | None = None
    """Of a container that was asked for itself."""

    @property
    def mtime_ns(self) -> int:
        """Give `mtime` exactly: nanoseconds since 1970."""
        return (self.mtime - _EPOCH) // _MICROSECOND * 1000 + self.below_microsecond


def nanoseconds_of(instant: datetime | int) -> int:
    """Give nanoseconds since 1970; a number is taken for that already, a datetime without time zone as UTC."""
    if isinstance(instant, int):
        return instant
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND * 1000


def write_seconds(nanoseconds: int) -> str:
    """Write what `MTIME_HEADER` carries: seconds with as many decimals as it takes, ``1.5``."""
    sign, (seconds, below) = "-" if nanoseconds < 0 else "", divmod(abs(nanoseconds), 10**9)
    return f"{sign}{seconds}" + (f".{below:09d}".rstrip("0") if below else "")


def write_file_time(nanoseconds: int) -> str:
    """Write the property FILE_TIME: ISO 8601 in UTC, with as many digits as it takes.

    Raises
    ------
    OverflowError
        It is no year from 1 to 9999.
    """
    seconds, below = divmod(nanoseconds, 10**9)
    whole = (_EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")
    return whole + (f".{below:09d}".rstrip("0") if below else "") + "Z"


def read_file_time(text: str | None) -> tuple[datetime, int] | None:
    """Read that property: the instant, and the nanoseconds for which it has no room; None: it says nothing of use."""
    if text is None:
        return None
    try:
        instant = read_instant(text)
    except InvalidArgument:
        return None
    below = _BELOW.search(text)
    return instant, (int(f"{below[1]:0<3}") if below else 0)


def write_mode(mode: int) -> str:
    """Write the property FILE_MODE: four octal digits, without the kind of the file."""
    return f"{mode & 0o7777:04o}"


def read_mode(text: str | None) -> int | None:
    """Read that property; None: it says nothing of use."""
    found = _MODE.fullmatch((text or "").strip())
    return int(found[0], 8) if found else None
