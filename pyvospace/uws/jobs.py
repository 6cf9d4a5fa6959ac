"""The life of jobs: made when a transfer is negotiated, ended by its bytes, by its owner or by time.

The end by bytes is part of the transaction that turns the node to them, in ``storage_api.store``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pyvospace.db import jobs
from pyvospace.model.faults import Fault, NotAuthenticated, NotFound, PermissionDenied, ServiceBusy
from pyvospace.uws.transfers import pack

if TYPE_CHECKING:
    from pyvospace.config.settings import Settings
    from pyvospace.db.jobs import JobRow
    from pyvospace.db.pool import Database
    from pyvospace.model.callers import Caller
    from pyvospace.model.transfers import Transfer

log = logging.getLogger(__name__)

_ID: Final = re.compile(r"[0-9a-f]{40}")
_BATCH: Final = 1000
_TIDY_EVERY: Final = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """The node that a transfer means."""

    uri: str
    node_id: int | None
    """None: it is still to be made, in `parent_id` under `name`."""
    parent_id: int
    name: str
    storage: str | None = None
    """UUID of the storage that has its bytes."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """A negotiated job, and where its endpoints are."""

    id: str
    expires: datetime
    storage_url: str
    storage: str


def new_id() -> str:
    """Make a job id: 160 random bits, lower-case hex (J9 of the clients)."""
    return secrets.token_hex(20)


def _owner(caller: Caller) -> int | None:
    return None if caller.anonymous else caller.id


async def agree_pull(
    database: Database, settings: Settings, caller: Caller, transfer: Transfer, target: Target
) -> Agreed:
    """Keep a negotiated pull: EXECUTING until the bytes were delivered (rulings of A-10).

    Raises
    ------
    ServiceBusy
        The storage that has the bytes is not there now.
    """
    job = new_id()
    row = await jobs.insert_pull(
        database,
        job,
        owner=_owner(caller),
        transfer=pack(transfer),
        node=target.node_id or 0,
        storage=target.storage,
        node_uri=target.uri,
        life=settings.endpoints.life,
        destruction=settings.jobs.destruction,
    )
    return _agreed(job, row)


async def agree_push(
    database: Database,
    settings: Settings,
    caller: Caller,
    transfer: Transfer,
    target: Target,
    *,
    discard: bool,
    announced: int | None,
) -> Agreed:
    """Keep a negotiated push; the node is made when its bytes have come (rulings of A-31).

    Raises
    ------
    ServiceBusy
        No storage is there that has room for the announced number of bytes.
    """
    job = new_id()
    row = await jobs.insert_push(
        database,
        job,
        owner=_owner(caller),
        transfer=pack(transfer),
        node=target.node_id,
        parent=target.parent_id,
        name=target.name,
        node_uri=target.uri,
        discard=discard,
        keep_properties=settings.interop == "opencadc",
        size_limit=settings.limits.upload_bytes,
        announced=announced,
        life=settings.endpoints.life,
        destruction=settings.jobs.destruction,
    )
    return _agreed(job, row)


def _agreed(job: str, row: jobs.Placed | None) -> Agreed:
    if row is None:
        raise ServiceBusy("no storage server is there for this transfer; try again")
    return Agreed(job, row.expires, row.storage_url, row.storage)


async def refuse(database: Database, settings: Settings, caller: Caller, transfer: Transfer, fault: Fault) -> str:
    """Keep a transfer that cannot be, as a job in phase ERROR; give its id."""
    job = new_id()
    await jobs.insert_failed(
        database,
        job,
        owner=_owner(caller),
        transfer=pack(transfer),
        fault=fault.code,
        message=f"{fault.summary()}: {fault.detail}",
        destruction=settings.jobs.destruction,
    )
    return job


async def find(database: Database, caller: Caller, job: str) -> JobRow:
    """Give a job to its owner; an anonymous job to whoever knows its id.

    Raises
    ------
    NotFound
        There is none of that id, or not any more.
    PermissionDenied, NotAuthenticated
        It is somebody else's.
    """
    row = await jobs.select(database, job) if _ID.fullmatch(job) else None
    if row is None or row.destruction <= datetime.now(UTC):
        raise NotFound(f"there is no job {job[:80]!r}")
    if row.owner_id is not None and row.owner_id != caller.id:
        if caller.anonymous:
            raise NotAuthenticated("this job is somebody's: log in")
        raise PermissionDenied("this job is somebody else's")
    return row


async def abort(database: Database, job: JobRow) -> None:
    """Abort a job on its owner's word; one that has ended stays as it is. Its endpoints die with it."""
    await jobs.abort(database, job.id, "aborted by its owner")


async def tidy_for_ever(database: Database) -> None:
    """Abort what expired and forget what is past its time, again and again.

    Every metadata server does so; the rows of one are skipped by the others.
    """
    while True:
        try:
            while await jobs.tidy(database, batch=_BATCH) >= _BATCH:
                pass
        except Fault as fault:
            log.warning("jobs were not tidied: %s", fault)
        await asyncio.sleep(_TIDY_EVERY * (0.5 + secrets.randbelow(1000) / 1000))


def endpoint_expiry(seconds: float) -> datetime:
    """Give the instant `seconds` from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)
