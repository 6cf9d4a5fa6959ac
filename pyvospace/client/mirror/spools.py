"""Lists that may be of any length: their beginning in memory, the rest in a file without a name."""

from __future__ import annotations

import asyncio
import heapq
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from dataclasses import asdict
from typing import IO, Any, Final

from pyvospace.client.mirror.items import Item, Kind

_MEMORY: Final = 1 << 20
"""Bytes up to which a spool is in memory."""
_RUN: Final = 20_000
"""Items that are sorted in memory."""


class Spool:
    """Takes rows of plain values, and gives them back in the order in which they came."""

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.SpooledTemporaryFile(_MEMORY, "w+", encoding="ascii")  # noqa: SIM115 (`close`)
        self.count = 0

    def add(self, *row: object) -> None:
        """Add a row."""
        self._file.write(json.dumps(row) + "\n")
        self.count += 1

    def rows(self) -> Iterator[list[Any]]:
        """Give all rows; nothing can be added any more."""
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    def close(self) -> None:
        """Forget everything."""
        self._file.close()


async def in_order(items: AsyncIterable[Item]) -> AsyncGenerator[Item]:
    """Give items by their names, whatever their number: parts that memory has room for are sorted, then merged."""
    runs: list[Spool] = []
    some: list[Item] = []
    try:
        async for item in items:
            some.append(item)
            if len(some) == _RUN:
                runs.append(await asyncio.to_thread(_spooled, some))
                some.clear()
        some.sort(key=lambda item: item.key)
        for item in heapq.merge(some, *(_items(run) for run in runs), key=lambda item: item.key):
            yield item
    finally:
        for run in runs:
            run.close()


def _spooled(items: list[Item]) -> Spool:
    run = Spool()
    for item in sorted(items, key=lambda item: item.key):
        run.add(asdict(item))
    return run


def _items(run: Spool) -> Iterator[Item]:
    for (row,) in run.rows():
        yield Item(**{**row, "kind": Kind(row["kind"])})
