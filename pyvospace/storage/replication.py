"""Copies of bytes in other places: this storage fetches those that it is to have.

A copy is stored as an upload is, by the backend and in a transaction at the end, in which its row is entered in place
of a node's. Whoever is killed in the middle leaves bytes that nothing names, and the sweep deletes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
from yarl import URL

from pyvospace.db.listening import QUEUE
from pyvospace.model.claims import EndpointClaims, Facts, UploadClaim
from pyvospace.model.faults import Fault, TransferFailed
from pyvospace.service.endpoints import EndpointSigner
from pyvospace.storage.catalogue import Leases
from pyvospace.storage.gathered import GatheredBody
from pyvospace.storage.hashing import Announced
from pyvospace.storage.jobs import ClaimedUpload, carry_out

if TYPE_CHECKING:
    from pyvospace.config import Settings
    from pyvospace.db.listening import Listener
    from pyvospace.model.claims import Place, Replication
    from pyvospace.storage.backend import StorageBackend
    from pyvospace.storage.room import Room
    from pyvospace.storage.threads import Workers

log = logging.getLogger(__name__)

WANTED: Final = "replica"
"""What the queue tells of copies that are to be made."""
_LOOK_EVERY: Final = 5.0
"""Seconds between two looks for copies that nobody told us of: those that failed before."""
_FETCHED_WITHIN: Final = 60.0
"""Seconds for which an endpoint of another storage is signed: it is used at once."""


class Replications(Leases, Protocol):
    """Where copies that are to be made come from."""

    async def claim(self) -> Replication | None:
        """Take one; None: there is none now."""

    def advance(self, attempt: str, done: int) -> None:
        """Note how many bytes have come."""

    async def signing_key(self) -> tuple[str, bytes]:
        """Give name and secret of a key with which endpoints of other storages can be signed."""


class Replicator:
    """Makes copies, some at a time, as long as a storage server runs."""

    def __init__(
        self,
        settings: Settings,
        *,
        replications: Replications,
        backend: StorageBackend,
        workers: Workers,
        room: Room,
        listener: Listener,
    ) -> None:
        self._replications = replications
        self._backend = backend
        self._workers = workers
        self._room = room
        self._signer = EndpointSigner(settings.authority, replications.signing_key)
        self._at_once = settings.placement.repairs
        self._rate = Rate(settings.placement.repair_rate)
        self._idle = settings.storage.idle_timeout
        self._woken = asyncio.Event()
        listener.subscribe(QUEUE, self._told)

    def _told(self, kind: str) -> None:
        if kind in {"", WANTED}:
            self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; what is not done then is begun anew by somebody."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._idle, sock_read=self._idle)
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self._at_once):
                group.create_task(self._work(session))

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            try:
                task = await self._replications.claim()
                if task is not None:
                    await self._copy(session, task)
                    continue
            except (Fault, OSError, aiohttp.ClientError) as error:
                log.warning("a copy was not made: %s", error)
            except Exception:
                log.exception("a copy was not made")
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY * (0.5 + secrets.randbelow(1000) / 1000)):
                    await self._woken.wait()

    async def _copy(self, session: aiohttp.ClientSession, task: Replication) -> None:
        claim = UploadClaim(id=task.id, lease=task.lease)
        try:
            await self._room.require(task.size)
            async with contextlib.AsyncExitStack() as stack:
                source = await self._open(session, task, stack)
                body = _Copy(source, task, self._replications, self._rate, workers=self._workers, idle=self._idle)
                upload = ClaimedUpload(claim, self._replications, body, Facts())
                await carry_out(upload, self._backend, body, self._replications)
        except Exception as error:
            await self._replications.release(claim, reason=str(error) or type(error).__name__)
            raise

    async def _open(
        self, session: aiohttp.ClientSession, task: Replication, stack: contextlib.AsyncExitStack
    ) -> aiohttp.StreamReader:
        """Ask those who have the bytes, one after the other, until one gives them."""
        failures = []
        for place in task.places:
            try:
                response = await stack.enter_async_context(session.get(await self._endpoint(place, task)))
            except (aiohttp.ClientError, TimeoutError) as error:
                failures.append(f"{place.url}: {error!r}")
            else:
                if response.status == HTTPStatus.OK and response.content_length in {None, task.size}:
                    return response.content
                failures.append(f"{place.url}: HTTP status {response.status}")
        raise TransferFailed("; ".join(failures))

    async def _endpoint(self, place: Place, task: Replication) -> URL:
        claims = EndpointClaims(
            operation="replica",
            node_id=None,
            job_id=task.id,
            user_id=None,
            expires=datetime.now(UTC) + timedelta(seconds=_FETCHED_WITHIN),
        )
        return URL(await self._signer.endpoint(place.url, place.storage, claims, name="copy"), encoded=True)


class Rate:
    """Bytes a second that all copies of a server share; 0: as many as come."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._next = 0.0

    async def spend(self, size: int) -> None:
        """Wait until so many bytes may have come."""
        if not self._rate:
            return
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now) + size / self._rate
        await asyncio.sleep(self._next - now)


class _Copy(GatheredBody):
    """The bytes of a copy on their way into the backend."""

    def __init__(
        self,
        source: aiohttp.StreamReader,
        task: Replication,
        replications: Replications,
        rate: Rate,
        *,
        workers: Workers,
        idle: float,
    ) -> None:
        announced = Announced(md5=task.md5, sha256=task.sha256)
        super().__init__(workers=workers, size=task.size, limit=task.size, idle=idle, announced=announced)
        self._source = source
        self._task = task
        self._replications = replications
        self._rate = rate
        self._came = 0

    async def _more(self) -> tuple[bytes, bool]:
        piece, last = await self._source.readany(), self._source.at_eof()
        self._came += len(piece)
        self._replications.advance(self._task.id, self._came)
        await self._rate.spend(len(piece))
        return piece, last

    def _cut(self, size: int) -> Fault:
        return TransferFailed(f"the copy ended after {size} of {self.size} bytes")
