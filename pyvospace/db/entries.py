"""Entries: the children of a container as text that the database has made, for listings that have to be quick."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, ClassVar, Final

from pyvospace.db.statements import QueryFile
from pyvospace.model.entries import Room

if TYPE_CHECKING:
    from pyvospace.db.pool import Reader
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import StoredNode


class _Sql(QueryFile, file="entries.sql"):
    page: ClassVar[str]
    tightest: ClassVar[str]


_AT_ONCE: Final = 2000
"""Children of a page: more of them are no quicker, and take more memory here and there."""


async def children(
    reader: Reader,
    caller: Caller,
    container: StoredNode,
    *,
    after: str,
    limit: int | None,
    leaves_seen: bool,
    writes: bool,
) -> AsyncGenerator[bytes]:
    """Give the children of a container in the order of their names, a line of JSON for each, in pieces.

    No connection is held between two pieces. What does not change meanwhile comes exactly once.

    Parameters
    ----------
    after
        They begin behind this name, which need not be there.
    leaves_seen
        The caller may see every child that is no container.
    writes
        He may change what his rights let him write to.
    """
    who = (caller.id, caller.groups, caller.admin)
    left = limit
    while left is None or left > 0:
        size = _AT_ONCE if left is None else min(_AT_ONCE, left)
        row = await reader.fetchrow(_Sql.page, container.id, *who, size, after, leaves_seen, writes)
        if row is None or not row["number"]:
            return
        yield row["text"]
        if row["number"] < size:
            return
        after, left = row["name"], None if left is None else left - size


async def tightest(reader: Reader, caller: Caller, container: StoredNode) -> Room | None:
    """Give the quota that leaves least to a user in a container; None: no quota limits his bytes there."""
    row = await reader.fetchrow(_Sql.tightest, container.id, caller.id)
    return Room(limit=row["most"], used=row["used"]) if row else None
