"""Directories as programs read them: page by page from the space, or from what is known and fresh."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING, Final

import pyfuse3

if TYPE_CHECKING:
    from pyvospace.fuse.tree import Inode
    from pyvospace.fuse.volume import Volume
    from pyvospace.model.entries import Entry

_DOTS: Final = 2
"""``.`` and ``..`` come first."""
_MARK: Final = 1000
"""Children between two places from which a listing can be gone on with."""
_PAGE: Final = 20_000
"""Children that are asked for at once: who reads a large directory slowly keeps no connection meanwhile."""
_REMEMBERED: Final = 200_000
"""Children up to which a listing that is complete is remembered as such."""


class Listing:
    """A directory that is open.

    The position behind the n-th child is n + 2. A program may come back to any position that it has seen: the listing
    then begins again at the nearest mark before it.
    """

    def __init__(self, volume: Volume, directory: Inode) -> None:
        self._volume = volume
        self._directory = directory
        self._known: list[Inode] | None = None
        self._stream: AsyncGenerator[list[Entry]] | None = None
        self._arrived: Iterator[Entry] = iter(())
        """Of the stream, and not read yet."""
        self._rest: Iterator[Inode] | None = None
        """Behind the stream: what only this mount knows."""
        self._next: Inode | None = None
        """Was read, and did not fit into the last answer."""
        self._position = _DOTS
        self._marks: dict[int, str] = {}
        self._asked = 0.0
        self._names: list[bytes] | None = None
        """All that the stream has given since its beginning; None: too many, or not from the beginning."""

    async def read(self, position: int, token: pyfuse3.ReaddirToken) -> None:
        """Answer with as many children as fit, those behind a position."""
        if position < _DOTS and not self._dots(position, token):
            return
        position = max(position, _DOTS)
        if position != self._position or (self._known is None and self._stream is None):
            await self._begin(position)
        if self._known is not None:
            self._read_known(position, token)
        else:
            await self._read_stream(token)

    def _dots(self, position: int, token: pyfuse3.ReaddirToken) -> bool:
        tree, directory = self._volume.tree, self._directory
        if position == 0:
            self._known, self._stream, self._position = None, None, _DOTS  # rewound: as fresh as a new one
            if not pyfuse3.readdir_reply(token, b".", tree.told(directory), 1):
                return False
        return pyfuse3.readdir_reply(token, b"..", tree.told(directory.parent or directory), _DOTS)

    def _read_known(self, position: int, token: pyfuse3.ReaddirToken) -> None:
        children, tree, reply = self._known or [], self._volume.tree, pyfuse3.readdir_reply
        for at in range(position - _DOTS, len(children)):
            child = children[at]
            if child.gone:
                continue
            if not reply(token, child.name, tree.told(child), at + _DOTS + 1):
                return
            child.lookups += 1
            self._position = at + _DOTS + 1

    async def _begin(self, position: int) -> None:
        """Choose where to read from."""
        await self.close()
        directory = self._directory
        if directory.gone:
            self._known = []
        elif self._known is None and (position == _DOTS and directory.listed_until > time.monotonic()):
            self._known = list(directory.children.values())
        if self._known is not None:
            return
        mark = max((at for at in self._marks if at <= position), default=_DOTS)
        self._names = [] if mark == _DOTS else None
        self._asked = time.monotonic()
        self._position, self._rest, self._next, self._arrived = mark, None, None, iter(())
        self._stream = self._volume.remote.entries(directory.path, self._marks.get(mark), _PAGE)
        while self._position < position:
            if await self._advance() is None:
                return
            self._position += 1

    async def _read_stream(self, token: pyfuse3.ReaddirToken) -> None:
        tree, reply = self._volume.tree, pyfuse3.readdir_reply
        while True:
            child = self._next or await self._advance()
            if child is None:
                return
            if not reply(token, child.name, tree.told(child), self._position + 1):
                self._next = child
                return
            self._next = None
            child.lookups += 1
            self._position += 1

    async def _advance(self) -> Inode | None:
        """Give the next child; None: there is none."""
        if self._rest is not None:
            return next(self._rest, None)
        while True:
            for entry in self._arrived:
                child = self._learn(entry)
                if child is not None:
                    return child
            some = None if self._stream is None else await anext(self._stream, None)
            if some is None:
                return self._end()
            self._arrived = iter(some)

    def _learn(self, entry: Entry) -> Inode | None:
        child = self._volume.learn(self._directory, entry, self._asked)
        if self._names is not None:
            self._names.append(entry.name.encode())
            if len(self._names) > _REMEMBERED:
                self._names = None
        if self._position % _MARK == 0:
            self._marks[self._position + 1] = entry.name
        return child

    def _end(self) -> Inode | None:
        """Go on with what the space does not have yet."""
        seen: set[bytes] = set()
        if self._names is not None:
            seen.update(self._names)
            self._volume.complete(self._directory, seen, self._asked)
        self._names = None
        children = self._directory.children.items()
        self._rest = iter([one for name, one in children if not one.in_space and name not in seen])
        return next(self._rest, None)

    async def close(self) -> None:
        """Leave the stream."""
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None
