"""Bytes in objects of a bucket.

::

    pyvospace/storage.json    which storage this is
    data/<32 hex>             what nodes name; the location is ``<32 hex>``
    quarantine/<32 hex>       what nobody named, put aside for people to look at
    pyvospace/probes/…        written and deleted to see whether the store works
    pyvospace/candidates/…    for the identity, in stores without conditional PUT

All keys begin with ``prefix``. What is being received is an unfinished upload in parts under its later key, invisible
to all but the sweep. No key comes from a client, and none is ever written twice.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final, Self
from uuid import UUID, uuid4

from pyvospace.model.faults import Fault
from pyvospace.service.content import content_disposition, content_type
from pyvospace.storage.backend import (
    BackendConfig,
    Body,
    ByteRange,
    Download,
    DownloadJob,
    Listed,
    Redirect,
    StorageBackend,
    StreamBytes,
    UploadJob,
)
from pyvospace.storage.backends.s3.budget import Budget
from pyvospace.storage.backends.s3.identity import identity, probe_writing, require_consistent, sweep_probes
from pyvospace.storage.backends.s3.options import Options
from pyvospace.storage.backends.s3.reading import Readers, Reading
from pyvospace.storage.backends.s3.store import Store
from pyvospace.storage.backends.s3.uploading import Uploading
from pyvospace.storage.backends.s3.usage import Usage

_LOCATION: Final = re.compile("[0-9a-f]{32}")
_DATA: Final = "data/"
_QUARANTINE: Final = "quarantine/"


class S3Backend(StorageBackend):
    """Keeps bytes in a bucket that any number of processes and machines serve."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._store = Store(options)
        self._budget = Budget(options.memory)
        self._readers = Readers(options)
        self._usage = Usage(self._store, _DATA)

    @classmethod
    def configure(cls, config: BackendConfig) -> Self:
        """Read ``[storage.options]``; ``storage.path`` is not used."""
        return cls(Options.parse(config.options))

    async def start(self) -> UUID:
        """Connect, see that the store does what we rely on, and find out which storage this is."""
        await self._store.open()
        await self._store.require_bucket()
        await require_consistent(self._store)
        return await identity(self._store)

    async def close(self) -> None:
        """End threads and connections."""
        await self._usage.close()
        await self._store.close()

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Send parts as they come; make an object of them inside the transaction."""
        location = uuid4().hex
        uploading = Uploading(self._store, self._budget, _DATA + location, job.size)
        try:
            size = await uploading.receive(body)
            async with job.transaction() as transaction:
                await transaction.store(location)
                await uploading.publish()
            self._usage.add(size)
        finally:
            await uploading.end()

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Read ahead, or send who can go there to the store itself.

        Each read is a request of its own: `storage.obsolete_grace` says how long bytes stay readable that were
        replaced meanwhile.
        """
        name = _name_of(job.location)
        if self._options.redirect and job.redirectable:
            return await self._redirect(name, job)
        if not job.size:
            await self._require_size(job)
        reading = Reading(self._store, self._readers, name, job.size, byte_range or ByteRange(0, job.size))
        await reading.open()
        return StreamBytes(reading)

    async def _redirect(self, name: str, job: DownloadJob) -> Redirect:
        await self._require_size(job)
        kind = content_type(job.content_type)
        return Redirect(self._store.presigned(name, kind, content_disposition(job.filename, kind)))

    async def _require_size(self, job: DownloadJob) -> None:
        found = await self.size(job.location)
        if found != job.size:
            raise OSError(f"{job.location} is damaged: it has {found} bytes and should have {job.size}")

    async def read_small(self, jobs: Sequence[DownloadJob]) -> Sequence[bytes | None]:
        """Read them side by side."""
        return await asyncio.gather(*(self._read_whole(job) for job in jobs))

    async def _read_whole(self, job: DownloadJob) -> bytes | None:
        try:
            reading = Reading(self._store, self._readers, _name_of(job.location), job.size, ByteRange(0, job.size))
            await reading.open()
            return b"".join([piece async for piece in reading]) if job.size else None
        except (Fault, OSError):
            return None  # asked for once more, alone, it tells what is wrong

    async def delete(self, location: str) -> None:
        """Delete the object."""
        if _LOCATION.fullmatch(location):
            await self._store.delete(_DATA + location)

    async def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        """Go through the objects below data/."""
        async for found in self.listing():
            yield found.location, found.published

    async def listing(self) -> AsyncIterator[Listed]:
        """Go through the objects; a listing tells their sizes.

        An object of several parts may be dated by the beginning of its upload. That is no harm: who deletes what has no
        name has seen it twice, the grace time apart by the clock of the database.
        """
        async for batch in self._store.listing(_DATA):
            for one in batch:
                location = one.key.removeprefix(_DATA)
                if _LOCATION.fullmatch(location):
                    yield Listed(location, one.modified, one.size)

    async def size(self, location: str) -> int:
        """Ask for the head of the object."""
        return int((await self._store.head(_name_of(location)))["ContentLength"])

    async def quarantine(self, location: str) -> bool:
        """Have the store copy the object, then delete it."""
        if _LOCATION.fullmatch(location):
            with suppress(FileNotFoundError):
                await self._store.copy(_DATA + location, _QUARANTINE + location)
            await self.delete(location)
        return True

    async def sweep_staging(self, older_than: datetime) -> int:
        """Abort uploads that got no part since `older_than`; one that lives gets one in less than the grace time."""
        swept = 0
        async for name, upload, begun in self._store.uploads(_DATA):
            with suppress(FileNotFoundError):  # somebody else has ended it
                if begun < older_than and await self._is_quiet(name, upload, older_than):
                    swept += await self._store.abort(name, upload)
        await sweep_probes(self._store, older_than)
        return swept

    async def _is_quiet(self, name: str, upload: str, since: datetime) -> bool:
        newest = await self._store.last_part(name, upload)
        return newest is None or newest < since

    async def free_space(self) -> int | None:
        """Tell what is left of the option ``capacity``, once all objects have been added up."""
        used = self._usage.used() if self._options.capacity is not None else None
        return None if used is None else max((self._options.capacity or 0) - used, 0)

    async def total_space(self) -> int | None:
        """Tell the option ``capacity``."""
        return self._options.capacity

    async def check(self) -> None:
        """Write an object and delete it."""
        await probe_writing(self._store)


def _name_of(location: str) -> str:
    if not _LOCATION.fullmatch(location):
        raise FileNotFoundError(location)
    return _DATA + location
