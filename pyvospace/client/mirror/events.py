"""What a mirror tells of its work while it is at it, and at its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pyvospace.client.progress import Progress
    from pyvospace.model.faults import Fault


class Act(StrEnum):
    """What is done with one path."""

    COPY = "copy"
    DATE = "date"
    """The bytes are the same: only the time of the file is noted."""
    FOLDER = "folder"
    DELETE = "delete"
    LEAVE_OUT = "leave-out"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done, or in a dry run would be."""

    act: Act
    path: str
    """From the top on; a folder ends with a slash."""
    size: int | None = None
    """Bytes of what was copied."""
    reason: str | None = None


@dataclass(slots=True)
class Summary:
    """What came of a mirror."""

    files: int = 0
    """Copied."""
    bytes: int = 0
    unchanged: int = 0
    dated: int = 0
    folders: int = 0
    """Made; or copied by the service as a whole, whose files are not counted."""
    deleted: int = 0
    """A folder that went as a whole counts once."""
    left_out: int = 0
    failed: int = 0
    seconds: float = 0.0


class Observer(Protocol):
    """Who wants to know how a mirror goes."""

    def file(self, name: str) -> AbstractContextManager[Progress]:
        """Hear that bytes are on their way, and with the end of the context that they are no more."""

    def done(self, event: Event) -> None:
        """Hear of something that was done, or left out."""

    def failed(self, what: str, path: str, error: Fault | OSError) -> None:
        """Hear that something could not be done with what is shown as `what`; the rest goes on."""
