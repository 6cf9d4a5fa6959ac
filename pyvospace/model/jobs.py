"""Jobs (UWS 1.1, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyvospace.model.transfers import Transfer
from pyvospace.model.vocabulary import Phase


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
