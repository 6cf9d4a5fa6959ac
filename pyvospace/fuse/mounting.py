"""The life of a mount: checked, mounted, served, unmounted, and everything sent before it ends."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyfuse3

from pyvospace.client import Space
from pyvospace.client.access import Access
from pyvospace.client.administration import Administration
from pyvospace.client.http import Timeouts
from pyvospace.client.retry import Retry
from pyvospace.fuse import waiting
from pyvospace.fuse.cache import Cache, Limits, cache_directory
from pyvospace.fuse.descriptions import Descriptions
from pyvospace.fuse.names import Links
from pyvospace.fuse.notify import notify
from pyvospace.fuse.operations import Operations
from pyvospace.fuse.places import Answers, Record, is_mounted, unmount_command
from pyvospace.fuse.remote import Remote
from pyvospace.fuse.tree import Tree, View
from pyvospace.fuse.volume import Volume
from pyvospace.model.entries import Entry
from pyvospace.model.faults import Fault, InvalidArgument
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType

log = logging.getLogger(__name__)

_TASKS: Final = 64
"""Requests of the kernel that are worked on at once."""
_IDLE: Final = 4
"""Tasks that wait for the next request; beginning one anew costs more."""
_LOOK: Final = 1.0
"""Seconds between two looks whether it is mounted still."""
_LONGEST_ANSWER: Final = 65.0
"""Seconds that a service may take for an answer: moves wait for a minute."""
_SWEEP: Final = 30.0
"""Seconds between two looks for what can be forgotten."""
_READ_AHEAD: Final = 1024
"""KiB that the kernel reads ahead, where we may say so; it does 128 by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is mounted, where and how."""

    access: Access
    uri: str
    directory: Path
    view: View
    limits: Limits
    cache: Path | None = None
    """Directory for caches, of any space and user; None: the user's usual one."""
    allow_other: bool = False
    log: str | None = None
    """File; only told to those who ask for the mounts."""


async def serve(wanted: Wanted, ready: Callable[[], None]) -> int:
    """Mount a container and serve it until it is unmounted; gives how many files the space does not have then.

    Parameters
    ----------
    ready
        Called once the mount answers.

    Raises
    ------
    Fault, OSError
        It cannot be mounted.
    """
    check_directory(wanted.directory)
    async with AsyncExitStack() as stack:
        # The mount has a patience of its own; the client's would only be in its way.
        timeouts = Timeouts(read=max(wanted.limits.patience, _LONGEST_ANSWER))
        made = Space.of(wanted.access, timeouts=timeouts, retry=Retry(attempts=2, first=0.1))
        space = await stack.enter_async_context(made)
        root, top = await _top(space, wanted.uri)
        user = await _user(wanted.access)
        cache = await _cache(wanted, space, root, user)
        stack.push_async_callback(cache.close)
        links = Links(root, str(wanted.directory))
        remote = Remote(space, root, wanted.limits.patience)
        descriptions = Descriptions(remote, rest=wanted.limits.write_back > 0)
        volume = Volume(Tree(replace(wanted.view, user=user), links), remote, cache, links, descriptions)
        volume.start(top)
        record = Record(
            pid=os.getpid(),
            uri=str(root),
            directory=str(wanted.directory),
            log=wanted.log,
            cache=str(cache.directory),
            read_only=wanted.view.read_only,
        )
        await stack.enter_async_context(Answers(record, lambda: _status(cache)))
        session = _Session(wanted, volume, str(root))
        await session.run(ready)
        if session.hurried:
            return _left(cache)
        await descriptions.settle()
        return await _settle(cache, wanted.directory)


def check_directory(directory: Path) -> None:
    """Refuse to mount where it cannot be.

    Raises
    ------
    OSError, InvalidArgument
        Why not.
    """
    if not Path("/dev/fuse").exists():
        raise InvalidArgument("there is no /dev/fuse: load the kernel module fuse, or give the container that device")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise InvalidArgument("/dev/fuse is not for users of this machine: its administrator lets them by chmod 666")
    if os.getuid() and shutil.which("fusermount3") is None:
        raise InvalidArgument("there is no fusermount3, which mounts for users: install the package fuse3")
    if is_mounted(directory):
        raise InvalidArgument(f"{directory} is mounted already")
    if not directory.exists():
        raise InvalidArgument(f"there is no such directory: {directory}")
    if not directory.is_dir():
        raise InvalidArgument(f"{directory} is no directory")
    if next(directory.iterdir(), None) is not None:
        raise InvalidArgument(f"{directory} is not empty: what is in it would not be seen")


async def _top(space: Space, uri: str) -> tuple[NodeUri, Entry]:
    root = await space.uri(uri)
    top = await space.entry(root)
    if top.type is NodeType.LINK:
        root = (await space.follow(await space.get_node(root))).uri
        top = await space.entry(root)
    if top.type is not NodeType.CONTAINER:
        raise InvalidArgument(f"{root} is no container; only containers can be mounted")
    return root, top


async def _cache(wanted: Wanted, space: Space, root: NodeUri, user: str) -> Cache:
    directory = cache_directory(space.url, user, root.authority, wanted.cache)
    return await Cache.open(directory, space, root, wanted.limits, user=user)


async def _user(access: Access) -> str:
    """Find out whose bytes will be kept: nobody else is ever to be shown them."""
    try:
        async with Administration.of(access) as service:
            return str((await service.ask("GET", "/profile"))["name"])
    except (Fault, KeyError, TypeError):  # a service that is not of ours, or nobody is logged in
        return access.user or hashlib.sha256((access.token or "").encode()).hexdigest()[:16]


def _status(cache: Cache) -> dict[str, Any]:
    return {
        "unsent": [
            {"path": "/".join(one.path), "size": one.size, "failure": one.failure}
            for one in sorted(cache.unsent(), key=lambda one: one.path)
        ]
    }


async def _settle(cache: Cache, directory: Path) -> int:
    """Send what is unsent; a second signal ends that, and it is sent by the next mount."""
    unsent = cache.unsent()
    if not unsent:
        return 0
    size = sum(one.size for one in unsent)
    log.warning("%s: sending %d files (%d bytes) that the space does not have yet", directory, len(unsent), size)
    notify(f"STATUS=Sending {len(unsent)} files")
    sending = asyncio.ensure_future(cache.settle())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sending.cancel)
    try:
        await sending
    except asyncio.CancelledError:
        log.warning("told not to wait")
    except (Fault, OSError) as error:
        log.warning("%s", error)
    if left := _left(cache):
        return left
    log.warning("everything is in the space")
    return 0


def _left(cache: Cache) -> int:
    """Say what is unsent, and give how much."""
    left = cache.unsent()
    for one in left:
        log.error("not sent: /%s (%d bytes)%s", "/".join(one.path), one.size, f": {one.failure}" if one.failure else "")
    if left:
        log.error("%d files are kept in %s, and sent by the next mount of this space", len(left), cache.directory)
    return len(left)


class _Session:
    """The time between mounted and unmounted."""

    def __init__(self, wanted: Wanted, volume: Volume, name: str) -> None:
        self._wanted = wanted
        self._volume = volume
        self._name = name
        self._answers = asyncio.Event()
        self._leaving: asyncio.Task[None] | None = None
        self._main: asyncio.Task[None] | None = None
        self.hurried = False
        """Whoever ends it does not wait for what is unsent."""

    async def run(self, ready: Callable[[], None]) -> None:
        waiting.enable()
        operations = Operations(self._volume)
        operations.init = self._answers.set  # type: ignore[method-assign]
        try:
            pyfuse3.init(operations, str(self._wanted.directory), self._options())
        except RuntimeError as error:
            raise OSError(f"{self._wanted.directory} cannot be mounted: {_reason(self._wanted)}") from error
        try:
            await self._serve(operations, ready)
        finally:
            notify("STOPPING=1")
            pyfuse3.close(unmount=is_mounted(self._wanted.directory))

    async def _serve(self, operations: Operations, ready: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        main = self._main = asyncio.create_task(pyfuse3.main(min_tasks=_IDLE, max_tasks=_TASKS))
        watcher = asyncio.create_task(self._watch(operations))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave)
        try:
            answers = asyncio.create_task(self._answers.wait())
            await asyncio.wait((main, answers), return_when=asyncio.FIRST_COMPLETED)
            await loop.run_in_executor(None, _read_ahead, self._wanted.directory)
            log.info("%s is mounted at %s", self._name, self._wanted.directory)
            notify("READY=1", f"STATUS=Mounted at {self._wanted.directory}")
            ready()
            await asyncio.wait([main])
            if not self.hurried:
                main.result()
            log.info("%s is unmounted", self._wanted.directory)
        finally:
            watcher.cancel()
            if self._leaving is not None:
                self._leaving.cancel()

    async def _watch(self, operations: Operations) -> None:
        """Forget what is not needed, and notice the end of a mount that others hold on to.

        Each container and service with mounts of its own that began meanwhile has a copy of ours, and the kernel tells
        us of the end only when the last one has gone.
        """
        sweep_at = time.monotonic() + _SWEEP
        while True:
            await asyncio.sleep(_LOOK)
            if not operations.in_use and not is_mounted(self._wanted.directory):
                pyfuse3.terminate()
                return
            if time.monotonic() > sweep_at:
                self._volume.tree.sweep()
                sweep_at = time.monotonic() + _SWEEP

    def _leave(self) -> None:
        if self._leaving is None:
            self._leaving = asyncio.create_task(self._unmount())
        elif not self.hurried:
            log.warning("told not to wait")
            self.hurried = True
            self._leaving.cancel()
            self._leaving = asyncio.create_task(self._detach())

    async def _detach(self) -> None:
        """End at once, also while the service says nothing: what is unsent is in the journal."""
        await _run(*unmount_command(str(self._wanted.directory), lazy=True))
        if self._main is not None:
            self._main.cancel()

    async def _unmount(self) -> None:
        """Unmount as a user does it, so that the kernel hands over what it has; by force only what is in use."""
        directory = str(self._wanted.directory)
        if await _run(*unmount_command(directory, lazy=False)) == 0:
            return
        log.warning("%s is in use, and detached all the same", directory)
        with suppress(OSError):
            await asyncio.get_running_loop().run_in_executor(None, pyfuse3.syncfs, directory)
        await _run(*unmount_command(directory, lazy=True))
        pyfuse3.terminate()

    def _options(self) -> set[str]:
        name = self._name.replace(",", "\\,")  # what separates options
        options = {"default_permissions", f"fsname={name}", "subtype=pyvospace", "noatime", "nosuid", "nodev"}
        if self._wanted.view.read_only:
            options.add("ro")
        if self._wanted.allow_other:
            options.add("allow_other")
        return options


async def _run(*command: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


def _reason(wanted: Wanted) -> str:
    if wanted.allow_other and os.getuid():
        return "--allow-other needs user_allow_other in /etc/fuse.conf"
    return f"fusermount3 says why {f'in {wanted.log}' if wanted.log else 'above'}"


def _read_ahead(directory: Path) -> None:
    """Have the kernel read ahead more, if we may."""
    device = directory.stat().st_dev
    file = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    with suppress(OSError):
        file.write_text(str(_READ_AHEAD))
