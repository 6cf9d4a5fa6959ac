"""An archive on its way in: spooled, taken apart, its files given to the backend, and then made nodes all at once.

Until that last moment nothing of it can be seen. What goes wrong before leaves bytes that no node names, which are
deleted at once, or after a crash by the sweep.
"""

import asyncio
import mimetypes
import os
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final

from aiohttp import web

from pyvospace.config import Settings
from pyvospace.model.archives import UnpackClaim
from pyvospace.model.claims import EndpointClaims, OutcomeUnknownError, StoredFile
from pyvospace.model.crash import crash_point
from pyvospace.model.faults import InvalidData
from pyvospace.model.uris import MAX_DEPTH, NodeUri
from pyvospace.storage.archives.catalogue import ArchiveCatalogue
from pyvospace.storage.archives.reading import ArchiveReader, ReadMember, UnpackLimits, archive_reader
from pyvospace.storage.archives.tree import Tree
from pyvospace.storage.backend import StorageBackend
from pyvospace.storage.catalogue import Catalogue
from pyvospace.storage.gathered import GatheredBody
from pyvospace.storage.hashing import Announced
from pyvospace.storage.inspection import Inspection
from pyvospace.storage.jobs import as_fault, reason_of, uninterrupted
from pyvospace.storage.receive import HttpBody
from pyvospace.storage.room import Room
from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import run

_SMALL: Final = 256 << 10
"""Files up to this size are held in memory, some at a time, and stored at the same time."""
_TOGETHER: Final = 32
_TOGETHER_BYTES: Final = 4 << 20
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE_FILE: Final = 0o600
_PRIVATE_DIRECTORY: Final = 0o700

Small = tuple[ReadMember, bytes]


class Unpacker:
    """Answers PUT of endpoints for archives."""

    def __init__(
        self,
        settings: Settings,
        *,
        archives: ArchiveCatalogue,
        catalogue: Catalogue,
        backend: StorageBackend,
        workers: Workers,
        room: Room,
    ) -> None:
        self.archives = archives
        self.catalogue = catalogue
        self.backend = backend
        self.workers = workers
        self.room = room
        self.authority = settings.authority
        self.idle = settings.storage.idle_timeout
        self._least_rate = settings.storage.least_rate
        self._staging = settings.storage.path / "staging"
        self._limit = settings.limits.upload_bytes
        self._archives = settings.archives

    async def answer(self, request: web.Request, claims: EndpointClaims, announced: Announced) -> web.Response:
        """Take an archive and unpack it, or leave everything as it was."""
        await self.room.require(request.content_length or 0)
        claim = await self.archives.claim_unpack(claims, size=request.content_length)
        limits = [limit for limit in (claim.limit, self._limit) if limit is not None]
        body = HttpBody(
            request,
            workers=self.workers,
            limit=min(limits, default=None),
            idle=self.idle,
            announced=announced,
            least_rate=self._least_rate,
        )
        await Unpacking(self, claims, claim).carry_out(body)
        return web.Response(status=HTTPStatus.CREATED, headers=body.digests().headers())

    def limits(self, claim: UnpackClaim) -> UnpackLimits:
        """Say what an archive for a container may be at the most."""
        settings = self._archives
        return UnpackLimits(settings.members, settings.bytes, settings.ratio, MAX_DEPTH - len(claim.path))

    def spool(self, name: str) -> "Spool":
        """Make a file for an archive."""
        self._staging.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        return Spool(self._staging / name)


class Spool:
    """A file without a name, to be written and then read; it is gone when it is closed, or its process ends."""

    def __init__(self, path: Path) -> None:
        self._writing = os.open(path, _NEW, _PRIVATE_FILE)
        try:
            self.file: BinaryIO = path.open("rb")
        except OSError:
            os.close(self._writing)
            raise
        finally:
            path.unlink()

    def give(self) -> int:
        """Give the descriptor for writing away."""
        fd, self._writing = self._writing, -1
        return fd

    def close(self) -> None:
        """Close what was not given away."""
        self.file.close()
        if self._writing >= 0:
            os.close(self._writing)


class Unpacking:
    """One archive that is being unpacked."""

    def __init__(self, unpacker: Unpacker, claims: EndpointClaims, claim: UnpackClaim) -> None:
        self._unpacker = unpacker
        self._claims = claims
        self.claim = claim
        self._run = unpacker.workers.quick
        self._limits = unpacker.limits(claim)
        self._tree = Tree(NodeUri(unpacker.authority, claim.path), self._limits)
        self._locations: list[str] = []
        """What the backend was given."""
        self.interruptible = True
        """A cancellation does no harm now: not while the nodes are being made."""
        self.outcome_unknown = False
        self._committed = False

    @property
    def id(self) -> str:
        """Id of the claim."""
        return self.claim.id

    async def carry_out(self, body: HttpBody) -> None:
        """Unpack all of it, or leave everything as it was.

        Raises
        ------
        Fault
            Nothing has changed; the lease has been given back.
        """
        unpacker = self._unpacker
        try:
            await uninterrupted(self, self._unpack(body), unpacker.catalogue)
        except BaseException as error:
            if self._committed:
                raise
            if not self.outcome_unknown:
                await asyncio.shield(asyncio.create_task(self._clean_up(error)))
            raise as_fault(self, error) from error
        await self._delete(set(self._locations) - self._tree.stored())

    async def _clean_up(self, error: BaseException) -> None:
        await self._delete(self._locations)
        with suppress(Exception):  # the lease runs out; the failure itself matters
            await self._unpacker.catalogue.release(self.claim, reason=reason_of(error))

    async def _delete(self, locations: Sequence[str] | set[str]) -> None:
        """Delete bytes that no node names; what is left the sweep finds."""
        for location in locations:
            with suppress(Exception):
                await self._unpacker.backend.delete(location)

    async def _unpack(self, body: HttpBody) -> None:
        spool = await run(self._run, self._unpacker.spool, self.claim.id)
        try:
            await body.write_to(spool.give)
            sent = body.received.size if body.received is not None else 0
            await self._store_members(archive_reader(self.claim.format, spool.file, self._limits, sent=sent))
        finally:
            await asyncio.shield(asyncio.to_thread(spool.close))
        tree = await run(self._run, self._tree.unpacked)
        self.interruptible = False
        try:
            await self._unpacker.archives.unpack(self._claims, self.claim, tree)
        except OutcomeUnknownError:
            self.outcome_unknown = True
            raise
        self._committed = True

    async def _store_members(self, reader: ArchiveReader) -> None:
        last = False
        while not last:
            small, large, last = await run(self._run, self._gather, reader)
            await self._unpacker.room.require(sum(len(content) for _, content in small) + (large.size if large else 0))
            await _all([self._store(member, _Whole(self._unpacker, content)) for member, content in small])
            if large is not None:
                await self._store(large, _Streamed(self._unpacker, reader, large))

    def _gather(self, reader: ArchiveReader) -> tuple[list[Small], ReadMember | None, bool]:
        """Read on: some small files with their bytes, or up to one whose bytes are still to come; whether it ended."""
        small: list[Small] = []
        size = 0
        while len(small) < _TOGETHER and size < _TOGETHER_BYTES:
            member = reader.next()
            if member is None:
                return small, None, True
            if member.is_folder:
                self._tree.add_folder(member.path)
            elif member.target is not None:
                self._tree.add_link(member.path, member.target)
            elif member.size > _SMALL:
                return small, member, False
            else:
                small.append((member, _whole(reader, member)))
                size += member.size
        return small, None, False

    async def _store(self, member: ReadMember, body: GatheredBody) -> None:
        """Give the bytes of a member to the backend, and remember where they are."""
        upload = _MemberUpload(body, self._locations)
        content_type = _type_of(member.path[-1])
        body.inspection = Inspection(self.claim, content_type)
        await self._unpacker.backend.upload(upload, body)
        digests = body.digests()
        self._tree.add_file(
            member.path,
            StoredFile(
                location=upload.location,
                size=member.size,
                md5=digests.md5,
                sha256=digests.sha256,
                content_type=content_type,
                structure=body.inspection.structure,
                changed=member.changed,
            ),
        )
        crash_point("unpack-mid")


_COMPRESSED: Final[dict[str, str]] = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
}


def _type_of(name: str) -> str | None:
    """Guess the type of a file by its name; the slash keeps the guess from taking it for a URL."""
    kind, encoding = mimetypes.guess_type("/" + name)
    return _COMPRESSED.get(encoding) if encoding else kind


class _MemberUpload:
    """The `UploadJob` of a member: its transaction only notes the location."""

    def __init__(self, body: GatheredBody, locations: list[str]) -> None:
        self.id = secrets.token_hex(16)
        self.size = body.size
        self.location = ""
        self._locations = locations

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["_MemberUpload"]:
        """Note where the bytes are."""
        yield self

    async def store(self, location: str, *, shared: bool = False) -> None:
        """Be told where the bytes are."""
        del shared  # all members are entered together
        self.location = location
        self._locations.append(location)


class _Whole(GatheredBody):
    """Bytes that are there."""

    def __init__(self, unpacker: Unpacker, content: bytes) -> None:
        super().__init__(
            workers=unpacker.workers, size=len(content), limit=None, idle=unpacker.idle, announced=Announced()
        )
        self._content = content

    async def _more(self) -> tuple[bytes, bool]:
        return self._content, True


class _Streamed(GatheredBody):
    """Bytes of a member that is being read."""

    def __init__(self, unpacker: Unpacker, reader: ArchiveReader, member: ReadMember) -> None:
        super().__init__(
            workers=unpacker.workers, size=member.size, limit=None, idle=unpacker.idle, announced=Announced()
        )
        self._reader = reader
        self._left = member.size

    async def _more(self) -> tuple[bytes, bool]:
        piece = await run(self._workers.quick, self._reader.read)
        self._left -= len(piece)
        return piece, not piece or self._left <= 0


def _whole(reader: ArchiveReader, member: ReadMember) -> bytes:
    pieces = []
    while piece := reader.read():
        pieces.append(piece)
    content = b"".join(pieces)
    if len(content) != member.size:
        raise InvalidData(f"{member.path[-1]!r} has {len(content)} bytes instead of {member.size}")
    return content


async def _all(storing: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all at the same time; if one fails, see that none is at work any more."""
    tasks = [asyncio.create_task(one) for one in storing]
    if not tasks:
        return
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
