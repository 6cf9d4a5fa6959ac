"""Bytes on their way into an S3 store: parts side by side, then one request that makes an object of them."""

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from pyvospace.model.crash import crash_point
from pyvospace.model.faults import RequestEntityTooLarge, RequestTimeout
from pyvospace.storage.backend import Body
from pyvospace.storage.backends.s3.budget import Budget
from pyvospace.storage.backends.s3.checksums import composed
from pyvospace.storage.backends.s3.options import MOST_PARTS
from pyvospace.storage.backends.s3.store import Part, Store, plain
from pyvospace.storage.waiting import ended, outlast

log = logging.getLogger(__name__)

_DAY: Final = 86400.0
LONGEST: Final = 7 * _DAY
"""Seconds that an upload may take.

Some stores date an object of several parts by the beginning of its upload; what is younger than this is left alone
by the sweep.
"""
_SMALL: Final = 1 << 20
"""Up to this size bytes wait for the transaction and go in one request, which costs less than three."""


class Uploading:
    """One upload.

    Parameters
    ----------
    name
        Of the object to be.
    size
        Bytes that were announced; None: unknown.
    """

    def __init__(self, store: Store, budget: Budget, name: str, size: int | None) -> None:
        self._store = store
        self._budget = budget
        self._name = name
        self._part_size = store.options.part_size_of(size)
        self._held_for_one = min(size, self._part_size) if size is not None else self._part_size
        self._held: list[int] = []
        self._buffer = bytearray()
        self._upload = ""
        self._sending: deque[Future[Part]] = deque()
        self._parts: list[Part] = []
        self._begun = time.monotonic()
        self._number = 0
        self._completed = False

    async def receive(self, body: Body) -> int:
        """Take all bytes and tell how many; whatever is not small goes to the store at once."""
        self._held.append(await self._budget.take(self._held_for_one))
        async for piece in body:
            await self._take(memoryview(piece))
        if self._buffer and (self._upload or len(self._buffer) > _SMALL):
            await self._send()
        while self._sending:
            await self._reap()
        crash_point("after-tmp")
        return sum(part.size for part in self._parts) or len(self._buffer)

    async def _take(self, piece: memoryview) -> None:
        while piece:
            if len(self._buffer) == self._part_size:
                await self._send()
            room = self._part_size - len(self._buffer)
            self._buffer += piece[:room]
            piece = piece[room:]

    async def _send(self) -> None:
        """Let the part that is full travel, and have room for the next."""
        if not self._upload:
            self._upload = await self._store.create_upload(self._name)
        if self._number == MOST_PARTS:
            raise RequestEntityTooLarge(f"of unknown size, no more than {MOST_PARTS * self._part_size} bytes are taken")
        while len(self._sending) >= self._store.options.concurrency or (self._sending and self._sending[0].done()):
            await self._reap()
        self._number += 1
        self._sending.append(self._store.begin_part(self._name, self._upload, self._number, self._buffer))
        self._buffer = bytearray()
        while self._sending and not self._have_room():
            await self._reap()

    def _have_room(self) -> bool:
        """Tell whether one more part may be held."""
        if len(self._sending) < len(self._held):
            return True
        if not self._budget.try_take(self._held_for_one):
            return False
        self._held.append(self._held_for_one)
        return True

    async def _reap(self) -> None:
        """Wait for the part that was sent first."""
        part = await outlast(self._sending[0])
        self._sending.popleft()
        self._parts.append(part)

    async def publish(self) -> None:
        """Make the object, and see that it is what was sent; inside the transaction."""
        if time.monotonic() - self._begun > LONGEST:
            raise RequestTimeout(f"an upload may take {LONGEST / _DAY:g} days")
        checksum = self._store.checksum
        if self._upload:
            sizes, digests = [part.size for part in self._parts], [part.digest for part in self._parts]
            etags = {await self._complete(), composed([part.etag for part in self._parts])}
        else:
            sizes, digests = [len(self._buffer)], [checksum.digest(self._buffer)] if checksum else []
            etags = {await self._store.put(self._name, self._buffer, *digests)}
        crash_point("after-rename")
        head = await self._store.head(self._name)
        if head["ContentLength"] != sum(sizes) or plain(head["ETag"]) not in etags:
            raise OSError(f"{self._name}: the store shows {head['ContentLength']} of {sum(sizes)} bytes, or others")
        if checksum:
            checksum.require(head, digests, parts=bool(self._upload))
        crash_point("after-dirsync")

    async def _complete(self) -> str:
        """Make an object of the parts; give its ETag if the store tells it."""
        try:
            etag = await self._store.complete(self._name, self._upload, self._parts)
        except FileNotFoundError:
            etag = ""  # botocore has asked twice, and the first time it was done; else HEAD will tell
        self._completed = True
        return etag

    async def end(self) -> None:
        """Forget the bytes, and have the store forget whatever has not become an object."""
        while self._sending:
            await ended(self._sending.popleft())
        self._buffer = bytearray()
        while self._held:
            self._budget.give(self._held.pop())
        if self._upload and not self._completed:
            aborting = asyncio.create_task(self._abort())
            while not aborting.done():
                with suppress(asyncio.CancelledError):  # who cancelled us goes on when this is over
                    await asyncio.wait([aborting])

    async def _abort(self) -> None:
        try:
            await self._store.abort(self._name, self._upload)
        except Exception as error:  # noqa: BLE001 (the error of the upload matters; the sweep aborts it later)
            log.warning("upload of %s not aborted: %s", self._name, error)
