"""Copies of many files at once, folders with all that is in them."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from pyvospace.client.failures import ServiceUnreachable
from pyvospace.client.media import content_type_of
from pyvospace.client.progress import Progress
from pyvospace.client.space import Space
from pyvospace.model.entries import Entry
from pyvospace.model.faults import Fault, InsufficientStorage, InvalidURI, NotAuthenticated
from pyvospace.model.nodes import View
from pyvospace.model.uris import RESERVED, NodeUri, check_name
from pyvospace.model.vocabulary import NodeType

_BATCH: Final = 1000
"""Entries of a directory that are read in one go."""
_HOPELESS: Final = (ServiceUnreachable, NotAuthenticated, InsufficientStorage)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Observer(Protocol):
    """Who wants to know how a copy goes."""

    def file(self, name: str) -> AbstractContextManager[Progress]:
        """Hear that a file is begun, and with the end of the context that it is done or has failed."""

    def copied(self, source: object, target: object) -> None:
        """Hear that a file is copied."""

    def kept(self, target: object, why: str) -> None:
        """Hear that a file is not copied, as it was wanted, since there is one already."""

    def skipped(self, what: object, why: str) -> None:
        """Hear that something is left out."""

    def failed(self, what: object, error: Fault | OSError) -> None:
        """Hear that something could not be copied; the rest goes on."""


class Existing(Enum):
    """What becomes of files that are there already."""

    REPLACE = auto()
    KEEP = auto()
    UPDATE = auto()
    """Replaced if the new one was changed later."""

    def keeps(self, there: int | None, new: int) -> str | None:
        """Say why a file is kept; None: it is not.

        Parameters
        ----------
        there, new
            When the file that is there and the new one were changed, in nanoseconds; None: there is none.
        """
        if there is None or self is Existing.REPLACE:
            return None
        if self is Existing.KEEP:
            return "it is there already"
        return "it is no older" if there >= new else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How files are copied."""

    preserve: bool = False
    """Copies have the times of what they are copies of."""
    existing: Existing = Existing.REPLACE
    view: View | None = None
    """In which all of them are brought, or single ones are fetched; None: as they are."""

    @property
    def looks(self) -> bool:
        """Say whether times matter."""
        return self.preserve or self.existing is not Existing.REPLACE


class Copier:
    """Copies files between this machine and spaces, several at once.

    What fails is told to the observer, and the rest goes on; only what would make everything fail (no service, no
    right to log in, no room) ends the whole. Use it with ``async with``: at its end all copies are done.

    Parameters
    ----------
    parallel
        Most files at once.
    manner
        How it is done.
    """

    def __init__(self, observer: Observer, *, parallel: int = 4, manner: Manner | None = None) -> None:
        self._observer = observer
        self._manner = manner or Manner()
        self._free = asyncio.Semaphore(parallel)
        self._group = asyncio.TaskGroup()
        self.failure: Fault | OSError | None = None
        """The first one."""

    async def __aenter__(self) -> Self:
        """Be ready."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all copies."""
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as several:
            # The first one ended the others; which it was says enough.
            raise several.exceptions[0] from None

    async def push(self, space: Space, source: Path, target: NodeUri) -> None:
        """Copy a file into a space, as soon as there is room for another one."""
        await self._start(source, partial(self._push, space, source, target))

    async def pull(self, space: Space, source: NodeUri, target: Path) -> None:
        """Copy the bytes of a node to a file, as soon as there is room for another one."""
        await self._start(source, partial(self._pull, space, source, target))

    async def push_tree(self, space: Space, source: Path, target: NodeUri) -> None:
        """Copy a folder into a space as the container `target`; containers that are there are used.

        Symbolic links and special files are left out.
        """
        folders = [(source, target)]
        while folders:
            folder, container = folders.pop()
            with self.excused(folder):
                await space.ensure_container(container)
                async with aclosing(_entries(folder)) as entries:
                    async for name, kind in entries:
                        await self._push_entry(space, folder / name, container, kind, folders)

    async def _push_entry(
        self, space: Space, path: Path, container: NodeUri, kind: _Kind, folders: list[tuple[Path, NodeUri]]
    ) -> None:
        if kind in _LEFT_OUT:
            self._observer.skipped(path, _LEFT_OUT[kind])
            return
        with self.excused(path):
            target = container.child(pushable_name(path.name))
            if kind is _Kind.FOLDER:
                folders.append((path, target))
            else:
                await self.push(space, path, target)

    async def pull_tree(self, space: Space, source: NodeUri, target: Path) -> None:
        """Copy a container with all that is in it to the folder `target`; folders that are there are used.

        Links are left out. Whatever the service lists, nothing is written outside of `target`: names with a slash
        and ``..`` are refused, and below `target` no symbolic link is followed.
        """
        try:
            await asyncio.to_thread(target.mkdir, parents=False, exist_ok=True)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "is there and is no folder", str(target)) from None
        containers = [(source, target)]
        while containers:
            container, folder = containers.pop()
            with self.excused(container):
                if folder != target:
                    await asyncio.to_thread(_make_folder, folder)
                async with aclosing(space.entries(container)) as children:
                    async for child in children:
                        await self._pull_child(space, container, child, folder, containers)

    async def _pull_child(
        self, space: Space, container: NodeUri, child: Entry, folder: Path, containers: list[tuple[NodeUri, Path]]
    ) -> None:
        uri = container.child(child.name)
        with self.excused(uri):
            path = folder / check_name(child.name)
            if child.type is NodeType.CONTAINER:
                containers.append((uri, path))
            elif child.type is NodeType.LINK:
                self._observer.skipped(uri, "it is a link")
            else:
                await self._start(uri, partial(self._pull, space, uri, path, child))

    async def _start(self, what: object, work: Callable[[], Awaitable[None]]) -> None:
        await self._free.acquire()
        self._group.create_task(self._run(what, work))

    async def _run(self, what: object, work: Callable[[], Awaitable[None]]) -> None:
        try:
            with self.excused(what):
                await work()
        finally:
            self._free.release()

    async def _push(self, space: Space, source: Path, target: NodeUri) -> None:
        manner, mtime = self._manner, None
        if manner.looks:
            mtime = (await asyncio.to_thread(source.stat)).st_mtime_ns
            there = None if manner.existing is Existing.REPLACE else await _entry(space, target)
            if self._keeps(target, None if there is None else there.mtime_ns, mtime):
                return
        with self._observer.file(source.name) as progress:
            await space.push(
                source,
                target,
                content_type=content_type_of(target.name),
                view=manner.view,
                mtime=mtime if manner.preserve else None,
                progress=progress,
            )
        self._observer.copied(source, target)

    async def _pull(self, space: Space, source: NodeUri, target: Path, listed: Entry | None = None) -> None:
        """Fetch a file; in a tree, as it was `listed`, no symbolic link is followed."""
        manner, entry = self._manner, listed
        if manner.looks:
            entry = entry or await _entry(space, source)
            if entry is not None and self._keeps(target, await asyncio.to_thread(_mtime_of, target), entry.mtime_ns):
                return
        with self._observer.file(source.name) as progress:
            if listed is None:
                await space.pull(source, target, view=manner.view, progress=progress)
            else:
                await space.pull_file(source, target, progress=progress)
        if manner.preserve and entry is not None:
            await asyncio.to_thread(os.utime, target, ns=(entry.mtime_ns, entry.mtime_ns))
        self._observer.copied(source, target)

    def _keeps(self, target: object, there: int | None, new: int) -> bool:
        why = self._manner.existing.keeps(there, new)
        if why is not None:
            self._observer.kept(target, why)
        return why is not None

    @contextmanager
    def excused(self, what: object) -> Iterator[None]:
        """Tell of a failure and go on, unless all else must fail too."""
        try:
            yield
        except (Fault, OSError) as error:
            if ends_all(error):
                raise
            self.failure = self.failure or error
            self._observer.failed(what, error)


async def _entry(space: Space, uri: NodeUri) -> Entry | None:
    """Tell of a file, or of the one that a link leads to; None: there is none."""
    node = await space.find(uri)
    return None if node is None else await space.entry(node.uri)


def _mtime_of(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def ends_all(error: Fault | OSError) -> bool:
    """Say whether all else must fail too: no service, no right to log in, no room."""
    return isinstance(error, _HOPELESS) or (isinstance(error, OSError) and error.errno in _FULL)


def pushable_name(name: str) -> str:
    """Check that a file of this name can have a node.

    Raises
    ------
    InvalidURI
        No node can be called that: it is no Unicode, holds control characters, or means something to the service.
    """
    if name in RESERVED:
        raise InvalidURI(f"{name!r} has a meaning of its own in a space")
    return check_name(name)


class _Kind(Enum):
    FILE = auto()
    FOLDER = auto()
    SYMLINK = auto()
    SPECIAL = auto()


_LEFT_OUT: Final = {_Kind.SYMLINK: "it is a symbolic link", _Kind.SPECIAL: "it is no ordinary file"}


def _kind(entry: os.DirEntry[str]) -> _Kind:
    if entry.is_symlink():
        return _Kind.SYMLINK
    if entry.is_dir(follow_symlinks=False):
        return _Kind.FOLDER
    return _Kind.FILE if entry.is_file(follow_symlinks=False) else _Kind.SPECIAL


async def _entries(folder: Path) -> AsyncGenerator[tuple[str, _Kind]]:
    """Read a directory in batches: it may have millions of entries."""
    with await asyncio.to_thread(os.scandir, folder) as entries:
        while batch := await asyncio.to_thread(lambda: [(one.name, _kind(one)) for one in islice(entries, _BATCH)]):
            for one in batch:
                yield one


def _make_folder(folder: Path) -> None:
    """Make a folder inside the target, or use one that is there, but never go through a symbolic link."""
    try:
        folder.mkdir()
    except FileExistsError:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is there and is no folder", str(folder)) from None
