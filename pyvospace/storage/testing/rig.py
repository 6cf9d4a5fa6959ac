"""A backend at work without HTTP: uploads and downloads as the core makes them."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

from pyvospace.model.claims import EndpointClaims, Facts, StoredFile
from pyvospace.storage.backend import BackendConfig, ByteRange, Download, FileBytes, Redirect, StorageBackend
from pyvospace.storage.hashing import Announced
from pyvospace.storage.jobs import ClaimedDownload, ClaimedUpload, carry_out
from pyvospace.storage.testing.doubles import MemoryCatalogue, ScriptedBody
from pyvospace.storage.threads import Workers


@dataclass
class Rig:
    """A started backend with a catalogue and threads of its own."""

    backend: StorageBackend
    workers: Workers
    catalogue: MemoryCatalogue = field(default_factory=MemoryCatalogue)

    def body(
        self,
        pieces: Iterable[bytes | Exception | None],
        *,
        size: int | None = None,
        limit: int | None = None,
        announced: Announced | None = None,
    ) -> ScriptedBody:
        """Make the body of an upload."""
        return ScriptedBody(pieces, self.workers, size=size, limit=limit, announced=announced)

    async def upload(self, body: ScriptedBody, node: int = 1) -> StoredFile:
        """Upload as the server does, and tell what the node has then."""
        claim = await self.catalogue.claim_upload(_claims(node), size=body.size)
        job = ClaimedUpload(claim, self.catalogue, body, Facts(content_type="application/fits"))
        await carry_out(job, self.backend, body, self.catalogue)
        stored = self.catalogue.node(node).stored
        if stored is None:
            raise AssertionError("the upload returned, but the node has no bytes")
        return stored

    async def put(self, data: bytes, node: int = 1) -> StoredFile:
        """Upload `data` in two pieces."""
        return await self.upload(self.body([data[: len(data) // 2], data[len(data) // 2 :]], size=len(data)), node)

    async def open(self, stored: StoredFile, byte_range: ByteRange | None = None) -> Download:
        """Ask for bytes as the server does."""
        job = ClaimedDownload(stored.location, stored.size, "application/fits", "data.fits")
        return await self.backend.download(job, byte_range)

    async def locations(self) -> list[str]:
        """List all locations, in order."""
        return sorted([location async for location, _ in self.backend.locations()])

    async def leftovers(self) -> int:
        """Count (and remove) what is in staging, whatever its age."""
        return await self.backend.sweep_staging(datetime.now(UTC) + timedelta(days=1))


@asynccontextmanager
async def rigged(backend: StorageBackend) -> AsyncIterator[Rig]:
    """Start a backend, and close it at the end."""
    workers = Workers(threads=8)
    asyncio.get_running_loop().set_default_executor(workers.quick)
    await backend.start()
    try:
        yield Rig(backend, workers)
    finally:
        await backend.close()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())  # the test may go on
        workers.close()


async def read(source: Download, byte_range: ByteRange) -> bytes:
    """Read what a download handed out for `byte_range`."""
    if isinstance(source, Redirect):
        raise TypeError("a redirect leads elsewhere: read_redirect of the contract is to follow it")
    if isinstance(source, FileBytes):
        with source.file as file:
            file.seek(source.offset + byte_range.start)
            return file.read(byte_range.length)
    return b"".join([piece async for piece in source.pieces])


def configured(name: str, path: Path, options: dict[str, str]) -> StorageBackend:
    """Make the backend of the class ``module:Class``."""
    module, _, cls = name.partition(":")
    backend: StorageBackend = getattr(import_module(module), cls).configure(BackendConfig(path, options))
    return backend


def _claims(node: int) -> EndpointClaims:
    expires = datetime.now(UTC) + timedelta(hours=1)
    return EndpointClaims(operation="put", node_id=node, job_id=None, user_id=1, expires=expires)
