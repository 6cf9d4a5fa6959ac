"""What the commands on nodes do: info, mkdir, rm, ln, tag."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pyvospace.cli.job_display import JobDisplay
from pyvospace.cli.quantities import write_size
from pyvospace.cli.session import PartlyDone, Place, Session, printable
from pyvospace.client import Counts, Space
from pyvospace.client.jobs import Watch
from pyvospace.client.locations import is_uri
from pyvospace.model.faults import InvalidArgument, NodeNotFound, PermissionDenied
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import AUTO, NodeUri
from pyvospace.model.vocabulary import (
    CADC,
    CORE,
    CREATOR,
    DATE,
    GROUP_READ,
    GROUP_WRITE,
    INHERIT_PERMISSIONS,
    IS_LOCKED,
    IS_PUBLIC,
    KNOWN_CORE,
    LENGTH,
    MANAGED,
    MD5,
    READABLE,
    TYPE,
    WRITABLE,
    Detail,
    NodeType,
)

_SHORT: Final = {uri.removeprefix(CORE): uri for uri in KNOWN_CORE if uri.startswith(CORE)} | {
    uri.removeprefix(CADC): uri for uri in (INHERIT_PERMISSIONS, IS_LOCKED, READABLE, WRITABLE)
}
"""Properties by the names that people write."""
_LETTERS: Final = {NodeType.CONTAINER: "d", NodeType.LINK: "l"}


def write_line(text: str) -> None:
    """Write a line of the result; on a terminal without anything that it might obey."""
    sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + "\n")


def write_json(told: object) -> None:
    """Write a line of the result for programs."""
    write_line(json.dumps(told, ensure_ascii=False))


def short_line(node: Node) -> str:
    """Write the name of a node; containers end with a slash."""
    name = node.uri.name or "/"
    return f"{name}/" if node.type is NodeType.CONTAINER and node.uri.name else name


def long_line(node: Node, name: str | None = None, *, human: bool = False) -> str:
    """Write a node with its rights, owner, size and date."""
    length = node.value(LENGTH) or "-"
    size = f"{write_size(int(length)):>7}" if human and length.isdecimal() else f"{length:>{7 if human else 14}}"
    owner, date = node.value(CREATOR) or "-", (node.value(DATE) or "-")[:19].replace("T", " ")
    arrow = f" -> {node.target}" if node.type is NodeType.LINK else ""
    if {one.uri for one in node.properties} <= {DATE}:
        date = arrow = ""  # it may not be read, and what is told of it means nothing
    return f"{_mode(node)}  {owner:<12} {size}  {date:<19}  {name or short_line(node)}{arrow}"


def _mode(node: Node) -> str:
    """Write the rights of owner, groups and everybody as ``ls`` does; nobody may execute."""
    group = ("r" if node.value(GROUP_READ) else "-") + ("w" if node.value(GROUP_WRITE) else "-")
    everybody = "r" if node.value(IS_PUBLIC) == "true" else "-"
    return f"{_LETTERS.get(node.type, '-')}rw-{group}-{everybody}--"


def json_line(node: Node) -> str:
    """Write a node for programs, in one line."""
    return json.dumps(described(node), ensure_ascii=False)


def described(node: Node) -> dict[str, Any]:
    """Describe a node for programs: what is always there first, then all properties by their URIs."""
    length = node.value(LENGTH)
    told: dict[str, Any] = {
        "uri": str(node.uri),
        "name": node.uri.name,
        "path": "/" + "/".join(node.uri.path),
        "type": str(node.type),
        "length": int(length) if length is not None and length.isdecimal() else None,
        "md5": node.value(MD5),
        "date": node.value(DATE),
        "creator": node.value(CREATOR),
        "content_type": node.value(TYPE),
        "public": node.value(IS_PUBLIC) == "true",
        "group_read": (node.value(GROUP_READ) or "").split(),
        "group_write": (node.value(GROUP_WRITE) or "").split(),
        "busy": node.busy,
    }
    if node.type is NodeType.LINK:
        told["target"] = node.target
    told["properties"] = {one.uri: one.value for one in node.properties}
    return told


async def info(session: Session, uris: Sequence[str], *, as_json: bool) -> None:
    """Show all that is known of nodes."""
    for number, text in enumerate(uris):
        with session.excused():
            for place in await session.places(text):
                node = await place.space.get_node(place.uri, detail=Detail.MAX)
                if as_json:
                    write_json(described(node))
                    continue
                if number:
                    write_line("")
                for name, value in _facts(node):
                    write_line(f"{name + ':':<20} {value}")


def _facts(node: Node) -> Iterable[tuple[str, str]]:
    yield "uri", str(node.uri)
    yield "node", str(node.type)  # "type" is the content type
    if node.target is not None:
        yield "target", node.target
    if node.busy:
        yield "busy", "true"
    for one in node.properties:
        yield _short_name(one.uri), one.value or ""
    for word, views in (("accepts", node.accepts), ("provides", node.provides)):
        if views:
            yield word, " ".join(one.uri.removeprefix(CORE) for one in views)


def _short_name(uri: str) -> str:
    short = uri.removeprefix(CORE).removeprefix(CADC)
    return short if _SHORT.get(short) == uri else uri


async def mkdir(session: Session, uris: Sequence[str], *, parents: bool, as_json: bool) -> None:
    """Create container nodes."""
    for text in uris:
        with session.excused():
            place = await session.place(text)
            if parents:
                await place.space.ensure_container(place.uri, parents=True)
                made = place.uri
            else:
                made = (await place.space.create_node(Node(place.uri, NodeType.CONTAINER))).uri
            if as_json:
                write_json({"uri": str(made)})
            elif place.uri.name == AUTO:
                write_line(str(made))


@dataclass(frozen=True, slots=True)
class Removal:
    """How nodes are to be deleted."""

    recursive: bool = False
    force: bool = False
    in_part: bool = False
    dry_run: bool = False
    as_json: bool = False


async def rm(session: Session, uris: Sequence[str], how: Removal) -> None:
    """Delete nodes; containers only if that was said."""
    for text in uris:
        with session.excused():
            try:
                for place in await session.places(text):
                    with session.excused():
                        await _remove(place, text, how)
            except NodeNotFound:
                if not how.force:
                    raise


async def recall(session: Session, uris: Sequence[str], *, as_json: bool) -> None:
    """Have bytes brought back from cold storages."""
    for text in uris:
        with session.excused():
            for place in await session.places(text):
                with session.excused(), JobDisplay() as display, display.job(str(place.uri)) as watch:
                    counts = await place.space.recall(place.uri, watch=watch)
                if as_json:
                    write_json({"uri": str(place.uri), "recalled": counts.done, "failed": counts.failed})
                else:
                    write_line(f"{place.uri}: {counts.done} recalled")


async def _remove(place: Place, text: str, how: Removal) -> None:
    if not place.uri.path or text.removeprefix("vos:") == "":
        # An empty variable of the shell makes such an argument sooner than anybody's wish.
        raise InvalidArgument(f"{text} is a root or your whole home: delete what is in it")
    try:
        if not (how.recursive or how.in_part) and await _type(place) is NodeType.CONTAINER:
            raise InvalidArgument(f"{place.uri} is a container: delete it with all that is in it with -r")
        if how.dry_run:
            rehearsal = partial(place.space.delete_tree, dry_run=True)
            await _rehearse(place, rehearsal, "deleted", whole=not how.in_part, as_json=how.as_json)
        elif how.in_part:
            await _change_tree(place, partial(_delete_all, place.space), "deleted")
        else:
            await _delete_whole(place)
    except NodeNotFound:
        if not how.force:
            raise


async def _rehearse(
    place: Place, change: Callable[[NodeUri], Awaitable[Counts]], done: str, *, whole: bool, as_json: bool
) -> None:
    """Say what would be done; if all of it or nothing, that is nothing if a single node is in the way."""
    counts = await change(place.uri)
    if as_json:
        write_json(
            {"uri": str(place.uri), done: 0 if counts.failed and whole else counts.done, "failed": counts.failed}
        )
    if counts.failed:
        would = "nothing" if whole else f"{counts.done} nodes"
        raise PartlyDone(f"{place.uri}: {would} would be {done}: {counts.message}")
    if not as_json:
        write_line(f"{place.uri}: {counts.done} nodes would be {done}")


async def _delete_whole(place: Place) -> None:
    try:
        await place.space.delete_node(place.uri)
    except InvalidArgument as fault:  # OpenCADC's services delete only what is empty
        raise InvalidArgument(f"{place.uri}: {fault.detail}; --partial deletes a tree node by node") from None


async def _delete_all(space: Space, uri: NodeUri, watch: Watch | None) -> Counts:
    return await space.delete_tree(uri, watch=watch)


async def _change_tree(place: Place, change: Callable[[NodeUri, Watch | None], Awaitable[Counts]], done: str) -> None:
    """Run a job on a tree; what it could not do is a failure."""
    with JobDisplay() as display, display.job(place.uri.name) as watch:
        counts = await change(place.uri, watch)
    if counts.failed:
        raise PartlyDone(f"{place.uri}: {counts.done} nodes are {done}, {counts.failed} could not be")


async def _type(place: Place) -> NodeType:
    """Tell the type of a node, also of one that may not be read if its container may."""
    try:
        return (await place.space.get_node(place.uri, detail=Detail.MIN)).type
    except PermissionDenied:
        async with aclosing(place.space.list(place.uri.parent, detail=Detail.MIN)) as children:
            async for child in children:
                if child.uri == place.uri:
                    return child.type
        raise


async def ln(session: Session, target: str, link: str) -> None:
    """Create a link node, inside of `link` if that is a container."""
    place = await session.place(link)
    if is_uri(target):
        aim = await session.place(target)
        leads_to, name = str(aim.uri), aim.uri.name
    elif "://" in target:
        leads_to, name = target, target.rstrip("/").rpartition("/")[2]
    else:
        raise InvalidArgument(f"{target!r} is no URI: a link leads to vos:path or to https://host/path")
    there = await place.space.find(place.uri)
    uri = place.uri
    if there is not None and there.type is NodeType.CONTAINER and name:
        uri = uri.child(name)
    await place.space.link(leads_to, uri)


async def tag(
    session: Session,
    uri: str,
    assignments: Sequence[str],
    *,
    deleted: Sequence[str],
    recursive: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Set and delete properties; without any of both show those that can be set."""
    if dry_run and not recursive:
        raise InvalidArgument("--dry-run is for whole trees: say -R too")
    changes = [*(_assigned(text) for text in assignments), *(Property(_settable(name), None) for name in deleted)]
    if recursive and any(one.uri == CREATOR for one in changes):
        raise InvalidArgument("creator is changed of one node at a time: leave out -R")
    for place in await session.places(uri):
        with session.excused():
            if dry_run and changes:
                rehearsal = partial(place.space.set_properties, properties=changes, dry_run=True)
                await _rehearse(place, rehearsal, "changed", whole=False, as_json=as_json)
            elif recursive and changes:
                await _change_tree(place, partial(_set_all, place.space, changes), "changed")
            else:
                await _tag(place.space, place, changes, as_json=as_json)


async def _tag(space: Space, place: Place, changes: Sequence[Property], *, as_json: bool) -> None:
    if not changes:
        settable = [one for one in (await space.get_node(place.uri)).properties if not one.read_only]
        if as_json:
            write_json({"uri": str(place.uri), "properties": {one.uri: one.value for one in settable}})
            return
        for one in settable:
            write_line(f"{_short_name(one.uri)}={one.value or ''}")
        return
    node = await space.get_node(place.uri, detail=Detail.MIN)
    made = await space.set_node(Node(node.uri, node.type, properties=tuple(changes), target=node.target))
    owners = {one.value for one in changes if one.uri == CREATOR}
    if owners - {made.value(CREATOR)}:  # of others the service ignores it, as the standard wants
        raise PermissionDenied(f"only an administrator gives {place.uri} another owner")


async def _set_all(space: Space, changes: Sequence[Property], uri: NodeUri, watch: Watch | None) -> Counts:
    return await space.set_properties(uri, changes, watch=watch)


def _assigned(text: str) -> Property:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidArgument(f"{text!r} is no assignment: write {text}=value, or --delete {text}")
    uri = property_uri(name)
    if uri != CREATOR:  # which administrators set
        uri = _settable(name)
    if uri in {GROUP_READ, GROUP_WRITE}:
        for group in value.replace(",", " ").split():
            if "://" not in group:
                raise InvalidArgument(f"{group!r} is no URI of a group; pyvospace group list shows the URIs")
    return Property(uri, value)


def _settable(name: str) -> str:
    """Give the URI of a property that clients may set; of the others the service would ignore it silently."""
    uri = property_uri(name)
    if uri in MANAGED:
        raise InvalidArgument(f"{name} is for the service to say and cannot be set")
    return uri


def property_uri(name: str) -> str:
    """Give the URI of a property: ``title`` is one of the standard's, what is not known stays as it is.

    Raises
    ------
    InvalidArgument
        There is no name.
    """
    if not name:
        raise InvalidArgument("a property without a name")
    return _SHORT.get(name, name)
