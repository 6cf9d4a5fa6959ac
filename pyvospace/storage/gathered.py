"""Bodies that come in pieces of any size: gathered in batches, each hashed and written while the next is gathered.

Of small ones all is gathered, and written together with others.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import aclosing
from typing import Final, TypeVar

from pyvospace.model.faults import RequestTimeout
from pyvospace.storage.body import CheckedBody, Received
from pyvospace.storage.hashing import Announced, Hasher
from pyvospace.storage.sink import Sink, Whole
from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import ended, outlast, run

T = TypeVar("T")

LEAST_RATE: Final = 256
"""Bytes a second, on average over one idle time-out, if the settings say nothing else."""
_SMALL: Final = 64 << 10
"""Up to this size the flush costs more than all else, so that others who come at the same time share it."""
_GATHERED_FOR: Final = 1.0
"""Seconds after which a batch is written though not full: slow senders keep no memory."""


class Pace:
    """Refuses senders of whom nothing, or next to nothing, comes for `idle` seconds."""

    def __init__(self, idle: float, least_rate: float) -> None:
        self._idle = idle
        self._least = least_rate * idle
        self._since = asyncio.get_running_loop().time()
        self._received = 0

    async def wait(self, arriving: Awaitable[T]) -> T:
        """Wait for more bytes."""
        try:
            async with asyncio.timeout(self._idle):
                return await arriving
        except TimeoutError:
            raise RequestTimeout(f"no bytes for {self._idle:g} seconds") from None

    def saw(self, size: int) -> None:
        """Count `size` bytes that came."""
        self._received += size
        now = asyncio.get_running_loop().time()
        if now - self._since < self._idle:
            return
        if self._received < self._least:
            raise RequestTimeout(f"{self._received} bytes in {now - self._since:.0f} seconds are too few")
        self._since, self._received = now, 0


class GatheredBody(CheckedBody):
    """A body that comes in pieces of any size.

    Parameters
    ----------
    size, limit, announced
        See `CheckedBody`.
    idle
        Seconds for which the sender may be silent.
    least_rate
        Bytes a second that he has to send, on average over these.
    """

    def __init__(
        self,
        *,
        workers: Workers,
        size: int | None,
        limit: int | None,
        idle: float,
        announced: Announced,
        least_rate: float = LEAST_RATE,
    ) -> None:
        super().__init__(size=size, limit=limit, announced=announced)
        self._workers = workers
        self._idle = idle
        self._least_rate = least_rate

    @abstractmethod
    async def _more(self) -> tuple[bytes, bool]:
        """Give what has come, and whether it is the last; waiting is limited by who calls."""

    def _arrived(self) -> bytes | None:
        """Give the whole body if it is there already, so that nobody has to be waited for."""
        return None

    async def write_to(self, open_file: Callable[[], int]) -> None:
        """Write everything to a file and make it durable (see `Body.write_to`)."""
        self._begin()
        await self._keep(open_file, self._write_batches)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes in pieces (see `Body.__aiter__`)."""
        self._begin()
        async with aclosing(self._pieces()) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """Give them, hashed and in the end verified."""
        hasher = Hasher(self._workers.hashing, self._watch, self.begun)
        async with aclosing(self._gather()) as batches:
            async for pieces, last in batches:
                data = b"".join(pieces)
                await run(self._workers.quick, hasher.update, [data], len(data))
                if last:
                    digests = await run(self._workers.quick, hasher.digests)
                    self._verify(hasher.size, digests)
                    self.received, self.hashes = Received(hasher.size, digests), hasher.hashes
                if data:
                    yield data

    async def _keep(
        self, open_file: Callable[[], int], fill: Callable[[Sink], Awaitable[None]], *, direct: bool = False
    ) -> None:
        """Let `fill` fill a sink, and see that all has come."""
        sink = Sink(
            open_file,
            hashing=self._workers.hashing,
            flushing=self._workers.flushing,
            verify=self._verify,
            watch=self._watch,
            begun=self.begun,
            direct=direct,
        )
        try:
            await fill(sink)
        except BaseException:
            # No thread is at work any more; at most a last flush is waited for.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, sink.close))
            raise
        if sink.digests is None:
            raise self._cut(sink.size)
        self.received, self.hashes = Received(sink.size, sink.digests), sink.hashes

    async def _write_batches(self, sink: Sink) -> None:
        """Write one batch while the next is gathered."""
        arrived = self._arrived() if self.size is not None and self.size <= _SMALL else None
        if arrived is not None:
            self._check_size(len(arrived))
            await self._workers.small.do(Whole(sink, [arrived], len(arrived)))
            return
        writing: Future[None] | None = None
        try:
            async with aclosing(self._gather()) as batches:
                async for pieces, last in batches:
                    if writing is not None:
                        await outlast(writing)
                    size = sum(map(len, pieces))
                    if last and writing is None and size <= _SMALL:
                        await self._workers.small.do(Whole(sink, pieces, size))
                        return
                    writing = self._workers.quick.submit(sink.take, pieces, size, last=last)
            if writing is not None:
                await outlast(writing)
        finally:
            if writing is not None:
                await ended(writing)

    async def _gather(self) -> AsyncGenerator[tuple[list[bytes], bool], None]:
        """Give batches of pieces as they come; the last batch says so and may be empty."""
        pace = Pace(self._idle, self._least_rate)
        received, last = 0, False
        loop = asyncio.get_running_loop()
        with self._workers as workers:
            while not last:
                pieces: list[bytes] = []
                room = workers.batch_size()
                until = loop.time() + _GATHERED_FOR
                while room > 0 and not last and loop.time() < until:
                    piece, last = await pace.wait(self._more())
                    received += len(piece)
                    room -= len(piece)
                    pieces.append(piece)
                    pace.saw(len(piece))
                    self._check_size(received)
                yield pieces, last
