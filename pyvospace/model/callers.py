"""Who calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity, as it was at an epoch of the catalogue.

    It may be remembered between requests: whoever decides with it compares the epoch with the catalogue's in the
    same statement, and asks anew if they differ.
    """

    id: int = 0
    """Of the user; 0: anonymous."""
    name: str = ""
    admin: bool = False
    groups: tuple[str, ...] = ()
    """URIs of the groups that he belongs to."""
    epoch: int = 0
    """Epoch of the catalogue for which all this holds; without meaning for an anonymous caller."""
    expires: datetime | None = None
    """When the credential ends."""

    @property
    def anonymous(self) -> bool:
        """Say whether nobody is logged in."""
        return self.id == 0


ANONYMOUS = Caller()


class StaleCallerError(Exception):
    """Users, tokens or groups have changed since the caller was identified: identify him again and start over."""
