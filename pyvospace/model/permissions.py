"""Who may do what, and by which rule: what ``/permissions`` tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A container on the way to a node."""

    uri: str
    rule: str
    """By which it may be read, or may not."""
    readable: bool
    groups: tuple[str, ...] = ()
    """By which groups, if it is by groups and the asker may know."""


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether somebody may do something to a node."""

    right: str
    allowed: bool
    rule: str
    """That decides."""
    words: str
    node: str | None = None
    """URI of the node that decides; None: it is not one of them."""
    groups: tuple[str, ...] = ()
    trail: tuple[str, ...] = ()
    """Rules that were looked at, in order."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """What somebody may do to a node."""

    target: str
    user: str | None
    """None: whoever is not logged in."""
    permissions: tuple[Permission, ...]
    way: tuple[Step, ...]
    """The containers above, down to the first that may not be read."""
