"""Where received bytes go: through the hashes into a file that is durable at its end. For worker threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, ParamSpec

from pyvospace.model.crash import crash_point
from pyvospace.storage.direct import DirectFile
from pyvospace.storage.hashing import Digests, Hasher, Hashes, Watch

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

P = ParamSpec("P")

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
        self._found: Digests | None = None
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
        file = self._add(pieces, size)
        if last:
            self._check()
            self.finish()
        elif file.cached - self._flushed >= _FLUSH_EVERY:
            self._start_flush(file)

    def take_whole(self, pieces: "Sequence[ReadableBuffer]", size: int) -> None:
        """Do the same with all there is, and leave it to `finish` to make the file durable."""
        self._add(pieces, size)
        self._check()

    def write_out(self) -> None:
        """Let the system begin to write, so that a flush of this file or of another one finds less to do."""
        if self._file is not None:
            _begin_writing(self._file.fd)

    def finish(self) -> None:
        """Make durable what was taken."""
        assert self._file is not None  # noqa: S101 (for mypy: something was taken)
        self._await_flush()
        os.fsync(self._file.fd)
        crash_point("after-fsync")
        self.close()
        self.digests = self._found

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

    def _add(self, pieces: "Sequence[ReadableBuffer]", size: int) -> DirectFile:
        if self._file is None:
            self._file = DirectFile(self._open(), direct=self._direct)
        self._hasher.update(pieces, size)
        self._file.write(pieces, size)
        return self._file

    def _check(self) -> None:
        self._found = self._hasher.digests()
        self._verify(self.size, self._found)
        crash_point("after-tmp")

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


def take_together(bodies: "Sequence[Whole]") -> list[BaseException | None]:
    """Keep some small bodies, each in its file, and tell for each what went wrong.

    The journal of a file system is written once for all that is in it: so all begin to be written before the first of
    them is waited for.
    """
    outcomes = [_attempt(body.sink.take_whole, body.pieces, body.size) for body in bodies]
    kept = [number for number, failure in enumerate(outcomes) if failure is None]
    for number in kept if len(kept) > 1 else ():
        bodies[number].sink.write_out()
    for number in kept:
        outcomes[number] = _attempt(bodies[number].sink.finish)
    return outcomes


@dataclass(frozen=True, slots=True)
class Whole:
    """A small body that has come, and where it is to go."""

    sink: Sink
    pieces: Sequence[bytes]
    size: int


def _attempt(doing: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> BaseException | None:
    try:
        doing(*args, **kwargs)
    except BaseException as error:  # noqa: BLE001 (whoever waits for this one is to hear of it, and nobody else)
        return error
    return None


def _begin_writing(fd: int) -> None:
    """Begin to write out a file; its pages may leave memory when that is done."""
    if hasattr(os, "posix_fadvise"):  # macOS has none, and no need of it
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


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
