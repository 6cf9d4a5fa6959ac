"""Where received bytes go: through the hashes into a file that is durable at its end. For worker threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Final

from pyvospace.model.crash import crash_point
from pyvospace.storage.direct import DirectFile
from pyvospace.storage.hashing import Digests, Hasher, Hashes, Watch

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FLUSH_EVERY: Final = 64 << 20
"""Bytes after which writing out begins, so that little is left to do for the fsync at the end."""
_write_out = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Sink:
    """A file being written, together with the digests of its bytes.

    Calls come from worker threads, one at a time. Whoever made it calls `close`, also after a failure.

    Parameters
    ----------
    open_file
        Gives the descriptor, at the first bytes.
    verify
        Called with the digests before the file is made durable; raises if they are wrong.
    watch
        Shown all pieces as they are hashed.
    begun
        What came before, if the digests are to be those of more than this file.
    direct
        The pieces lie in aligned memory, so try to write them past the page cache.
    """

    def __init__(
        self,
        open_file: Callable[[], int],
        *,
        hashing: Executor,
        flushing: Executor,
        verify: Callable[[int, Digests], None],
        watch: Watch | None = None,
        begun: Hashes | None = None,
        direct: bool = False,
    ) -> None:
        self._open = open_file
        self._hasher = Hasher(hashing, watch, begun)
        self._flushing = flushing
        self._verify = verify
        self._direct = direct
        self._file: DirectFile | None = None
        self._flushed = 0
        self._flush: Future[None] | None = None
        self.digests: Digests | None = None
        """Set when everything is on the disk."""

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._hasher.size

    @property
    def hashes(self) -> Hashes:
        """What the digests are of, to be gone on with."""
        return self._hasher.hashes

    def take(self, pieces: "Sequence[ReadableBuffer]", size: int, *, last: bool) -> None:
        """Hash and write `pieces` (together `size` bytes); after the `last` ones make the file durable.

        The pieces must not change before the next call or `settle` has returned.
        """
        if self._file is None:
            self._file = DirectFile(self._open(), direct=self._direct)
        self._hasher.update(pieces, size)
        self._file.write(pieces, size)
        if last:
            self._finish(self._file.fd)
        elif self._file.cached - self._flushed >= _FLUSH_EVERY:
            self._start_flush(self._file)

    def settle(self) -> None:
        """Wait until no thread reads the pieces any more."""
        self._hasher.settle()

    def close(self) -> None:
        """Close the file; what was written stays as it is."""
        self.settle()
        flush, self._flush = self._flush, None
        if flush is not None and not flush.cancel():
            flush.exception()  # waits; the descriptor is in use
        file, self._file = self._file, None
        if file is not None:
            os.close(file.fd)

    def _finish(self, fd: int) -> None:
        digests = self._hasher.digests()
        self._verify(self.size, digests)
        crash_point("after-tmp")
        self._await_flush()
        os.fsync(fd)
        crash_point("after-fsync")
        self.close()
        self.digests = digests

    def _start_flush(self, file: DirectFile) -> None:
        """Let another thread write out what there is, unless it is still at it.

        An error of fdatasync is told once, so the flush that met it must be the one that is asked.
        """
        if self._flush is not None and not self._flush.done():
            return
        self._await_flush()
        self._flushed = file.cached
        self._flush = self._flushing.submit(_write_out, file.fd)

    def _await_flush(self) -> None:
        flush, self._flush = self._flush, None
        if flush is not None and not flush.cancel():
            flush.result()


class Relay:
    """Like a `Sink`, for bytes that are handed on: hashed, and kept until they are fetched.

    Parameters
    ----------
    verify
        Called with the digests before the last bytes are handed on; raises if they are wrong.
    """

    def __init__(self, hasher: Hasher, verify: Callable[[int, Digests], None]) -> None:
        self.hasher = hasher
        self._verify = verify
        self._kept: list[bytes] = []
        self.digests: Digests | None = None
        """Set when everything has come."""

    def take(self, pieces: "Sequence[ReadableBuffer]", size: int, *, last: bool) -> None:
        """Hash and keep a copy of `pieces`, together `size` bytes."""
        data = b"".join(pieces)
        self.hasher.update([data], size)
        self._kept.append(data)
        if last:
            digests = self.hasher.digests()
            self._verify(self.hasher.size, digests)
            self.digests = digests

    def settle(self) -> None:
        """Return at once: nobody reads the pieces but `take`."""

    def fetch(self) -> list[bytes]:
        """Give what was kept, once."""
        kept, self._kept = self._kept, []
        return [data for data in kept if data]
