"""The job pool: all that a server of another protocol than HTTP gets of the storage service.

Somebody comes with the credential of an endpoint: `JobPool.open` or `JobPool.log_in` says which. What the endpoint is
for, an upload or a download, is then a context: bytes go in or come out in pieces, and leaving it cleans up. All that
makes a transfer of this service is done here, as for HTTP: rights, quotas, limits and the writer's lease, asked again
at each use; counting, hashing and flushing; the one transaction at the end; the job and the audit log.

Obligations of a protocol server:

* Bytes are stored when `Upload.commit` has returned, not earlier, and only then may the client be told so.
* An `Upload` that is left without a commit leaves nothing behind. Leave it when the client is gone.
* Faults (`pyvospace.model.faults.Fault`, with ``code``, ``status`` and words for the client) pass through these calls;
  translate them to what the protocol knows. Anything else is a defect: tell the client that it failed, and log it.
* No secret goes to the log: neither tokens nor passwords nor, if it holds one, the name that somebody logs in with.

Everything is of one event loop. Calls for the same `Upload` come one at a time; a `Download` may be read by many tasks.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, Self

from pyvospace.db.pool import acting
from pyvospace.model.audit import DONE, Action
from pyvospace.model.callers import Caller, Origin
from pyvospace.model.claims import Facts
from pyvospace.model.faults import Fault, InternalFault, InvalidData, PermissionDenied, ServiceBusy
from pyvospace.model.ranges import ByteRange
from pyvospace.service.audit import REFUSED
from pyvospace.service.content import storable_type
from pyvospace.storage.auditing import entry_of
from pyvospace.storage.backend import FileBytes, Redirect, StreamBytes
from pyvospace.storage.deliver import close_source, file_pieces, open_bytes
from pyvospace.storage.gathered import GatheredBody
from pyvospace.storage.hashing import Announced, Digests
from pyvospace.storage.jobs import record_delivery
from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import run
from pyvospace.storage.windows import Windows

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractContextManager
    from datetime import datetime
    from types import TracebackType

    from pyvospace.model.claims import EndpointClaims, Operation, StoredFile, UploadClaim
    from pyvospace.service.audit import AuditWriter
    from pyvospace.storage.backend import StorageBackend
    from pyvospace.storage.catalogue import Catalogue
    from pyvospace.storage.handlers import Verifier
    from pyvospace.storage.intake import Intake
    from pyvospace.storage.ongoing import Ongoing

__all__ = ["Announced", "ByteRange", "Digests", "Download", "Endpoint", "Fault", "JobPool", "Origin", "Upload"]

_HELD: Final = 16
"""Pieces of an upload that wait to be hashed and written."""


class JobPool:
    """The endpoints of one storage server.

    Parameters
    ----------
    idle
        Seconds for which who sends may be silent.
    drain
        Seconds for which transfers under way may go on when the server stops.
    standing
        Raises if nobody is served now.
    audit
        Told of reads (if these are wanted) and refusals; None: nobody is.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        backend: StorageBackend,
        verifier: Verifier,
        workers: Workers,
        intake: Intake,
        ongoing: Ongoing,
        idle: float,
        drain: float = 0.0,
        standing: Callable[[], None] = lambda: None,
        audit: AuditWriter | None = None,
        reads: bool = True,
    ) -> None:
        self.catalogue = catalogue
        self.backend = backend
        self.workers = workers
        self.intake = intake
        self.ongoing = ongoing
        self.idle = idle
        self._drain = drain
        self._verifier = verifier
        self._standing = standing
        self._open = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._audit = audit
        self._reads = reads

    async def open(self, token: str, peer: Origin) -> Endpoint:
        """Find the endpoint of a token, which is a segment of the endpoints for HTTP.

        Parameters
        ----------
        peer
            Address of the client, and a word of your own that finds its connection in your log.

        Raises
        ------
        PermissionDenied
            It is none, or has expired.
        """
        with self.refusals(None, Action.REQUEST, peer):
            self._standing()
            return Endpoint(self, await self._verifier.verify(token), peer)

    async def log_in(self, user: str, password: str, peer: Origin) -> Endpoint:
        """Find the endpoint that this user and password are for (see `open`)."""
        with self.refusals(None, Action.REQUEST, peer):
            self._standing()
            return Endpoint(self, await self._verifier.verify_credential(user, password), peer)

    async def drain(self) -> None:
        """Wait for transfers that are under way, as long as the settings allow; call it when nobody new is taken."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._drain):
                await self._quiet.wait()

    def begin(self) -> None:
        """Count a transfer."""
        self._open += 1
        self._quiet.clear()

    def end(self) -> None:
        """Count it no more."""
        self._open -= 1
        if not self._open:
            self._quiet.set()

    def refusals(self, claims: EndpointClaims | None, action: Action, peer: Origin) -> AbstractContextManager[None]:
        """Tell the audit log of what is refused in this context."""
        return _Refusals(self, claims, action, peer)

    def note(self, claims: EndpointClaims | None, action: Action, peer: Origin, outcome: str = DONE) -> None:
        """Tell the audit log."""
        if self._audit is not None and (outcome != DONE or self._reads):
            self._audit.add(entry_of(claims, action, peer, outcome))


class _Refusals:
    def __init__(self, pool: JobPool, claims: EndpointClaims | None, action: Action, peer: Origin) -> None:
        self._pool = pool
        self._what = claims, action, peer

    def __enter__(self) -> None:
        """Let what follows know where it comes from."""
        acting.set(Caller(origin=self._what[2]))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Note a refusal."""
        if isinstance(error, Fault) and error.status in REFUSED:
            self._pool.note(*self._what, error.code)


class Endpoint:
    """One thing that somebody may do: bring the bytes of one node, or fetch them, until it expires."""

    def __init__(self, pool: JobPool, claims: EndpointClaims, peer: Origin) -> None:
        self._pool = pool
        self._claims = claims
        self._peer = peer

    @property
    def operation(self) -> Operation:
        """What it is for: ``put``, ``get``, or what only HTTP serves: ``pack``, ``unpack``, ``render``."""
        return self._claims.operation

    @property
    def expires(self) -> datetime:
        """When it ends. What has begun by then may be finished."""
        return self._claims.expires

    def upload(
        self, *, size: int | None = None, content_type: str | None = None, announced: Announced | None = None
    ) -> Upload:
        """Give the context of an upload.

        Parameters
        ----------
        size
            Bytes that are to come; None: the client has not said.
        announced
            Digests that the client says they have.

        Raises
        ------
        Fault
            On entering: `NodeBusy` if somebody else is writing to the node, `EndpointUsed` if its bytes came long ago,
            `QuotaExceeded`, `InsufficientStorage`, `RequestEntityTooLarge`, `PermissionDenied` and others.
        """
        self._require("put", "this endpoint is for reading")
        told = announced or Announced()
        return Upload(self._pool, self._claims, self._peer, size=size, content_type=content_type, announced=told)

    def download(self) -> Download:
        """Give the context of a download.

        Raises
        ------
        Fault
            On entering: `NodeNotFound`, `PermissionDenied` and others.
        """
        self._require("get", "this endpoint is for writing")
        return Download(self._pool, self._claims, self._peer)

    async def current(self) -> StoredFile | None:
        """Tell what the node of an upload has now, None if it has no bytes."""
        self._require("put", "this endpoint is for reading")
        with self._pool.refusals(self._claims, Action.STORE_BYTES, self._peer):
            return await self._pool.catalogue.current(self._claims)

    def _require(self, operation: Operation, words: str) -> None:
        if self._claims.operation != operation:
            raise PermissionDenied(words)


class _PieceBody(GatheredBody):
    """The body of an upload whose pieces are handed to us."""

    def __init__(
        self, *, workers: Workers, size: int | None, limit: int | None, idle: float, announced: Announced
    ) -> None:
        super().__init__(workers=workers, size=size, limit=limit, idle=idle, announced=announced)
        self.pieces: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue(_HELD)
        self._fault: Fault | None = None

    def fail(self, fault: Fault) -> None:
        """Let nothing come any more."""
        self._fault = fault
        while not self.pieces.empty():
            self.pieces.get_nowait()
        self.pieces.put_nowait((b"", False))

    async def _more(self) -> tuple[bytes, bool]:
        piece = await self.pieces.get()
        if self._fault is not None:
            raise self._fault
        return piece


class Upload:
    """New bytes for the node of an endpoint, from the first to the commit."""

    def __init__(
        self,
        pool: JobPool,
        claims: EndpointClaims,
        peer: Origin,
        *,
        size: int | None,
        content_type: str | None,
        announced: Announced,
    ) -> None:
        self._pool = pool
        self._claims = claims
        self._peer = peer
        self._size = size
        self._content_type = content_type
        self._announced = announced
        self._ended = False

    async def __aenter__(self) -> Self:
        """Take the node's lease, and begin."""
        pool = self._pool
        with pool.refusals(self._claims, Action.STORE_BYTES, self._peer):
            claim = await pool.intake.claim(self._claims, size=self._size)
        self._body = _PieceBody(
            workers=pool.workers,
            size=self._size,
            limit=pool.intake.limit(claim),
            idle=pool.idle,
            announced=self._announced,
        )
        self._storing = asyncio.create_task(self._store(claim))
        pool.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give up what was not committed, and wait until that has left nothing behind."""
        try:
            await self._leave()
        finally:
            self._pool.end()

    async def _leave(self) -> None:
        if self._storing.done():
            self._see_failure()
            return
        if self._ended:
            self._storing.cancel()
        else:
            self._body.fail(InvalidData("the sender broke off"))
        await _outlast(self._storing)
        self._see_failure()

    async def write(self, piece: bytes) -> None:
        """Take the next bytes, at best 32 KiB to 1 MiB; waits while there are too many on the way.

        Raises
        ------
        Fault
            The upload has failed: too many bytes, a lost lease, a full disk, silence for too long.
        """
        if self._ended:
            raise RuntimeError("nothing comes behind the commit")
        await self._put(piece, last=False)

    async def commit(self) -> Digests:
        """Publish the bytes: when this returns they are the node's, and would survive a power cut.

        Raises
        ------
        Fault
            They are not; the node has what it had before.
        """
        if self._ended:
            raise RuntimeError("an upload is committed once")
        self._ended = True
        await self._put(b"", last=True)
        await self._stored()
        return self._body.digests()

    async def _stored(self) -> None:
        """Wait until the bytes are stored; the server may stop before."""
        await asyncio.wait([self._storing])
        if self._storing.cancelled():
            raise ServiceBusy("the storage server stops; send the file again")
        self._storing.result()

    async def _put(self, piece: bytes, *, last: bool) -> None:
        if self._storing.done():
            await self._stored()
            raise InternalFault("the upload has ended")
        if not self._body.pieces.full():
            self._body.pieces.put_nowait((piece, last))
            return
        waiting = asyncio.create_task(self._body.pieces.put((piece, last)))
        try:
            await asyncio.wait([waiting, self._storing], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await self._stored()
        finally:
            waiting.cancel()

    async def _store(self, claim: UploadClaim) -> None:
        with (
            self._pool.ongoing,
            self._pool.refusals(self._claims, Action.STORE_BYTES, self._peer),
        ):
            await self._pool.intake.store(claim, self._body, Facts(content_type=storable_type(self._content_type)))

    def _see_failure(self) -> None:
        if not self._storing.cancelled():
            self._storing.exception()


class Download:
    """The bytes of the node of an endpoint: one version, whatever happens to the node meanwhile."""

    def __init__(self, pool: JobPool, claims: EndpointClaims, peer: Origin) -> None:
        self._pool = pool
        self._claims = claims
        self._peer = peer
        self._source: FileBytes | None = None
        self._windows: Windows | None = None
        self._opening = asyncio.Lock()
        self._begun = self._complete = False

    async def __aenter__(self) -> Self:
        """Ask for the right to read, and for what there is."""
        with self._pool.refusals(self._claims, Action.READ_BYTES, self._peer):
            self._claim = await self._pool.catalogue.claim_download(self._claims)
        self._pool.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the file; a job that waited for its last byte to be read is complete."""
        try:
            await self._leave()
        finally:
            self._pool.end()

    async def _leave(self) -> None:
        if self._windows is not None:
            await self._windows.close()
        if self._source is not None:
            await close_source(self._source)
        if self._begun:
            self._pool.note(self._claims, Action.READ_BYTES, self._peer)
        if self._complete and self._claim.job_id is not None:
            await record_delivery(self._claim.job_id, self._pool.catalogue.delivered(self._claim))

    @property
    def name(self) -> str:
        """The node's name."""
        return self._claim.name

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._claim.size

    @property
    def modified(self) -> datetime:
        """When the bytes came."""
        return self._claim.modified

    @property
    def content_type(self) -> str | None:
        """As the client that brought them has named it."""
        return self._claim.content_type

    @property
    def digests(self) -> Digests | None:
        """Of all the bytes; None: none have come yet."""
        claim = self._claim
        return None if claim.md5 is None or claim.sha256 is None else Digests(claim.md5, claim.sha256)

    async def pieces(self, span: ByteRange | None = None) -> AsyncGenerator[bytes]:
        """Give the bytes in their order, all or a part that lies within them; close what is not read to its end."""
        span = span or ByteRange(0, self.size)
        position = span.start
        async with aclosing(self._bytes(span)) as found:
            async for piece in found:
                position += len(piece)
                self._note(position)
                yield piece
        self._check(position, span.stop)
        self._note(position)

    async def _bytes(self, span: ByteRange) -> AsyncGenerator[bytes]:
        if not span.length:
            return
        source = await self._open(span)
        pieces = file_pieces(self._pool.workers, source, span) if isinstance(source, FileBytes) else source.pieces
        try:
            async for piece in pieces:
                yield piece
        finally:
            await close_source(source)

    async def read(self, offset: int, size: int) -> bytes:
        """Give up to `size` bytes from `offset` on, less only at the end: for protocols that ask for blocks.

        What is no file here is fetched in windows of some MiB, two of which are held.
        """
        end = min(offset + size, self.size)
        data = await self._block(offset, end) if offset < end else b""
        self._check(offset + len(data), max(offset, end))
        self._note(offset + len(data))
        return data

    async def _block(self, start: int, end: int) -> bytes:
        async with self._opening:
            if self._source is None and self._windows is None:
                await self._begin()
        if self._windows is not None:
            return await self._windows.read(start, end)
        source = self._source
        assert source is not None  # noqa: S101 (for mypy: it is the one or the other)
        place = source.file.fileno(), end - start, source.offset + start
        return await run(self._pool.workers.quick, os.pread, *place)

    async def _begin(self) -> None:
        """Find out whether the bytes are in a file here: it stays open."""
        source = await self._open(ByteRange(0, 1))
        if isinstance(source, FileBytes):
            self._source = source
        else:
            await close_source(source)
            self._windows = Windows(self._fetch, self.size)

    async def _fetch(self, start: int, stop: int) -> bytes:
        async with aclosing(self._bytes(ByteRange(start, stop))) as pieces:
            return b"".join([piece async for piece in pieces])

    async def _open(self, span: ByteRange) -> FileBytes | StreamBytes:
        whole = span == ByteRange(0, self.size)
        source = await open_bytes(self._pool.backend, self._claim, None if whole else span)
        if isinstance(source, Redirect):
            raise InternalFault("this storage hands out its bytes by HTTP only")
        return source

    def _check(self, position: int, end: int) -> None:
        if position != end:
            raise InternalFault("the bytes cannot be read")

    def _note(self, position: int) -> None:
        self._begun = True
        self._complete = self._complete or position >= self.size


async def _outlast(task: asyncio.Task[object]) -> None:
    """Wait for the end of a task, however it ends, also if cancelled meanwhile."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
