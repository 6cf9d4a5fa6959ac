"""Whether a file has to be copied."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Final

from pyvospace.client.digests import Digests
from pyvospace.client.mirror.items import Item, Kind, Names
from pyvospace.client.mirror.known import KnownDigests
from pyvospace.client.mirror.sides import LocalSide, Side, SpaceSide

_PRECISION: Final = 1000
"""Nanoseconds that times of services are exact to."""


class Verdict(Enum):
    """How two files of one name are to each other."""

    SAME = auto()
    OTHER_TIME = auto()
    """The bytes are the same, the times are not."""
    DIFFERENT = auto()
    READ = auto()
    """The bytes have to be looked at."""


class Comparison:
    """Compares files of both sides.

    Parameters
    ----------
    checksum
        Never believe size and time alone.
    """

    def __init__(self, source: Side, target: Side, *, checksum: bool) -> None:
        self._local = next((side for side in (source, target) if isinstance(side, LocalSide)), None)
        self._target = target
        self._checksum = checksum
        self._known = KnownDigests()

    def look(self, here: Item, there: Item) -> Verdict:
        """Compare what the listings tell."""
        if Kind.LINK in {here.kind, there.kind}:
            same = here.kind is there.kind and here.target == there.target
            return Verdict.SAME if same else Verdict.DIFFERENT
        if here.size != there.size:
            return Verdict.DIFFERENT
        told = _told_same(here, there)
        if told is not None:  # in two places of spaces, where only the bytes matter: copies have dates of their own
            return Verdict.SAME if told else Verdict.DIFFERENT
        if here.size and self._checksum:
            return Verdict.READ
        if _same_time(here, there):
            return Verdict.SAME
        return Verdict.READ if here.size else Verdict.OTHER_TIME

    async def read(self, path: Names, here: Item, there: Item) -> Verdict:
        """Compare the digests that a service tells with those of the local file."""
        same = None
        if self._local is not None:
            remote = there if self._local is not self._target else here
            same = await asyncio.to_thread(self._same_bytes, path, remote)
        if same is None:  # the service tells no digests
            # It may keep no times of files either: then its own are those of when the bytes came.
            came_later = isinstance(self._target, SpaceSide) and there.mtime_ns > here.mtime_ns
            return Verdict.SAME if came_later and not self._checksum else Verdict.DIFFERENT
        if not same:
            return Verdict.DIFFERENT
        return Verdict.SAME if _same_time(here, there) else Verdict.OTHER_TIME

    def _same_bytes(self, path: Names, remote: Item) -> bool | None:
        if self._local is None or not (remote.sha256 or remote.md5):
            return None
        found = self._known.of(self._local.path(path))
        return _hex(found, sha256=remote.sha256 is not None) == (remote.sha256 or remote.md5)


def _told_same(here: Item, there: Item) -> bool | None:
    if here.sha256 and there.sha256:
        return here.sha256 == there.sha256
    return here.md5 == there.md5 if here.md5 and there.md5 else None


def _same_time(here: Item, there: Item) -> bool:
    return abs(here.mtime_ns - there.mtime_ns) < _PRECISION


def _hex(digests: Digests, *, sha256: bool) -> str:
    return ((digests.sha256 if sha256 else digests.md5) or b"").hex()
