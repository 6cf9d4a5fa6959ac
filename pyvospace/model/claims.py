"""What a storage server and the catalogue (the database) tell each other about bytes.

The database layer makes these and the storage service reads them, so they live below both.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

from pyvospace.model.nodes import Param

Operation = Literal["get", "put", "pack", "unpack", "render", "version", "replica"]
"""What an endpoint is for: bytes as they are, an archive, a view that is computed, a copy for another place."""
OPERATIONS: Final = frozenset(get_args(Operation))


class OutcomeUnknownError(Exception):
    """The connection broke while a commit was on its way: it may have happened or not.

    Whoever sees this deletes nothing: the sweep asks the catalogue later.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the sender of bytes says of his file, besides them; None: nothing."""

    content_type: str | None = None
    """Kept verbatim."""
    changed: str | None = None
    """When the file was changed: value of the property FILE_TIME."""
    mode: str | None = None
    """Its permissions: value of the property FILE_MODE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """Bytes that a storage holds, as the core counted and hashed them."""

    location: str
    size: int
    md5: bytes
    sha256: bytes
    content_type: str | None
    """As the client named it, kept verbatim; None if it named none."""
    structure: str | None = None
    """Of a StructuredDataNode: name of the type that the bytes are of; None: none that is known."""
    changed: str | None = None
    """As in `Facts`, of bytes that are about to be stored."""
    mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadClaim:
    """The right to bring new bytes to one node, held under a lease."""

    id: str
    """Unique for each attempt, lower-case hex: the fence of the lease and the name of the staging file."""
    lease: float
    """Seconds until the lease runs out unless it is renewed."""
    limit: int | None = None
    """The most bytes that are welcome."""
    room: int | None = None
    """The most bytes that quotas leave room for, of a body of unknown size. None: as many as come."""
    refusal: str = ""
    """What to say of more than that."""
    discard: bool = False
    """Receive and count, keep nothing (a push to ``.null``)."""
    current: StoredFile | None = None
    """The bytes that the node has now (for If-Match and If-None-Match); None if it has none."""
    structured: bool = False
    """The node is a StructuredDataNode, or is to be made as one: find out which structure the bytes have."""
    view: str | None = None
    """URI of the view by which the client says what the bytes are; None: he says nothing of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadClaim:
    """The right to read the bytes of one node once, and what is known about them."""

    name: str
    """The last segment of the node's path, for Content-Disposition."""
    modified: datetime
    """When the bytes came, with time zone."""
    location: str | None = None
    """None: the node has no bytes yet."""
    size: int = 0
    md5: bytes | None = None
    sha256: bytes | None = None
    content_type: str | None = None
    job_id: str | None = None
    """A transfer job that waits for its first complete delivery; None: nobody waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderClaim:
    """The right to have a view of the bytes of one node computed once."""

    download: DownloadClaim
    structure: str | None
    """Name of the type that the bytes are of."""
    view: str
    """URI of the view that was asked for."""
    params: tuple[Param, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """A copy that is to be made here of bytes elsewhere, held under a lease."""

    id: str
    """Unique for each attempt, lower-case hex."""
    lease: float
    """Seconds until the lease runs out unless it is renewed."""
    size: int
    md5: bytes
    sha256: bytes
    places: "tuple[Place, ...]"
    """Who has the bytes, the best first."""


@dataclass(frozen=True, slots=True)
class Place:
    """A server that can be asked for bytes, or be given some."""

    url: str
    """Public base URL."""
    storage: str
    """UUID of the place that it serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageState:
    """What a storage server says of itself at its start and with each heartbeat."""

    id: UUID
    """Of the storage (the place), the same for all processes that serve it."""
    name: str
    url: str
    """Public base URL: endpoints are ``{url}/files/{token}/{name}``."""
    free: int | None
    """Bytes that still fit, less the reserve; None: unknown or without end."""
    total: int | None = None
    """Bytes in all, full and free; None: as above."""
    labels: tuple[str, ...] = ()
    """What policies of containers may ask for."""
    cold: bool = False
    """Bytes have to be fetched from there before anybody can read them."""
    site: str = ""
    """Where the server stands; empty: nobody says."""
    busy: int = 0
    """Transfers under way in this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointClaims:
    """What a signed endpoint says: one operation on one node, for one user, until it expires."""

    operation: Operation
    node_id: int | None
    """None: a push whose node is still to be made; the job knows where."""
    job_id: str | None
    """None: a read that no job waits for."""
    user_id: int | None
    """None: anonymous."""
    expires: datetime
    token_id: int | None = None
    """The API token with which the endpoint dies; None: another credential, or the job knows it."""
    version: int | None = None
    """Which of the older contents is read (operation version)."""
