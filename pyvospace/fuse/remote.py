"""The space below the top of a mount: what operations ask of it, with the patience of the mount."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from pyvospace.client.retry import may_pass
from pyvospace.model.entries import write_file_time, write_mode
from pyvospace.model.faults import DuplicateNode, Fault, NodeNotFound
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import FILE_MODE, FILE_TIME, Detail, NodeType

if TYPE_CHECKING:
    from pyvospace.client import Space
    from pyvospace.fuse.names import Names
    from pyvospace.model.entries import Entry

log = logging.getLogger(__name__)

T = TypeVar("T")

_GLANCE: Final = 5.0
"""Seconds that nobody minds."""
_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between two tries; the last one again and again."""


class Remote:
    """The container that is mounted, and what is below it.

    Parameters
    ----------
    patience
        Seconds that an operation waits for a service that does not answer.
    """

    def __init__(self, space: Space, root: NodeUri, patience: float) -> None:
        self._space = space
        self._root = root
        self.patience = patience
        self.waiting = False
        """The service did not answer the last request."""

    def uri(self, path: Names) -> NodeUri:
        """Give the URI of a path."""
        return NodeUri(self._root.authority, (*self._root.path, *path))

    async def top(self) -> Entry | None:
        """Tell of the container itself, without patience, since who unmounts looks at it; None: no answer."""
        try:
            async with asyncio.timeout(min(_GLANCE, self.patience)):
                return await self._space.entry(self._root)
        except TimeoutError:
            return None
        except Fault as fault:
            if may_pass(fault):
                return None
            raise

    async def entry(self, path: Names) -> Entry:
        """Tell of one node."""
        return await self._patiently(lambda: self._space.entry(self.uri(path)))

    async def entries(
        self, path: Names, after: str | None = None, page: int | None = None
    ) -> AsyncGenerator[list[Entry]]:
        """Give the children of a container by name, those behind `after`, as they arrive; see `Space.entries`."""
        waiting: Waiting | None = None
        while True:
            try:
                async with aclosing(self._space.entries_together(self.uri(path), after=after, page=page)) as found:
                    async for some in found:
                        after = some[-1].name
                        yield some
            except Fault as fault:
                waiting = waiting or Waiting(self, fault)
                waiting.fault = fault
                await waiting.pause()
            else:
                if waiting is not None:
                    waiting.over()
                return

    async def node(self, path: Names) -> Node:
        """Give a node with its properties."""
        return await self._patiently(lambda: self._space.get_node(self.uri(path), detail=Detail.FULL, limit=0))

    async def create(self, path: Names, kind: NodeType, *, target: str | None = None, mode: int | None = None) -> None:
        """Make a container or a link.

        Raises
        ------
        DuplicateNode
            There is something already.
        """
        properties = () if mode is None else (Property(FILE_MODE, write_mode(mode)),)
        tries = 0

        async def make() -> None:
            nonlocal tries
            tries += 1
            try:
                await self._space.create_node(Node(self.uri(path), kind, properties, target=target))
            except DuplicateNode:
                # The answer to an earlier try may have been lost.
                if tries == 1 or (await self._space.entry(self.uri(path))).type is not kind:
                    raise

        await self._patiently(make)

    async def delete(self, path: Names, *, only_empty: bool = False) -> None:
        """Delete a node; if somebody else was quicker it is well too."""
        try:
            await self._patiently(lambda: self._space.delete_node(self.uri(path), only_empty=only_empty))
        except NodeNotFound:
            log.debug("%s was deleted already", path)

    async def move(self, old: Names, new: Names, *, replace: bool) -> None:
        """Give a node another place; with `replace`, that of what is there."""
        await self._patiently(lambda: self._space.move(self.uri(old), self.uri(new), replace=replace))

    async def describe(
        self, path: Names, kind: NodeType, *, mtime_ns: int | None = None, mode: int | None = None
    ) -> None:
        """Keep a time or a mode with a node."""
        told = []
        if mtime_ns is not None:
            told.append(Property(FILE_TIME, write_file_time(mtime_ns)))
        if mode is not None:
            told.append(Property(FILE_MODE, write_mode(mode)))
        await self.set(path, kind, *told)

    async def set(self, path: Names, kind: NodeType, *properties: Property) -> None:
        """Change properties of a node."""
        await self._patiently(lambda: self._space.set_node(Node(self.uri(path), kind, properties)))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and while the service does not answer ask again until the patience is at its end."""
        began = time.monotonic()
        try:
            return await ask()
        except Fault as fault:
            waiting = Waiting(self, fault, began)
        while True:
            await waiting.pause()
            try:
                answer = await ask()
            except Fault as fault:
                waiting.fault = fault
            else:
                waiting.over()
                return answer


class Waiting:
    """The patience of one operation."""

    def __init__(self, remote: Remote, fault: Fault, began: float | None = None) -> None:
        self.fault = fault
        self._remote = remote
        self._tries = 0
        self._end = (time.monotonic() if began is None else began) + remote.patience

    async def pause(self) -> None:
        """Wait until the next try, or raise the fault if there is to be none."""
        if not may_pass(self.fault):
            raise self.fault
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.fault
        if not self._remote.waiting:
            log.warning("the space does not answer, operations wait up to %g s: %s", self._remote.patience, self.fault)
            self._remote.waiting = True
        await asyncio.sleep(min(left, _PAUSES[min(self._tries, len(_PAUSES) - 1)]))
        self._tries += 1

    def over(self) -> None:
        """Take over that the service has answered."""
        if self._remote.waiting:
            log.warning("the space answers again")
            self._remote.waiting = False
