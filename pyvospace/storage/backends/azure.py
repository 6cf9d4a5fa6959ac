"""Bytes in block blobs of one container of Azure Blob Storage.

::

    <prefix>storage.json        which storage this is
    <prefix>data/<32 hex>       what nodes name; the location is the last part
    <prefix>quarantine/<32 hex> what nobody named, put aside for people to look at
    <prefix>probe               written to find out whether that is possible

No name in here comes from a client. What is being received are uncommitted blocks, which no listing shows; those of
dead processes Azure itself forgets after a week.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Final, Self
from urllib.parse import quote
from uuid import UUID, uuid4

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobSasPermissions, StorageErrorCode, generate_blob_sas
from azure.storage.blob.aio import BlobClient, ContainerClient

from pyvospace.model.faults import Fault
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
from pyvospace.storage.backends.azure_settings import AzureSettings, connect
from pyvospace.storage.backends.azure_transfer import (
    AzureStorageError,
    BlobReader,
    StagedBlob,
    translated,
)
from pyvospace.storage.backends.finishing import to_its_end

log = logging.getLogger(__name__)

_LOCATION: Final = re.compile("[0-9a-f]{32}")
_SMALL_AT_ONCE: Final = 16
_COPYING: Final = 1.0
"""Seconds between two looks at a copy."""
_MEASURING: Final = 3600.0
"""Seconds between two walks that add up what the container holds."""


class AzureBackend(StorageBackend):
    """Keeps bytes in a container, which any number of processes and machines may serve."""

    def __init__(self, settings: AzureSettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._client: ContainerClient | None = None
        self._small = asyncio.Semaphore(_SMALL_AT_ONCE)
        self._used: int | None = None
        self._measuring: asyncio.Task[None] | None = None

    @classmethod
    def configure(cls, config: BackendConfig) -> Self:
        """Make a backend for the container that the options name (docs/howto/azure.md); the path is not used."""
        settings = AzureSettings.of(config.options)
        account = settings.account
        if not account.key and not account.connection_string and find_spec("azure.identity") is None:
            raise ValueError(
                "storage.options: without account_key_file and connection_string_file azure-identity must be installed"
            )
        return cls(settings)

    @property
    def _container(self) -> ContainerClient:
        if self._client is None:
            raise RuntimeError("the backend was not started")
        return self._client

    def _blob(self, name: str) -> BlobClient:
        return self._container.get_blob_client(self._settings.prefix + name)

    def _data(self, location: str) -> BlobClient:
        if not _LOCATION.fullmatch(location):
            raise FileNotFoundError(location)
        return self._blob(f"data/{location}")

    async def start(self) -> UUID:
        """Make the container if need be, and read which storage it is."""
        self._client = connect(self._settings, self._stack)
        try:
            with translated("opening the container"):
                identity = await self._identity()
        except BaseException:
            await self.close()
            raise
        if self._settings.capacity is not None:
            self._measuring = asyncio.create_task(self._measure())
        return identity

    async def _identity(self) -> UUID:
        """Read it; make one for a new place. Of several processes that start at once one writes, and all read."""
        blob = self._blob("storage.json")
        while True:
            try:
                return UUID(json.loads(await (await blob.download_blob()).readall())["id"])
            except ResourceNotFoundError as error:
                if getattr(error, "error_code", None) == StorageErrorCode.CONTAINER_NOT_FOUND:
                    with suppress(ResourceExistsError):
                        await self._container.create_container()
            draft = json.dumps({"id": str(uuid4()), "made": datetime.now(UTC).isoformat()}) + "\n"
            with suppress(ResourceExistsError, ResourceModifiedError):
                await blob.upload_blob(draft.encode(), match_condition=MatchConditions.IfMissing)

    async def close(self) -> None:
        """Close the connections."""
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.gather(self._measuring, return_exceptions=True)
        self._client = self._measuring = None
        await self._stack.aclose()

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Stage blocks while the body comes, and make a blob of them inside the transaction."""
        location = uuid4().hex
        settings = self._settings
        staged = StagedBlob(
            self._data(location), block_size=settings.block_size, concurrency=settings.concurrency, expected=job.size
        )
        try:
            await staged.take(body)
            async with job.transaction() as transaction:
                await transaction.store(location)
                await staged.publish(job.id)
        finally:
            await to_its_end(staged.end())
        if self._used is not None:
            self._used += staged.size

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Fetch the first piece, or sign a URL if that is what the administrator wants."""
        blob = self._data(job.location)
        redirecting = self._settings.redirect and job.redirectable
        if redirecting or job.size == 0:
            size = await self.size(job.location)
            if size != job.size:
                raise AzureStorageError(f"{job.location} is damaged: it has {size} bytes and should have {job.size}")
            return Redirect(self._signed(blob, job)) if redirecting else StreamBytes(_nothing())
        return StreamBytes((await self._open(job, byte_range)).pieces())

    async def _open(self, job: DownloadJob, byte_range: ByteRange | None) -> BlobReader:
        reader = BlobReader(
            self._data(job.location),
            byte_range or ByteRange(0, job.size),
            piece=self._settings.block_size,
            concurrency=self._settings.concurrency,
            verify=self._settings.verify_reads,
        )
        return await reader.open(job.size)

    def _signed(self, blob: BlobClient, job: DownloadJob) -> str:
        """Sign a URL that reads this blob for a while, as an attachment of the node's name and type."""
        token = generate_blob_sas(
            self._settings.account.name,
            self._settings.container,
            blob.blob_name,
            account_key=self._settings.account.key,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + timedelta(seconds=self._settings.redirect_lifetime),
            protocol="https" if blob.url.startswith("https:") else None,
            content_type=job.content_type,
            content_disposition=f"attachment; filename*=UTF-8''{quote(job.filename, safe='')}",
        )
        return f"{blob.url}?{token}"

    async def read_small(self, jobs: Sequence[DownloadJob]) -> Sequence[bytes | None]:
        """Ask for some of them at the same time."""
        return await asyncio.gather(*map(self._read_whole, jobs))

    async def _read_whole(self, job: DownloadJob) -> bytes | None:
        if job.size == 0 or job.size > self._settings.block_size:
            return None
        async with self._small:
            try:
                return b"".join([piece async for piece in (await self._open(job, None)).pieces()])
            except (Fault, OSError):
                return None

    async def delete(self, location: str) -> None:
        """Delete the blob with all its snapshots. Who reads it cannot read on."""
        with suppress(FileNotFoundError), translated(location):
            await self._data(location).delete_blob(delete_snapshots="include")

    async def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        """Go through the blobs, some thousand with each request."""
        async for found in self.listing():
            yield found.location, found.published

    async def listing(self) -> AsyncIterator[Listed]:
        """Go through the blobs; a listing tells their sizes."""
        start = f"{self._settings.prefix}data/"
        with translated("listing"):
            async for blob in self._container.list_blobs(name_starts_with=start):
                location = blob.name.removeprefix(start)
                if _LOCATION.fullmatch(location):
                    yield Listed(location, blob.last_modified, blob.size)

    async def size(self, location: str) -> int:
        """Ask for the properties of the blob."""
        with translated(location):
            properties = await self._data(location).get_blob_properties()
        return properties.size

    async def quarantine(self, location: str) -> bool:
        """Copy the blob within the store, and delete it once the copy is whole."""
        with suppress(FileNotFoundError):
            source, copy = self._data(location), self._blob(f"quarantine/{location}")
            with translated(location):
                await copy.start_copy_from_url(source.url)
                while (status := (await copy.get_blob_properties()).copy.status) == "pending":  # noqa: ASYNC110 (the store tells nobody when it is done)
                    await asyncio.sleep(_COPYING)
            if status != "success":
                raise AzureStorageError(f"{location} could not be copied: {status}")
            await self.delete(location)
        return True

    async def _measure(self) -> None:
        while True:
            try:
                used = 0
                async for found in self.listing():
                    used += found.size or 0
                self._used = used
            except (Fault, OSError) as error:
                log.warning("azure: what the container holds could not be added up: %s", error)
            await asyncio.sleep(_MEASURING)

    async def free_space(self) -> int | None:
        """Tell what the option ``capacity`` leaves; None without it, or before the container was walked once."""
        if self._settings.capacity is None or self._used is None:
            return None
        return max(self._settings.capacity - self._used, 0)

    async def total_space(self) -> int | None:
        """Tell the option ``capacity``."""
        return self._settings.capacity

    async def check(self) -> None:
        """Write a blob of no bytes."""
        with translated("writing the probe"):
            await self._blob("probe").upload_blob(b"", overwrite=True)


async def _nothing() -> AsyncIterator[bytes]:
    for piece in list[bytes]():
        yield piece
