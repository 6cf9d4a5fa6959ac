"""How bytes travel to and from block blobs: several requests at the same time, each for a block or a piece."""

import asyncio
import base64
import hashlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final, Self

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock
from azure.storage.blob.aio import BlobClient

from pyvospace.model.faults import ServiceBusy
from pyvospace.model.ranges import ByteRange
from pyvospace.storage.backend import Body, in_thread

log = logging.getLogger(__name__)

MOST_BLOCKS: Final = 50_000
"""Of one blob; the limit of the service."""
_DOUBLING: Final = 16_384
"""Of an upload of unknown size the blocks become twice as long after so many, so that it does not run out of them."""
_DISCARDING: Final = 10.0
"""Seconds for cleaning up after a failure."""
LONGEST_PIECE: Final = 4 << 20
"""Bytes of one request for reading; the service gives no MD5 of more."""
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})


class AzureStorageError(OSError):
    """The service refused something, or what it has is not what it should be."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn errors of the client into ours.

    Raises
    ------
    ServiceBusy
        The service was away or overloaded, and trying again did not help.
    FileNotFoundError
        There is no such blob.
    AzureStorageError
        All else. The text has the service's error code, but no URL and no header.
    """
    try:
        yield
    except ResourceNotFoundError as error:
        raise FileNotFoundError(f"{what}: {_code(error)}") from None
    except HttpResponseError as error:
        log.warning("azure: %s: status %s, %s", what, error.status_code, _code(error))
        broken_off = error.status_code is None and not isinstance(error, ClientAuthenticationError)
        if broken_off or error.status_code in _PASSING:
            raise ServiceBusy("the object store cannot answer now") from None
        raise AzureStorageError(f"{what}: status {error.status_code}, {_code(error)}") from None
    except AzureError as error:
        log.warning("azure: %s: %s", what, type(error).__name__)
        raise ServiceBusy("the object store does not answer") from None


def _code(error: HttpResponseError) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or error.reason or "no code")


async def _stopped(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and see them end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class StagedBlob:
    """A blob that nobody sees yet: blocks sent while the body comes, to be put together in the end.

    Parameters
    ----------
    expected
        Bytes that are announced; None: unknown.
    """

    def __init__(self, blob: BlobClient, *, block_size: int, concurrency: int, expected: int | None) -> None:
        self._blob = blob
        self._block_size = max(block_size, -(-(expected or 0) // MOST_BLOCKS))
        self._concurrency = concurrency
        self._held: list[bytes] = []
        self._held_size = 0
        self._blocks: list[BlobBlock] = []
        self._running: set[asyncio.Task[None]] = set()
        self._published = False
        self.size = 0
        """Bytes that came so far."""

    async def take(self, body: Body) -> None:
        """Send the whole body; up to `concurrency` blocks are under way while one is being filled."""
        async for piece in body:
            self._held.append(piece)
            self._held_size += len(piece)
            self.size += len(piece)
            while self._held_size >= self._next_size():
                await self._send()
        if self._held_size:
            await self._send()
        while self._running:
            await self._one_done()

    def _next_size(self) -> int:
        return self._block_size << (len(self._blocks) // _DOUBLING)

    async def _send(self) -> None:
        while len(self._running) >= self._concurrency:
            await self._one_done()
        if len(self._blocks) == MOST_BLOCKS:
            raise AzureStorageError(f"a blob has no more than {MOST_BLOCKS} blocks")
        block = BlobBlock(f"{len(self._blocks):05}")
        held = b"".join(self._held)
        content, rest = held[: self._next_size()], held[self._next_size() :]
        self._held, self._held_size = [rest], len(rest)
        self._blocks.append(block)
        self._running.add(asyncio.create_task(self._stage(block.id, content)))

    async def _stage(self, name: str, content: bytes) -> None:
        digest = base64.b64encode(await in_thread(_md5, content)).decode()
        with translated("staging a block"):
            # As a file: the client sends it piece by piece, and can go back to its beginning to send it again.
            await self._blob.stage_block(name, BytesIO(content), len(content), headers={"Content-MD5": digest})

    async def _one_done(self) -> None:
        done, self._running = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def publish(self, upload: str) -> None:
        """Make the blob of its blocks, unless there is one with its name.

        The answer may be lost and the request be repeated: then there is one, and it says that it is of this upload.
        """
        with translated("committing the blocks"):
            try:
                await self._blob.commit_block_list(
                    self._blocks, metadata={"upload": upload}, match_condition=MatchConditions.IfMissing
                )
            except (ResourceExistsError, ResourceModifiedError):
                properties = await self._blob.get_blob_properties()
                if properties.metadata.get("upload") != upload:
                    raise
        self._published = True

    async def end(self) -> None:
        """Have blocks forgotten that no blob is made of.

        Those under way arrive first: the service may take a block whose sender has hung up after all is forgotten.
        """
        if not self._blocks or self._published:
            return
        try:
            async with asyncio.timeout(_DISCARDING):
                await asyncio.gather(*self._running, return_exceptions=True)
                await self._discard()
        except (AzureError, TimeoutError) as error:
            log.warning("azure: staged blocks stay for a week: %s", type(error).__name__)
        finally:
            await _stopped(self._running)

    async def _discard(self) -> None:
        """Make a blob of none of the blocks, unless there is one already, and delete it."""
        try:
            empty = await self._blob.commit_block_list([], match_condition=MatchConditions.IfMissing)
        except (ResourceExistsError, ResourceModifiedError):
            return
        await self._blob.delete_blob(etag=str(empty["etag"]), match_condition=MatchConditions.IfNotModified)


@dataclass(frozen=True, slots=True)
class _Piece:
    content: bytes
    etag: str
    size: int
    """Of the whole blob."""


class BlobReader:
    """Reads a span of a blob, piece by piece in order, some of them ahead.

    All requests but the first ask for the version of the first. A request that breaks off is repeated by the client.
    """

    def __init__(self, blob: BlobClient, span: ByteRange, *, piece: int, concurrency: int, verify: bool) -> None:
        self._blob = blob
        self._spans = _cut(span, min(piece, LONGEST_PIECE))
        self._ahead = concurrency
        self._verify = verify
        self._first: _Piece | None = None

    async def open(self, size: int) -> Self:
        """Fetch the first piece.

        Raises
        ------
        FileNotFoundError
            There is no such blob.
        AzureStorageError
            It is not `size` bytes long.
        """
        self._first = await self._fetch(next(self._spans), None)
        if self._first.size != size:
            raise AzureStorageError(f"damaged: it has {self._first.size} bytes and should have {size}")
        return self

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the bytes; to be called once, after `open`."""
        if self._first is None:
            return
        etag, content = self._first.etag, self._first.content
        self._first = None
        fetching: deque[asyncio.Task[_Piece]] = deque()
        try:
            while content:
                for span in self._spans:
                    fetching.append(asyncio.create_task(self._fetch(span, etag)))
                    if len(fetching) >= self._ahead:
                        break
                yield content
                content = (await fetching.popleft()).content if fetching else b""
        finally:
            await _stopped(fetching)

    async def _fetch(self, span: ByteRange, etag: str | None) -> _Piece:
        conditions: dict[str, Any] = {}
        if etag is not None:
            conditions = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        told: dict[str, str] = {}
        if self._verify:
            conditions |= {"headers": {"x-ms-range-get-content-md5": "true"}, "raw_response_hook": _noting(told)}
        with translated("reading"):
            stream = await self._blob.download_blob(span.start, span.length, **conditions)
            content = b"".join([chunk async for chunk in stream.chunks()])  # one: it is not copied, as readall would
        if len(content) != span.length:
            raise AzureStorageError(f"damaged: {len(content)} bytes came instead of {span.length}")
        if self._verify and base64.b64encode(await in_thread(_md5, content)).decode() != told.get("md5"):
            raise AzureStorageError("damaged on the way: the MD5 is another")
        return _Piece(content, stream.properties.etag, int(stream.properties.content_range.rpartition("/")[2]))


def _noting(told: dict[str, str]) -> Any:
    def note(response: Any) -> None:
        told["md5"] = response.http_response.headers.get("Content-MD5", "")

    return note


def _md5(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def _cut(span: ByteRange, length: int) -> Iterator[ByteRange]:
    for start in range(span.start, span.stop, length):
        yield ByteRange(start, min(start + length, span.stop))
