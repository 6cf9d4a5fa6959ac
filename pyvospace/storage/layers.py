"""Layers: what changes bytes on their way into a backend and back again, such as encryption at rest.

A layer sits between the core and a backend and is a backend to the one and the core to the other. Sizes, digests and
ranges of the database are those of the clear bytes; the backend below knows the sealed ones alone. Sealed bytes are a
header and blocks, so that a range needs no more than its blocks: enough for AES in counter mode (one long header, no
overhead), for authenticated blocks, and for Crypt4GH.
"""

import os
from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.metadata import entry_points
from typing import ClassVar, Final, Protocol, Self
from uuid import UUID

from pyvospace.storage.backend import (
    BackendConfig,
    Body,
    ByteRange,
    Download,
    DownloadJob,
    FileBytes,
    Listed,
    Redirect,
    StorageBackend,
    StreamBytes,
    Transaction,
    UploadJob,
    in_thread,
)

ENTRY_POINTS: Final = "pyvospace.storage.layers"
_PIECE: Final = 1 << 20
"""About so many bytes are sealed, written and opened at a time."""


def layered(kind: type[StorageBackend], config: BackendConfig) -> StorageBackend:
    """Make a backend with the layers above it that the option ``layers`` names, the uppermost first.

    Raises
    ------
    ValueError
        No installed package offers a layer, or a setting is wrong.
    """
    options = dict(config.options)
    names = options.pop("layers", "").split()
    of_layers = {name: _taken(options, f"{name}.") for name in names}
    backend = kind.configure(replace(config, options=options))
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for name in reversed(names):
        if name not in found:
            raise ValueError(
                f"storage.options.layers: no layer {name!r}; installed: {', '.join(sorted(found)) or 'none'}"
            )
        layer = found[name].load()
        if not (isinstance(layer, type) and issubclass(layer, Layer)):
            raise ValueError(f"storage.options.layers: {name!r} is no Layer")  # noqa: TRY004 (a wrong setting)
        backend = layer.wrap(backend, of_layers[name])
    return backend


def _taken(options: dict[str, str], prefix: str) -> dict[str, str]:
    """Take the options that begin with `prefix`, without it."""
    return {name.removeprefix(prefix): options.pop(name) for name in [*options] if name.startswith(prefix)}


class Wrapper(StorageBackend):
    """Hands everything on to another backend."""

    def __init__(self, inner: StorageBackend) -> None:
        self.inner = inner

    @classmethod
    def configure(cls, config: BackendConfig) -> Self:
        """Say that this is no backend of its own."""
        raise ValueError(f"storage.backend: {cls.__name__} ({config.path}) needs a backend below it")

    async def start(self) -> UUID:
        """Open the place."""
        return await self.inner.start()

    async def close(self) -> None:
        """Let go of it."""
        await self.inner.close()

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Keep the bytes of `body`."""
        await self.inner.upload(job, body)

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Give the bytes at a location."""
        return await self.inner.download(job, byte_range)

    async def read_small(self, jobs: Sequence[DownloadJob]) -> Sequence[bytes | None]:
        """Give the bytes of small files."""
        return await self.inner.read_small(jobs)

    async def delete(self, location: str) -> None:
        """Delete the bytes at a location."""
        await self.inner.delete(location)

    def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        """Go through all locations."""
        return self.inner.locations()

    def listing(self) -> AsyncIterator[Listed]:
        """Go through all locations, with sizes."""
        return self.inner.listing()

    async def size(self, location: str) -> int | None:
        """Tell how many bytes are there."""
        return await self.inner.size(location)

    async def quarantine(self, location: str) -> bool:
        """Put bytes aside."""
        return await self.inner.quarantine(location)

    async def sweep_staging(self, older_than: datetime) -> int:
        """Remove what dead processes left."""
        return await self.inner.sweep_staging(older_than)

    async def free_space(self) -> int | None:
        """Tell how many sealed bytes still fit."""
        return await self.inner.free_space()

    async def total_space(self) -> int | None:
        """Tell how many sealed bytes there is place for."""
        return await self.inner.total_space()

    async def check(self) -> None:
        """Return if the place can be written to."""
        await self.inner.check()


class Blocks(Protocol):
    """What seals and opens the blocks of one file; called in worker threads."""

    @property
    def header(self) -> bytes:
        """Stands before the blocks in the clear, `Layer.header_size` bytes: a nonce, a wrapped key."""

    def seal(self, number: int, block: bytes) -> bytes:
        """Give a block as it is kept, `Layer.overhead` bytes longer. The last one may be short, none is empty."""

    def open(self, number: int, block: bytes) -> bytes:
        """Give a block as it came.

        Raises
        ------
        OSError
            It is not what was kept: these bytes are damaged.
        """


class Layer(Wrapper):
    """Keeps files as a header and sealed blocks in the backend below."""

    header_size: ClassVar[int] = 0
    block_size: ClassVar[int] = 64 << 10
    """Clear bytes of a block."""
    overhead: ClassVar[int] = 0

    @classmethod
    @abstractmethod
    def wrap(cls, inner: StorageBackend, options: Mapping[str, str]) -> Self:
        """Make a layer above `inner`; `options` are those of ``[storage.options]`` that begin with its name and a dot.

        Raises
        ------
        ValueError
            A setting is wrong; the text names it.
        """

    @abstractmethod
    def new(self) -> Blocks:
        """Begin a new file."""

    @abstractmethod
    def existing(self, header: bytes) -> Blocks:
        """Take up a file that has this header."""

    def sealed_size(self, size: int) -> int:
        """Tell how many bytes are kept for `size` clear ones."""
        return self.header_size + size + -(-size // self.block_size) * self.overhead

    def clear_size(self, size: int) -> int:
        """Tell how many clear bytes `size` sealed ones are."""
        sealed = max(size - self.header_size, 0)
        return sealed - -(-sealed // (self.block_size + self.overhead)) * self.overhead

    async def size(self, location: str) -> int | None:
        """Tell how many clear bytes are there."""
        size = await self.inner.size(location)
        return None if size is None else self.clear_size(size)

    async def listing(self) -> AsyncIterator[Listed]:
        """Go through all locations, with clear sizes."""
        async for one in self.inner.listing():
            yield one if one.size is None else replace(one, size=self.clear_size(one.size))

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Let the backend keep the sealed bytes."""
        size = None if job.size is None else self.sealed_size(job.size)
        await self.inner.upload(_Upload(job, size), _SealedBody(self, body))

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Open the blocks that the range touches, and cut them to the range."""
        sealed = _Download(job, self.sealed_size(job.size))
        header = b"".join([piece async for piece in await self._stored(sealed, ByteRange(0, self.header_size))])
        span = byte_range or ByteRange(0, job.size)
        first, last = span.start // self.block_size, -(-span.stop // self.block_size)
        stored = ByteRange(self._at(first), min(self._at(last), sealed.size))
        pieces = await self._stored(sealed, stored)
        return StreamBytes(_Pieces(self._clear(pieces, self.existing(header), first, span), pieces.aclose))

    def _at(self, number: int) -> int:
        """Tell where a block begins in the sealed bytes."""
        return self.header_size + number * (self.block_size + self.overhead)

    async def _stored(self, job: "_Download", span: ByteRange) -> "_Pieces":
        """Give a part of the sealed bytes, which may be empty."""
        source = await self.inner.download(job, span if span.length else None)
        if isinstance(source, Redirect):
            raise TypeError("a redirect, although the client cannot use what it would get")
        if isinstance(source, FileBytes):
            return _Pieces(_read(source, span), partial(_close, source))
        pieces = source.pieces if span.length else _nothing()
        return _Pieces(pieces, partial(_aclose, source.pieces))

    async def _clear(
        self, pieces: AsyncIterator[bytes], blocks: Blocks, number: int, span: ByteRange
    ) -> AsyncIterator[bytes]:
        skip = span.start - number * self.block_size
        left = span.length
        async for sealed in _gathered(pieces, self.block_size + self.overhead):
            clear = await in_thread(_each, blocks.open, number, sealed)
            number += len(sealed)
            wanted = clear[skip : skip + left]
            skip = 0
            left -= len(wanted)
            if wanted:
                yield wanted

    async def read_small(self, jobs: Sequence[DownloadJob]) -> Sequence[bytes | None]:
        """Open small files, each as a whole."""
        found = await self.inner.read_small([_Download(job, self.sealed_size(job.size)) for job in jobs])
        return await in_thread(lambda: [None if one is None else self._open_whole(one) for one in found])

    def _open_whole(self, sealed: bytes) -> bytes:
        blocks = self.existing(sealed[: self.header_size])
        step = self.block_size + self.overhead
        return _each(blocks.open, 0, [sealed[at : at + step] for at in range(self.header_size, len(sealed), step)])


@dataclass(frozen=True, slots=True)
class _Upload:
    """The upload as the backend below sees it."""

    _job: UploadJob
    size: int | None

    @property
    def id(self) -> str:
        return self._job.id

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._job.transaction()


@dataclass(frozen=True, slots=True)
class _Download:
    """The download as the backend below sees it."""

    _job: DownloadJob
    size: int

    @property
    def location(self) -> str:
        return self._job.location

    @property
    def content_type(self) -> str:
        return "application/octet-stream"

    @property
    def filename(self) -> str:
        return self._job.filename

    @property
    def redirectable(self) -> bool:
        return False  # the client would get sealed bytes


class _SealedBody(Body):
    """Seals what the core has hashed."""

    def __init__(self, layer: Layer, body: Body) -> None:
        self._layer = layer
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        blocks, number = self._layer.new(), 0
        if blocks.header:
            yield blocks.header
        async for clear in _gathered(self._body, self._layer.block_size):
            yield await in_thread(_each, blocks.seal, number, clear)
            number += len(clear)

    async def write_to(self, open_file: Callable[[], int]) -> None:
        file = _File(open_file)
        try:
            async for piece in self:
                await in_thread(file.write, piece)
            await in_thread(file.flush)
        finally:
            await in_thread(file.close)


class _File:
    """A file that is opened when it is needed; for worker threads. It knows what a cancelled call has opened."""

    def __init__(self, open_file: Callable[[], int]) -> None:
        self._open_file = open_file
        self._fd = -1

    def _opened(self) -> int:
        if self._fd < 0:
            self._fd = self._open_file()
        return self._fd

    def write(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            view = view[os.write(self._opened(), view) :]

    def flush(self) -> None:
        os.fsync(self._opened())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class _Pieces(AsyncIterator[bytes]):
    """Pieces that let go of what they come from at their end, or when they are closed, even if nobody asked for one."""

    def __init__(self, pieces: AsyncIterator[bytes], release: Callable[[], Awaitable[None]]) -> None:
        self._pieces = pieces
        self._release = release

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._pieces)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        await _aclose(self._pieces)
        await self._release()


async def _gathered(pieces: AsyncIterable[bytes], size: int) -> AsyncIterator[list[bytes]]:
    """Cut pieces of any size into blocks of one size; the very last may be shorter."""
    rest = bytearray()
    async for piece in pieces:
        rest += piece
        if len(rest) >= max(size, _PIECE):
            whole = len(rest) - len(rest) % size
            yield [bytes(rest[at : at + size]) for at in range(0, whole, size)]
            del rest[:whole]
    if rest:
        yield [bytes(rest[at : at + size]) for at in range(0, len(rest), size)]


async def _read(source: FileBytes, span: ByteRange) -> AsyncIterator[bytes]:
    position = source.offset + span.start
    left = span.length
    while left and (piece := await in_thread(os.pread, source.file.fileno(), min(left, _PIECE), position)):
        position += len(piece)
        left -= len(piece)
        yield piece


async def _nothing() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece


async def _aclose(pieces: AsyncIterator[bytes]) -> None:
    if hasattr(pieces, "aclose"):
        await pieces.aclose()


async def _close(source: FileBytes) -> None:
    source.file.close()


def _each(change: Callable[[int, bytes], bytes], number: int, blocks: Sequence[bytes]) -> bytes:
    return b"".join([change(number + place, block) for place, block in enumerate(blocks)])
