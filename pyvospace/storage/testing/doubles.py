"""Doubles that behave: a catalogue in memory, and a body that does what a test says."""

import asyncio
import os
import signal
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from pyvospace.model.claims import (
    DownloadClaim,
    EndpointClaims,
    OutcomeUnknownError,
    RenderClaim,
    StorageState,
    StoredFile,
    UploadClaim,
)
from pyvospace.model.faults import Fault, NodeBusy, NodeNotFound, QuotaExceeded
from pyvospace.model.jobs import Claimed
from pyvospace.model.nodes import Param
from pyvospace.storage.backend import Body, StorageBackend, UploadJob
from pyvospace.storage.body import CheckedBody, Received
from pyvospace.storage.catalogue import StoreTransaction
from pyvospace.storage.hashing import Announced, Hasher
from pyvospace.storage.layers import Wrapper
from pyvospace.storage.sink import Sink
from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import run

LEASE: Final = 60.0


@dataclass
class MemoryNode:
    """A data node of the `MemoryCatalogue`."""

    name: str = "data.fits"
    stored: StoredFile | None = None
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))
    writer: str | None = None
    waiting_job: str | None = None


class MemoryCatalogue:
    """A `Catalogue` that forgets everything in the end; nodes are known by their ids.

    Attributes
    ----------
    before
        Called with the name of each step (``claim_upload``, ``transaction``, ``store``, ``commit``,
        ``committed`` and so on) before it is done; what it raises is what the step raises.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, MemoryNode] = {}
        self.obsolete: list[str] = []
        self.announced: list[StorageState] = []
        self.released: list[str] = []
        self.deliveries: list[str] = []
        self.sweeps = 0
        self.lease = LEASE
        self.limit: int | None = None
        self.room: int | None = None
        self.discard = False
        self.structured = False
        self.import_view: str | None = None
        self.view = ""
        self.params: tuple[Param, ...] = ()
        self.before: Callable[[str], object] = lambda _: None
        self._claims: dict[str, int] = {}
        self._swept_at = float("-inf")

    def node(self, node_id: int) -> MemoryNode:
        """Give the node, made if need be."""
        return self.nodes.setdefault(node_id, MemoryNode())

    async def ready(self) -> None:
        """See `Catalogue.ready`."""
        self.before("ready")

    async def announce(self, storage: StorageState) -> None:
        """See `Catalogue.announce`."""
        self.before("announce")
        self.announced.append(storage)

    async def leave(self, url: str) -> None:
        """See `Catalogue.leave`."""
        self.before("leave")
        self.announced = [storage for storage in self.announced if storage.url != url]

    async def current(self, claims: EndpointClaims) -> StoredFile | None:
        """See `Catalogue.current`."""
        self.before("current")
        return self.node(_node_id(claims)).stored

    async def claim_upload(self, claims: EndpointClaims, *, size: int | None) -> UploadClaim:
        """See `Catalogue.claim_upload`."""
        del size
        self.before("claim_upload")
        return self._claim(_node_id(claims))

    async def claim_pull(self, job: Claimed, *, size: int | None) -> UploadClaim:
        """See `Catalogue.claim_pull`."""
        del size
        self.before("claim_pull")
        return self._claim(job.node_id or 0)

    def _claim(self, node_id: int) -> UploadClaim:
        node = self.node(node_id)
        if node.writer is not None:
            raise NodeBusy(node.name)
        node.writer = uuid4().hex
        self._claims[node.writer] = node_id
        return UploadClaim(
            id=node.writer,
            lease=self.lease,
            limit=self.limit,
            discard=self.discard,
            current=node.stored,
            structured=self.structured,
            view=self.import_view,
            room=self.room,
            refusal="the quota of /: limit 1000 bytes, 0 left",
        )

    async def reserve(self, claim: UploadClaim, *, size: int) -> None:
        """See `Catalogue.reserve`."""
        self.before("reserve")
        if claim.room is not None and size > claim.room:
            raise QuotaExceeded(claim.refusal)

    async def renew(self, claim: UploadClaim) -> bool:
        """See `Catalogue.renew`."""
        self.before("renew")
        return claim.id in self._claims

    def steal(self, node_id: int) -> None:
        """Take the lease of whoever writes to the node."""
        node = self.node(node_id)
        self._claims.pop(node.writer or "", None)
        node.writer = None

    @asynccontextmanager
    async def transaction(self, claim: UploadClaim) -> AsyncIterator[StoreTransaction]:
        """See `Catalogue.transaction`."""
        self.before("transaction")
        transaction = _Transaction(self, claim)
        yield transaction
        await asyncio.sleep(0)  # a commit takes its time
        self.before("commit")
        if transaction.file is not None:
            self._turn(claim, transaction.file)
        self._forget(claim)
        self.before("committed")

    def holds(self, claim: UploadClaim) -> bool:
        """Tell whether the lease is still that of `claim`."""
        return claim.id in self._claims

    async def release(self, claim: UploadClaim, *, reason: str) -> None:
        """See `Catalogue.release`."""
        self.before("release")
        self._forget(claim)
        self.released.append(reason)

    async def claim_download(self, claims: EndpointClaims) -> DownloadClaim:
        """See `Catalogue.claim_download`."""
        self.before("claim_download")
        node = self.nodes.get(_node_id(claims))
        if node is None:
            raise NodeNotFound
        claim = DownloadClaim(name=node.name, modified=node.modified, job_id=node.waiting_job)
        if node.stored is None:
            return claim
        stored = node.stored
        return replace(
            claim,
            location=stored.location,
            size=stored.size,
            md5=stored.md5,
            sha256=stored.sha256,
            content_type=stored.content_type,
        )

    async def claim_replica(self, claims: EndpointClaims) -> DownloadClaim:
        """See `Catalogue.claim_replica`: nobody copies anything from it."""
        del claims
        raise NodeNotFound

    async def claim_version(self, claims: EndpointClaims) -> DownloadClaim:
        """See `Catalogue.claim_version`: it keeps none."""
        raise NodeNotFound(f"version {claims.version}")

    async def claim_render(self, claims: EndpointClaims) -> RenderClaim:
        """See `Catalogue.claim_render`."""
        self.before("claim_render")
        node = self.node(_node_id(claims))
        structure = node.stored.structure if node.stored else None
        return RenderClaim(
            download=await self.claim_download(claims), structure=structure, view=self.view, params=self.params
        )

    async def delivered(self, claim: DownloadClaim) -> None:
        """See `Catalogue.delivered`."""
        self.before("delivered")
        self.deliveries.append(claim.job_id or "")

    async def claim_sweep(self, *, interval: float) -> bool:
        """See `Catalogue.claim_sweep`."""
        self.before("claim_sweep")
        now = asyncio.get_running_loop().time()
        if now - self._swept_at < interval:
            return False
        self._swept_at = now
        self.sweeps += 1
        return True

    async def unknown(self, locations: Sequence[str], *, margin: float) -> Sequence[str]:
        """See `Catalogue.unknown`; without margin."""
        del margin
        self.before("unknown")
        known = {node.stored.location for node in self.nodes.values() if node.stored} | set(self.obsolete)
        return [location for location in locations if location not in known]

    async def note_obsolete(self, locations: Sequence[str]) -> None:
        """See `Catalogue.note_obsolete`."""
        self.before("note_obsolete")
        self.obsolete += locations

    async def take_obsolete(self, *, grace: float, limit: int) -> Sequence[str]:
        """See `Catalogue.take_obsolete`; without grace."""
        del grace
        self.before("take_obsolete")
        taken, self.obsolete = self.obsolete[:limit], self.obsolete[limit:]
        return taken

    def _turn(self, claim: UploadClaim, file: StoredFile) -> None:
        node = self.nodes[self._claims[claim.id]]
        if node.stored is not None:
            self.obsolete.append(node.stored.location)
        node.stored = file
        node.modified = datetime.now(UTC)

    def _forget(self, claim: UploadClaim) -> None:
        node_id = self._claims.pop(claim.id, None)
        if node_id is not None:
            self.nodes[node_id].writer = None


def _node_id(claims: EndpointClaims) -> int:
    return claims.node_id or 0


class _Transaction:
    def __init__(self, catalogue: MemoryCatalogue, claim: UploadClaim) -> None:
        self._catalogue = catalogue
        self._claim = claim
        self.file: StoredFile | None = None

    async def store(self, file: StoredFile, *, shared: bool = False) -> None:
        del shared
        self._catalogue.before("store")
        if not self._catalogue.holds(self._claim):
            raise NodeBusy("the lease was lost")
        self.file = file


class FailAt:
    """For `MemoryCatalogue.before`: raises at one step, and remembers all steps."""

    def __init__(self, step: str, failure: Exception | None = None) -> None:
        self._step = step
        self._failure = failure or (OutcomeUnknownError() if step == "committed" else Fault("as the test wants it"))
        self.steps: list[str] = []

    def __call__(self, step: str) -> None:
        """Be told of a step."""
        self.steps.append(step)
        if step == self._step:
            raise self._failure


class Interrupted(Wrapper):
    """A backend whose uploads are cancelled, or killed, at the n-th time that they wait for something.

    Parameters
    ----------
    at
        From 1 on; 0: nothing happens, but the waits are counted.
    kill
        End this process with SIGKILL. Also inside a transaction, where nothing is cancelled.
    """

    def __init__(self, inner: StorageBackend, at: int, *, kill: bool = False) -> None:
        super().__init__(inner)
        self._at = at
        self._kill = kill
        self.waits = 0

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Upload, as far as it comes."""
        await self._stepping(job, self.inner.upload(job, body))

    @types.coroutine
    def _stepping(self, job: UploadJob, upload: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        thrown: BaseException | None = None
        while True:
            try:
                waiting = upload.throw(thrown) if thrown else upload.send(None)
            except StopIteration:
                return
            if self._kill or getattr(job, "interruptible", True):
                self.waits += 1
                self._interrupt()
            thrown = None
            try:
                yield waiting
            except BaseException as error:  # noqa: BLE001 (it is the upload's)
                thrown = error

    def _interrupt(self) -> None:
        task = asyncio.current_task()
        if self.waits != self._at or task is None:
            return
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        task.cancel()


class ScriptedBody(CheckedBody):
    """A body of given pieces that may fail, or stop until cancelled, between any two of them.

    Parameters
    ----------
    pieces
        What comes. An exception among them is raised when its turn comes; None: nothing comes any more.
    """

    def __init__(
        self,
        pieces: Iterable[bytes | Exception | None],
        workers: Workers,
        *,
        size: int | None = None,
        limit: int | None = None,
        announced: Announced | None = None,
    ) -> None:
        super().__init__(size=size, limit=limit, announced=announced or Announced())
        self._pieces = pieces
        self._workers = workers
        self.stuck = asyncio.Event()
        """Set when a None was met."""

    async def write_to(self, open_file: Callable[[], int]) -> None:
        """Write everything to a file and make it durable (see `Body.write_to`)."""
        self._begin()
        sink = Sink(
            open_file,
            hashing=self._workers.hashing,
            flushing=self._workers.flushing,
            verify=self._verify,
            watch=self._watch,
        )
        try:
            async for piece in self._script():
                await run(self._workers.quick, sink.take, [piece], len(piece), last=False)
                self._check_size(sink.size)
            await run(self._workers.quick, sink.take, [], 0, last=True)
        finally:
            await asyncio.to_thread(sink.close)
        if sink.digests is not None:
            self.received = Received(sink.size, sink.digests)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the bytes in pieces (see `Body.__aiter__`)."""
        self._begin()
        hasher = Hasher(self._workers.hashing, self._watch)
        async for piece in self._script():
            hasher.update([piece], len(piece))
            self._check_size(hasher.size)
            yield piece
        self._verify(hasher.size, hasher.digests())
        self.received = Received(hasher.size, hasher.digests())

    async def _script(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(0)
            if piece is None:
                self.stuck.set()
                await asyncio.Event().wait()
            elif isinstance(piece, Exception):
                raise piece
            elif piece:
                yield piece
