"""Many small files in one request: an archive that the service unpacks, all of it or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import secrets
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pyvospace.client.mirror.items import Item, Names
from pyvospace.client.mirror.sides import LocalSide, SpaceSide
from pyvospace.client.parts import SUFFIX
from pyvospace.client.progress import Progress
from pyvospace.model.entries import write_seconds
from pyvospace.model.faults import Fault

_SMALL: Final = 256 << 10
"""Files up to this size travel together."""
_MOST: Final = 2000
_MOST_OF_PACKAGE: Final = 1000
"""Nodes that a service puts into one package."""
_MOST_BYTES: Final = 32 << 20
_LEAST: Final = 8
"""Fewer files go one by one: a batch takes some more requests than a file."""
_MARK: Final = 8
"""Random bytes in the name of a file that is being written."""
_READY: Final = 2
"""Batches in memory: one is read while another one is sent."""

Member = tuple[Names, Item, Item | None]
"""A file, and what is there in the target."""


@dataclass(slots=True)
class Batch:
    """Files that travel together."""

    most: int
    """Members."""
    flat: bool = False
    """The archive knows no folders: two files of one name do not go into it."""
    members: list[Member] = field(default_factory=list)
    size: int = 0
    _names: set[str] = field(default_factory=set)

    def has_room_for(self, item: Item) -> bool:
        """Say whether a file goes into it too."""
        full = len(self.members) >= self.most or self.size >= _MOST_BYTES
        return not full and not (self.flat and item.name in self._names)

    @property
    def worthwhile(self) -> bool:
        """Say whether it is quicker than its files one by one."""
        return len(self.members) >= _LEAST

    def add(self, member: Member) -> None:
        """Put a file into it."""
        self.members.append(member)
        self.size += member[1].size
        if self.flat:
            self._names.add(member[1].name)


@dataclass(slots=True)
class Carried:
    """What became of the files of a batch."""

    done: list[tuple[Member, int]] = field(default_factory=list)
    """With the bytes of each."""
    failed: list[tuple[Member, Fault | OSError]] = field(default_factory=list)
    left: list[Member] = field(default_factory=list)
    """What has to be tried by itself."""


class Together(Protocol):
    """A way for many small files at once."""

    def batch(self) -> Batch:
        """Begin a batch."""

    def takes(self, item: Item, there: Item | None) -> bool:
        """Say whether a file goes this way; `there`: what is in the target."""

    async def carry(self, batch: Batch, progress: Progress) -> Carried:
        """Copy the files of a batch.

        Raises
        ------
        Fault
            Nothing of it is there.
        """


class BatchSender:
    """Sends batches to a space, one after the other: a container takes one archive at a time."""

    def __init__(self, source: LocalSide, target: SpaceSide) -> None:
        self._source = source
        self._target = target
        self._room = asyncio.Semaphore(_READY)
        self._turn = asyncio.Lock()

    def batch(self) -> Batch:
        """Begin a batch."""
        return Batch(_MOST)

    def takes(self, item: Item, there: Item | None) -> bool:  # noqa: ARG002 (what is there is replaced)
        """Say whether a file goes this way."""
        return item.size <= _SMALL

    async def carry(self, batch: Batch, progress: Progress) -> Carried:
        """Have the service unpack the files of a batch."""
        async with self._room:
            archive, carried = io.BytesIO(), Carried()
            await asyncio.to_thread(self._pack, batch, archive, carried)
            archive.seek(0)
            async with self._turn:
                await self._target.space.push_archive(archive, self._target.top, progress=progress)
        return carried

    def _pack(self, batch: Batch, archive: io.BytesIO, carried: Carried) -> None:
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member in batch.members:
                try:
                    self._target.uri(member[0])  # no other name can have a node
                    info, content = self._read(member[0])
                except (Fault, OSError) as error:
                    carried.failed.append((member, error))
                    continue
                tar.addfile(info, io.BytesIO(content))
                carried.done.append((member, len(content)))

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


class BatchFetcher:
    """Fetches batches from a space: packages of nodes, which the service makes as it sends them."""

    def __init__(self, source: SpaceSide, target: LocalSide) -> None:
        self._source = source
        self._target = target

    def batch(self) -> Batch:
        """Begin a batch."""
        return Batch(_MOST_OF_PACKAGE, flat=True)

    def takes(self, item: Item, there: Item | None) -> bool:
        """Say whether a file goes this way: nothing is replaced, and only what can be compared is believed."""
        return there is None and item.size <= _SMALL and item.sha256 is not None

    async def carry(self, batch: Batch, progress: Progress) -> Carried:
        """Fetch the files of a batch."""
        uris = [self._source.uri(path) for path, _, _ in batch.members]
        archive = io.BytesIO()
        await self._source.space.pull_archive(uris, archive, missing_ok=True, progress=progress)
        archive.seek(0)
        return await asyncio.to_thread(self._unpack, batch, archive)

    def _unpack(self, batch: Batch, archive: io.BytesIO) -> Carried:
        carried, waiting = Carried(), {member[1].name: member for member in batch.members}
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for info in tar:
                content = tar.extractfile(info)
                if content is None or info.name not in waiting:
                    continue
                member = waiting.pop(info.name)
                self._store(member, content.read(), carried)
        carried.left.extend(waiting.values())
        return carried

    def _store(self, member: Member, content: bytes, carried: Carried) -> None:
        path, item, _ = member
        if hashlib.sha256(content).hexdigest() != item.sha256:
            carried.left.append(member)  # it became another one meanwhile
            return
        try:
            _write(self._target.path(path), content, item.mtime_ns)
        except OSError as error:
            carried.failed.append((member, error))
        else:
            carried.done.append((member, len(content)))


def _write(path: Path, content: bytes, mtime_ns: int) -> None:
    """Make a file, complete from the beginning, in place of whatever stands there now."""
    part = path.with_name(f".{secrets.token_hex(_MARK)}{SUFFIX}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb") as file:
            file.write(content)
        os.utime(part, ns=(mtime_ns, mtime_ns))
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
