"""Bytes in an NGAS archive, by the commands of its HTTP interface.

A file that comes is received into a file without a name in a directory of this machine, checked, and archived before
the transaction, under a file id that is a new random number: NGAS has no staging that we could use, and what it has
archived it shows at once. Nobody knows the id before a node names it. If nothing comes of the upload the file is
discarded, or the sweep does that later.

The location is the file id without the option ``prefix``. NGAS refuses files of no bytes: one byte stands for them, and
the location ends in ``-0``.
"""

import asyncio
import json
import logging
import os
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Self
from uuid import UUID, uuid4

from pyvospace.model.claims import OutcomeUnknownError
from pyvospace.model.faults import Fault
from pyvospace.storage.backend import (
    BackendConfig,
    Body,
    ByteRange,
    Download,
    DownloadJob,
    Listed,
    StorageBackend,
    StreamBytes,
    UploadJob,
    in_thread,
)
from pyvospace.storage.backends.finishing import to_its_end
from pyvospace.storage.backends.ngas_protocol import ArchivedFile, NgasError, NgasServer, NgasSettings, Volume

log = logging.getLogger(__name__)

_LOCATION: Final = re.compile("[0-9a-f]{32}(-0)?")
_EMPTY: Final = "-0"
_PLACEHOLDER: Final = b"\n"
_IDENTITY: Final = "storage.json"
_PRIVATE: Final = 0o600
_PIECE: Final = 1 << 20
_STOPPING: Final = 30.0
"""Seconds for which a cancelled upload waits for what the server says to a file that it has."""
_FRESH: Final = 60.0
"""Seconds for which what the volumes have left is good."""


class NgasBackend(StorageBackend):
    """Keeps bytes in the archive that one NGAS server, or a cluster behind it, looks after."""

    def __init__(self, path: Path, settings: NgasSettings) -> None:
        self._path = path
        self._settings = settings
        self._server = NgasServer(settings)
        self._volumes: list[Volume] = []
        self._volumes_until = float("-inf")

    @classmethod
    def configure(cls, config: BackendConfig) -> Self:
        """Make a backend for the server that the options name (docs/howto/ngas.md); `path` is for what comes in."""
        return cls(config.path, NgasSettings.of(config.options))

    async def start(self) -> UUID:
        """Read which storage it is; archive an identity for a new one. The first version of it counts."""
        await in_thread(self._path.mkdir, mode=0o700, parents=True, exist_ok=True)
        spool = _Spool(self._path)
        self._server.open()
        try:
            text = json.dumps({"id": str(uuid4()), "made": datetime.now(UTC).isoformat()}) + "\n"
            await in_thread(spool.hold, text.encode())  # also shows whether the file system has such files
            if not await self._server.files(self._id(_IDENTITY)):
                await self._archive(spool, _IDENTITY)
            pieces = self._server.read(self._id(_IDENTITY), None)
            return UUID(json.loads(b"".join([piece async for piece in pieces]))["id"])
        except BaseException:
            await self.close()
            raise
        finally:
            spool.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    def _id(self, location: str) -> str:
        return self._settings.prefix + location

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Receive and check the bytes, archive them, and only then turn the node to them."""
        spool = _Spool(self._path)
        try:
            await body.write_to(spool.open)
            location = uuid4().hex + (_EMPTY if await in_thread(spool.fill) else "")
            try:
                await self._archive(spool, location)
                async with job.transaction() as transaction:
                    await transaction.store(location)
            except OutcomeUnknownError:
                raise
            except BaseException:
                await to_its_end(self._forget(location))
                raise
        finally:
            spool.close()

    async def _archive(self, spool: "_Spool", location: str) -> None:
        """Send a file. If cancelled while the server has all bytes, wait for what it says."""
        with spool.reopened() as file:
            checksum = await in_thread(_crc32, spool) if self._settings.checksums else None
            sending = asyncio.create_task(self._server.archive(self._id(location), file, spool.size, checksum))
            try:
                await asyncio.shield(sending)
            except asyncio.CancelledError:
                if not file.closed and file.tell() < spool.size:
                    sending.cancel()
                await to_its_end(_ended(sending))
                raise

    async def _forget(self, location: str) -> None:
        """Discard what may have been archived; nobody is helped if that fails, and the sweep finds it."""
        try:
            await self.delete(location)
        except (Fault, OSError) as error:
            log.warning("ngas: %s stays for the sweep: %s", self._id(location), error)

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Look the file up, and give it from the beginning of the range."""
        size = await self.size(job.location)
        if size != job.size:
            raise NgasError(f"{job.location} is damaged: it has {size} bytes and should have {job.size}")
        if job.size == 0:
            return StreamBytes(_nothing())
        return StreamBytes(self._server.read(self._id(job.location), byte_range or ByteRange(0, job.size)))

    async def size(self, location: str) -> int:
        """Ask for the row of the file."""
        found = await self._files(location)
        if not found:
            raise FileNotFoundError(location)
        return 0 if location.endswith(_EMPTY) else found[0].size

    async def _files(self, location: str) -> list[ArchivedFile]:
        return await self._server.files(self._id(location)) if _LOCATION.fullmatch(location) else []

    async def delete(self, location: str) -> None:
        """Discard all copies, unless the archive is to forget nothing (option ``discard``)."""
        if self._settings.discard:
            for file in await self._files(location):
                await self._server.discard(file)

    async def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        """As `listing`."""
        async for found in self.listing():
            yield found.location, found.published

    async def listing(self) -> AsyncIterator[Listed]:
        """Ask for the rows of our files, those with the same first digits (option ``list_digits``) at once."""
        digits = self._settings.list_digits
        for number in range(16**digits):
            start = f"{number:0{digits}x}" if digits else ""
            seen = set()
            for file in await self._server.files(self._id(start), whole=False):
                location = file.id.removeprefix(self._settings.prefix)
                if _LOCATION.fullmatch(location) and location not in seen:
                    seen.add(location)
                    yield Listed(location, file.ingested, 0 if location.endswith(_EMPTY) else file.size)

    async def free_space(self) -> int | None:
        """Add up what the volumes that take files have left."""
        return sum(volume.free for volume in await self._mounted())

    async def total_space(self) -> int | None:
        """Add up what they have left and what they hold."""
        return sum(volume.free + volume.used for volume in await self._mounted())

    async def _mounted(self) -> list[Volume]:
        now = asyncio.get_running_loop().time()
        if now >= self._volumes_until:
            self._volumes = await self._server.volumes()
            self._volumes_until = now + _FRESH
        return self._volumes

    async def check(self) -> None:
        """Ask whether it is online."""
        await self._server.require_online()


class _Spool:
    """What was received: a file without a name, so that nothing is left of it when the process dies."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1
        self.size = 0

    def hold(self, content: bytes) -> None:
        """Make it with something in it."""
        os.close(self.open())
        os.write(self._fd, content)
        self.fill()

    def open(self) -> int:
        """Make it; the descriptor is the caller's to close."""
        self._fd = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, _PRIVATE)
        return os.dup(self._fd)

    def fill(self) -> bool:
        """Note its size; put a byte into it, and tell so, if it has none."""
        self.size = os.fstat(self._fd).st_size
        if self.size:
            return False
        self.size = os.pwrite(self._fd, _PLACEHOLDER, 0)
        return True

    def reopened(self) -> BinaryIO:
        """Give it open at its beginning."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.fdopen(os.dup(self._fd), "rb")

    def read(self, position: int) -> bytes:
        """Read some of it."""
        return os.pread(self._fd, _PIECE, position)

    def close(self) -> None:
        """Let it vanish."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _crc32(spool: _Spool) -> int:
    checksum = position = 0
    while piece := spool.read(position):
        checksum = zlib.crc32(piece, checksum)
        position += len(piece)
    return checksum


async def _ended(task: asyncio.Task[None]) -> None:
    with suppress(asyncio.CancelledError, TimeoutError, Fault, OSError):
        async with asyncio.timeout(_STOPPING):
            await task


async def _nothing() -> AsyncIterator[bytes]:
    for piece in list[bytes]():
        yield piece
