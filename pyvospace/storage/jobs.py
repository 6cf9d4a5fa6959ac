"""Jobs as a backend sees them, and the core's side: leases, transactions, cleaning up after failures."""

import asyncio
import enum
import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from pyvospace.metrics import FAILED, RECEIVED, STORED
from pyvospace.model.claims import DownloadClaim, Facts, OutcomeUnknownError, StoredFile, UploadClaim
from pyvospace.model.crash import crash_point
from pyvospace.model.faults import Fault, InsufficientStorage, InternalFault, NodeBusy, ServiceBusy
from pyvospace.service.content import DEFAULT_TYPE
from pyvospace.storage.body import CheckedBody, Received
from pyvospace.storage.catalogue import Leases, StoreTransaction
from pyvospace.storage.inspection import Inspection

log = logging.getLogger(__name__)

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RENEWALS: Final = 3
"""A lease is renewed so often before it would run out."""


async def record_delivery(job: str | None, delivered: Awaitable[None]) -> None:
    """Have it noted that a job's bytes were delivered; they were, whether or not that can be noted."""
    try:
        await delivered
    except (Fault, OSError) as error:
        log.warning("job %s: its delivery could not be recorded: %s", job, error)


class _State(enum.Enum):
    RECEIVING = enum.auto()
    PUBLISHING = enum.auto()
    COMMITTED = enum.auto()
    ROLLED_BACK = enum.auto()
    UNKNOWN = enum.auto()


class ClaimedUpload:
    """The `UploadJob` of the core: one claimed attempt to bring bytes to a node."""

    def __init__(self, claim: UploadClaim, catalogue: Leases, body: CheckedBody, facts: Facts) -> None:
        self.claim = claim
        self._catalogue = catalogue
        self._body = body
        self._facts = facts
        if claim.structured:
            body.inspection = Inspection(claim, facts.content_type)
        if claim.room is not None:
            body.room = claim.room, claim.refusal
        self._state = _State.RECEIVING
        self._location: str | None = None

    @property
    def id(self) -> str:
        """The id of the claim."""
        return self.claim.id

    @property
    def size(self) -> int | None:
        """What the client announced."""
        return self._body.size

    @property
    def committed(self) -> bool:
        """Whether the node has the new bytes."""
        return self._state is _State.COMMITTED

    @property
    def interruptible(self) -> bool:
        """Whether a cancellation does no harm now: not in the middle of a transaction."""
        return self._state is not _State.PUBLISHING

    @property
    def outcome_unknown(self) -> bool:
        """Whether nobody knows if the node has the new bytes."""
        return self._state is _State.UNKNOWN

    @property
    def orphan(self) -> str | None:
        """A location that may hold bytes and that certainly no node names."""
        return self._location if self._state is _State.ROLLED_BACK else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["_Transaction"]:
        """Lock the node and turn it to the new bytes (see `UploadJob.transaction`)."""
        if self._state is not _State.RECEIVING:
            raise RuntimeError("an upload has one transaction")
        if self._body.received is None:
            raise RuntimeError("the transaction comes after the whole body")
        if self.claim.room is not None:
            await self._catalogue.reserve(self.claim, size=self._body.received.size)
        self._state = _State.PUBLISHING
        try:
            async with self._catalogue.transaction(self.claim) as opened:
                yield _Transaction(self, opened, self._body.received)
                self._require_store()
                crash_point("before-commit")
        except OutcomeUnknownError:
            self._state = _State.UNKNOWN
            raise
        except BaseException:
            self._state = _State.ROLLED_BACK
            raise
        self._state = _State.COMMITTED
        STORED.inc()
        RECEIVED.inc(self._body.received.size)
        crash_point("after-commit-before-answer")

    def _require_store(self) -> None:
        if self._location is None and not self.claim.discard:
            raise RuntimeError("the transaction ended without a call of store")

    async def _store(self, opened: StoreTransaction, received: Received, location: str, *, shared: bool) -> None:
        if self._location is not None:
            raise RuntimeError("store is to be called once")
        self._location = location
        await opened.store(
            StoredFile(
                location=location,
                size=received.size,
                md5=received.digests.md5,
                sha256=received.digests.sha256,
                content_type=self._facts.content_type,
                structure=self._body.inspection.structure if self._body.inspection is not None else None,
                changed=self._facts.changed,
                mode=self._facts.mode,
            ),
            shared=shared,
        )


@dataclass(frozen=True, slots=True)
class _Transaction:
    """The `Transaction` of the core."""

    _upload: ClaimedUpload
    _opened: StoreTransaction
    _received: Received

    async def store(self, location: str, *, shared: bool = False) -> None:
        """Turn the node to `location`."""
        await self._upload._store(self._opened, self._received, location, shared=shared)  # noqa: SLF001 (its other half)


@dataclass(frozen=True, slots=True)
class ClaimedDownload:
    """The `DownloadJob` of the core."""

    location: str
    size: int
    content_type: str
    filename: str
    redirectable: bool = False

    @classmethod
    def of(cls, claim: DownloadClaim, *, redirectable: bool = False) -> Self:
        """Make the job of a claim that has bytes."""
        return cls(claim.location or "", claim.size, claim.content_type or DEFAULT_TYPE, claim.name, redirectable)


class Lease:
    """Renews the lease of an upload as long as it is entered.

    Parameters
    ----------
    lost
        Called when the lease turned out to be somebody else's, or could not be renewed before its end.
    """

    def __init__(self, catalogue: Leases, claim: UploadClaim, lost: Callable[[], None]) -> None:
        self._catalogue = catalogue
        self._claim = claim
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + claim.lease
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Begin; most uploads end before the first renewal, so this is no more than a timer."""
        self._timer = self._loop.call_later(self._claim.lease / _RENEWALS, self._begin_renewal)
        return self

    def __exit__(self, *_: object) -> None:
        """End. A renewal on its way is given up."""
        if self._timer is not None:
            self._timer.cancel()
        if self._renewal is not None:
            self._renewal.cancel()

    def _begin_renewal(self) -> None:
        self._renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Renew once. The database may be away for a while: the lease is ours until its time is over."""
        begun = self._loop.time()
        try:
            held = await self._catalogue.renew(self._claim)
        except (Fault, OSError) as error:
            log.warning("upload %s: lease not renewed: %s", self._claim.id, error)
            held = self._loop.time() < self._until
        else:
            self._until = begun + self._claim.lease
        if held:
            self._timer = self._loop.call_later(self._claim.lease / _RENEWALS, self._begin_renewal)
        else:
            log.warning("upload %s: lease lost", self._claim.id)
            self._lost()


class Place(Protocol):
    """Where the bytes of an upload go: a backend, or what stands for one."""

    async def upload(self, job: ClaimedUpload, body: CheckedBody, /) -> None:
        """Keep the bytes and turn the node to them (see `StorageBackend.upload`)."""

    async def delete(self, location: str, /) -> None:
        """Delete what a failed upload has left."""


async def carry_out(job: ClaimedUpload, backend: Place, body: CheckedBody, catalogue: Leases) -> None:
    """Bring the bytes into the backend and the node to them, or leave everything as it was.

    Raises
    ------
    Fault
        The upload failed; its lease has been given back.
    """
    try:
        await uninterrupted(job, _discard(job, body) if job.claim.discard else backend.upload(job, body), catalogue)
    except BaseException as error:
        if job.committed:
            if not isinstance(error, Exception):
                raise
            # The node has its bytes; what the backend could not do afterwards is no concern of the client.
            log.exception("upload %s: failed after its commit", job.id)
            return
        FAILED.inc()
        await asyncio.shield(asyncio.create_task(_clean_up(job, backend, catalogue, error)))
        raise as_fault(job, error) from error
    if not job.committed:
        await _clean_up(job, backend, catalogue, None)
        raise InternalFault("the storage backend did not store the bytes")


class Attempt(Protocol):
    """What is done under a lease."""

    @property
    def id(self) -> str:
        """Of the claim."""

    @property
    def claim(self) -> UploadClaim:
        """With the lease."""

    @property
    def interruptible(self) -> bool:
        """Whether a cancellation does no harm now."""

    @property
    def outcome_unknown(self) -> bool:
        """Whether nobody knows if it has been done."""


async def uninterrupted(job: Attempt, doing: Coroutine[Any, Any, None], catalogue: Leases) -> None:
    """Do something under a lease so that a cancellation meets it only where that does no harm.

    Raises
    ------
    NodeBusy
        The lease was lost.
    """
    work = asyncio.create_task(doing)
    lost = False

    def lose() -> None:
        nonlocal lost
        if job.interruptible:  # else the transaction itself checks the lease
            lost = work.cancel()

    with Lease(catalogue, job.claim, lose):
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await _stop(job, work)
            if lost:
                raise NodeBusy("the upload lost its lease of the node") from None
            raise


async def _stop(job: Attempt, work: asyncio.Task[None]) -> None:
    """Cancel the upload as soon as that does no harm, and see it end."""
    while not work.done():
        if job.interruptible:
            work.cancel()
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            continue
    if not work.cancelled():
        work.exception()


async def _discard(job: ClaimedUpload, body: CheckedBody) -> None:
    await body.discard()
    async with job.transaction():
        pass


async def _clean_up(job: ClaimedUpload, backend: Place, catalogue: Leases, error: BaseException | None) -> None:
    """Delete what certainly nobody names, and let others write to the node.

    Failing here is no tragedy: the sweep deletes the bytes later, and the lease runs out.
    """
    try:
        if job.orphan is not None:
            await backend.delete(job.orphan)
        if not job.outcome_unknown:
            await catalogue.release(job.claim, reason=reason_of(error))
    except Exception as failure:  # noqa: BLE001 (any backend, any database: the upload's own error matters)
        log.warning("upload %s: not cleaned up: %s", job.id, failure)


def reason_of(error: BaseException | None) -> str:
    """Give the words for the message of the job."""
    if isinstance(error, Fault):
        return str(error)
    if isinstance(error, asyncio.CancelledError):
        return "the storage server stopped"
    return "internal error of the storage server"


def as_fault(job: Attempt, error: BaseException) -> BaseException:
    """Give what is told to the client of something that failed."""
    if job.outcome_unknown:
        log.error("upload %s: the outcome of the commit is unknown", job.id)
        return InternalFault("it is not known whether the bytes were stored; please send them again")
    if isinstance(error, OSError) and error.errno in _FULL:
        log.error("upload %s: no room: %s", job.id, error)
        return InsufficientStorage("there is no room for these bytes")
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        log.error("upload %s: %s", job.id, error)
        return ServiceBusy("the disk takes no bytes now")
    return error
