"""What a service tells of itself (VOSI 1.1; VOSpace 2.1, section 6.1), and the state that its operator gives it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from pyvospace.model.faults import InvalidArgument, ServiceBusy

CLOSED_FOR: Final = 180
"""Seconds after which a client may ask a closed service again."""
_NOTE: Final = 2000


@dataclass(frozen=True, slots=True)
class Capability:
    """An interface of the service."""

    standard_id: str
    url: str
    use: str
    """``full`` or ``base`` (D4 of the clients)."""
    methods: tuple[str, ...] = ()
    """Security methods besides the anonymous one; empty: the interface never asks who calls."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the service can serve."""

    available: bool
    up_since: datetime | None = None
    down_at: datetime | None = None
    back_at: datetime | None = None
    notes: tuple[str, ...] = ()


class State(StrEnum):
    """What the service does, by the names of OpenCADC."""

    READ_WRITE = "ReadWrite"
    READ_ONLY = "ReadOnly"
    """What would change anything is refused."""
    OFFLINE = "Offline"
    """Everything but VOSI is refused."""

    @property
    def word(self) -> str:
        """Give the spelling of the command line: ``read-only``."""
        return _SPELLINGS[self]

    @classmethod
    def parse(cls, text: str) -> State:
        """Read a state in any spelling: ``ReadOnly``, ``read-only``.

        Raises
        ------
        InvalidArgument
            There is no such state.
        """
        plain = text.replace("-", "").lower()
        for one in cls:
            if one.lower() == plain:
                return one
        raise InvalidArgument(f"state: {text[:80]!r} is none of {', '.join(one.word for one in cls)}")


_SPELLINGS = {State.READ_WRITE: "read-write", State.READ_ONLY: "read-only", State.OFFLINE: "offline"}
_WORDS = {
    State.READ_WRITE: "",
    State.READ_ONLY: "the service is read-only",
    State.OFFLINE: "the service is offline",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of the service, and what its operator says about it."""

    state: State = State.READ_WRITE
    note: str = ""
    down_at: datetime | None = None
    """When he means to take it down."""
    back_at: datetime | None = None
    turned: datetime | None = None
    """When it last went offline, or came back from there."""
    epoch: int = 0
    """Epoch of the catalogue at which this holds (see `pyvospace.model.callers`)."""

    def __post_init__(self) -> None:
        if len(self.note) > _NOTE or "\0" in self.note:
            raise InvalidArgument(f"a note has {_NOTE} characters at the most, and no NUL")

    @property
    def announcement(self) -> str:
        """What everybody should know; empty: nothing."""
        return self.note or _WORDS[self.state]

    def refusal(self, *, changes: bool) -> ServiceBusy | None:
        """Give why the service is not open, or not open to changes; None: it is."""
        if self.state is State.OFFLINE or (changes and self.state is State.READ_ONLY):
            return ServiceBusy(self.announcement, retry_after=CLOSED_FOR)
        return None

    def require(self, *, changes: bool) -> None:
        """Require that the service is open, or open to changes.

        Raises
        ------
        ServiceBusy
            It is not.
        """
        if (fault := self.refusal(changes=changes)) is not None:
            raise fault
