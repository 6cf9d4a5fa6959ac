"""What is wrong with a space: findings of those who compare its catalogue with itself and with its stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Damage = Literal["missing", "size", "digest", "unreadable"]
"""What can be wrong with bytes that something names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """What is wrong, in one word; docs/howto/integrity.md has them all."""
    subject: str
    """What it is wrong with: the id of a row, or a location."""
    details: str
    """For people."""
    path: str | None = None
    """Of a node that has these bytes."""
    outcome: str = ""
    """What was done about it. Empty: nothing yet, or nothing can be done from here."""

    def fields(self) -> dict[str, Any]:
        """Give it for JSON."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "details": self.details,
            "path": self.path,
            "outcome": self.outcome or None,
        }


@dataclass(frozen=True, slots=True)
class Named:
    """What the bytes at a location should be."""

    location: str
    size: int | None
    """None, as for the digests: nobody knows."""
    md5: bytes | None
    sha256: bytes | None
    damage: str | None = None
    """Kind of the damage that is known already."""
    path: str | None = None
    """Of a node that has them."""
