"""Pieces of a file that come in any order, for receivers that want them in theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator


_WEIGHT: Final = 256
"""Bytes that a piece takes beside its own."""


class Ordered:
    """Holds back what comes too early.

    Parameters
    ----------
    most
        Bytes that are held at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[int, bytes] = {}
        self._held = 0
        self.position = 0
        """Where the next piece begins."""

    def take(self, offset: int, piece: bytes) -> Iterator[bytes]:
        """Take a piece; give those whose turn has come.

        Raises
        ------
        InvalidArgument
            What was written is written again, or too much is missing before this.
        """
        if offset < self.position or offset in self._waiting:
            raise InvalidArgument("what was written cannot be written again: send the file from its beginning")
        if offset > self.position:
            self._held += _WEIGHT + len(piece)
            if self._held > self._most:
                raise InvalidArgument("bytes are missing before these: send the file in its order")
            self._waiting[offset] = piece
            return
        while True:
            self.position += len(piece)
            yield piece
            if self.position not in self._waiting:
                return
            piece = self._waiting.pop(self.position)
            self._held -= _WEIGHT + len(piece)

    @property
    def whole(self) -> bool:
        """Say whether nothing is missing so far."""
        return not self._waiting
