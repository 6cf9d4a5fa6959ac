"""What a client may find, after answers that came, answers that did not, and requests that may still be under way.

A client has a fixed number of names. A world says what each of them holds: the number of a content, or None for no
node. An operation without a clear answer may have been done, may be done later, or never: it is late. So there are
several worlds, each with the operations that are still late in it. What the client sees rules worlds out; when none is
left, the promise was broken.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

LATE: Final = 60.0
"""Seconds after which an operation that was lost is done or never will be: longer than any limit of the servers."""

Names = tuple[int | None, ...]
"""What each name holds."""


class LostError(AssertionError):
    """The promise was broken."""


@dataclass(frozen=True)
class Content:
    """Bytes that were sent."""

    data: bytes
    md5: str

    @classmethod
    def of(cls, data: bytes) -> Content:
        return cls(data, hashlib.md5(data).hexdigest())


class Operation(Protocol):
    """Something that changes names."""

    def apply(self, names: Names) -> Names | None:
        """Give what is there afterwards; None: it could not have succeeded."""


@dataclass(frozen=True)
class Put:
    """Give a name a content."""

    name: int
    content: int

    def apply(self, names: Names) -> Names | None:
        return _with(names, self.name, self.content)


@dataclass(frozen=True)
class Delete:
    """Delete a node."""

    name: int

    def apply(self, names: Names) -> Names | None:
        return None if names[self.name] is None else _with(names, self.name, None)


@dataclass(frozen=True)
class Move:
    """Move a node to a free name."""

    name: int
    goal: int

    def apply(self, names: Names) -> Names | None:
        if names[self.name] is None or names[self.goal] is not None:
            return None
        return _with(_with(names, self.goal, names[self.name]), self.name, None)


@dataclass(frozen=True)
class Copy:
    """Copy a node to a free name."""

    name: int
    goal: int

    def apply(self, names: Names) -> Names | None:
        if names[self.name] is None or names[self.goal] is not None:
            return None
        return _with(names, self.goal, names[self.name])


def _with(names: Names, name: int, content: int | None) -> Names:
    return (*names[:name], content, *names[name + 1 :])


@dataclass(frozen=True)
class World:
    """One of the states that are possible."""

    names: Names
    late: frozenset[int] = frozenset()
    """Numbers of operations that may still be done."""


class Worlds:
    """All states that are possible for one client."""

    def __init__(self, number: int) -> None:
        self.contents: dict[int, Content] = {}
        self._numbers = itertools.count()
        self._worlds = {World((None,) * number)}
        self._late: dict[int, tuple[Operation, float]] = {}

    def __len__(self) -> int:
        return len(self._worlds)

    def new(self, data: bytes) -> int:
        """Remember a content, and forget those that are nowhere any more."""
        used = {one for names in self.states() for one in names}
        used |= {late.content for late, _ in self._late.values() if isinstance(late, Put)}
        self.contents = {key: value for key, value in self.contents.items() if key in used}
        number = next(self._numbers)
        self.contents[number] = Content.of(data)
        return number

    def states(self) -> set[Names]:
        """Give what may be there now."""
        return {world.names for world in self._open()}

    def done(self, operation: Operation) -> None:
        """Take over what was acknowledged."""
        after = ((operation.apply(world.names), world.late) for world in self._open())
        worlds = {World(names, late) for names, late in after if names is not None}
        if isinstance(operation, Put):
            worlds = {World(world.names, world.late - self._overtaken(operation)) for world in worlds}
        self._take(worlds, f"{operation} was acknowledged")

    def _overtaken(self, put: Put) -> set[int]:
        """Give the late uploads that can never be done: a later one to the same name was."""
        return {number for number, (late, _) in self._late.items() if isinstance(late, Put) and late.name == put.name}

    def lost(self, operation: Operation) -> None:
        """Take over what may have been done, or may still be done."""
        number = next(self._numbers)
        self._late[number] = (operation, time.monotonic() + LATE)
        self._worlds = {World(world.names, world.late | {number}) for world in self._worlds}

    def see(self, fits: Callable[[Names], bool], what: str) -> None:
        """Rule out the worlds in which this could not have been seen."""
        self._take({world for world in self._open() if fits(world.names)}, what)

    def end(self) -> None:
        """Nothing is late any more."""
        self._worlds = {World(world.names) for world in self._open()}
        self._late = {}

    def _take(self, worlds: set[World], what: str) -> None:
        if not worlds:
            told = [[self._told(one) for one in names] for names in self.states()]
            late = [str(one) for one, _ in self._late.values()]
            raise LostError(f"{what}; expected one of {told}, late: {late}")
        self._worlds = worlds

    def _told(self, number: int | None) -> str:
        if number is None:
            return "-"
        content = self.contents[number]
        return f"#{number}:{len(content.data)}:{content.md5[:6]}"

    def _open(self) -> Collection[World]:
        """Add the worlds in which what is late was done by now, and give all."""
        found, fresh = set(self._worlds), list(self._worlds)
        while fresh:
            world = fresh.pop()
            for number in world.late:
                names = self._late[number][0].apply(world.names)
                after = World(names or world.names, world.late - {number})
                if names is not None and after not in found:
                    found.add(after)
                    fresh.append(after)
        over = {number for number, (_, until) in self._late.items() if until < time.monotonic()}
        for number in over:
            del self._late[number]
        self._worlds = {World(world.names, world.late - over) for world in found} if over else found
        return self._worlds
