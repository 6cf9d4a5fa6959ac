"""Transfers that the service drives itself: pullToVoSpace and pushFromVoSpace (VOSpace 2.1, sections 6.4.2, 6.4.4).

They are jobs, run by the storage servers. The endpoints of the request are tried one after the other, each once, until
one works; a failure of our own, and a right that was withdrawn, ends the job at once.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, Protocol

from yarl import URL

from pyvospace.config import Settings
from pyvospace.model.claims import DownloadClaim, EndpointClaims, Facts
from pyvospace.model.faults import (
    ChecksumMismatch,
    Fault,
    InvalidArgument,
    InvalidData,
    RequestEntityTooLarge,
    RequestTimeout,
    TransferFailed,
)
from pyvospace.model.jobs import Claimed, Kind
from pyvospace.model.ranges import ByteRange
from pyvospace.model.transfers import is_usable
from pyvospace.service.content import content_type
from pyvospace.service.outgoing import Outgoing, parse_url, shown
from pyvospace.storage.backend import FileBytes, Redirect, StorageBackend
from pyvospace.storage.catalogue import Catalogue
from pyvospace.storage.deliver import close_source, file_pieces, open_bytes
from pyvospace.storage.hashing import Digests
from pyvospace.storage.jobs import ClaimedUpload, carry_out
from pyvospace.storage.remote import Remote, RemoteBody
from pyvospace.storage.room import Room
from pyvospace.storage.threads import Workers
from pyvospace.uws.runner import Work
from pyvospace.uws.transfers import endpoint_of, unpack

log = logging.getLogger(__name__)

_NEXT: Final = (
    TransferFailed,
    InvalidArgument,
    InvalidData,
    ChecksumMismatch,
    RequestTimeout,
    RequestEntityTooLarge,
)
"""What another endpoint may do better."""
_IDLE_TIMES: Final = 6
"""Idle time-outs that may pass without a byte before a file that breaks off again and again is given up."""

_SOON: Final = 0.01


class Completion(Protocol):
    """Who is told that the bytes of a job have arrived elsewhere."""

    async def complete(self, claimed: Claimed) -> None:
        """End the job well, or raise LostJobError."""


class ThirdParty:
    """The works of one storage server."""

    def __init__(
        self,
        settings: Settings,
        *,
        catalogue: Catalogue,
        backend: StorageBackend,
        workers: Workers,
        room: Room,
        outgoing: Outgoing,
        completion: Completion,
    ) -> None:
        self._catalogue = catalogue
        self._backend = backend
        self._workers = workers
        self._room = room
        self._outgoing = outgoing
        self._completion = completion
        self._limits = [limit for limit in (settings.limits.upload_bytes, settings.outgoing.pull_bytes) if limit]
        self._idle = _IDLE_TIMES * settings.outgoing.idle_timeout

    def works(self) -> Mapping[str, Work]:
        """Give what a runner is to do, by the kind of the job."""
        return {Kind.PULL_TO: self.pull_to, Kind.PUSH_FROM: self.push_from}

    async def pull_to(self, job: Claimed) -> None:
        """Fetch bytes for a node, which is made if need be."""
        await _try_each(job, self._pull)

    async def push_from(self, job: Claimed) -> None:
        """Send the bytes of a node; the job is complete when the far side has said so."""
        await _try_each(job, self._push)
        await self._completion.complete(job)

    async def _pull(self, job: Claimed, url: URL) -> None:
        async with Remote(self._outgoing, url) as remote:
            job.progress.bytes_done, job.progress.bytes_total = 0, remote.size
            await self._room.require(remote.size or 0)
            claim = await self._catalogue.claim_pull(job, size=remote.size)
            limits = [*self._limits, *([] if claim.limit is None else [claim.limit])]
            body = RemoteBody(
                remote,
                workers=self._workers,
                limit=min(limits, default=None),
                idle=self._idle,
                progress=job.progress,
                room=self._room,
            )
            upload = ClaimedUpload(claim, self._catalogue, body, Facts(content_type=remote.content_type))
            await carry_out(upload, self._backend, body, self._catalogue)

    async def _push(self, job: Claimed, url: URL) -> None:
        claim = await self._catalogue.claim_download(
            EndpointClaims(
                operation="get",
                node_id=job.node_id,
                job_id=None,
                user_id=job.owner_id,
                expires=datetime.now(UTC),
                token_id=job.token_id,
            )
        )
        job.progress.bytes_total = claim.size
        feed = _Feed(self._backend, self._workers, claim, job)
        try:
            async with self._outgoing.request("PUT", url, headers=_headers(claim), body=feed.pieces) as response:
                status = response.status
        finally:
            await feed.end()
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise TransferFailed(f"{shown(url)}: HTTP status {status}")
        if job.progress.bytes_done != claim.size:
            raise TransferFailed(f"{shown(url)}: it answered before it had all bytes")


class _Feed:
    """The bytes of a node as a client sends them: from the beginning for each request."""

    def __init__(self, backend: StorageBackend, workers: Workers, claim: DownloadClaim, job: Claimed) -> None:
        self._backend = backend
        self._workers = workers
        self._claim = claim
        self._progress = job.progress
        self._made: list[AsyncGenerator[bytes]] = []

    def pieces(self) -> AsyncGenerator[bytes]:
        """Begin."""
        self._progress.bytes_done = 0
        self._made.append(self._read())
        return self._made[-1]

    async def end(self) -> None:
        """Close what is open. aiohttp stops to read when a request ends, but closes nothing and waits for nobody."""
        for generator in self._made:
            await _close(generator)

    async def _read(self) -> AsyncGenerator[bytes]:
        if self._claim.location is None:
            return
        source = await open_bytes(self._backend, self._claim, None)
        if isinstance(source, Redirect):
            raise TransferFailed("this storage hands out its bytes by other servers only")
        try:
            span = ByteRange(0, self._claim.size)
            pieces = file_pieces(self._workers, source, span) if isinstance(source, FileBytes) else source.pieces
            async for piece in pieces:
                self._progress.bytes_done = (self._progress.bytes_done or 0) + len(piece)
                yield piece
        finally:
            await close_source(source)


async def _close(generator: AsyncGenerator[bytes]) -> None:
    while True:
        try:
            await generator.aclose()
        except RuntimeError:  # aiohttp is reading at this moment
            await asyncio.sleep(_SOON)
        else:
            return


def _headers(claim: DownloadClaim) -> dict[str, str]:
    headers = {"Content-Length": str(claim.size), "Content-Type": content_type(claim.content_type)}
    if claim.md5 is not None and claim.sha256 is not None:
        headers |= Digests(claim.md5, claim.sha256).headers()
        del headers["ETag"]
    return headers


async def _try_each(job: Claimed, attempt: Callable[[Claimed, URL], Awaitable[None]]) -> None:
    """Try the endpoints of a job in turn until one works.

    Raises
    ------
    TransferFailed, InvalidData
        None did; it tells which were tried, without what may be secret in their URLs (section 3.6.3). InvalidData: what
        came was whole each time, and not of the format that the view promises (section 6.4.2).
    """
    failures: list[str] = []
    kinds: set[type[Fault]] = set()
    wanted = unpack(job.request)
    for protocol, packed in zip(wanted.protocols, job.request["protocols"], strict=True):
        if not is_usable(protocol, wanted.direction):
            continue
        url = None
        try:
            url = parse_url(endpoint_of(packed))
            await attempt(job, url)
        except _NEXT as fault:
            kinds.add(type(fault))
            failures.append(f"{protocol.uri.rpartition('#')[2]} {_words(url, fault)}")
            log.info("job %s: %s", job.id[:8], failures[-1])
        else:
            return
    raise (InvalidData if kinds == {InvalidData} else TransferFailed)("tried " + "; ".join(failures))


def _words(url: URL | None, fault: Fault) -> str:
    where = f"{shown(url)}: " if url is not None else ""
    words = fault.detail or fault.summary()
    return words if words.startswith(where) else where + words
