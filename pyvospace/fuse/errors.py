"""What a program is told when an operation of the mount fails: one table from faults to errors of POSIX.

Most faults carry theirs (`pyvospace.model.faults`). Here stands what means something else to a program than to a
client of the service.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import pyfuse3

from pyvospace.client.failures import ContentChanged
from pyvospace.model.faults import (
    ChecksumMismatch,
    Fault,
    InsufficientStorage,
    InvalidURI,
    LinkFound,
    NodeLocked,
    PreconditionFailed,
    QuotaExceeded,
    RangeNotSatisfiable,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceBusy,
    TooManyAttempts,
)

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

ERRORS: Final[dict[type[Fault], int]] = {
    # The mount has been patient before it says so; a program that is told EAGAIN would try for ever.
    ServiceBusy: errno.EIO,
    TooManyAttempts: errno.EIO,
    RequestTimeout: errno.EIO,
    # Locks of a space last until somebody takes them away, as a file system that is read-only does.
    NodeLocked: errno.EROFS,
    # What was open is not what is there now.
    ContentChanged: errno.ESTALE,
    PreconditionFailed: errno.ESTALE,
    RangeNotSatisfiable: errno.ESTALE,
    ChecksumMismatch: errno.EIO,
    RequestEntityTooLarge: errno.EFBIG,
    QuotaExceeded: errno.EDQUOT,
    InsufficientStorage: errno.ENOSPC,
    # A link stands where a directory was.
    LinkFound: errno.ENOTDIR,
    # A name that cannot be one of a node.
    InvalidURI: errno.EINVAL,
}
"""Faults with another error than their own `errno`; the nearest class counts."""


def errno_of(error: Fault | OSError) -> int:
    """Give the error of POSIX for a failure."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    for kind in type(error).__mro__:
        if kind in ERRORS:
            return ERRORS[kind]
    return error.errno


def answered(
    operation: Callable[P, Awaitable[T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let an operation answer the kernel with an error of POSIX, whatever happens; what is no fault is a defect."""

    @wraps(operation)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await operation(*args, **kwargs)
        except (Fault, OSError) as error:
            number = errno_of(error)
            if number in _REMARKABLE:
                log.warning("%s: %s", operation.__name__, error)
            raise pyfuse3.FUSEError(number) from None
        except pyfuse3.FUSEError:
            raise
        except Exception:
            log.exception("%s failed", operation.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from None

    return run


_REMARKABLE: Final = frozenset({errno.EIO, errno.ESTALE, errno.EDQUOT, errno.ENOSPC})
"""Errors that whoever looks after the mount wants to find in its log."""
