"""Uploads in parts, whatever protocol brings them.

Each part is an ordinary upload of the backend, whose transaction enters a segment instead of turning a node. When all
bytes are there, the node turns to the only segment, or to what is made of several.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pyvospace.model.claims import Facts
from pyvospace.model.crash import crash_point
from pyvospace.model.faults import EndpointUsed, Fault, RequestEntityTooLarge
from pyvospace.model.partials import Piece, partial_id
from pyvospace.storage.conditions import require
from pyvospace.storage.hashing import Announced, Digests, Hasher, Hashes
from pyvospace.storage.jobs import ClaimedUpload, Place, carry_out
from pyvospace.storage.partials.incoming import Checksum, Incoming, SegmentBody
from pyvospace.storage.partials.joining import JoinedBody, KnownBody, Turning, pieces_of
from pyvospace.storage.partials.tus_headers import conditions, facts
from pyvospace.storage.waiting import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aiohttp import web

    from pyvospace.config import Settings
    from pyvospace.model.claims import EndpointClaims, UploadClaim
    from pyvospace.model.partials import NewPartial, Partial, Segment
    from pyvospace.storage.backend import StorageBackend
    from pyvospace.storage.body import CheckedBody
    from pyvospace.storage.intake import Intake
    from pyvospace.storage.partials.catalogue import PartialCatalogue
    from pyvospace.storage.threads import Workers

log = logging.getLogger(__name__)

_SECRET: Final = 32
"""Random bytes in the name that a client knows an upload by: as many as an API token has, which logs leave out."""
_REMEMBERED: Final = 1000
"""Uploads whose digests are kept in memory to be gone on with."""
_ENDLESS: Final = 1 << 62
_DROPPED_AT_ONCE: Final = 100
_STOPPING: Final = 10.0
"""Seconds in which a request ends that a client has given up."""


class Uploads:
    """The uploads in parts of one server."""

    def __init__(
        self,
        settings: Settings,
        *,
        catalogue: PartialCatalogue,
        backend: StorageBackend,
        intake: Intake,
        workers: Workers,
    ) -> None:
        self.settings = settings.partial_uploads
        self.most = settings.limits.upload_bytes
        self._storage = settings.storage
        self._catalogue = catalogue
        self._backend = backend
        self._intake = intake
        self._workers = workers
        self._hashes: OrderedDict[str, tuple[int, Hashes]] = OrderedDict()
        self._running: dict[str, Incoming] = {}

    async def begin(self, claims: EndpointClaims, new: NewPartial) -> tuple[str, Partial]:
        """Begin an upload; gives the secret by which the client will know it."""
        await self._intake.require_room(new.size or 0)
        secret = secrets.token_hex(_SECRET)
        await self._catalogue.begin(claims, partial_id(secret), new)
        return secret, await self.find(secret)

    async def find(self, secret: str) -> Partial:
        """Tell what is known of an upload."""
        return await self._catalogue.find(partial_id(secret))

    async def drop(self, partial: str) -> None:
        """Forget an upload that will not be complete."""
        await self.interrupt(partial)
        await self._catalogue.drop(partial)

    async def close(self, partial: Partial) -> Partial:
        """Take what has come for the whole, if nobody has said how many bytes that has."""
        if partial.size is not None:
            return partial
        here = partial.received
        claim = await self._catalogue.claim_segment(
            Piece(partial=partial.id, offset=here, request=here, size=0, told=here)
        )
        await self._catalogue.release(claim, reason="")
        return await self._catalogue.find(partial.id)

    async def revert(self, partial: Partial) -> Partial:
        """Take back what the last request has brought."""
        await self._catalogue.revert(partial)
        return await self._catalogue.find(partial.id)

    async def interrupt(self, partial: str) -> None:
        """End a request that still waits for bytes: its client says elsewhere that they will not come."""
        running = self._running.get(partial)
        if running is None:
            return
        running.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOPPING):
                await running.closed.wait()

    async def sweep(self) -> None:
        """Forget uploads whose time is over, from time to time, until cancelled."""
        while True:
            await asyncio.sleep(self._storage.sweep_interval)
            try:
                while await self._catalogue.drop_expired(limit=_DROPPED_AT_ONCE) == _DROPPED_AT_ONCE:
                    pass
            except (Fault, OSError) as error:
                log.warning("expired uploads were not swept: %s", error)

    # ------------------------------------------------------------------ parts

    async def append(
        self,
        request: web.Request,
        partial: Partial,
        *,
        told: int | None = None,
        checksum: Checksum | None = None,
        split: bool = False,
        hashed: bool = False,
    ) -> Partial:
        """Add what a request brings behind what is there.

        Parameters
        ----------
        told
            Bytes of the whole, if the request tells them.
        checksum
            Of all that it brings; what is not so is not kept.
        split
            Whether what has come is made safe from time to time.
        hashed
            Whether the digests of all bytes so far are needed.

        Raises
        ------
        Fault
            It was refused, or broke off; what has come of it is kept nevertheless.
        """
        size = told if partial.size is None else partial.size
        most = None if size is None else size - partial.received
        incoming = Incoming(
            request,
            workers=self._workers,
            most=most,
            idle=self._storage.idle_timeout,
            least_rate=self._storage.least_rate,
        )
        if most is not None and 0 <= most < (incoming.left or 0):
            raise RequestEntityTooLarge(f"the upload has {size} bytes")
        await self._intake.require_room(incoming.left or 0)
        with self._active(partial.id, incoming):
            first = Piece(
                partial=partial.id, offset=partial.received, request=partial.received, size=incoming.left, told=told
            )
            self._forget_others(partial)
            if hashed:
                await self._require_hashes(partial)
            await self._append(incoming, first, checksum, self.settings.segment if split else _ENDLESS)
        if incoming.fault is not None:
            raise incoming.fault
        return await self._catalogue.find(partial.id)

    @contextmanager
    def _active(self, partial: str, incoming: Incoming) -> Iterator[None]:
        mine = self._running.setdefault(partial, incoming) is incoming
        try:
            yield
        finally:
            incoming.close()
            if mine:
                del self._running[partial]

    async def _append(self, incoming: Incoming, piece: Piece, checksum: Checksum | None, most: int) -> None:
        begun = False
        while await incoming.more() or not begun:
            begun = True
            left = incoming.left
            piece = replace(piece, size=left if left is None else min(left, most))
            hashes = self._hashes_at(piece.partial, piece.offset)
            claim = await self._catalogue.claim_segment(replace(piece, hashed=hashes is not None))
            if not await incoming.more():
                await self._catalogue.release(claim, reason="")
                return
            body = SegmentBody(incoming, most=most, limit=claim.limit, checksum=checksum)
            body.begun = hashes
            try:
                await carry_out(
                    ClaimedUpload(claim, self._catalogue, body, Facts()), self._backend, body, self._catalogue
                )
            except Fault as fault:
                if fault is incoming.fault:  # nothing had come
                    return
                raise
            crash_point("tus-append")
            piece = replace(piece, offset=piece.offset + (body.received.size if body.received else 0), told=None)
            if hashes is not None and body.hashes is not None:
                self._remember(piece.partial, piece.offset, body.hashes)

    def _hashes_at(self, partial: str, offset: int) -> Hashes | None:
        """Give what the digests of the first bytes go on from; None: that is not known here."""
        if offset == 0:
            return Hashes()
        known, hashes = self._hashes.get(partial, (-1, None))
        return hashes if known == offset else None

    def _forget_others(self, partial: Partial) -> None:
        """Forget digests of other bytes: what came here may have been taken back and replaced elsewhere."""
        known = self._hashes.get(partial.id)
        if known is not None and known[1].sha256.digest() != partial.sha256:
            del self._hashes[partial.id]

    def _remember(self, partial: str, offset: int, hashes: Hashes) -> None:
        self._hashes[partial] = offset, hashes
        self._hashes.move_to_end(partial)
        while len(self._hashes) > _REMEMBERED:
            self._hashes.popitem(last=False)

    async def _require_hashes(self, partial: Partial) -> None:
        """Have the digests of all bytes so far, if need be by reading them: another process may have taken them."""
        if self._hashes_at(partial.id, partial.received) is not None:
            return
        hasher = Hasher(self._workers.hashing)
        segments = await self._catalogue.segments(partial)
        async with aclosing(pieces_of(self._backend, self._workers, segments)) as pieces:
            async for piece in pieces:
                await run(self._workers.quick, hasher.update, [piece], len(piece))
        await run(self._workers.quick, hasher.settle)
        self._remember(partial.id, hasher.size, hasher.hashes)

    # ------------------------------------------------------------------ the whole

    async def finish(self, partial: Partial) -> Partial:
        """Turn the node to an upload whose bytes are all there.

        Raises
        ------
        Fault
            It could not be done; the bytes stay, and the next request tries again.
        """
        try:
            claim = await self._catalogue.claim_whole(partial)
        except EndpointUsed:
            found = await self._catalogue.find(partial.id)
            if not found.finished:
                raise
            return found
        await require(conditions(partial.metadata), claim, self._catalogue)
        place, body = await self._plan(claim, partial)
        try:
            told = replace(facts(partial.metadata), content_type=partial.content_type)
            job = ClaimedUpload(claim, self._catalogue, body, told)
            await carry_out(job, place, body, self._catalogue)
        finally:
            if isinstance(body, JoinedBody):
                await body.close()
        self._hashes.pop(partial.id, None)
        return await self._catalogue.find(partial.id)

    async def _plan(self, claim: UploadClaim, partial: Partial) -> tuple[Place, CheckedBody]:
        """Choose how the whole is made: of one segment, or of several; those of structured data are looked at."""
        partial = await self._catalogue.find(partial.id)  # as it stays: nobody writes to it from here on
        segments = await self._catalogue.segments(partial)
        known = _known(partial, segments)
        if known is not None and not claim.structured and (claim.discard or len(segments) == 1):
            return Turning(segments[0].location if segments else ""), KnownBody(partial.received, known)
        announced = Announced(known.md5, known.sha256) if known is not None else Announced()
        return self._backend, JoinedBody(self._backend, self._workers, segments, announced)


def _known(partial: Partial, segments: Sequence[Segment]) -> Digests | None:
    """Give the digests of all bytes if they were computed as these came."""
    if partial.md5 is None or partial.sha256 is None or not segments:
        return None
    return Digests(partial.md5, partial.sha256)
