"""Bytes that a structured type reads in tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Bytes in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.data)

    def read(self, start: int, length: int) -> bytes:
        """Give some of them."""
        return self.data[start : start + length]
