"""Search: nodes below a container, and what jobs have found. What a caller may not read never leaves the database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from pyvospace.db.statements import QueryFile
from pyvospace.db.stored import stored_node
from pyvospace.model.searches import Conditions, Position, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from pyvospace.db.pool import Database, Reader
    from pyvospace.model.callers import Caller
    from pyvospace.model.jobs import Claimed
    from pyvospace.model.stored import StoredNode


class _Sql(QueryFile, file="search.sql"):
    page: ClassVar[str]
    forget: ClassVar[str]
    keep: ClassVar[str]
    last: ClassVar[str]
    found: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Hit:
    """A node that was found."""

    way: tuple[str, ...]
    """Names of the containers that it is in, from the root."""
    node: StoredNode


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of what there is to find."""

    hits: Sequence[Hit]
    after: Position | None
    """Where to go on, though there may be nothing more; None: this is the end."""
    epoch: int


def _hit(row: asyncpg.Record) -> Hit:
    return Hit(tuple(row["way"]), stored_node(row))


def _wanted(conditions: Conditions) -> str:
    """Write conditions as the function ``search_tree`` reads them."""
    wanted: dict[str, Any] = {}
    if conditions.name is not None:
        wanted["name"], wanted["low"] = conditions.name.like, conditions.name.literal
    if conditions.types:
        wanted["types"] = conditions.types
    if conditions.owner is not None:
        wanted["owner"] = conditions.owner
    for of, span in conditions.spans.items():
        wanted |= _ends(of, span)
    if conditions.properties:
        wanted["properties"] = [(uri, glob and glob.like) for uri, glob in conditions.properties]
    return json.dumps(wanted)


def _ends(of: str, span: Span) -> dict[str, int | str]:
    ends = {f"{of}_from": span.start, f"{of}_to": span.end}
    return {
        name: end.isoformat() if isinstance(end, datetime) else end for name, end in ends.items() if end is not None
    }


async def page(
    reader: Reader,
    caller: Caller,
    container: int,
    conditions: Conditions,
    after: Position,
    *,
    limit: int,
    examine: int,
) -> Page:
    """Give some of the nodes below a container that the caller may read and that fulfil conditions.

    They come container by container, and by name in each. What does not change meanwhile comes exactly once.

    Parameters
    ----------
    limit
        How many at the most; there may be fewer, or none, before the end.
    examine
        How many nodes and containers to look at.
    """
    *rows, end = await reader.fetch(
        _Sql.page,
        container,
        after.place,
        after.name,
        _wanted(conditions),
        caller.id,
        caller.groups,
        caller.admin,
        limit,
        examine,
    )
    hits = [hit for hit in map(_hit, rows) if conditions.fit(hit.node.name, hit.node.properties)]
    return Page(hits, None if end["place"] is None else Position(end["place"], end["place_name"]), end["epoch"])


async def start(database: Database, job: str) -> None:
    """Forget what an earlier attempt of a job has found."""
    await database.fetchrow(_Sql.forget, job)


async def keep(database: Database, job: Claimed, hits: Sequence[Hit], *, behind: int) -> bool:
    """Note what a job has found, behind a position; False: it is in other hands."""
    kept = await database.fetch(_Sql.keep, job.id, job.attempt, [hit.node.id for hit in hits], behind)
    return len(kept) == len(hits)


async def last(reader: Reader, job: str) -> int:
    """Give the position of the last node that a job has found; 0: none."""
    return await reader.fetchval(_Sql.last, job) or 0


async def found(reader: Reader, caller: Caller, job: str, *, behind: int, number: int) -> list[Hit]:
    """Give what a job has found at some positions, as far as it is still there and the caller may read it."""
    rows = await reader.fetch(_Sql.found, job, behind, number, caller.id, caller.groups, caller.admin)
    return [_hit(row) for row in rows]
