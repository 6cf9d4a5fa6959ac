"""The children of a container in any order, in pieces of text; no connection is held between two of them.

By name, an index gives each page. By length or date none does: it would have to be kept at every creation and every
upload, for a question that people ask of what they can look at. Instead all children are read once for each 20,000 that
are given, and only their ids kept: a page of a few costs a look at each child, a million children cost fifty.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TYPE_CHECKING, ClassVar, Final

from pyvospace.db.statements import QueryFile
from pyvospace.model.faults import InvalidURI
from pyvospace.model.vocabulary import SortKey

if TYPE_CHECKING:
    from pyvospace.db.pool import Reader
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import Page, StoredNode
    from pyvospace.model.vocabulary import Detail


class _Sql(QueryFile, file="listings.sql"):
    backwards: ClassVar[str]
    sorted: ClassVar[str]
    page: ClassVar[str]


_SORTED_AT_ONCE: Final = 20_000
"""Ids that one statement sorts: what PostgreSQL does in its working memory."""
_LAST_NAME: Final = "\U0010ffff" * 64
"""Behind every name."""


def children(
    reader: Reader,
    caller: Caller,
    container: StoredNode,
    page: Page,
    detail: Detail,
    *,
    at_once: int,
    leaves_seen: bool,
) -> AsyncGenerator[bytes]:
    """Give the children of a container, up to `at_once` in a piece, in the shorthand that ``listings.sql`` explains.

    What does not change meanwhile comes exactly once.

    Parameters
    ----------
    leaves_seen
        The caller may see every child that is no container.

    Raises
    ------
    InvalidURI
        The child at which the page is to begin is not there, so that nobody knows its place in this order.
    """
    who = (container.id, caller.id, caller.groups, caller.admin)
    how = (leaves_seen, str(detail))
    if page.sort is not SortKey.NAME:
        return _told(reader, _sorted(reader, caller, container, page, leaves_seen=leaves_seen), who, how, at_once)
    if page.descending:
        return _told(reader, _backwards(reader, container, page, at_once=at_once), who, how, at_once)
    return _by_name(reader, page, who, how, at_once)


async def _by_name(
    reader: Reader, page: Page, who: tuple[object, ...], how: tuple[object, ...], at_once: int
) -> AsyncGenerator[bytes]:
    start, inclusive = page.start, True
    for size in _sizes(page.limit, at_once):
        row = await reader.fetchrow(_Sql.page, *who, size, start, inclusive, None, *how)
        if row is None or not row["number"]:
            return
        yield row["text"]
        if row["number"] < size:
            return
        start, inclusive = row["name"], False


async def _told(
    reader: Reader,
    sequence: AsyncIterator[list[int]],
    who: tuple[object, ...],
    how: tuple[object, ...],
    at_once: int,
) -> AsyncGenerator[bytes]:
    """Tell of the nodes with these ids, in this order."""
    async for ids in sequence:
        for at in range(0, len(ids), at_once):
            row = await reader.fetchrow(_Sql.page, *who, 0, "", False, ids[at : at + at_once], *how)
            if row is not None and row["number"]:
                yield row["text"]


def _sizes(limit: int | None, most: int) -> Iterator[int]:
    """Give the sizes of the pieces in which up to `limit` children are asked for."""
    left = limit
    while left is None or left > 0:
        size = most if left is None else min(most, left)
        yield size
        left = None if left is None else left - size


async def _backwards(reader: Reader, container: StoredNode, page: Page, *, at_once: int) -> AsyncIterator[list[int]]:
    start, inclusive = page.start or _LAST_NAME, True
    for size in _sizes(page.limit, at_once):
        row = await reader.fetchrow(_Sql.backwards, container.id, size, start, inclusive)
        if row is None or row["name"] is None:
            return
        yield row["ids"]
        if len(row["ids"]) < size:
            return
        start, inclusive = row["name"], False


async def _sorted(
    reader: Reader, caller: Caller, container: StoredNode, page: Page, *, leaves_seen: bool
) -> AsyncIterator[list[int]]:
    who = (container.id, caller.id, caller.groups, caller.admin)
    how = (page.sort is SortKey.LENGTH, page.descending)
    key, name, inclusive = None, page.start or None, bool(page.start)
    for size in _sizes(page.limit, _SORTED_AT_ONCE):
        row = await reader.fetchrow(_Sql.sorted, *who, size, *how, key, name, inclusive, leaves_seen)
        if row is None or (inclusive and row["start"] is None):
            raise InvalidURI(f"the child {page.start!r}, at which the page is to begin, is not there any more")
        if row["name"] is None:
            return
        yield row["ids"]
        if len(row["ids"]) < size:
            return
        key, name, inclusive = row["key"], row["name"], False
