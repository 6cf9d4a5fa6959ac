"""What the commands on quotas do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from pyvospace.cli.node_actions import write_json, write_line
from pyvospace.cli.quantities import write_size
from pyvospace.cli.session import Session
from pyvospace.client.administration import Administration
from pyvospace.model.faults import InvalidArgument, PermissionDenied
from pyvospace.model.nodes import Node
from pyvospace.model.vocabulary import AVAILABLE_SPACE, LENGTH, QUOTA, NodeType

_WHOLE: Final = 100
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


async def own(session: Session, *, as_json: bool) -> None:
    """Show what the caller uses, in all and in his home, and what of it is in the trash."""
    async with Administration.of(session.access()) as service:
        profile = await service.ask("GET", "/profile")
        if profile["links"] is None:
            raise PermissionDenied("a token that is limited does not tell this: pyvospace df URI does of containers")
        trash = (await service.ask("GET", "/trash", query={"limit": "1000"}))["items"]
    quota, used = profile["quota"], profile["quota"]["used"]
    told = {
        "user": profile["name"],
        "bytes": used["bytes"],
        "bytes_limit": quota["bytes"],
        "nodes": used["nodes"],
        "nodes_limit": quota["nodes"],
        "trash_bytes": sum(one["bytes"] for one in trash),
        "trash_entries": len(trash),
    }
    if as_json:
        write_json(told)
    else:
        write_line(f"bytes\t{_share(used['bytes'], quota['bytes'], write_size)}")
        write_line(f"nodes\t{_share(used['nodes'], quota['nodes'], str)}")
        write_line(f"trash\t{write_size(told['trash_bytes'])} in {len(trash)} entries")
    if profile["home"] and not as_json:
        await df(session, [profile["home"]], as_json=False)


def _share(used: int, limit: int | None, write: Callable[[int], str]) -> str:
    if limit is None:
        return f"{write(used)}, without a limit"
    part = f" ({used * _WHOLE // limit} %)" if limit else ""
    return f"{write(used)} of {write(limit)}{part}, {write(max(0, limit - used))} left"
