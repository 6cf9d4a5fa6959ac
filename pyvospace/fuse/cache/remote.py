"""What the cache of a mount asks of a space."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pyvospace.client import Condition, ContentChanged, Reader, ServiceUnreachable, Space
from pyvospace.client.retry import may_pass
from pyvospace.fuse.cache.changes import Base, Changes
from pyvospace.fuse.cache.coming import Coming
from pyvospace.fuse.cache.records import MIB, Names
from pyvospace.model.entries import Entry
from pyvospace.model.faults import Fault
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

    async def fetch(self, reader: Reader, coming: Coming) -> None:
        """Have a range come, with patience.

        Raises
        ------
        ServiceUnreachable
            The service sent nothing as long as anybody would wait.
        """
        while coming.reached < coming.stop:
            before = coming.reached
            try:
                async with asyncio.timeout(self._patience):
                    await self._fill(reader, coming)
            except TimeoutError:
                if coming.reached == before:
                    raise ServiceUnreachable(f"no answer within {self._patience:g} s") from None

    async def _fill(self, reader: Reader, coming: Coming) -> None:
        pause = _FIRST_PAUSE
        while coming.reached < coming.stop:
            before = coming.reached
            try:
                await reader.fill(before, coming.stop, coming)
                if coming.reached < coming.stop:
                    raise ContentChanged("it is shorter than it was")
            except Fault as fault:
                if not may_pass(fault):
                    raise
                pause = _FIRST_PAUSE if coming.reached > before else pause
                await asyncio.sleep(pause)
                pause *= 2

    async def entry(self, path: Names) -> Entry | None:
        """Tell what is at a path; None: nothing."""
        return await self._space.find_entry(NodeUri(self._authority, path))

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
