"""Jobs (UWS 1.1, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pyvospace.model.callers import Scope
from pyvospace.model.transfers import Transfer
from pyvospace.model.vocabulary import Phase


class Kind(StrEnum):
    """What a job does."""

    PUSH = "push"
    """The client brings bytes: EXECUTING from the negotiation until they have come."""
    PULL = "pull"
    """The client fetches bytes, likewise."""
    PULL_TO = "pull_to"
    """A storage server fetches bytes from elsewhere."""
    PUSH_FROM = "push_from"
    """A storage server sends bytes elsewhere."""
    MOVE = "move"
    COPY = "copy"
    DELETE = "delete"
    """Delete what may be deleted of a tree."""
    SET_PROPERTIES = "set_properties"
    """Set properties of a whole tree."""
    SEARCH = "search"
    RECALL = "recall"
    """Bring bytes back from cold storages."""

    @property
    def changes_nodes(self) -> bool:
        """Say whether such a job changes something in the space: none begins while the service is read-only."""
        return self not in _READING


_READING = frozenset({Kind.PULL, Kind.PUSH_FROM, Kind.SEARCH})


@dataclass(slots=True)
class Progress:
    """How far a job is, while it executes; None: not counted, or not known. Its worker counts on."""

    bytes_done: int | None = None
    bytes_total: int | None = None
    files_done: int | None = None
    files_total: int | None = None

    def rate(self, seconds: float) -> float | None:
        """Give the bytes per second of so many seconds."""
        return self.bytes_done / seconds if self.bytes_done is not None and seconds > 0 else None

    def left(self, seconds: float) -> timedelta | None:
        """Predict how long the rest takes, from how long the beginning took; None: nobody knows."""
        for done, total in ((self.bytes_done, self.bytes_total), (self.files_done, self.files_total)):
            if done and total and total >= done:
                return timedelta(seconds=seconds * (total - done) / done)
        return None


@dataclass(frozen=True, slots=True)
class Result:
    """A result of a job: a name and a link."""

    id: str
    href: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as documents say it."""

    id: str
    phase: Phase
    owner: str | None
    """Name of the user; None: anonymous."""
    created: datetime
    execution_duration: int = 0
    """Seconds; 0: no limit."""
    destruction: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    quote: datetime | None = None
    run_id: str | None = None
    fault: str | None = None
    """Name of the fault of a job that failed."""
    message: str | None = None
    """The words of errorSummary."""
    results: tuple[Result, ...] = ()
    transfer: Transfer | None = None
    """The document that made the job, without endpoints (R-XFER-003)."""
    parameters: tuple[tuple[str, str], ...] = ()
    progress: Progress | None = None
    """None: nothing of it is counted."""
    rate: float | None = None
    """Bytes per second since it started."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job in the hands of a worker."""

    id: str
    kind: str
    owner_id: int | None
    """None: anonymous."""
    request: dict[str, Any]
    """What was asked for, packed by its kind."""
    node_id: int | None
    parent_id: int | None
    name: str | None
    node_uri: str | None
    attempt: str
    """The fence: it proves that the job is still in these hands."""
    attempts: int
    """Which worker this is, counted from 1."""
    seconds_left: float | None
    """Until executionDuration is over; None: there is no such limit."""
    progress: Progress
    """Counted on by the work, told with each renewal of the lease."""
    token_id: int | None = None
    """The token by which it was made; None: another credential."""
    scope: Scope | None = None
    """What that token may at most."""


class LostJobError(Exception):
    """The job is in other hands: it was aborted, deleted, or taken over. What was about to be done is not."""
