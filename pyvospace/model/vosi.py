"""What a service tells of itself (VOSI 1.1; VOSpace 2.1, section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


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
