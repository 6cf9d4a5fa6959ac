"""What `audit` does: write rows of the audit log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pyvospace.cli.node_actions import write_line
from pyvospace.cli.quantities import read_date
from pyvospace.db import audit, identities
from pyvospace.model.audit import DONE, Action, Filters
from pyvospace.model.faults import FAULTS, InvalidArgument
from pyvospace.model.uris import NodeUri

if TYPE_CHECKING:
    from pyvospace.cli.session import Session
    from pyvospace.db.pool import Database


async def from_service(session: Session, uri: str | None, filters: Filters, *, as_json: bool) -> None:
    """Write what the service lets the caller see."""
    place = await session.place(uri or "vos:")
    async with aclosing(place.space.audit(place.uri if uri else None, filters)) as rows:
        async for row in rows:
            _write(row, as_json=as_json)


async def from_database(database: Database, uri: str | None, filters: Filters, *, as_json: bool) -> None:
    """Write all that there is."""
    space = await identities.space(database)
    if space is None:
        raise InvalidArgument("the database holds no space")
    wanted = audit.Wanted(None if uri is None else _path(uri), filters)
    async for page in audit.records(database, wanted, await audit.confirm(database, wanted), viewer=None):
        for record in page:
            _write(record.told(space.authority, None), as_json=as_json)


def filters_of(
    *,
    below: bool,
    user: str | None,
    action: str | None,
    outcome: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
) -> Filters:
    """Read what the options say."""
    if action is not None and action not in set(Action):
        raise InvalidArgument(f"the actions are {', '.join(Action)}")
    if outcome is not None and outcome != DONE and outcome not in FAULTS:
        near = get_close_matches(outcome, FAULTS, 1)
        raise InvalidArgument(f"{outcome!r} is neither done nor a fault{f'; did you mean {near[0]}?' if near else ''}")
    after, before = (None if text is None else read_date(text) for text in (since, until))
    return Filters(below, user, action, outcome, after, before, limit)


def _path(text: str) -> tuple[str, ...]:
    if text.startswith("vos://"):
        return NodeUri.parse(text).path
    return tuple(filter(None, text.removeprefix("vos:").split("/")))


def _write(row: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_line(json.dumps(row))
        return
    details = row.get("details")
    words = [
        str(row.get("time")),
        str(row.get("user") or "-"),
        str(row.get("action")),
        str(row.get("outcome")),
        str(row.get("target") or "-"),
        *(f"{name}={row[name]!r}" for name in ("remote", "credential") if row.get(name)),
        *([json.dumps(details)] if details else []),
    ]
    write_line(" ".join(words))
