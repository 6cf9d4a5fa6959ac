"""What the storage service asks of the catalogue: the database, or a double in tests.

`pyvospace.db.storage` implements this over the functions of the schema ``storage_api``.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from pyvospace.model.claims import DownloadClaim, EndpointClaims, RenderClaim, StorageState, StoredFile, UploadClaim
from pyvospace.model.jobs import Claimed


class StoreTransaction(Protocol):
    """The open transaction in which a node turns to its new bytes."""

    async def store(self, file: StoredFile, *, shared: bool = False) -> None:
        """Point the node at `file`, mark what it had before as obsolete, complete the job (see `Transaction.store`).

        Raises
        ------
        Fault
            The lease was lost, a right was withdrawn, the node is locked or gone.
        """


class Leases(Protocol):
    """What happens between the claim of an upload and its end."""

    async def reserve(self, claim: UploadClaim, *, size: int) -> None:
        """Have room kept, by all quotas, for bytes that came unannounced (called if `UploadClaim.room` is set).

        Raises
        ------
        QuotaExceeded
            There is none any more.
        """

    async def renew(self, claim: UploadClaim) -> bool:
        """Extend the lease by another `UploadClaim.lease` seconds; False: it was lost."""

    def transaction(self, claim: UploadClaim) -> AbstractAsyncContextManager[StoreTransaction]:
        """Open a transaction with the node locked and the lease checked.

        It commits on leaving and rolls back if an exception passes through. Leaving completes the job; with
        `UploadClaim.discard` nothing is stored before that.

        Raises
        ------
        OutcomeUnknownError
            On leaving: the connection was lost while the commit was on its way.
        """
        ...

    async def release(self, claim: UploadClaim, *, reason: str) -> None:
        """Give the lease of an upload that failed back; `reason` is for the job, without secrets.

        The job stays EXECUTING: the client may try again on the same endpoint.
        Not called after a commit, which ends the lease itself.
        """


class Catalogue(Leases, Protocol):
    """Every question the storage service has. No method keeps a connection when it returns."""

    async def ready(self) -> None:
        """Return if the database answers; raise a Fault (ServiceBusy) if it does not."""

    async def announce(self, storage: StorageState) -> None:
        """Enter or refresh the row of this storage (start and heartbeat)."""

    async def leave(self, url: str) -> None:
        """Say that the server at this URL goes: it gets no transfers from now on."""

    async def current(self, claims: EndpointClaims) -> StoredFile | None:
        """Tell what the node of an upload endpoint has now, without a lease (HEAD)."""

    async def claim_upload(self, claims: EndpointClaims, *, size: int | None) -> UploadClaim:
        """Check the right to write once more and take the writer's lease of the node.

        `size` is what the client announced. Waits for a connection up to
        ``database.upload_acquire_timeout``.

        Raises
        ------
        NodeBusy
            Somebody else's lease on the node is alive, or the endpoint is used up.
        QuotaExceeded
            A quota leaves no room for `size` bytes.
        """

    async def claim_pull(self, job: Claimed, *, size: int | None) -> UploadClaim:
        """Do the same for a job that fetches bytes: check its owner's right now, and take the lease for him.

        Raises
        ------
        NodeBusy
            Somebody else's lease on the node is alive, or the job is in other hands.
        QuotaExceeded
            A quota leaves no room for `size` bytes.
        """

    async def claim_download(self, claims: EndpointClaims) -> DownloadClaim:
        """Check the right to read once more and tell where the bytes are."""

    async def claim_replica(self, claims: EndpointClaims) -> DownloadClaim:
        """Tell where the bytes are that another storage is to copy.

        Raises
        ------
        PermissionDenied
            Nobody is to have them from here.
        """

    async def claim_version(self, claims: EndpointClaims) -> DownloadClaim:
        """Do the same for what the node held before (`EndpointClaims.version`)."""

    async def claim_render(self, claims: EndpointClaims) -> RenderClaim:
        """Check the right to read once more and tell which view of which bytes is wanted."""

    async def delivered(self, claim: DownloadClaim) -> None:
        """Complete the job that waited for this delivery (called if `job_id` is set)."""

    async def claim_sweep(self, *, interval: float) -> bool:
        """Tell whether this process is to sweep: nobody began within the last `interval` seconds.

        A compare-and-set on the storage's row, so that several processes of one storage take turns.
        """

    async def unknown(self, locations: Sequence[str], *, margin: float) -> Sequence[str]:
        """Pick those of `locations` (of this storage, with bytes) that nothing has named for `margin` seconds.

        They are counted from the first time that somebody asked, by the clock of the database. A location that was
        told is forgotten.
        """

    async def note_obsolete(self, locations: Sequence[str]) -> None:
        """Enter locations whose bytes could not be deleted as obsolete again."""

    async def take_obsolete(self, *, grace: float, limit: int) -> Sequence[str]:
        """Delete up to `limit` rows of this storage obsolete for `grace` seconds; tell their locations.

        Rows that another process is deleting are skipped, and locations that a node names (again) are left out; none
        are told if nothing is due, or while a copy is being made. After this returned, the rows are gone.
        """
