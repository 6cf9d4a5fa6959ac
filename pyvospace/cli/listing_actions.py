"""What ls, tree and du do."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pyvospace.cli.defaults import coloured
from pyvospace.cli.node_actions import described, json_line, long_line, short_line, write_line
from pyvospace.cli.quantities import write_size
from pyvospace.cli.session import Place, Session, printable
from pyvospace.model.faults import InvalidArgument, PermissionDenied
from pyvospace.model.nodes import Node
from pyvospace.model.searches import Conditions
from pyvospace.model.vocabulary import DATE, LENGTH, Detail, NodeType

if TYPE_CHECKING:
    from pyvospace.client import Space
    from pyvospace.model.uris import NodeUri

_TABLE: Final = 1000
"""Names that are arranged in columns together; so a large container is shown as it comes."""
_STYLES: Final = {NodeType.CONTAINER: "bold blue", NodeType.LINK: "cyan"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How nodes are to be shown."""

    long: bool = False
    human: bool = False
    as_json: bool = False
    single: bool = False
    """One a line, also on a terminal."""
    sort: str = "name"
    reverse: bool = False
    recursive: bool = False

    @property
    def detail(self) -> Detail:
        """Say how much of each node is asked for."""
        return Detail.FULL if self.long or self.as_json or self.sort != "name" else Detail.MIN

    @property
    def columns(self) -> bool:
        """Say whether names stand beside each other."""
        return not (self.long or self.as_json or self.single) and sys.stdout.isatty()

    def line(self, node: Node, name: str | None = None) -> str:
        """Write a node in one line, by its own name or another one."""
        if self.as_json:
            return json_line(node)
        if self.long:
            return long_line(node, name, human=self.human)
        return name or short_line(node)

    def arranged(self, nodes: list[Node]) -> list[Node]:
        """Put nodes in order: by name, or the largest or newest first."""
        key = _KEYS[self.sort]
        return sorted(nodes, key=key, reverse=self.reverse != (self.sort != "name"))


def _size(node: Node) -> int:
    text = node.value(LENGTH) or ""
    return int(text) if text.isdecimal() else 0


_KEYS: Final[dict[str, Callable[[Node], Any]]] = {
    "name": lambda node: node.uri.name.encode(),
    "size": _size,
    "date": lambda node: node.value(DATE) or "",
}


async def ls(session: Session, uris: Sequence[str], look: Look) -> None:
    """List containers, or show other nodes."""
    if look.sort not in _KEYS:
        raise InvalidArgument(f"--sort {look.sort}: there are {', '.join(_KEYS)}")
    several = look.recursive or len(uris) > 1 or any("*" in text for text in uris)
    for text in uris:
        with session.excused():
            for place in await session.places(text):
                with session.excused():
                    await _list(session, place, look, headed=several)


async def _list(session: Session, place: Place, look: Look, *, headed: bool) -> None:
    space = place.space
    node = await space.get_node(place.uri, detail=look.detail)
    if node.type is NodeType.LINK and not (look.long or look.as_json):
        node = await space.find(place.uri) or node
    if node.type is not NodeType.CONTAINER:
        write_line(look.line(replace(node, uri=place.uri)))
        return
    if headed and not look.as_json:
        write_line(f"{place.uri}:")
    below: list[NodeUri] = []
    async with aclosing(_arranged(space, node.uri, look)) as pages:
        async for page in pages:
            below += [child.uri for child in page if look.recursive and child.type is NodeType.CONTAINER]
            _show(page, look)
    for uri in below:
        with session.excused(uri):
            if not look.as_json:
                write_line("")
            await _list(session, Place(space, uri), look, headed=True)


async def _arranged(space: Space, uri: NodeUri, look: Look) -> AsyncGenerator[list[Node]]:
    """Give children in pages: as they come if that is the order, else all at once."""
    page: list[Node] = []
    whole = look.sort != "name" or look.reverse
    size = sys.maxsize if whole else _TABLE if look.columns else 1
    async with aclosing(space.list(uri, detail=look.detail)) as children:
        async for child in children:
            page.append(child)
            if len(page) == size:
                yield page
                page = []
    yield look.arranged(page) if whole else page


def _show(nodes: Sequence[Node], look: Look) -> None:
    if not look.columns:
        for node in nodes:
            write_line(look.line(node))
        return
    from rich.columns import Columns
    from rich.console import Console
    from rich.text import Text

    console = Console(color_system="auto" if coloured(sys.stdout) else None, highlight=False)
    names = [Text(printable(short_line(node)), _STYLES.get(node.type, "")) for node in nodes]
    console.print(Columns(names, column_first=True, padding=(0, 2)))


# ---------------------------------------------------------------------- trees


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """How much of a tree is shown."""

    depth: int | None
    limit: int | None
    """Children of each container; the rest is only counted."""
    folders: bool
    as_json: bool


@dataclass(slots=True)
class _Count:
    containers: int = 0
    others: int = 0


async def tree(session: Session, uris: Sequence[str], how: Branches) -> None:
    """Draw what is below containers, as it comes."""
    for text in uris:
        with session.excused():
            for place in await session.places(text):
                with session.excused(place.uri):
                    await _draw(session, place, how)


async def _draw(session: Session, place: Place, how: Branches) -> None:
    node = await place.space.follow(await place.space.get_node(place.uri, detail=Detail.MIN))
    if node.type is not NodeType.CONTAINER:
        raise InvalidArgument(f"{place.uri} is no container")
    count = _Count()
    if not how.as_json:
        write_line(str(node.uri))
    await _branch(session, Place(place.space, node.uri), how, count, stem="", level=1)
    if not how.as_json:
        containers = f"{count.containers} container{'s' * (count.containers != 1)}"
        write_line(f"\n{containers}, {count.others} other{'s' * (count.others != 1)}")


async def _branch(session: Session, place: Place, how: Branches, count: _Count, *, stem: str, level: int) -> None:
    """Draw the children of a container; each waits for the next one, which says whether it is the last."""
    async with aclosing(_children(place, how)) as children:
        before: Node | str | None = None
        async for child in children:
            if before is not None:
                await _twig(session, place.space, before, how, count, stem=stem, level=level, last=False)
            before = child
        if before is not None:
            await _twig(session, place.space, before, how, count, stem=stem, level=level, last=True)


async def _children(place: Place, how: Branches) -> AsyncGenerator[Node | str]:
    """Give children, and words for those that are too many."""
    shown = left = 0
    async with aclosing(place.space.list(place.uri, detail=Detail.FULL if how.as_json else Detail.MIN)) as children:
        async for child in children:
            if how.folders and child.type is not NodeType.CONTAINER:
                continue
            if how.limit is not None and shown == how.limit:
                left += 1
                continue
            shown += 1
            yield child
    if left and not how.as_json:
        yield f"... {left} more"


async def _twig(
    session: Session,
    space: Space,
    node: Node | str,
    how: Branches,
    count: _Count,
    *,
    stem: str,
    level: int,
    last: bool,
) -> None:
    mark, more = ("└── ", "    ") if last else ("├── ", "│   ")
    if isinstance(node, str):
        write_line(f"{stem}{mark}{node}")
        return
    container = node.type is NodeType.CONTAINER
    count.containers += container
    count.others += not container
    if how.as_json:
        write_line(json.dumps({**described(node), "depth": level}, ensure_ascii=False))
    else:
        arrow = f" -> {node.target}" if node.type is NodeType.LINK and node.target else ""
        write_line(f"{stem}{mark}{short_line(node)}{arrow}")
    if container and (how.depth is None or level < how.depth):
        try:
            await _branch(session, Place(space, node.uri), how, count, stem=stem + more, level=level + 1)
        except PermissionDenied as fault:
            session.note(fault, node.uri)


# ---------------------------------------------------------------------- sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Whose sizes are shown."""

    depth: int | None
    """0: only of what is named."""
    files: bool
    human: bool
    as_json: bool


async def du(session: Session, uris: Sequence[str], how: Sizes) -> None:
    """Write how many bytes are in containers and below: the service knows it, nothing is added up here."""
    for text in uris:
        with session.excused():
            for place in await session.places(text):
                with session.excused(place.uri):
                    await _measure(place, how)


async def _measure(place: Place, how: Sizes) -> None:
    node = await place.space.follow(await place.space.get_node(place.uri))
    if node.type is not NodeType.CONTAINER:
        _write_size(node, how)
        return
    untold = node.value(LENGTH) is None  # the service does not know it: all of it is to be looked at
    found: list[Node] = []
    if how.depth != 0 or untold:
        types = () if how.files or untold else (NodeType.CONTAINER,)
        async with aclosing(place.space.search(node.uri, Conditions(types=types))) as below:
            found = [one async for one in below]
    sums = _sums(found, len(node.uri.path)) if untold else {}
    most = None if how.depth is None else len(node.uri.path) + how.depth
    for one in (*_bottom_up(found), node):
        wanted = one is node or how.files or one.type is NodeType.CONTAINER
        if wanted and (most is None or len(one.uri.path) <= most):
            _write_size(one, how, sums.get(one.uri.path, 0) if untold else None)


def _sums(nodes: Iterable[Node], depth: int) -> Counter[tuple[str, ...]]:
    """Add up what is in containers, by their paths; not above the depth."""
    sums: Counter[tuple[str, ...]] = Counter()
    for node in nodes:
        if node.type is not NodeType.CONTAINER:
            for level in range(depth, len(node.uri.path) + 1):
                sums[node.uri.path[:level]] += _size(node)
    return sums


def _bottom_up(found: list[Node]) -> Iterator[Node]:
    """Put containers behind what is in them, as du does."""
    waiting: list[Node] = []
    for node in sorted(found, key=lambda one: one.uri.path):
        while waiting and waiting[-1].uri.path != node.uri.path[: len(waiting[-1].uri.path)]:
            yield waiting.pop()
        waiting.append(node)
    yield from reversed(waiting)


def _write_size(node: Node, how: Sizes, size: int | None = None) -> None:
    size = _size(node) if size is None else size
    if how.as_json:
        told = {"uri": str(node.uri), "type": str(node.type), "bytes": size}
        write_line(json.dumps(told, ensure_ascii=False))
    else:
        write_line(f"{write_size(size) if how.human else size}\t{node.uri}")
