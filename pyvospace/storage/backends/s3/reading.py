"""Bytes from an S3 store: several reads ahead, handed out in order."""

from collections import deque
from concurrent.futures import Future
from typing import Final, Self

from pyvospace.model.ranges import ByteRange
from pyvospace.storage.backends.s3.options import Options
from pyvospace.storage.backends.s3.spans import Read
from pyvospace.storage.backends.s3.store import Store
from pyvospace.storage.waiting import ended, outlast

_LEAST_READ: Final = 64 << 10


class Readers:
    """Counts downloads, so that they share what memory there is."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._active = 0

    def __enter__(self) -> Self:
        """Count one more."""
        self._active += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Count it no more."""
        self._active -= 1

    def read_size(self) -> int:
        """Tell how much one request may read, given how many downloads there are."""
        options = self._options
        share = options.memory // (max(self._active, 1) * options.concurrency)
        return max(min(share, options.read_size), _LEAST_READ)


class Reading:
    """The pieces of one download, to be closed."""

    def __init__(self, store: Store, readers: Readers, name: str, size: int, span: ByteRange) -> None:
        self._store = store
        self._readers = readers
        self._reader = store.reader(name, size)
        self._position = span.start
        self._stop = span.stop
        self._etag: str | None = None
        self._ready: deque[bytes] = deque()
        self._ahead: deque[Future[Read]] = deque()
        self._open = False

    async def open(self) -> None:
        """Read the first bytes, so that what is missing or damaged is known before anything is sent."""
        self._readers.__enter__()
        self._open = True
        try:
            if self._position < self._stop:
                self._begin()
                await self._take()
        except BaseException:
            await self.aclose()
            raise

    def __aiter__(self) -> Self:
        """Give itself."""
        return self

    async def __anext__(self) -> bytes:
        """Give the next piece."""
        self._fill()
        if not self._ready and self._ahead:
            await self._take()
        if not self._ready:
            await self.aclose()
            raise StopAsyncIteration
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Give up what is still being read."""
        self._position = self._stop
        while self._ahead:
            await ended(self._ahead.pop())
        self._ready.clear()
        if self._open:
            self._open = False
            self._readers.__exit__()

    def _fill(self) -> None:
        while self._position < self._stop and len(self._ahead) < self._store.options.concurrency - bool(self._ready):
            self._begin()

    def _begin(self) -> None:
        stop = min(self._position + self._readers.read_size(), self._stop)
        self._ahead.append(self._store.begin_read(self._reader, self._position, stop, self._etag))
        self._position = stop

    async def _take(self) -> None:
        read = await outlast(self._ahead[0])
        self._ahead.popleft()
        self._etag = read.etag
        self._ready.extend(read.pieces)
