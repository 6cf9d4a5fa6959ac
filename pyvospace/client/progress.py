"""How the client tells how far a transfer has come."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Who wants to know about one transfer."""

    def expect(self, total: int | None) -> None:
        """Hear how many bytes there are; None: nobody knows."""

    def advance(self, count: int) -> None:
        """Hear that so many bytes more have moved; less than 0: they have to move again."""


class Silent:
    """Nobody wants to know."""

    def expect(self, total: int | None) -> None:
        """Hear it."""

    def advance(self, count: int) -> None:
        """Hear it."""


SILENT = Silent()
