"""Rows of jobs. Only `pyvospace.uws` calls these: it decides about phases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.model.vocabulary import Phase

if TYPE_CHECKING:
    import asyncpg

    from pyvospace.db.pool import Database


class _Sql(QueryFile, file="jobs.sql"):
    insert_pull: ClassVar[str]
    insert_push: ClassVar[str]
    insert_failed: ClassVar[str]
    select: ClassVar[str]
    abort: ClassVar[str]
    expire: ClassVar[str]
    forget: ClassVar[str]
    forget_leases: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Placed:
    """When the endpoints of a new job expire, and the storage that has them."""

    expires: datetime
    storage_url: str
    storage: str


def _placed(row: asyncpg.Record | None) -> Placed | None:
    return Placed(row["expires"], row["url"], str(row["uuid"])) if row else None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as it is kept."""

    id: str
    owner_id: int | None
    owner: str | None
    phase: Phase
    transfer: dict[str, Any]
    node_uri: str | None
    node_id: int | None
    parent_id: int | None
    name: str | None
    discard: bool
    fault: str | None
    message: str | None
    created: datetime
    started: datetime | None
    ended: datetime | None
    expires: datetime
    destruction: datetime
    expired: bool
    storage_url: str | None
    storage: str | None
    epoch: int


async def insert_pull(
    database: Database,
    job: str,
    *,
    owner: int | None,
    transfer: dict[str, Any],
    node: int,
    storage: str | None,
    node_uri: str,
    life: float,
    destruction: float,
) -> Placed | None:
    """Keep a negotiated pull from the storage (UUID) that has the bytes; without bytes any will do.

    None: it has not been heard of lately.
    """
    return _placed(
        await database.fetchrow(
            _Sql.insert_pull, job, owner, json.dumps(transfer), node, node_uri, life, destruction, storage
        )
    )


async def insert_push(
    database: Database,
    job: str,
    *,
    owner: int | None,
    transfer: dict[str, Any],
    node: int | None,
    parent: int,
    name: str,
    node_uri: str,
    discard: bool,
    keep_properties: bool,
    size_limit: int | None,
    announced: int | None,
    life: float,
    destruction: float,
) -> Placed | None:
    """Keep a negotiated push to a live storage with space; None: there is none."""
    row = await database.fetchrow(
        _Sql.insert_push,
        job,
        owner,
        json.dumps(transfer),
        node,
        parent,
        name,
        node_uri,
        discard,
        keep_properties,
        size_limit,
        life,
        destruction,
        announced,
    )
    return _placed(row)


async def insert_failed(
    database: Database,
    job: str,
    *,
    owner: int | None,
    transfer: dict[str, Any],
    fault: str,
    message: str,
    destruction: float,
) -> None:
    """Keep a transfer that was refused."""
    await database.fetchrow(_Sql.insert_failed, job, owner, json.dumps(transfer), fault, message, destruction)


async def select(database: Database, job: str) -> JobRow | None:
    """Read a job; None: there is none of that id."""
    row = await database.fetchrow(_Sql.select, job)
    if row is None:
        return None
    values = dict(row)
    values["phase"] = Phase(values["phase"])
    values["transfer"] = json.loads(values["transfer"])
    values["storage"] = str(values["storage"]) if values["storage"] else None
    return JobRow(**values)


async def abort(database: Database, job: str, message: str) -> bool:
    """Abort a job; False: it had ended."""
    return await database.fetchval(_Sql.abort, job, message) is not None


async def tidy(database: Database, *, batch: int) -> int:
    """Abort jobs that expired unused, forget those past their destruction; give how many."""
    expired = await database.fetch(_Sql.expire, batch)
    forgotten = await database.fetch(_Sql.forget, batch)
    await database.fetchrow(_Sql.forget_leases)
    return len(expired) + len(forgotten)
