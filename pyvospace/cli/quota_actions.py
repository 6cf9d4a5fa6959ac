"""What the commands on quotas do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from pyvospace.cli.node_actions import write_line
from pyvospace.cli.quantities import write_size
from pyvospace.cli.session import Session
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.nodes import Node
from pyvospace.model.vocabulary import AVAILABLE_SPACE, LENGTH, QUOTA, NodeType

_COLUMNS: Final = (("used", LENGTH), ("quota", QUOTA), ("left", AVAILABLE_SPACE))


async def df(session: Session, uris: Sequence[str], *, as_json: bool) -> None:
    """Show how full containers are."""
    if not as_json:
        write_line("\t".join(name for name, _ in _COLUMNS))
    for text in uris:
        with session.excused(text):
            place = await session.place(text)
            node = await place.space.follow(await place.space.get_node(place.uri))
            if node.type is not NodeType.CONTAINER:
                raise InvalidArgument(f"{place.uri} is no container")
            _write(node, as_json=as_json)


def _write(node: Node, *, as_json: bool) -> None:
    told = {one.uri: one.value or "" for one in node.properties}
    found = {name: int(told[uri]) if told.get(uri, "").isdecimal() else None for name, uri in _COLUMNS}
    if as_json:
        write_line(json.dumps({"uri": str(node.uri), **found}, ensure_ascii=False))
    else:
        sizes = ["-" if size is None else write_size(size) for size in found.values()]
        write_line("\t".join([*sizes, str(node.uri)]))
