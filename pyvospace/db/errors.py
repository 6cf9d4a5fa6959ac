"""What the database says, in the words of the standard: errors of the driver become faults here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from pyvospace.model.faults import (
    AlreadyExists,
    ContainerNotFound,
    DuplicateNode,
    Fault,
    InternalFault,
    InvalidArgument,
    ServiceBusy,
    fault_of,
)
from pyvospace.model.vosi import CLOSED_FOR

log = logging.getLogger(__name__)

T = TypeVar("T")

_FAULT = "VS001"
"""SQLSTATE of the faults that functions of ours raise."""
_CLOSED = "VS002"
"""SQLSTATE of what the state of the service forbids."""
_UNAVAILABLE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    # It answers, but lets nobody in: closed for maintenance, renamed, with another password.
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_TAKEN = {
    "users_name_key": "there is a user {!r} already",
    "groups_name_key": "there is a group {!r} already",
    "identities_name": "{!r} is linked to a user already",
}
_MISNAMED = {"users_name_check": "user", "groups_name_check": "group"}
_OTHERS = "others are changing the same nodes; try again"
_LOST = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""The transaction lost against another one, and may simply be run once more."""
_ATTEMPTS = 6


class Unavailable(ServiceBusy):
    """The database cannot be reached, or went away in the middle."""

    code = ServiceBusy.code


class Overtaken(ServiceBusy):
    """Others held what was to be changed, or were faster: nothing was done, and it may go well the next time."""

    code = ServiceBusy.code


class translated:  # noqa: N801 (it stands behind ``with``, where a function would)
    """Turn errors of the driver into faults about `subject`; a class, since every statement goes through here."""

    __slots__ = ("_subject",)

    def __init__(self, subject: object = "") -> None:
        self._subject = subject

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        if isinstance(error, asyncpg.PostgresError):
            raise _fault(error, self._subject) from error
        if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)):
            # The driver calls it internal if a statement comes while it reads the last words of a server that dies.
            log.warning("no answer from the database: %s", error)
            raise Unavailable("the database cannot be reached; try again") from error


async def run_again(transaction: Callable[[], Awaitable[T]]) -> T:
    """Run a transaction, and again if it lost against another one."""
    for attempt in range(_ATTEMPTS - 1):
        try:
            return await transaction()
        except Overtaken as lost:
            if not isinstance(lost.__cause__, _LOST):
                raise
        await asyncio.sleep(0.01 * 2**attempt)
    return await transaction()


def _fault(error: asyncpg.PostgresError, subject: object) -> Fault:
    if error.sqlstate in {_FAULT, _CLOSED}:
        return fault_of(str(error), 500) if error.sqlstate == _FAULT else ServiceBusy(error, retry_after=CLOSED_FOR)
    if isinstance(error, asyncpg.IntegrityConstraintViolationError) and (named := _of_constraint(error, subject)):
        return named
    if isinstance(error, (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, *_LOST)):
        log.info("a statement gave way: %s", error)
        # What takes too long by itself would do so again.
        return (ServiceBusy if isinstance(error, asyncpg.QueryCanceledError) else Overtaken)(_OTHERS)
    if isinstance(error, _UNAVAILABLE):
        log.warning("no answer from the database: %s", error)
        return Unavailable("the database cannot be reached; try again")
    log.error("statement failed: %s", error, exc_info=error)
    return InternalFault("the database refused a statement")


def _of_constraint(error: asyncpg.IntegrityConstraintViolationError, subject: object) -> Fault | None:
    name = error.constraint_name or ""
    if name == "nodes_name":
        return DuplicateNode(subject)
    if isinstance(error, asyncpg.ForeignKeyViolationError) and error.table_name == "nodes":
        return ContainerNotFound(subject)
    if name in _TAKEN:
        return AlreadyExists(_TAKEN[name].format(subject))
    if name in _MISNAMED:
        rule = "at most 64 of A-Z, a-z, 0-9 and . _ -, the first a letter or digit"
        return InvalidArgument(f"{subject!r} cannot be the name of a {_MISNAMED[name]}: {rule}")
    return None
