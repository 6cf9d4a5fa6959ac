"""Rows of jobs. Only `pyvospace.uws` calls these: it decides about phases."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pyvospace.db.gathering import Question
from pyvospace.db.holding import on_behalf_of
from pyvospace.db.statements import QueryFile
from pyvospace.model.callers import Scope
from pyvospace.model.claims import Place
from pyvospace.model.jobs import Claimed, Kind, Progress
from pyvospace.model.vocabulary import Phase

if TYPE_CHECKING:
    import asyncpg

    from pyvospace.db.pool import Connection, Database


class _Sql(QueryFile, file="jobs.sql"):
    insert: ClassVar[str]
    begin: ClassVar[str]
    insert_pull: ClassVar[str]
    insert_pulls: ClassVar[str]
    await_recall: ClassVar[str]
    insert_push: ClassVar[str]
    insert_pushes: ClassVar[str]
    insert_failed: ClassVar[str]
    select: ClassVar[str]
    watch: ClassVar[str]
    page: ClassVar[str]
    page_backwards: ClassVar[str]
    queue: ClassVar[str]
    prepare: ClassVar[str]
    set_run_id: ClassVar[str]
    set_destruction: ClassVar[str]
    set_duration: ClassVar[str]
    delete: ClassVar[str]
    claim: ClassVar[str]
    take_over: ClassVar[str]
    renew: ClassVar[str]
    advance: ClassVar[str]
    give_back: ClassVar[str]
    overrun: ClassVar[str]
    finish: ClassVar[str]
    abort: ClassVar[str]
    expire: ClassVar[str]
    exceed: ClassVar[str]
    give_up: ClassVar[str]
    forsake: ClassVar[str]
    archive: ClassVar[str]
    forget: ClassVar[str]
    forget_leases: ClassVar[str]
    forget_oldest: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Placed:
    """When the endpoints of a new job expire, and the servers that have them."""

    expires: datetime
    places: Sequence[Place]
    """The best one first."""


_INSERT_PULL = Question(_Sql.insert_pull, _Sql.insert_pulls)
_INSERT_PUSH = Question(_Sql.insert_push, _Sql.insert_pushes)


def _placed(row: asyncpg.Record | None) -> Placed | None:
    if row is None or row["expires"] is None:
        return None
    return Placed(row["expires"], [Place(*one) for one in zip(row["urls"], row["storages"], strict=True)])


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a job is, and what he may have it do."""

    id: int | None
    """None: anonymous."""
    token: int | None = None
    """The token by which the job is made."""
    scope: Scope | None = None
    """What that token may at most."""

    @property
    def credential(self) -> tuple[int | None, str | None]:
        """Give the columns of the token and its scope."""
        return self.token, json.dumps(self.scope.pack()) if self.scope else None


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as it is kept."""

    id: str
    list: str
    kind: Kind
    owner_id: int | None
    owner: str | None
    phase: Phase
    request: dict[str, Any]
    results: Sequence[tuple[str, str]]
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
    expires: datetime | None
    destruction: datetime
    expired: bool
    destroyed: bool
    run_id: str | None
    execution_duration: int
    progress: Progress
    now: datetime
    """When this was read, by the clock of the database."""
    storage_url: str | None
    storage: str | None
    token_id: int | None
    """The token by which it was made."""
    scope: Scope | None
    """What the credential was good for by which it was made; None: everything."""
    epoch: int
    many_servers: bool
    """There is more than one storage server that its endpoints might lead to."""


@dataclass(frozen=True, slots=True)
class JobReference:
    """A job in a list."""

    id: str
    phase: Phase
    run_id: str | None
    created: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs of an owner a list is to show."""

    owner: int
    list: str
    phases: Sequence[str]
    after: datetime
    """Only jobs made later."""
    archive: float
    """Seconds for which jobs past their destruction are shown as ARCHIVED."""
    token: int | None = None
    """Only those that this token has made; None: all."""
    scope: Scope | None = None
    """Only those that a credential with this scope has made which is no token; None: all."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a job for a worker turned out to mean."""

    uri: str
    node_id: int | None
    parent_id: int | None
    name: str | None
    storage: str | None = None
    """UUID of the storage whose servers do it; None: any."""
    size_limit: int | None = None
    keep_properties: bool = False


_COUNTERS = ("bytes_done", "bytes_total", "files_done", "files_total")


def _progress(values: dict[str, Any]) -> Progress:
    return Progress(*(values.pop(name) for name in _COUNTERS))


def _counters(progress: Progress) -> tuple[int | None, ...]:
    return tuple(getattr(progress, name) for name in _COUNTERS)


async def insert(
    database: Database,
    job: str,
    *,
    owner: Owner,
    list_: str,
    kind: str,
    request: dict[str, Any],
    phase: str,
    run_id: str | None,
    destruction: float,
    waiting: int,
    duration: int,
) -> bool:
    """Keep a new job; False: its owner, or an anonymous client, has `waiting` jobs that wait."""
    made = await database.fetchval(
        _Sql.insert,
        job,
        owner.id,
        list_,
        kind,
        json.dumps(request),
        phase,
        run_id,
        destruction,
        waiting,
        duration,
        *owner.credential,
        on_behalf_of.get(),
    )
    return made is not None


async def insert_pull(
    database: Database,
    job: str,
    *,
    owner: Owner,
    request: dict[str, Any],
    node: int,
    storage: str | None,
    node_uri: str,
    life: float,
    destruction: float,
    shared: bool = False,
    near: str = "",
    waited: bool = False,
) -> Placed | None:
    """Keep a negotiated pull of bytes whose home is a storage (UUID); without bytes any server will do.

    None: no server that has them is there. `near` is the site of the client. `waited`: the job is there, to be run.
    """
    values = (
        job,
        owner.id,
        json.dumps(request),
        node,
        node_uri,
        life,
        destruction,
        storage,
        shared,
        *owner.credential,
        near,
    )
    if waited or shared:
        return _placed(await database.fetchrow(_Sql.insert_pull, *values))
    return _placed(await database.gathering.ask(_INSERT_PULL, *values))


async def await_recall(
    database: Database, job: str, *, request: dict[str, Any], node: int, node_uri: str, life: float
) -> bool:
    """Let a pull wait for bytes of a cold storage; False: it does not wait to be run."""
    waits = await database.fetchval(_Sql.await_recall, job, json.dumps(request), node, node_uri, life)
    return waits is not None


async def insert_push(
    database: Database,
    job: str,
    *,
    owner: Owner,
    request: dict[str, Any],
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
    near: str = "",
    waited: bool = False,
) -> Placed | None:
    """Keep a negotiated push to a place that its container wants, with space; None: there is none.

    `waited`: the job is there, to be run.
    """
    values = (
        job,
        owner.id,
        json.dumps(request),
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
        *owner.credential,
        near,
    )
    if waited:
        return _placed(await database.fetchrow(_Sql.insert_push, *values))
    return _placed(await database.gathering.ask(_INSERT_PUSH, *values))


async def insert_failed(
    database: Database,
    job: str,
    *,
    owner: Owner,
    kind: str,
    request: dict[str, Any],
    fault: str,
    message: str,
    destruction: float,
) -> None:
    """Keep a transfer that was refused."""
    await database.fetchrow(
        _Sql.insert_failed, job, owner.id, json.dumps(request), fault, message, destruction, kind, *owner.credential
    )


_SELECT = Question(_Sql.select, _Sql.select, lambda asked: [[job for (jobs,) in asked for job in jobs]])


async def select(database: Database, job: str) -> JobRow | None:
    """Read a job, with others who do at the same time; None: there is none of that id."""
    row = await database.gathering.ask(_SELECT, [job])
    if row is None or row["id"] is None:
        return None
    values = dict(row)
    values["kind"] = Kind(values["kind"])
    values["phase"] = Phase(values["phase"])
    values["request"] = json.loads(values["request"])
    values["results"] = json.loads(values["results"])
    values["storage"] = str(values["storage"]) if values["storage"] else None
    scope = values.pop("scope")
    return JobRow(progress=_progress(values), scope=Scope.unpack(json.loads(scope)) if scope else None, **values)


async def watch(database: Database, job: str, seconds: float) -> None:
    """Have phase changes of a job told to who listens, for so many seconds."""
    await database.fetchrow(_Sql.watch, job, seconds)


_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, tzinfo=UTC)


async def pages(
    database: Database, wanted: Wanted, *, page: int, newest: int | None = None
) -> AsyncIterator[list[JobReference]]:
    """Give jobs page by page, oldest first, or the `newest` of them, newest first."""
    statement, created, last = (_Sql.page, _BEGINNING, "") if newest is None else (_Sql.page_backwards, _END, "")
    left = sys.maxsize if newest is None else newest
    while left > 0:
        size = min(page, left)
        rows = await database.fetch(
            statement,
            wanted.owner,
            wanted.list,
            wanted.phases,
            wanted.archive,
            wanted.after,
            created,
            last,
            size,
            wanted.token,
            json.dumps(wanted.scope.pack()) if wanted.scope else None,
        )
        found = [JobReference(row["id"], Phase(row["phase"]), row["run_id"], row["created"]) for row in rows]
        if found:
            yield found
            created, last = found[-1].created, found[-1].id
        if len(found) < size:
            return
        left -= size


async def queue(database: Database, job: str) -> bool:
    """Hand a job to the workers; False: it does not wait to be run."""
    return await database.fetchval(_Sql.queue, job) is not None


async def prepare(database: Database, job: str, prepared: Prepared) -> bool:
    """Hand a job to the workers with what it turned out to mean; False: it does not wait to be run."""
    queued = await database.fetchval(
        _Sql.prepare,
        job,
        prepared.node_id,
        prepared.parent_id,
        prepared.name,
        prepared.uri,
        prepared.storage,
        prepared.size_limit,
        prepared.keep_properties,
    )
    return queued is not None


async def set_run_id(database: Database, job: str, run_id: str) -> bool:
    """Let the client name a job that he has not run yet; False: he has."""
    return await database.fetchval(_Sql.set_run_id, job, run_id) is not None


async def set_destruction(database: Database, job: str, moment: datetime, *, longest: float) -> bool:
    """Let a job be forgotten at `moment`, as far as the limits allow; False: that time was over already."""
    return await database.fetchval(_Sql.set_destruction, job, moment, longest) is not None


async def set_duration(database: Database, job: str, seconds: int) -> bool:
    """Let a job execute for so many seconds; False: it has ended."""
    return await database.fetchval(_Sql.set_duration, job, seconds) is not None


async def delete(database: Database, job: str) -> None:
    """Forget a job; whoever works on it stops."""
    await database.fetchrow(_Sql.delete, job)


async def claim(database: Database, kinds: Sequence[str], *, attempt: str, lease: float) -> Claimed | None:
    """Take the oldest job that waits for a worker; None: there is none."""
    return claimed_of(await database.fetchrow(_Sql.claim, kinds, attempt, lease))


async def begin(
    database: Database,
    job: str,
    *,
    owner: Owner,
    list_: str,
    kind: str,
    request: dict[str, Any],
    destruction: float,
    attempt: str,
    lease: float,
    epoch: int,
) -> Claimed | None:
    """Keep a new job that a worker has begun.

    None: the state of the service does not let it, or its owner was identified at another epoch.
    """
    return claimed_of(
        await database.fetchrow(
            _Sql.begin,
            job,
            owner.id,
            list_,
            kind,
            json.dumps(request),
            destruction,
            *owner.credential,
            attempt,
            lease,
            on_behalf_of.get(),
            epoch,
        )
    )


async def take_over(
    database: Database, kinds: Sequence[str], *, attempt: str, lease: float, attempts: int
) -> Claimed | None:
    """Take a job whose worker is dead; None: there is none."""
    return claimed_of(await database.fetchrow(_Sql.take_over, kinds, attempt, lease, attempts))


def claimed_of(row: asyncpg.Record | None) -> Claimed | None:
    """Make a claimed job of the row that a claim gave."""
    if row is None:
        return None
    values = dict(row)
    spent = (values.pop("now") - values.pop("started")).total_seconds()
    duration = values.pop("execution_duration")
    values["request"] = json.loads(values["request"])
    values["scope"] = Scope.unpack(json.loads(values["scope"])) if values["scope"] else None
    return Claimed(progress=_progress(values), seconds_left=max(0.0, duration - spent) if duration else None, **values)


async def renew(database: Database, claimed: Claimed, *, lease: float) -> bool:
    """Extend a worker's lease; False: the job was taken away."""
    row = await database.fetchrow(_Sql.renew, claimed.attempt, lease, *_counters(claimed.progress))
    return row is not None


async def advance(connection: Connection, claimed: Claimed, files: int) -> bool:
    """Note in a transaction of a worker how many nodes it is done with; False: the job was taken away."""
    return await connection.fetchrow(_Sql.advance, claimed.attempt, files) is not None


async def give_back(database: Database, claimed: Claimed) -> None:
    """Let another worker have a job at once."""
    await database.fetchrow(_Sql.give_back, claimed.attempt)


async def overrun(database: Database, claimed: Claimed, message: str) -> None:
    """Abort a job if it has executed for longer than it may."""
    await database.fetchrow(_Sql.overrun, claimed.attempt, message)


async def finish(
    connection: Connection | Database,
    claimed: Claimed,
    phase: Phase,
    *,
    results: Sequence[tuple[str, str]] | None = None,
    fault: str | None = None,
    message: str | None = None,
) -> bool:
    """End a job; False: it was taken away."""
    row = await connection.fetchrow(
        _Sql.finish,
        claimed.attempt,
        str(phase),
        None if results is None else json.dumps(results),
        fault,
        message,
        *_counters(claimed.progress),
    )
    return row is not None


async def abort(connection: Connection | Database, job: str, message: str) -> bool:
    """Abort a job; False: it had ended."""
    return await connection.fetchval(_Sql.abort, job, message) is not None


async def forsake(database: Database, kinds: Sequence[str], *, seconds: float, batch: int) -> int:
    """End jobs whose worker is dead and that nobody took over for so long; give how many, up to a batch."""
    return len(await database.fetch(_Sql.forsake, batch, kinds, seconds))


async def forget_oldest(database: Database, *, kept: int, batch: int) -> int:
    """Forget the oldest ended jobs of each owner who has more than `kept`, up to a batch of each; give how many."""
    return len(await database.fetch(_Sql.forget_oldest, kept, batch))


async def tidy(database: Database, *, batch: int, attempts: int, archive: float) -> int:
    """End jobs whose time is over, and forget those past their destruction; give how many, up to a batch of each."""
    ended = [
        await database.fetch(_Sql.expire, batch),
        await database.fetch(_Sql.exceed, batch),
        await database.fetch(_Sql.give_up, batch, attempts),
        await database.fetch(_Sql.forget, batch, archive),
    ]
    if archive:
        ended.append(await database.fetch(_Sql.archive, batch))
    await database.fetchrow(_Sql.forget_leases)
    return max(map(len, ended))
