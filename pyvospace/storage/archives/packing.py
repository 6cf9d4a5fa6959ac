"""A tree on its way out as an archive: nothing is staged, and only so much is held in memory as is on its way.

Small files are read many at a time. A file that cannot be read, or that has another size than its head said, cuts
the connection: nobody takes a torso for the whole.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from pyvospace.model.archives import ZIP, PackClaim, PackedNode
from pyvospace.model.claims import EndpointClaims
from pyvospace.model.faults import InternalFault, RequestEntityTooLarge
from pyvospace.model.ranges import ByteRange
from pyvospace.service.content import content_disposition
from pyvospace.service.endpoints import EndpointSigner
from pyvospace.storage.archives.catalogue import ArchiveCatalogue
from pyvospace.storage.archives.walking import Member, Walk
from pyvospace.storage.archives.writing import Entry, archive_writer
from pyvospace.storage.backend import FileBytes, Redirect, StorageBackend
from pyvospace.storage.deliver import close_source, file_pieces
from pyvospace.storage.jobs import ClaimedDownload
from pyvospace.storage.outflow import streaming
from pyvospace.storage.threads import Workers
from pyvospace.storage.waiting import run

_SMALL: Final = 128 << 10
"""Files up to this size are read together."""
_TOGETHER: Final = 256
_TOGETHER_BYTES: Final = 1 << 20
_PIECE: Final = 1 << 20
_FETCHED_WITHIN: Final = 60.0
"""Seconds for which an endpoint of another storage is signed: it is used at once."""
_AHEAD: Final = 2
"""Pieces that may wait for the client."""


class Outside:
    """Bytes that are not here: of other storages, or where a backend says.

    Parameters
    ----------
    idle
        Seconds for which the far side may be silent.
    """

    def __init__(self, signer: EndpointSigner, *, idle: float) -> None:
        self._signer = signer
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=idle, sock_read=idle)
        self._session: aiohttp.ClientSession | None = None

    async def endpoint(self, node: PackedNode, user: int | None) -> str:
        """Sign an endpoint of the storage that has the bytes of a node; there the right to read is checked again."""
        claims = EndpointClaims(
            operation="get",
            node_id=node.id,
            job_id=None,
            user_id=user,
            expires=datetime.now(UTC) + timedelta(seconds=_FETCHED_WITHIN),
        )
        return await self._signer.endpoint(node.url or "", node.storage or "", claims, name=node.name)

    async def pieces(self, url: str, size: int) -> AsyncGenerator[bytes]:
        """Fetch bytes; they must be `size`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, auto_decompress=False)
        async with self._session.get(URL(url, encoded=True), allow_redirects=False) as response:
            if response.status != HTTPStatus.OK or response.content_length not in {None, size}:
                raise InternalFault(f"the bytes elsewhere: HTTP status {response.status}")
            async for piece in response.content.iter_chunked(_PIECE):
                yield piece

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()


class Packer:
    """Answers GET and HEAD of endpoints for archives.

    Parameters
    ----------
    idle
        Seconds for which a client may take nothing.
    zip_members
        Most members of a zip archive, whose table is held in memory.
    """

    def __init__(
        self,
        catalogue: ArchiveCatalogue,
        backend: StorageBackend,
        workers: Workers,
        outside: Outside,
        *,
        authority: str,
        idle: float,
        zip_members: int,
    ) -> None:
        self._catalogue = catalogue
        self.backend = backend
        self.workers = workers
        self.outside = outside
        self._authority = authority
        self._idle = idle
        self.zip_members = zip_members

    async def answer(self, request: web.Request, claims: EndpointClaims) -> tuple[web.StreamResponse, PackClaim]:
        """Send the archive to its end, or only its head; the connection is cut if that cannot be."""
        claim = await self._catalogue.claim_pack(claims)
        walk = Walk(self._catalogue, claim, self._authority)
        first = await walk.begin()
        kind = claim.format.content_type
        headers = {
            "Accept-Ranges": "none",
            "Cache-Control": "private, no-store",
            "Content-Type": kind,
            "Content-Disposition": content_disposition(walk.name + claim.format.suffix, kind),
        }
        if request.method == "HEAD":
            return web.Response(headers=headers), claim
        response = web.StreamResponse(headers=headers)
        pieces = _Pack(self, walk).pieces(first)
        given_up = (ConnectionError, RequestEntityTooLarge)
        async with (
            streaming(request, response, idle=self._idle, what="an archive", given_up=given_up),
            aclosing(_ahead(pieces)) as coming,
        ):
            async for piece in coming:
                await response.write(piece)
        return response, claim


async def _ahead(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Give pieces, and have the next ones made while one is being sent."""
    queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(_AHEAD)

    async def make() -> None:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if piece:
                        await queue.put(piece)
        except Exception as error:  # noqa: BLE001 (it goes to who waits for the piece)
            await queue.put(error)
        else:
            await queue.put(None)

    making = asyncio.create_task(make())
    try:
        while (piece := await queue.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        making.cancel()
        await asyncio.wait([making])


class _Pack:
    """One archive being made."""

    def __init__(self, packer: Packer, walk: Walk) -> None:
        self._packer = packer
        self._walk = walk
        self._run = packer.workers.quick
        self._writer = archive_writer(walk.claim.format)
        self._members = 0

    async def pieces(self, first: list[Member]) -> AsyncGenerator[bytes]:
        """Give the archive."""
        async for piece in self._packed(first):
            yield piece
        async with aclosing(self._walk.pages()) as pages:
            async for page in pages:
                async for piece in self._packed(page):
                    yield piece
        yield await run(self._run, self._finish)

    async def _packed(self, page: Sequence[Member]) -> AsyncIterator[bytes]:
        self._members += len(page)
        if self._walk.claim.format is ZIP and self._members > self._packer.zip_members:
            raise RequestEntityTooLarge(f"a zip archive has {self._packer.zip_members} members at the most")
        for group in self._grouped(page):
            packed = self._batch(group) if self._is_small(*group[0]) else self._single(group[0])
            async for piece in packed:
                yield piece

    def _grouped(self, page: Sequence[Member]) -> Iterator[list[Member]]:
        """Part a page, in order, into small members that are packed together, and others one by one."""
        together: list[Member] = []
        room = _TOGETHER_BYTES
        for member in page:
            small = self._is_small(*member)
            if together and (not small or len(together) == _TOGETHER or room <= 0):
                yield together
                together, room = [], _TOGETHER_BYTES
            if small:
                together.append(member)
                room -= member[0].size
            else:
                yield [member]
        if together:
            yield together

    def _is_small(self, entry: Entry, node: PackedNode) -> bool:
        return not entry.size or (entry.size <= _SMALL and node.storage is None)

    async def _batch(self, members: Sequence[Member]) -> AsyncIterator[bytes]:
        """Pack members that are small."""
        jobs = [_job(node) for entry, node in members if entry.size]
        contents = iter(await self._packer.backend.read_small(jobs) if jobs else ())
        ready: list[tuple[Entry, bytes]] = []
        for member in members:
            content = next(contents) if member[0].size else b""
            if content is None:
                yield await run(self._run, self._add, ready)
                ready = []
                async for piece in self._single(member):
                    yield piece
            else:
                ready.append((member[0], content))
        yield await run(self._run, self._add, ready)

    async def _single(self, member: Member) -> AsyncIterator[bytes]:
        """Pack a file piece by piece, as it is now; what may not be read any more is left out."""
        entry, node = member[0], await self._walk.again(member[1])
        if node is None:
            return
        size = node.size if node.location is not None else 0
        yield await run(self._run, self._begin, Entry(entry.path, node.modified, size))
        written = 0
        async with aclosing(self._bytes(node)) as pieces:
            async for piece in pieces:
                written += len(piece)
                if written > size:
                    break
                yield await run(self._run, self._write, piece)
        if written != size:
            raise EOFError(f"{written} bytes were there instead of {size}")
        yield await run(self._run, self._end)

    async def _bytes(self, node: PackedNode) -> AsyncGenerator[bytes]:
        packer = self._packer
        if node.location is None or not node.size:
            return
        if node.storage is not None:
            url = await packer.outside.endpoint(node, self._walk.claim.user_id)
            async for piece in packer.outside.pieces(url, node.size):
                yield piece
            return
        source = await packer.backend.download(_job(node), None)
        if isinstance(source, Redirect):
            async for piece in packer.outside.pieces(source.url, node.size):
                yield piece
            return
        try:
            whole = ByteRange(0, node.size)
            pieces = file_pieces(packer.workers, source, whole) if isinstance(source, FileBytes) else source.pieces
            async for piece in pieces:
                yield piece
        finally:
            await close_source(source)

    def _add(self, ready: Sequence[tuple[Entry, bytes]]) -> bytes:
        for entry, content in ready:
            self._writer.add(entry, content)
        return self._writer.take()

    def _begin(self, entry: Entry) -> bytes:
        self._writer.begin(entry)
        return self._writer.take()

    def _write(self, piece: bytes) -> bytes:
        self._writer.write(piece)
        return self._writer.take()

    def _end(self) -> bytes:
        self._writer.end()
        return self._writer.take()

    def _finish(self) -> bytes:
        self._writer.finish()
        return self._writer.take()


def _job(node: PackedNode) -> ClaimedDownload:
    return ClaimedDownload(node.location or "", node.size, "application/octet-stream", node.name)
