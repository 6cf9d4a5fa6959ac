"""What a search asks for, and how far it has come."""

from __future__ import annotations

import fnmatch
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from pyvospace.model.faults import InvalidArgument, InvalidURI
from pyvospace.model.uris import check_name
from pyvospace.model.vocabulary import NodeType

LONGEST: Final = 1000
"""Characters of a pattern, at the most."""
_LITERAL: Final = re.compile(r"[^*?[]*")
_PLACE: Final = re.compile(r"(?:(?:[1-9][0-9]{0,18}\.){0,200}(?:0|[1-9][0-9]{0,18}))?")
_LIKE: Final = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_", "*": "%", "?": "_"})


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern as shells have it, for a whole text: ``*``, ``?``, ``[a-z]``, ``[!a-z]``; case matters."""

    pattern: str

    def __post_init__(self) -> None:
        if len(self.pattern) > LONGEST:
            raise InvalidArgument(f"a pattern has {LONGEST} characters at the most")

    @property
    def literal(self) -> str:
        """What every text that fits begins with."""
        return _LITERAL.match(self.pattern)[0]  # type: ignore[index]

    @property
    def like(self) -> str:
        """A pattern of SQL for all texts that fit, and if there are character classes perhaps others."""
        before, bracket, _ = self.pattern.partition("[")
        return before.translate(_LIKE) + ("%" if bracket else "")

    def fits(self, text: str) -> bool:
        """Say whether a text that fits `like` fits indeed."""
        # fnmatch never tries a part of a text twice (atomic groups), so that no pattern takes long.
        return "[" not in self.pattern or _compiled(self.pattern).match(text) is not None


@lru_cache(256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Read a pattern, which takes as long as to try it on a hundred names."""
    return re.compile(fnmatch.translate(pattern))


@dataclass(frozen=True, slots=True)
class Span:
    """From the one to the other, both included; None: without an end."""

    start: int | datetime | None = None
    end: int | datetime | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a node must fulfil, all of it, to be found."""

    name: Glob | None = None
    types: tuple[NodeType, ...] = ()
    """One of these; empty: any."""
    owner: str | None = None
    """Name of a user."""
    spans: Mapping[str, Span] = field(default_factory=dict)
    """By ``size``, ``date`` (core#date), ``btime``, ``ctime``, ``mtime``."""
    properties: tuple[tuple[str, Glob | None], ...] = ()
    """URIs with what the value must be like; None: whatever it is."""

    def fit(self, name: str, properties: Mapping[str, str]) -> bool:
        """Say whether a node that the catalogue has found fulfils what the catalogue cannot tell for sure."""
        return (self.name is None or self.name.fits(name)) and all(
            glob is None or glob.fits(properties.get(uri, "")) for uri, glob in self.properties
        )


@dataclass(frozen=True, slots=True)
class Position:
    """Where a search goes on: in the container at `place`, behind `name`."""

    place: str = ""
    """Ids of the containers on the way, below the one that is searched."""
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read a position that was given out as text.

        Raises
        ------
        InvalidArgument
            It was not.
        """
        try:
            place, _, name = urlsafe_b64decode(text.encode("ascii")).decode().partition("/")
            if _PLACE.fullmatch(place):
                return cls(place, name and check_name(name))
        except (ValueError, InvalidURI):
            pass
        raise InvalidArgument("after: take what the last page gave, as it is")

    def __str__(self) -> str:
        """Write it so that it can stand in a URL."""
        return urlsafe_b64encode(f"{self.place}/{self.name}".encode()).decode()
