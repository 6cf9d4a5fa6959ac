"""What the cache of a mount asks of a space."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pyvospace.client import Condition, Reader, ServiceUnreachable, Space
from pyvospace.client.retry import may_pass
from pyvospace.fuse.cache.changes import Base, Changes
from pyvospace.fuse.cache.records import MIB, Names
from pyvospace.model.entries import Entry
from pyvospace.model.faults import ContainerNotFound, Fault, NodeNotFound
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType

_IN_MEMORY: Final = 4 * MIB
"""Up to this size a file is sent from memory: its descriptor need not stay open."""
_FIRST_PAUSE: Final = 0.5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Remote:
    """A space, by paths from its root."""

    def __init__(self, space: Space, authority: str, patience: float) -> None:
        self._space = space
        self._authority = authority
        self._patience = patience

    async def reader(self, base: Base) -> Reader:
        """Make ready to read a version."""
        uri = NodeUri(self._authority, base.path)
        known = Entry(
            name=uri.name,
            type=NodeType.DATA,
            mtime=_EPOCH,
            changed=_EPOCH,
            length=base.version.size,
            etag=base.version.etag,
        )
        return await self._space.reader(uri, known=known)

    async def fetch(self, reader: Reader, start: int, stop: int) -> bytes:
        """Read a range, with patience.

        Raises
        ------
        ServiceUnreachable
            The service did not answer as long as anybody would wait.
        """
        pause = _FIRST_PAUSE
        try:
            async with asyncio.timeout(self._patience):
                while True:
                    try:
                        return await reader.read(start, stop)
                    except Fault as fault:
                        if not may_pass(fault):
                            raise
                    await asyncio.sleep(pause)
                    pause *= 2
        except TimeoutError:
            raise ServiceUnreachable(f"no answer within {self._patience:g} s") from None

    async def entry(self, path: Names) -> Entry | None:
        """Tell what is at a path; None: nothing."""
        try:
            return await self._space.entry(NodeUri(self._authority, path))
        except (NodeNotFound, ContainerNotFound):
            return None

    async def push(self, changes: Changes) -> str | None:
        """Send a file, if what is in its place is what it was made from; gives its ETag."""
        version = changes.version
        condition = None
        if version is None:
            condition = Condition.new()
        elif version.etag is not None:
            condition = Condition.matching(version.etag)
        small = changes.size <= _IN_MEMORY
        stored = await self._space.push(
            changes.whole() if small else changes.location,
            NodeUri(self._authority, changes.path),
            condition=condition,
            mtime=changes.mtime_ns,
            mode=changes.mode,
        )
        return stored.etag


def etag_of(path: Path) -> str:
    """Compute what the service calls these bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:  # an empty file need not be there
        return hashlib.sha256(b"").hexdigest()
