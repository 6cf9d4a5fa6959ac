"""The threads of a storage server.

No thread waits for one of its own kind, so no pool can lock itself up: receivers wait for hashing and flushing,
which wait for nobody.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from pyvospace.model.together import Together
from pyvospace.storage.sink import Whole, take_together
from pyvospace.storage.waiting import run

_MIB = 1 << 20
_BATCHES_HELD = 2
"""Of each transfer: one that fills while the other is written."""
_LEAST_BATCH = _MIB // 8
_FLUSHERS = 4
_GROUPS = 8
"""Of small bodies: more than one only while a disk is slow."""
_RENDERERS = 4


class Workers:
    """All thread pools of one process, and the memory that uploads may use together.

    Parameters
    ----------
    threads
        How many threads move bytes at most.
    buffer_size
        Bytes that one transfer may hold in memory, if not too many of them share what there is for all.
    """

    def __init__(self, *, threads: int = 32, buffer_size: int = 2 * _MIB) -> None:
        half = max(threads // 2, 1)
        self.moving = ThreadPoolExecutor(half, "move")
        """Reads and feeds sockets: a thread is busy as long as its client is, up to a slice of time."""
        self.quick = ThreadPoolExecutor(max(threads - half, 1), "store")
        """Short jobs: a batch, an open, an fsync of something small."""
        self.hashing = ThreadPoolExecutor(os.cpu_count() or 1, "hash")
        self.flushing = ThreadPoolExecutor(_FLUSHERS, "flush")
        self.rendering = ThreadPoolExecutor(_RENDERERS, "render")
        """Computes views, in small steps."""
        self.small: Together[Whole, None] = Together(self._keep_small, groups=min(_GROUPS, max(threads - half, 1)))
        """Keeps small bodies, those that come together with as few flushes as possible."""
        self.buffer_size = buffer_size
        self._budget = half * buffer_size
        self._gathering = 0

    def batch_size(self) -> int:
        """Tell how much one transfer may gather, given how many do."""
        share = min(self._budget // max(self._gathering, 1), self.buffer_size)
        return max(share // _BATCHES_HELD, _LEAST_BATCH)

    async def _keep_small(self, bodies: Sequence[Whole]) -> list[BaseException | None]:
        return await run(self.quick, take_together, bodies)

    def __enter__(self) -> Self:
        """Count a transfer that gathers batches."""
        self._gathering += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Count it no more."""
        self._gathering -= 1

    def close(self) -> None:
        """Wait for what runs and end all threads."""
        for pool in (self.moving, self.quick, self.rendering, self.flushing, self.hashing):
            pool.shutdown()
