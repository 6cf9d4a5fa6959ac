"""What the database says, in the words of the standard: errors of the driver become faults here and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

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
RETRIED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""The transaction may simply be run once more."""


class Unavailable(ServiceBusy):
    """The database cannot be reached, or went away in the middle."""

    code = ServiceBusy.code


@contextmanager
def translated(subject: object = "") -> Iterator[None]:
    """Turn errors of the driver into faults about `subject`."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _fault(error, subject) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        # The driver calls it internal if a statement comes while it reads the last words of a server that dies.
        log.warning("no answer from the database: %s", error)
        raise Unavailable("the database cannot be reached; try again") from error


def _fault(error: asyncpg.PostgresError, subject: object) -> Fault:
    if error.sqlstate in {_FAULT, _CLOSED}:
        return fault_of(str(error), 500) if error.sqlstate == _FAULT else ServiceBusy(error, retry_after=CLOSED_FOR)
    if isinstance(error, asyncpg.IntegrityConstraintViolationError) and (named := _of_constraint(error, subject)):
        return named
    if isinstance(error, (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, *RETRIED)):
        return ServiceBusy("others are changing the same nodes; try again")
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
