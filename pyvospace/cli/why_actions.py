"""What `why` does: say in words who may do what with a node, and by which rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final

from pyvospace.cli.node_actions import write_line
from pyvospace.cli.session import PartlyDone, Session
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.permissions import Permission, Permissions
from pyvospace.model.vocabulary import CORE

_MOST: Final = 2
_OF_NODE: Final = {
    "owner": "as the owner of",
    "group-write": f"as a member of a group in {CORE}groupwrite of",
    "group-read": f"as a member of a group in {CORE}groupread of",
    "public": "as everybody, since it is public:",
}


async def why(session: Session, asked: Sequence[str], *, user: str | None, as_json: bool) -> None:
    """Say who may do what; that he may not do what was asked for is a failure.

    Parameters
    ----------
    asked
        A right, or none, and a URI.
    """
    if len(asked) > _MOST:
        raise InvalidArgument("ask for one right at one node: pyvospace why write vos:path")
    right, text = (None, asked[0]) if len(asked) == 1 else (asked[0], asked[1])
    place = await session.place(text)
    told = await place.space.permissions(place.uri, right=right, user=user)
    lines = [json.dumps(asdict(told), ensure_ascii=False)] if as_json else list(_lines(told))
    for line in lines:
        write_line(line)
    if right is not None and not all(one.allowed for one in told.permissions):
        session.failure = PartlyDone(told.target)


def _lines(told: Permissions) -> Iterable[str]:
    who = told.user or "whoever is not logged in"
    for one in told.permissions:
        may = "may" if one.allowed else "may not"
        yield f"{who} {may} {one.right} {told.target}: {_reason(one)}"
    for step in told.way:
        if not step.readable:
            yield f"{step.uri} may be read by its owner, the groups that it names and administrators only"


def _reason(one: Permission) -> str:
    if one.rule in _OF_NODE and one.node is not None:
        groups = f" ({', '.join(one.groups)})" if one.groups else ""
        return f"{_OF_NODE[one.rule]} {one.node}{groups}"
    return one.words
