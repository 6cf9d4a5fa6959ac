"""The faults of VOSpace 2.1 (section 6.5), and those that its clients know besides.

One class for each fault. Everything that a failure becomes elsewhere (HTTP status and body, errorSummary of a job,
exit code of a command) follows from the class, so that a new fault is added here and nowhere else.
"""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import ClassVar


class Fault(Exception):
    """A request that cannot be served, in the words of the standard.

    Parameters
    ----------
    detail
        What the caller needs to know to mend it. It is shown to him: no path of the machine, no secret.
    """

    code: ClassVar[str] = "InternalFault"
    """Name of the fault, exactly as the standard spells it."""
    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    """HTTP status that carries the fault."""
    exit_code: ClassVar[int] = 1
    """Exit code of a command that failed with it."""
    errno: ClassVar[int] = errno.EIO
    """The nearest error of POSIX."""

    def __init__(self, detail: object = "") -> None:
        super().__init__(str(detail))
        self.detail = str(detail)

    def __str__(self) -> str:
        """Give the entity body: the name, a space and the details (section 6, notes)."""
        return f"{self.code} {self.detail}".rstrip()

    @classmethod
    def summary(cls) -> str:
        """Give the words that begin an errorSummary, "Node Not Found" for NodeNotFound."""
        words = "".join(f" {letter}" if letter.isupper() else letter for letter in cls.code)
        return words.strip().replace("U R I", "URI")

    @property
    def in_job(self) -> str:
        """Give the errorSummary of a job that failed with it."""
        return f"{self.summary()}: {self.detail}"


class InternalFault(Fault):
    """Something is broken in the service itself."""


class InvalidURI(Fault):
    """The URI cannot name a node of this space."""

    code = "InvalidURI"
    status = HTTPStatus.BAD_REQUEST
    exit_code = 2
    errno = errno.EINVAL


class InvalidArgument(Fault):
    """An argument has a value that it cannot have."""

    code = "InvalidArgument"
    status = HTTPStatus.BAD_REQUEST
    exit_code = 2
    errno = errno.EINVAL


class InvalidData(Fault):
    """The data are not what the view says."""

    code = "InvalidData"
    status = HTTPStatus.BAD_REQUEST
    exit_code = 7
    errno = errno.EINVAL


class TypeNotSupported(Fault):
    """The node type is unknown."""

    code = "TypeNotSupported"
    status = HTTPStatus.BAD_REQUEST
    exit_code = 2
    errno = errno.EINVAL


class ViewNotSupported(Fault):
    """The node has no such view."""

    code = "ViewNotSupported"
    status = HTTPStatus.BAD_REQUEST
    errno = errno.ENOTSUP


class ProtocolNotSupported(Fault):
    """None of the protocols that were asked for is offered."""

    code = "ProtocolNotSupported"
    status = HTTPStatus.BAD_REQUEST
    errno = errno.EPROTONOSUPPORT


class OperationNotSupported(Fault):
    """The service does not offer the operation."""

    code = "OperationNotSupported"
    status = HTTPStatus.BAD_REQUEST
    errno = errno.ENOTSUP


class OptionNotSupported(Fault):
    """The service does not offer this way to list (known from OpenCADC)."""

    code = "OptionNotSupported"
    status = HTTPStatus.BAD_REQUEST
    errno = errno.ENOTSUP


class LinkFound(Fault):
    """A link stands where only a container can (sections 6.2.1 and 6.2.4)."""

    code = "LinkFound"
    status = HTTPStatus.BAD_REQUEST
    errno = errno.ELOOP

    def __init__(self, detail: object = "", *, link: object | None = None) -> None:
        super().__init__(detail)
        self.link = link
        """The link node; the server answers with its document behind the words."""


class NotAuthenticated(Fault):
    """No credential, or one that is wrong or expired."""

    code = "NotAuthenticated"
    status = HTTPStatus.UNAUTHORIZED
    exit_code = 5
    errno = errno.EACCES

    def __init__(self, detail: object = "", *, invalid: bool = False) -> None:
        super().__init__(detail)
        self.invalid = invalid
        """A credential was sent and refused, in contrast to none at all."""


class PermissionDenied(Fault):
    """The caller may not do this."""

    code = "PermissionDenied"
    status = HTTPStatus.FORBIDDEN
    exit_code = 5
    errno = errno.EACCES


class NodeNotFound(Fault):
    """No node at this URI."""

    code = "NodeNotFound"
    status = HTTPStatus.NOT_FOUND
    exit_code = 3
    errno = errno.ENOENT


class ContainerNotFound(Fault):
    """A container on the way to the node is missing, or is no container."""

    code = "ContainerNotFound"
    status = HTTPStatus.NOT_FOUND
    exit_code = 3
    errno = errno.ENOENT


class UnreadableLinkTarget(Fault):
    """A link leads nowhere, in a circle, or through too many links."""

    code = "UnreadableLinkTarget"
    status = HTTPStatus.NOT_FOUND
    exit_code = 3
    errno = errno.ELOOP


class NotFound(Fault):
    """No such resource: not a matter of nodes."""

    code = "NotFound"
    status = HTTPStatus.NOT_FOUND
    exit_code = 3
    errno = errno.ENOENT


class MethodNotAllowed(Fault):
    """The resource does not take this HTTP method."""

    code = "MethodNotAllowed"
    status = HTTPStatus.METHOD_NOT_ALLOWED
    errno = errno.ENOTSUP

    def __init__(self, detail: object = "", *, allowed: frozenset[str] = frozenset()) -> None:
        super().__init__(detail)
        self.allowed = allowed


class DuplicateNode(Fault):
    """There is a node at this URI already."""

    code = "DuplicateNode"
    status = HTTPStatus.CONFLICT
    exit_code = 4
    errno = errno.EEXIST


class AlreadyExists(Fault):
    """There is one of that name already: not a matter of nodes."""

    code = "AlreadyExists"
    status = HTTPStatus.CONFLICT
    exit_code = 4
    errno = errno.EEXIST


class NodeBusy(Fault):
    """Another transfer is writing the bytes of this node."""

    code = "NodeBusy"
    status = HTTPStatus.CONFLICT
    exit_code = 6
    errno = errno.EBUSY


class EndpointUsed(Fault):
    """The endpoint has done what it was made for and does no more."""

    code = "EndpointUsed"
    status = HTTPStatus.CONFLICT
    errno = errno.EBUSY


class UploadBusy(Fault):
    """Another request is writing to this upload in parts."""

    code = "UploadBusy"
    status = HTTPStatus.LOCKED
    exit_code = 6
    errno = errno.EBUSY


class OffsetMismatch(Fault):
    """The bytes do not begin where those end that are there."""

    code = "OffsetMismatch"
    status = HTTPStatus.CONFLICT
    errno = errno.EINVAL


class ChecksumMismatch(Fault):
    """The bytes are not those that the sender announced."""

    code = "checksum mismatch"
    status = HTTPStatus.PRECONDITION_FAILED
    exit_code = 7
    errno = errno.EIO

    @classmethod
    def summary(cls) -> str:
        """Give the words that begin an errorSummary."""
        return "Checksum Mismatch"


class PreconditionFailed(Fault):
    """A condition in the header of the request does not hold."""

    code = "PreconditionFailed"
    status = HTTPStatus.PRECONDITION_FAILED


class RequestEntityTooLarge(Fault):
    """The document or the bytes are larger than the limit."""

    code = "RequestEntityTooLarge"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    errno = errno.EFBIG


class QuotaExceeded(Fault):
    """A quota leaves no room for it (known from OpenCADC)."""

    code = "QuotaExceeded"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    exit_code = 9
    errno = errno.EDQUOT


class UnsupportedMediaType(Fault):
    """The body cannot be what this resource takes."""

    code = "UnsupportedMediaType"
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE


class RangeNotSatisfiable(Fault):
    """The range begins behind the last byte."""

    code = "RangeNotSatisfiable"
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    errno = errno.EINVAL


class NodeLocked(Fault):
    """The node is locked against changes (known from OpenCADC)."""

    code = "NodeLocked"
    status = HTTPStatus.LOCKED
    exit_code = 6
    errno = errno.EBUSY


class TransferFailed(Fault):
    """The bytes did not arrive whole."""

    code = "TransferFailed"
    exit_code = 7


class ServiceBusy(Fault):
    """The service cannot answer now; the same request may succeed later."""

    code = "ServiceBusy"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    exit_code = 8
    errno = errno.EAGAIN

    def __init__(self, detail: object = "", *, retry_after: int = 5) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        """Seconds, for the header Retry-After."""


class TooManyAttempts(Fault):
    """Credentials that were wrong came too often; nobody looks at the next ones for a while."""

    code = "TooManyAttempts"
    status = HTTPStatus.TOO_MANY_REQUESTS
    exit_code = 8
    errno = errno.EAGAIN

    def __init__(self, detail: object = "", *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        """Seconds after which credentials are looked at again."""


class InsufficientStorage(Fault):
    """The store is full."""

    code = "InsufficientStorage"
    status = HTTPStatus.INSUFFICIENT_STORAGE
    exit_code = 9
    errno = errno.ENOSPC


class RequestTimeout(Fault):
    """The rest of the request did not come in time."""

    code = "RequestTimeout"
    status = HTTPStatus.REQUEST_TIMEOUT
    errno = errno.ETIMEDOUT


def _concrete(fault: type[Fault]) -> list[type[Fault]]:
    return [fault, *(below for child in fault.__subclasses__() for below in _concrete(child))]


FAULTS: dict[str, type[Fault]] = {fault.code: fault for fault in reversed(_concrete(Fault))}
"""Every fault by its name. InternalFault stands for its base class too."""
FAULTS[InternalFault.code] = InternalFault


def fault_of(body: str, status: int) -> Fault:
    """Read a fault from an answer: the class by its name, else the nearest to the status.

    OpenCADC writes a colon behind the name, the standard white space; both are read.
    """
    text = body.strip()
    for code, fault in FAULTS.items():
        if text.startswith(code) and not text[len(code) : len(code) + 1].isalnum():
            return fault(text[len(code) :].removeprefix(":").strip())
    same = [fault for fault in _BY_STATUS if fault.status == status]
    return (same[0] if same else Fault)(text or f"HTTP status {status}")


_BY_STATUS = (
    InvalidArgument,
    NotAuthenticated,
    PermissionDenied,
    NotFound,
    MethodNotAllowed,
    DuplicateNode,
    ChecksumMismatch,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    NodeLocked,
    ServiceBusy,
    TooManyAttempts,
    InsufficientStorage,
    RequestTimeout,
)
"""What a status means when the body names no fault."""
