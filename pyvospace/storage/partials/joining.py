"""Several segments, read one after the other as the bytes of a whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import InternalFault
from pyvospace.model.ranges import ByteRange
from pyvospace.service.content import DEFAULT_TYPE
from pyvospace.storage.backend import FileBytes, Redirect
from pyvospace.storage.body import CheckedBody, Received
from pyvospace.storage.deliver import close_source, file_pieces
from pyvospace.storage.gathered import GatheredBody
from pyvospace.storage.hashing import Announced, Digests
from pyvospace.storage.jobs import ClaimedDownload, ClaimedUpload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pyvospace.model.partials import Segment
    from pyvospace.storage.backend import StorageBackend
    from pyvospace.storage.threads import Workers

_IDLE: Final = 600.0
"""Seconds that a backend may take for its next bytes."""


def download_of(segment: Segment) -> ClaimedDownload:
    """Make the job by which a backend reads a segment."""
    return ClaimedDownload(segment.location, segment.size, DEFAULT_TYPE, "")


async def pieces_of(backend: StorageBackend, workers: Workers, segments: Sequence[Segment]) -> AsyncGenerator[bytes]:
    """Give the bytes of some segments.

    Raises
    ------
    InternalFault
        They cannot be read.
    """
    for segment in segments:
        source = await backend.download(download_of(segment), None)
        if isinstance(source, Redirect):
            raise InternalFault("this storage does not let its own servers read")
        left = segment.size
        try:
            span = ByteRange(0, segment.size)
            async for piece in file_pieces(workers, source, span) if isinstance(source, FileBytes) else source.pieces:
                left -= len(piece)
                yield piece
        finally:
            await close_source(source)
        if left:
            raise InternalFault("the bytes cannot be read")


class JoinedBody(GatheredBody):
    """All segments as one body."""

    def __init__(
        self, backend: StorageBackend, workers: Workers, segments: Sequence[Segment], announced: Announced
    ) -> None:
        size = sum(segment.size for segment in segments)
        super().__init__(workers=workers, size=size, limit=None, idle=_IDLE, announced=announced)
        self._left = size
        self._joined = pieces_of(backend, workers, segments)

    async def _more(self) -> tuple[bytes, bool]:
        piece = await anext(self._joined, b"")
        self._left -= len(piece)
        return piece, not self._left

    async def close(self) -> None:
        """Let go of what is open."""
        await self._joined.aclose()


class KnownBody(CheckedBody):
    """Bytes that a backend has already."""

    def __init__(self, size: int, digests: Digests) -> None:
        super().__init__(size=size, limit=None, announced=Announced())
        self.received = Received(size, digests)

    async def write_to(self, open_file: Callable[[], int]) -> None:
        """Write nothing (see `Body.write_to`)."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give nothing (see `Body.__aiter__`)."""
        for piece in list[bytes]():
            yield piece


class Turning:
    """Stands for a backend: turns the node to bytes that it has already. They are nobody's to delete here."""

    def __init__(self, location: str) -> None:
        self._location = location

    async def upload(self, job: ClaimedUpload, body: CheckedBody, /) -> None:
        """Turn the node to them."""
        del body
        async with job.transaction() as transaction:
            await transaction.store(self._location)

    async def delete(self, location: str, /) -> None:
        """Leave them where they are."""
