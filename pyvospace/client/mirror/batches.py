"""Many small files in one request: an archive that the service unpacks, all of it or nothing."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import tarfile
from dataclasses import dataclass, field
from typing import Final

from pyvospace.client.mirror.items import Item, Names
from pyvospace.client.mirror.sides import LocalSide, SpaceSide
from pyvospace.client.progress import Progress
from pyvospace.model.entries import write_seconds
from pyvospace.model.faults import Fault

SMALL: Final = 256 << 10
"""Files up to this size travel together."""
_MOST: Final = 2000
_MOST_BYTES: Final = 32 << 20
_LEAST: Final = 8
"""Fewer files go one by one: a batch takes some more requests than a file."""
_READY: Final = 2
"""Batches in memory: one is read while another one is sent."""

Member = tuple[Names, Item, Item | None]
"""A file, and what is there in the target."""


@dataclass(slots=True)
class Batch:
    """Files that travel together."""

    members: list[Member] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        """Say whether no further file goes into it."""
        return len(self.members) >= _MOST or self.size >= _MOST_BYTES

    @property
    def worthwhile(self) -> bool:
        """Say whether it is quicker than its files one by one."""
        return len(self.members) >= _LEAST

    def add(self, member: Member) -> None:
        """Put a file into it."""
        self.members.append(member)
        self.size += member[1].size


@dataclass(slots=True)
class Packed:
    """The archive of a batch."""

    archive: bytes
    members: list[tuple[Member, int]]
    """What is in it, with the bytes of each."""
    failed: list[tuple[Member, Fault | OSError]]


class BatchSender:
    """Sends batches, one after the other: a container takes one archive at a time."""

    def __init__(self, source: LocalSide, target: SpaceSide) -> None:
        self._source = source
        self._target = target
        self._room = asyncio.Semaphore(_READY)
        self._turn = asyncio.Lock()

    async def send(self, batch: Batch, progress: Progress) -> Packed:
        """Have the service unpack the files of a batch.

        Raises
        ------
        Fault
            Nothing of it is there.
        """
        async with self._room:
            packed = await asyncio.to_thread(self._pack, batch)
            async with self._turn:
                await self._target.space.push_archive(io.BytesIO(packed.archive), self._target.top, progress=progress)
        packed.archive = b""
        return packed

    def _pack(self, batch: Batch) -> Packed:
        packed = Packed(b"", [], [])
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member in batch.members:
                try:
                    self._target.uri(member[0])  # no other name can have a node
                    info, content = self._read(member[0])
                except (Fault, OSError) as error:
                    packed.failed.append((member, error))
                    continue
                tar.addfile(info, io.BytesIO(content))
                packed.members.append((member, len(content)))
        packed.archive = archive.getvalue()
        return packed

    def _read(self, path: Names) -> tuple[tarfile.TarInfo, bytes]:
        file = self._source.path(path)
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as opened:
            state = os.fstat(opened.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise OSError(None, "is no ordinary file any more", str(file))
            content = opened.read()
        info = tarfile.TarInfo("/".join(path))
        info.size = len(content)
        seconds, below = divmod(state.st_mtime_ns, 10**9)
        info.mtime = max(0, seconds)
        if below or seconds < 0:
            info.pax_headers = {"mtime": write_seconds(state.st_mtime_ns)}
        return info, content
