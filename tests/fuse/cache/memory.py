"""A space in memory, as far as the cache of a mount needs one: it keeps conditions, and fails when it is told to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import cast

from pyvospace.client import Condition, ContentChanged, Space, Stored
from pyvospace.client.digests import Digests
from pyvospace.client.lanes import Target
from pyvospace.model.entries import Entry
from pyvospace.model.faults import Fault, NodeNotFound, PreconditionFailed
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType

Names = tuple[str, ...]
ROOT = NodeUri("example.com~vault")


@dataclass(frozen=True)
class Node:
    data: bytes
    mtime: int | None = None
    mode: int | None = None

    @cached_property
    def etag(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class MemorySpace:
    nodes: dict[Names, Node] = field(default_factory=dict)
    failures: list[Fault] = field(default_factory=list)
    """The next pushes fail with these."""
    lost_answers: int = 0
    """So many pushes have their effect, and fail."""
    refuses: Callable[[Names], Fault | None] = lambda _: None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """A push stops half-way as long as this is not set."""
    half_way: asyncio.Event = field(default_factory=asyncio.Event)
    fetched: list[tuple[int, int]] = field(default_factory=list)
    pushed: list[Names] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def space(self) -> Space:
        return cast("Space", self)

    def put(self, path: Names, data: bytes) -> Node:
        node = self.nodes[path] = Node(data)
        return node

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.open.clear()
        self.half_way.clear()
        try:
            yield
        finally:
            self.open.set()

    async def find_entry(self, uri: NodeUri) -> Entry | None:
        node = self.nodes.get(uri.path)
        if node is None:
            return None
        now = datetime.now(UTC)
        return Entry(name=uri.name, type=NodeType.DATA, mtime=now, changed=now, length=len(node.data), etag=node.etag)

    async def reader(self, uri: NodeUri, *, known: Entry) -> MemoryReader:
        return MemoryReader(self, uri.path, known.etag or "", known.length or 0)

    async def push(
        self, source: bytes | Path, uri: NodeUri, *, condition: Condition | None, mtime: int, mode: int | None
    ) -> Stored:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        refusal = self.refuses(uri.path)
        if refusal is not None:
            raise refusal
        data = await self._receive(source)
        node = self.nodes.get(uri.path)
        if condition is not None and condition.etag != (node.etag if node else None):
            raise PreconditionFailed(uri)
        node = self.nodes[uri.path] = Node(data, mtime, mode)
        self.pushed.append(uri.path)
        if self.lost_answers:
            self.lost_answers -= 1
            raise Fault("the answer is lost")
        return Stored(len(data), Digests(sha256=hashlib.sha256(data).digest()))

    async def _receive(self, source: bytes | Path) -> bytes:
        """Take a half, stop, take the other half: of a file that changes meanwhile this would be a mixture."""
        if isinstance(source, bytes):
            half, rest = source, b""
            self.half_way.set()
            await self.open.wait()
            return half + rest
        with source.open("rb") as file:
            half = file.read(source.stat().st_size // 2)
            self.half_way.set()
            await self.open.wait()
            return half + file.read()


@dataclass
class MemoryReader:
    space: MemorySpace
    path: Names
    etag: str
    size: int

    async def fill(self, start: int, stop: int, target: Target) -> None:
        data = await self.read(start, stop)
        for first in range(0, len(data), 5 << 10):
            target.take(data[first : first + (5 << 10)])
            await asyncio.sleep(0)

    async def read(self, start: int, stop: int) -> bytes:
        await asyncio.sleep(0)
        node = self.space.nodes.get(self.path)
        if node is None:
            raise NodeNotFound("/".join(self.path))
        if node.etag != self.etag:
            raise ContentChanged("/".join(self.path))
        self.space.fetched.append((start, stop))
        return node.data[start:stop]
