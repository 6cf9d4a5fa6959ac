"""What goes wrong, in the words of SFTP.

Version 3, which nearly all clients speak, has four errors: what is more exact becomes a failure there, with our words.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

import asyncssh

from pyvospace.model import faults
from pyvospace.model.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

log = logging.getLogger(__name__)

Self = TypeVar("Self")
P = ParamSpec("P")
R = TypeVar("R")

_ERRORS: Final[tuple[tuple[type[Fault], Callable[[str], asyncssh.SFTPError]], ...]] = (
    (faults.NodeNotFound, asyncssh.SFTPNoSuchFile),
    (faults.ContainerNotFound, asyncssh.SFTPNoSuchFile),
    (faults.NotFound, asyncssh.SFTPNoSuchFile),
    (faults.UnreadableLinkTarget, asyncssh.SFTPNoSuchFile),
    (faults.PermissionDenied, asyncssh.SFTPPermissionDenied),
    (faults.NotAuthenticated, asyncssh.SFTPPermissionDenied),
    (faults.NodeLocked, asyncssh.SFTPWriteProtect),
    (faults.DuplicateNode, asyncssh.SFTPFileAlreadyExists),
    (faults.AlreadyExists, asyncssh.SFTPFileAlreadyExists),
    (faults.QuotaExceeded, asyncssh.SFTPQuotaExceeded),
    (faults.InsufficientStorage, asyncssh.SFTPNoSpaceOnFilesystem),
    (faults.InvalidURI, asyncssh.SFTPInvalidFilename),
    (faults.OperationNotSupported, asyncssh.SFTPOpUnsupported),
)


def as_error(fault: Fault) -> asyncssh.SFTPError:
    """Give what a client is told of a fault."""
    kind = next((error for known, error in _ERRORS if isinstance(fault, known)), asyncssh.SFTPFailure)
    return kind(str(fault))


def told(
    function: Callable[Concatenate[Self, P], Awaitable[R]],
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, R]]:
    """Let a method of a server fail with what a client may know, and the log know the rest."""

    @functools.wraps(function)
    async def wrapper(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(self, *args, **kwargs)
        except Fault as fault:
            raise as_error(fault) from fault
        except asyncssh.SFTPError:
            raise
        except OSError as error:
            log.error("%s: %s", function.__name__, error)  # noqa: TRY400 (the text says it all)
            raise asyncssh.SFTPFailure("the server cannot do this now") from error
        except Exception as error:
            log.exception("%s failed", function.__name__)
            raise asyncssh.SFTPFailure("internal error") from error

    return wrapper
