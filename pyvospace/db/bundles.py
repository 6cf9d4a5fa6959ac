"""What several ask of nodes at the same time, as the arguments of one statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_NODE = (
    "name",
    "type",
    "public",
    "group_read",
    "group_write",
    "inherit",
    "locked",
    "properties",
    "target",
    "owner",
    "immutable",
    "who",
)
"""What the statement that makes one node is told of it, behind its way."""
_WAY = ("names", "caller", "groups", "admin", "epoch")
"""What it is told before: where to, and who goes there."""


def resolutions(asked: Sequence[tuple[tuple[str, ...], int, tuple[str, ...], bool]]) -> Sequence[object]:
    """Put together what several ask `resolve`; names hold no "/"."""
    groups: list[str] = []
    places: dict[tuple[str, ...], tuple[int, int]] = {}
    for _, _, his, _ in asked:
        if his not in places:
            places[his] = len(groups) + 1, len(groups) + len(his)
            groups += his
    return (
        ["/".join(names) for names, _, _, _ in asked],
        [caller for _, caller, _, _ in asked],
        [admin for _, _, _, admin in asked],
        groups,
        [places[his][0] for _, _, his, _ in asked],
        [places[his][1] for _, _, his, _ in asked],
    )


def creations(asked: Sequence[tuple[Any, ...]]) -> Sequence[str]:
    """Put together what several ask `insert`: those who go the same way with the same rights go it once."""
    ways: dict[tuple[Any, ...], int] = {}
    made = []
    for one in asked:
        node: dict[str, Any] = dict(zip(_NODE, one[len(_WAY) :], strict=True))
        node["way"] = ways.setdefault(one[: len(_WAY)], len(ways) + 1)
        made.append(node)
    return json.dumps([dict(zip(_WAY, way, strict=True)) for way in ways]), json.dumps(made)
