"""The life of jobs: made by a client, run by a client or by workers, ended by what they do, by their owner or by time.

What a job does and its last phase are one transaction: `complete` for workers of the metadata servers,
``storage_api.store`` where bytes come.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pyvospace.db import administration, jobs
from pyvospace.model.faults import Fault, InvalidArgument, NotAuthenticated, NotFound, PermissionDenied, ServiceBusy
from pyvospace.model.jobs import Kind, LostJobError
from pyvospace.model.vocabulary import SHARE_LIFE, Direction, Phase
from pyvospace.uws.transfers import pack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from pyvospace.config.settings import JobSettings, Settings
    from pyvospace.db.jobs import JobRow, Prepared
    from pyvospace.db.pool import Connection, Database
    from pyvospace.model.callers import Caller
    from pyvospace.model.claims import Place
    from pyvospace.model.jobs import Claimed
    from pyvospace.model.transfers import Transfer
    from pyvospace.uws.waiting import Waiting

log = logging.getLogger(__name__)

_ID: Final = re.compile(r"[0-9a-f]{40}")
_SECONDS: Final = re.compile(r"[1-9][0-9]{0,17}")
_BATCH: Final = 1000
_TIDY_EVERY: Final = 10.0
_ELSEWHERE: Final = (Kind.PULL_TO, Kind.PUSH_FROM)
"""What no worker of the metadata servers does: if no storage server is there, nobody takes it over."""
_FORSAKEN: Final = 20.0
"""Seconds behind the end of a lease in which another worker would have come."""
_COUNT_EVERY: Final = 60.0
"""Seconds after which ended jobs are counted, which takes longer than to look for those whose time is over."""
_SETTLED: Final = 60.0
"""Seconds after which storage servers are there that were started together with us."""
ACTIVE: Final = frozenset({Phase.PENDING, Phase.QUEUED, Phase.EXECUTING, Phase.HELD, Phase.SUSPENDED})
"""Phases that another one follows."""
BLOCKING: Final = frozenset({Phase.PENDING, Phase.QUEUED, Phase.EXECUTING})
"""Phases in which WAIT waits."""
_NOBODY: Final = "no storage server is there for this transfer; try again"
"""What is told if none can take new bytes."""
_GRACE: Final = 5.0
"""Seconds that a watch outlasts who waits."""
_DIRECTIONS: Final = {
    Direction.PUSH_TO_VOSPACE: Kind.PUSH,
    Direction.PULL_FROM_VOSPACE: Kind.PULL,
    Direction.PULL_TO_VOSPACE: Kind.PULL_TO,
    Direction.PUSH_FROM_VOSPACE: Kind.PUSH_FROM,
}


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
    places: Sequence[Place]
    """The best one first."""

    @property
    def best(self) -> Place:
        """The best of them."""
        return self.places[0]


class RunAlreadyError(PermissionDenied):
    """A job is run once."""

    code = PermissionDenied.code


def new_id() -> str:
    """Make a job id: 160 random bits, lower-case hex (J9 of the clients)."""
    return secrets.token_hex(20)


def _owner(caller: Caller) -> jobs.Owner:
    return jobs.Owner(None if caller.anonymous else caller.id, caller.token_id, caller.scope)


def kind_of(transfer: Transfer) -> Kind:
    """Tell what a transfer is (sections 3.6.1 and 6.4); without keepBytes nothing is lost (rulings of A-09).

    Raises
    ------
    InvalidArgument
        Its direction is none.
    """
    if transfer.direction in set(Direction):
        return _DIRECTIONS[Direction(transfer.direction)]
    if not transfer.direction.lower().startswith("vos:"):
        raise InvalidArgument(f"direction: {transfer.direction[:300]!r} is none")
    return Kind.MOVE if transfer.keep_bytes is False else Kind.COPY


async def create(
    database: Database,
    settings: JobSettings,
    caller: Caller,
    *,
    list_: str,
    kind: Kind,
    request: dict[str, Any],
    run_id: str | None = None,
    run: bool = False,
) -> str:
    """Keep a new job, PENDING or in the queue of the workers; give its id.

    Raises
    ------
    PermissionDenied
        The caller has too many jobs that wait.
    """
    job = new_id()
    kept = await jobs.insert(
        database,
        job,
        owner=_owner(caller),
        list_=list_,
        kind=kind,
        request=request,
        phase=Phase.QUEUED if run else Phase.PENDING,
        run_id=run_id,
        destruction=settings.destruction,
        waiting=settings.waiting,
        duration=0,
    )
    if not kept:
        raise PermissionDenied(f"{settings.waiting} of your jobs are waiting: run, abort or delete some of them first")
    return job


async def begin(
    database: Database, settings: JobSettings, caller: Caller, *, list_: str, kind: Kind, request: dict[str, Any]
) -> Claimed | None:
    """Keep a new job that is in our hands at once.

    None: the state of the service does not let it begin, or the caller has changed since he was identified.
    """
    return await jobs.begin(
        database,
        new_id(),
        owner=_owner(caller),
        list_=list_,
        kind=kind,
        request=request,
        destruction=settings.destruction,
        attempt=secrets.token_hex(16),
        lease=settings.lease,
        epoch=caller.epoch,
    )


async def agree_pull(
    database: Database,
    settings: Settings,
    caller: Caller,
    transfer: Transfer,
    target: Target,
    *,
    near: str,
    job: str | None = None,
) -> Agreed:
    """Keep a negotiated pull: EXECUTING until the bytes were delivered (rulings of A-10), a share until it expires.

    Parameters
    ----------
    near
        Site of the client.
    job
        One that waited to be run; None: a new one.

    Raises
    ------
    InvalidArgument
        It is to be shared for a time that is none.
    ServiceBusy
        No server that has the bytes is there now.
    """
    new = job or new_id()
    row = await jobs.insert_pull(
        database,
        new,
        owner=_owner(caller),
        request=pack(transfer),
        node=target.node_id or 0,
        storage=target.storage,
        node_uri=target.uri,
        life=_share_life(settings, transfer) if transfer.is_share else settings.endpoints.life,
        destruction=settings.jobs.destruction,
        shared=transfer.is_share,
        near=near,
        waited=job is not None,
    )
    words = "no server that has these bytes is there now; try again" if target.storage else _NOBODY
    return await _agreed(database, new, row, waited=job is not None, words=words)


async def await_recall(database: Database, settings: Settings, transfer: Transfer, target: Target, job: str) -> None:
    """Let a pull that waited to be run wait for bytes of a cold storage: EXECUTING, without endpoints as yet.

    Raises
    ------
    RunAlreadyError
        It was run already.
    """
    life = _share_life(settings, transfer) if transfer.is_share else settings.endpoints.life
    waits = await jobs.await_recall(
        database, job, request=pack(transfer), node=target.node_id or 0, node_uri=target.uri, life=life
    )
    if not waits:
        raise RunAlreadyError("the job was run already")


def _share_life(settings: Settings, transfer: Transfer) -> float:
    """Give the seconds that a share lasts: those that the client asks for, up to those of the settings."""
    text = transfer.param(SHARE_LIFE)
    if text is None:
        return settings.endpoints.share_life
    if not _SECONDS.fullmatch(text.strip()):
        raise InvalidArgument(f"{SHARE_LIFE}: {text[:80]!r} is no number of seconds")
    return min(float(text), settings.endpoints.share_life)


async def agree_push(
    database: Database,
    settings: Settings,
    caller: Caller,
    transfer: Transfer,
    target: Target,
    *,
    discard: bool,
    announced: int | None,
    near: str,
    job: str | None = None,
) -> Agreed:
    """Keep a negotiated push; the node is made when its bytes have come (rulings of A-31).

    Raises
    ------
    ServiceBusy
        No storage is there that has room for the announced number of bytes.
    """
    new = job or new_id()
    row = await jobs.insert_push(
        database,
        new,
        owner=_owner(caller),
        request=pack(transfer),
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
        near=near,
        waited=job is not None,
    )
    return await _agreed(database, new, row, waited=job is not None, words=_NOBODY)


async def _agreed(database: Database, job: str, row: jobs.Placed | None, *, waited: bool, words: str) -> Agreed:
    if row is None and waited and (known := await jobs.select(database, job)) and known.phase is not Phase.PENDING:
        raise RunAlreadyError("the job was run already")
    if row is None:
        raise ServiceBusy(words)
    return Agreed(job, row.expires, row.places)


async def refuse(
    database: Database, settings: Settings, caller: Caller, transfer: Transfer, fault: Fault, *, job: str | None = None
) -> str:
    """Keep a transfer that cannot be, as a job in phase ERROR, a new one or `job`; give its id."""
    job = job or new_id()
    try:
        kind = kind_of(transfer)
    except InvalidArgument:
        kind = Kind.PULL
    await jobs.insert_failed(
        database,
        job,
        owner=_owner(caller),
        kind=kind,
        request=pack(transfer),
        fault=fault.code,
        message=fault.in_job,
        destruction=settings.jobs.destruction,
    )
    return job


async def find(database: Database, settings: JobSettings, caller: Caller, list_: str, job: str) -> JobRow:
    """Give a job of a list to its owner; an anonymous job to whoever knows its id.

    Raises
    ------
    NotFound
        There is none of that id, or not any more.
    PermissionDenied, NotAuthenticated
        It is somebody else's.
    """
    row = await jobs.select(database, job) if _ID.fullmatch(job) else None
    if row is None or row.list != list_ or _gone(row, settings):
        raise NotFound(f"there is no job {job[:80]!r}")
    if row.owner_id is not None and row.owner_id != caller.id:
        if caller.anonymous:
            raise NotAuthenticated("this job is somebody's: log in")
        raise PermissionDenied("this job is somebody else's")
    # Tokens of providers have no number here: those that may the same may have each other's jobs.
    same = row.token_id == caller.token_id and (row.token_id is not None or row.scope == caller.scope)
    if caller.scope is not None and not same:
        raise PermissionDenied("this job was made by another credential than this token")
    if row.destroyed:
        return replace(row, phase=Phase.ARCHIVED, results=(), ended=row.ended or row.destruction)
    return row


def _gone(row: JobRow, settings: JobSettings) -> bool:
    return (row.now - row.destruction).total_seconds() >= settings.archive


async def await_phase(
    database: Database,
    settings: JobSettings,
    waiting: Waiting,
    find_again: Callable[[], Awaitable[JobRow]],
    *,
    job: str,
    seconds: float,
    phase: str | None = None,
) -> JobRow:
    """Give a job as soon as its phase changes, or after some seconds (UWS 1.1, section 2.2.1.2).

    Parameters
    ----------
    find_again
        Reads the job, with all that may be wrong with it.
    seconds
        Negative: as long as the server permits.
    phase
        In which the client believes the job to be; if it is in another one there is nothing to wait for.
    """
    limit = settings.wait if seconds < 0 else min(seconds, settings.wait)
    clock = asyncio.get_running_loop().time
    until = clock() + limit
    with waiting.on(job) as watch:
        first = row = await find_again()
        if limit <= 0 or first.phase not in BLOCKING or phase not in {None, first.phase}:
            return row
        await jobs.watch(database, job, limit + _GRACE)
        row = await find_again()
        while row.phase is first.phase and (left := until - clock()) > 0 and not waiting.closed:
            await watch.change(left)
            row = await find_again()  # also when nothing was heard: there may be nobody to tell
    return row


async def abort(database: Database, job: JobRow) -> None:
    """Abort a job on its owner's word; one that has ended stays as it is. Its endpoints die with it."""
    await jobs.abort(database, job.id, "aborted by its owner")


async def abort_any(connection: Connection, job: str) -> None:
    """Abort anybody's job on the word of an administrator; one that has ended stays as it is.

    Raises
    ------
    NotFound
        There is no such job.
    """
    aborted = await jobs.abort(connection, job, "aborted by an administrator")
    if not aborted and not await administration.has_job(connection, job):
        raise NotFound(f"there is no job {job[:80]}")


async def queue(database: Database, job: JobRow, prepared: Prepared | None = None) -> None:
    """Hand a job that its owner had not run yet to the workers, with what it turned out to mean.

    Raises
    ------
    RunAlreadyError
        He has.
    """
    queued = await (jobs.prepare(database, job.id, prepared) if prepared else jobs.queue(database, job.id))
    if not queued:
        raise RunAlreadyError("the job was run already")


async def complete(connection: Connection, claimed: Claimed, results: Sequence[tuple[str, str]] = ()) -> None:
    """Complete a job, in the transaction of what it does: ids of results with their links.

    Raises
    ------
    LostJobError
        The job is in other hands: roll back.
    """
    if not await jobs.finish(connection, claimed, Phase.COMPLETED, results=results):
        raise LostJobError(claimed.id)


async def advance(connection: Connection, claimed: Claimed, files: int) -> None:
    """Note how many nodes a job is done with, in the transaction of what it does to them.

    Raises
    ------
    LostJobError
        The job is in other hands: roll back.
    """
    if not await jobs.advance(connection, claimed, files):
        raise LostJobError(claimed.id)


async def end(
    database: Database,
    claimed: Claimed,
    phase: Phase,
    *,
    results: Sequence[tuple[str, str]],
    fault: Fault | None = None,
    message: str | None = None,
) -> None:
    """End a job whose effects came one by one, in any phase.

    Raises
    ------
    LostJobError
        The job is in other hands.
    """
    code = fault.code if fault else None
    words = fault.in_job if fault else message
    if not await jobs.finish(database, claimed, phase, results=results, fault=code, message=words):
        raise LostJobError(claimed.id)


class MetadataQueue:
    """The jobs that workers of the metadata servers do (see `uws.runner.Queue`)."""

    def __init__(self, database: Database, settings: JobSettings) -> None:
        self._database = database
        self._settings = settings

    @property
    def lease(self) -> float:
        """Seconds that a job stays with a worker that is silent."""
        return self._settings.lease

    async def claim(self, kinds: Sequence[str], *, lost: bool) -> Claimed | None:
        """Take the oldest job that waits, or one whose worker is dead."""
        attempt = secrets.token_hex(16)
        if lost:
            return await jobs.take_over(
                self._database, kinds, attempt=attempt, lease=self.lease, attempts=self._settings.attempts
            )
        return await jobs.claim(self._database, kinds, attempt=attempt, lease=self.lease)

    async def renew(self, claimed: Claimed) -> bool:
        """Extend the lease and tell the progress."""
        return await jobs.renew(self._database, claimed, lease=self.lease)

    async def fail(self, claimed: Claimed, fault: Fault) -> None:
        """End the job in the phase ERROR."""
        await jobs.finish(self._database, claimed, Phase.ERROR, fault=fault.code, message=fault.in_job)

    async def overrun(self, claimed: Claimed) -> None:
        """Abort a job if it has executed for longer than it may."""
        await jobs.overrun(self._database, claimed, "it has executed for longer than executionDuration")

    async def give_back(self, claimed: Claimed) -> None:
        """Let another worker have the job at once."""
        await jobs.give_back(self._database, claimed)


async def tidy_for_ever(database: Database, settings: JobSettings) -> None:
    """End jobs whose time is over and forget what is past its destruction, again and again.

    Every metadata server does so; the rows of one are skipped by the others.
    """
    clock = asyncio.get_running_loop().time
    begun = counted = clock()
    while True:
        try:
            while (
                await jobs.tidy(database, batch=_BATCH, attempts=settings.attempts, archive=settings.archive) >= _BATCH
            ):
                pass
            if clock() - begun > _SETTLED:
                await jobs.forsake(database, _ELSEWHERE, seconds=_FORSAKEN, batch=_BATCH)
            if clock() - counted > _COUNT_EVERY:
                counted = clock()
                await jobs.forget_oldest(database, kept=settings.kept, batch=_BATCH)
        except Fault as fault:
            log.warning("jobs were not tidied: %s", fault)
        await asyncio.sleep(_TIDY_EVERY * (0.5 + secrets.randbelow(1000) / 1000))


def endpoint_expiry(seconds: float) -> datetime:
    """Give the instant `seconds` from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)
