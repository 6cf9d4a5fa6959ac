"""The plugin API: all that a storage backend sees of pyvospace.

A backend owns bytes and the names (locations) under which it keeps them. Everything else is the core's:
HTTP, rights, ranges, counting, hashing, digests, limits, time-outs, leases, the database.

Obligations of every backend, checked by `pyvospace.storage.testing.BackendContract`:

* A location is written once and never again. New bytes for a node get a new location.
* `upload` returns only when the bytes would survive a power cut, and has called `store` exactly once.
* `store` comes before the bytes become visible under their location. A crash may leave bytes that no node
  names (the sweep deletes them), never a node that names bytes which are not there.
* An upload that fails for whatever reason, cancellation included, leaves no staged bytes, open files or
  threads behind. (Bytes already published under the location are deleted by the core, unless the outcome
  of the commit is unknown; then nobody deletes anything and the sweep asks the database.)
* Memory is bounded, whatever the size of a file.
* A listing gives every location that is there from its beginning to its end once. One that cannot be whole
  (a disk is not mounted, a page of an answer is missing) ends with an exception, never as if it were.
* A location that never was one finds nothing and deletes nothing, whatever it looks like.

Concurrency: one object serves one process. All methods are coroutines of one event loop and may run at the
same time, also for the same location; several processes may serve the same place. A method must not block the
loop: use `in_thread` for calls that can wait.

Failure: raise a `Fault` of `pyvospace.model.faults` if the client can do something about it: `ServiceBusy` for
what may be over in a moment (the client is told to come again), `InsufficientStorage` for a full store. An
OSError with ENOSPC, EDQUOT or EFBIG becomes `InsufficientStorage` by itself. Everything else is an internal
error; damaged bytes are an OSError. The core never repeats a call, because the bytes of a request come only
once; a backend repeats what it can repeat by itself, the client repeats the request, and the sweep at its next
turn what it could not delete.

What changes bytes on their way into any backend, such as encryption at rest, is a `pyvospace.storage.layers.Layer`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, ClassVar, ParamSpec, Protocol, Self, TypeVar
from uuid import UUID

from pyvospace.model.claims import OutcomeUnknownError
from pyvospace.model.ranges import ByteRange

__all__ = [
    "BackendConfig",
    "Body",
    "ByteRange",
    "Download",
    "DownloadJob",
    "FileBytes",
    "Listed",
    "OutcomeUnknownError",
    "Redirect",
    "StorageBackend",
    "StreamBytes",
    "Transaction",
    "UploadJob",
    "in_thread",
]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` in a thread and wait for its end, even if cancelled meanwhile.

    ``asyncio.to_thread`` leaves a thread at work behind when it is cancelled: what an upload then deletes the
    thread may write once more.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        while not call.done():
            try:
                await asyncio.wait([call])
            except asyncio.CancelledError:
                continue
        if not call.cancelled():
            call.exception()  # seen: the cancellation is the news
        raise


class Body(ABC):
    """The bytes of one upload, to be consumed once, in one of two ways.

    Either way the core counts and hashes them on the way, enforces size limit and idle time-out, and at their
    end compares length and digests with what the client announced. What is wrong is raised as a `Fault` from
    the call that consumes; let it pass.
    """

    @abstractmethod
    async def write_to(self, open_file: Callable[[], int]) -> None:
        """Write everything to a file and make it durable; the fast way for backends with files.

        Parameters
        ----------
        open_file
            Called once, in a worker thread, when there is something to write; gives a file descriptor open
            for writing at its beginning. The body closes it, on failure too. The bytes are on the disk (fsync)
            when this returns; the entry in the directory is the backend's.
        """

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes in pieces of up to 2 MiB, none of them empty, hashed already; the way for object stores.

        At most one piece is held beside the one that was handed out.
        """


class Transaction(Protocol):
    """Handed out by `UploadJob.transaction`."""

    async def store(self, location: str, *, shared: bool = False) -> None:
        """Turn the node to `location`; size, digests and type are added by the core.

        To be called once. Nobody sees the change before the transaction ends.

        Parameters
        ----------
        shared
            Let uploads that end at the same time share a transaction, which makes many small ones much cheaper: for
            backends that publish bytes by what takes milliseconds (a rename). If another one of them fails or takes
            long meanwhile, this one goes on in a transaction of its own, and a refusal may come on leaving.
        """


class UploadJob(Protocol):
    """One attempt to bring bytes to a node."""

    @property
    def id(self) -> str:
        """Unique among all attempts of all processes, lower-case hex: a good name for what is staged."""

    @property
    def size(self) -> int | None:
        """How many bytes the client announced; None if it did not (chunked)."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Lock the node and turn it to the new bytes, all or nothing.

        To be entered once, after the body was consumed, and left soon: others wait for the node meanwhile. An
        exception inside rolls everything back. The upload is not cancelled between entering and leaving.

        Raises
        ------
        Fault
            On entering, from `store`, or on leaving: the lease was lost, a right withdrawn, the node is locked or gone.
        OutcomeUnknownError
            On leaving: the connection broke during the commit. Delete nothing.
        """


class DownloadJob(Protocol):
    """One reading of the bytes at a location."""

    @property
    def location(self) -> str:
        """As given to `Transaction.store`."""

    @property
    def size(self) -> int:
        """How many bytes were stored there."""

    @property
    def content_type(self) -> str:
        """For backends that answer with a redirect and can fix the type of the answer."""

    @property
    def filename(self) -> str:
        """Last segment of the node's path, for the same purpose."""

    @property
    def redirectable(self) -> bool:
        """Whether a redirect would reach a client: not if the server itself wants to read."""


@dataclass(frozen=True, slots=True)
class FileBytes:
    """Bytes in a file of the operating system: sent with sendfile where that is possible."""

    file: BinaryIO
    """Open for reading; the core closes it."""
    offset: int = 0
    """Where in `file` the first byte of the location is (not: of the range)."""
    path: Path | None = None
    """Where others find a file that holds just these bytes, such as a web server in front; None: nowhere."""


@dataclass(frozen=True, slots=True)
class StreamBytes:
    """Bytes that come in pieces; exactly those of the range if there is one."""

    pieces: AsyncIterator[bytes]
    """Best in pieces of 256 KiB to 2 MiB. Closed (``aclose``) by the core if it is a generator."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The client can fetch the bytes from elsewhere without credentials of ours."""

    url: str
    """Absolute, good for this one location and a short time."""


Download = FileBytes | StreamBytes | Redirect


@dataclass(frozen=True, slots=True)
class Listed:
    """A location that holds bytes, as `StorageBackend.listing` finds it."""

    location: str
    published: datetime
    """Zone included. If the time is not known, the latest that it may be."""
    size: int | None = None
    """None: the listing does not tell; who wants to know asks `StorageBackend.size`."""


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """What the administrator set: section ``[storage]``."""

    path: Path
    """Directory for this storage (``path``); it may not exist yet."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Free settings of the backend (``[storage.options]``); check them in `StorageBackend.configure`."""


class StorageBackend(ABC):
    """A place for bytes."""

    reads_small_at_once: ClassVar[bool] = False
    """Whether clients get small files by `read_small`, those together that are asked for at the same time. To be set
    where that costs less than `download`, which is then asked for the rest."""

    @classmethod
    @abstractmethod
    def configure(cls, config: BackendConfig) -> Self:
        """Make a backend from the configuration, without touching the place.

        Raises
        ------
        ValueError
            A setting is wrong; the text names it.
        """

    @abstractmethod
    async def start(self) -> UUID:
        """Open the place, preparing it if it is new, and tell its identity.

        The identity is kept in the place itself: it stays the same for all processes and over restarts, and
        a copy of the configuration on another machine does not have it.
        """

    async def close(self) -> None:  # noqa: B027 (nothing is right for many)
        """Let go of what `start` opened. No call is running, none comes after this."""

    @abstractmethod
    async def upload(self, job: UploadJob, body: Body) -> None:
        """Keep the bytes of `body` and turn the node to them.

        May be cancelled at any await outside the transaction (the client went away, the lease was lost, the
        server stops).
        """

    @abstractmethod
    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Give the bytes at a location, or a part of them.

        `byte_range` lies within the file and is not empty. What is handed out stays readable to its end,
        also if the location is deleted meanwhile, or the backend says how long in its documentation
        (``storage.obsolete_grace`` seconds pass between the last use of a location and its deletion).

        Raises
        ------
        FileNotFoundError
            Nothing is there: an internal error, as the database says there is.
        """

    async def read_small(self, jobs: Sequence[DownloadJob]) -> Sequence[bytes | None]:
        """Give the bytes of small files, all of them together at most some MiB; None for what cannot be had like this.

        Archives of many files are quick if this costs little for each. Everything for which it gives None, by
        default all, is asked for again by `download`, one by one.
        """
        return [None] * len(jobs)

    @abstractmethod
    async def delete(self, location: str) -> None:
        """Delete the bytes at a location. What is not there is fine; so is a location that never was one."""

    @abstractmethod
    def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        """Go through all locations that hold bytes, with the time (zone included) when each was published.

        For the sweep, in any order and with bounded memory. What is published or deleted meanwhile may or may
        not be seen. If the time is not known, give the latest that it may be.
        """

    async def listing(self) -> AsyncIterator[Listed]:
        """Go through all locations as `locations` does, with the number of bytes where a listing tells it for nothing.

        For ``pyvospace fsck``, which otherwise asks for the size of each location.
        """
        async for location, published in self.locations():
            yield Listed(location, published)

    async def size(self, location: str) -> int | None:
        """Tell how many bytes are there now, without reading them; None, the default: the backend cannot tell.

        Raises
        ------
        FileNotFoundError
            Nothing is there, for certain. What may be over in a moment is another exception.
        """
        del location
        return None

    async def quarantine(self, location: str) -> bool:
        """Put bytes that nobody names aside, where people find them and no other method does; False: it cannot.

        What is not there is fine, and True.
        """
        del location
        return False

    async def sweep_staging(self, older_than: datetime) -> int:
        """Remove what uploads of dead processes left in staging before `older_than`; tell how many.

        Uploads that still run, here or in another process, must not be touched. Backends whose
        store forgets unfinished uploads by itself need not do anything.
        """
        del older_than
        return 0

    async def free_space(self) -> int | None:
        """Tell how many bytes still fit; None if there is no end to it or nobody knows."""
        return None

    async def total_space(self) -> int | None:
        """Tell how many bytes the place has in all, full and free; None as in `free_space`."""
        return None

    async def check(self) -> None:  # noqa: B027 (nothing is right for some)
        """Return if the place can be written to now; raise (anything) if not. Asked by load balancers."""
