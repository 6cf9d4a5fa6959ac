"""Sets of bytes of one file, as ranges that do not touch."""

from __future__ import annotations

import itertools
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """A set of offsets; each range is from its start to before its stop."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, *ranges: tuple[int, int]) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Give the ranges, in order, as they are now."""
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __bool__(self) -> bool:
        """Say whether there is any offset in it."""
        return bool(self._starts)

    def __len__(self) -> int:
        """Count the ranges."""
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        """Compare."""
        return isinstance(other, Ranges) and self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> int:
        """Count the offsets."""
        return sum(self._stops) - sum(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Put a range in, joined with those that it touches."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def remove(self, start: int, stop: int) -> None:
        """Take a range out."""
        if start >= stop or not self._starts:
            return
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if first >= last:
            return
        left, right = self._starts[first], self._stops[last - 1]
        starts, stops = [], []
        if left < start:
            starts.append(left)
            stops.append(start)
        if right > stop:
            starts.append(stop)
            stops.append(right)
        self._starts[first:last] = starts
        self._stops[first:last] = stops

    def covers(self, start: int, stop: int) -> bool:
        """Say whether a whole range is in it; an empty one is."""
        if start >= stop:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._stops[at] >= stop

    def touches(self, start: int, stop: int) -> bool:
        """Say whether anything of a range is in it."""
        at = bisect_right(self._stops, start)
        return start < stop and at < len(self._starts) and self._starts[at] < stop

    def within(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Give the parts of a range that are in it."""
        found = []
        for at in range(bisect_right(self._stops, start), len(self._starts)):
            if self._starts[at] >= stop:
                break
            found.append((max(start, self._starts[at]), min(stop, self._stops[at])))
        return found

    def without(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Give the parts of a range that are not in it."""
        found = []
        for left, right in self.within(start, stop):
            if start < left:
                found.append((start, left))
            start = right
        if start < stop:
            found.append((start, stop))
        return found

    def pack(self) -> bytes:
        """Write it for `unpack`."""
        flat = [edge for pair in zip(self._starts, self._stops, strict=True) for edge in pair]
        return struct.pack(f"<{len(flat)}q", *flat)

    @classmethod
    def unpack(cls, packed: bytes) -> Ranges:
        """Read what `pack` wrote.

        Raises
        ------
        ValueError
            It did not.
        """
        edges = [edge for (edge,) in struct.iter_unpack("<q", packed[: len(packed) // 16 * 16])]
        if len(packed) % 16 or any(left >= right for left, right in itertools.pairwise(edges)):
            raise ValueError("these are no ranges")
        made = cls()
        made._starts, made._stops = edges[::2], edges[1::2]
        return made
