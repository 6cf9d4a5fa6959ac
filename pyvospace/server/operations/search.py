"""Search: nodes below a container by what they are (dropped from VOSpace 2.1 for want of implementations)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from pyvospace.db import search
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.instants import read_instant
from pyvospace.model.searches import Conditions, Glob, Position, Span
from pyvospace.model.vocabulary import IMMUTABLE, LOCKS, MANAGED, PERMISSIONS, TYPE, NodeType
from pyvospace.server.operations.paths import follow
from pyvospace.server.policy import Right
from pyvospace.server.properties import canonical

if TYPE_CHECKING:
    from pyvospace.db.search import Hit, Page
    from pyvospace.model.stored import StoredNode
    from pyvospace.server.context import Context

SEARCHES: Final = "searches"
"""The list of jobs that search."""
EXAMINED: Final = 20_000
"""Nodes and containers that one page looks at, at the most."""
_PROPERTIES: Final = 20
"""Most conditions about properties: each is tried on every node."""
_KEPT_APART: Final = MANAGED | PERMISSIONS | LOCKS | {IMMUTABLE}
_DIGITS: Final = 18
_DATES: Final = ("DATE", "BTIME", "CTIME", "MTIME")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_PROPERTY: Final = re.compile(r"([^=:]+:[^=#]*(?:=[^=#]*)*#[^=]*|[^=]*)(?:=(.*))?", re.DOTALL)
"""A URI and perhaps a pattern: the first = behind the fragment, or without a fragment the first, is between them."""
_KNOWN: Final = frozenset(
    {"TARGET", "LIMIT", "NAME", "TYPE", "OWNER", "PROPERTY", "CONTENTTYPE"}
    | {end + of for end in ("MIN", "MAX") for of in ("SIZE", *_DATES)}
)
"""Parameters of every search."""


class _Reader(Protocol):
    def __call__(self, text: str, *, of: str) -> int | datetime: ...


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and where."""

    path: tuple[str, ...]
    """Of the container."""
    conditions: Conditions
    limit: int | None = None
    """How many nodes are enough."""


def read(context: Context, asked: Mapping[str, Sequence[str]], *, besides: Iterable[str]) -> Search:
    """Read what is looked for from parameters.

    Parameters
    ----------
    asked
        Values by name, names in upper case.
    besides
        Parameters that may be there and mean something else.

    Raises
    ------
    InvalidArgument
        TARGET is missing, a parameter is unknown, given twice, or has a value that it cannot have.
    InvalidURI
        TARGET is no URI of this space.
    """
    unknown = sorted(asked.keys() - _KNOWN - set(besides))
    if unknown:
        raise InvalidArgument(f"{unknown[0].lower()[:80]!r} is nothing that can be searched by")
    if any("\0" in value for values in asked.values() for value in values):
        raise InvalidArgument("a parameter holds a NUL")
    target, name, limit = _one(asked, "TARGET"), _one(asked, "NAME"), _one(asked, "LIMIT")
    if target is None:
        raise InvalidArgument("target: name the container to search below")
    if limit is not None and _number(limit, of="limit") < 1:
        raise InvalidArgument("limit: at least one node")
    conditions = Conditions(
        name=Glob(name) if name is not None else None,
        types=_types(asked.get("TYPE", ())),
        owner=_one(asked, "OWNER"),
        spans={"size": _span(asked, "SIZE", _number), **{of.lower(): _span(asked, of, _instant) for of in _DATES}},
        properties=_properties(asked.get("PROPERTY", ()), _one(asked, "CONTENTTYPE")),
    )
    return Search(context.own_path(target), conditions, None if limit is None else int(limit))


def _one(asked: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = asked.get(name, ())
    if len(values) > 1:
        raise InvalidArgument(f"{name.lower()} is given {len(values)} times")
    return values[0] if values else None


def _types(values: Sequence[str]) -> tuple[NodeType, ...]:
    known = {str(one).lower(): one for one in NodeType}
    wanted: set[NodeType] = set()
    for word in {word for value in values for word in value.split(",")}:
        kind = known.get(word.strip().removeprefix("vos:").lower())
        if kind is None:
            raise InvalidArgument(f"type: {word[:80]!r} is none of {', '.join(NodeType)}")
        wanted |= {one for one in NodeType if one is kind or kind is NodeType.NODE or _is_kind_of_data(one, kind)}
    return tuple(sorted(wanted))


def _is_kind_of_data(one: NodeType, kind: NodeType) -> bool:
    return kind is NodeType.DATA and one.holds_bytes


def _span(asked: Mapping[str, Sequence[str]], of: str, reader: _Reader) -> Span:
    return Span(_bound(asked, f"MIN{of}", reader), _bound(asked, f"MAX{of}", reader))


def _bound(asked: Mapping[str, Sequence[str]], name: str, reader: _Reader) -> int | datetime | None:
    text = _one(asked, name)
    return None if text is None else reader(text, of=name.lower())


def _number(text: str, *, of: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InvalidArgument(f"{of}: {text[:80]!r} is no number")
    return int(text)


def _instant(text: str, *, of: str) -> datetime:
    """Read an instant; a day alone is its first moment."""
    return read_instant(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text, of=of)


def _properties(values: Sequence[str], content_type: str | None) -> tuple[tuple[str, Glob | None], ...]:
    found = [_property(value) for value in values]
    if content_type is not None:
        found.append((TYPE, Glob(content_type)))
    if len(found) > _PROPERTIES:
        raise InvalidArgument(f"a search has up to {_PROPERTIES} conditions about properties")
    return tuple(found)


def _property(text: str) -> tuple[str, Glob | None]:
    match = _PROPERTY.fullmatch(text)
    if match is None or not match[1]:
        raise InvalidArgument(f"property: {text[:300]!r} is neither URI nor URI=PATTERN")
    uri, value = match.groups()
    uri = canonical(uri)
    if uri in _KEPT_APART:
        raise InvalidArgument(f"property: {uri} is kept by the service itself; search by owner, size or dates")
    return uri, None if value is None else Glob(value)


async def container(context: Context, path: tuple[str, ...]) -> StoredNode:
    """Give the container that is to be searched; links on the way are followed, and it may be one.

    Raises
    ------
    NodeNotFound, PermissionDenied, NotAuthenticated, InvalidArgument
    """
    node = context.policy.require(Right.READ, await follow(context, path, last=True, reading=True))
    if not node.is_container:
        raise InvalidArgument(f"{context.uri(path)} is no container")
    return node


async def page(context: Context, wanted: Search, after: Position, *, limit: int) -> Page:
    """Give up to `limit` of what there is to find, and where to go on."""
    top = await container(context, wanted.path)
    found = await search.page(
        context.reader, context.caller, top.id, wanted.conditions, after, limit=limit, examine=EXAMINED
    )
    context.policy.check_epoch(found.epoch)
    return found


async def found(context: Context, job: str) -> AsyncIterator[Sequence[Hit]]:
    """Give what a job has found, piece by piece, as far as it is still there and the caller may read it."""
    number = context.service.settings.limits.page
    last = await search.last(context.reader, job)
    for behind in range(0, last, number):
        yield await search.found(context.reader, context.caller, job, behind=behind, number=number)
