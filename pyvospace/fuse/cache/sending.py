"""What was changed here on its way to the space."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from pyvospace.client import ServiceUnreachable
from pyvospace.client.retry import may_pass
from pyvospace.fuse.cache.changes import Changes
from pyvospace.fuse.cache.file import LocalFile
from pyvospace.fuse.cache.naming import beside
from pyvospace.fuse.cache.records import MIB, ConflictListener, Names, SentListener, Version
from pyvospace.fuse.cache.remote import Remote, etag_of
from pyvospace.fuse.cache.shelf import Shelf
from pyvospace.model.faults import (
    ChecksumMismatch,
    EndpointUsed,
    Fault,
    InternalFault,
    NodeBusy,
    OperationNotSupported,
    PreconditionFailed,
    ServiceBusy,
    TooManyAttempts,
    TransferFailed,
    UploadBusy,
)
from pyvospace.model.vocabulary import NodeType

log = logging.getLogger(__name__)

_HELD: Final = (NodeBusy, UploadBusy)
_PASSING: Final = (
    *_HELD,
    EndpointUsed,
    ChecksumMismatch,
    PreconditionFailed,
    TooManyAttempts,
    InternalFault,
)
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_LONGEST_HELD: Final = 10.0
"""The same while another one writes: he ends soon, or his lease does, as it does if it was us and a server died."""
_TRIES: Final = 8
"""How often the space may say in a row that something else is there than it said before."""
_QUIET: Final = 0.3
"""Seconds without a change after which programs count as idle; before that they get the machine."""
_LITTLE: Final = MIB
_AT_ONCE: Final = 4
"""Files up to this size wait for disks and answers, not for bytes: so many times as many of them are sent at once."""
_LONGEST_WAIT: Final = 15.0
"""Seconds that a file waits for that."""
_MANY: Final = 20_000
"""So many do not wait for it."""
_SMALL: Final = 4 * MIB
_SOON: Final = 2.0
"""Seconds that somebody waits who deletes what is being sent."""


def _passes(fault: Fault) -> bool:
    # ContentChanged, a TransferFailed too, is not among them: that version is gone.
    return may_pass(fault) or isinstance(fault, _PASSING) or type(fault) in {Fault, TransferFailed}


def _ignore(*_: object) -> None:
    """Listen to nothing."""


class Sender:
    """Sends the files of a shelf: a few at once, each after a rest, again and again if it is no use now."""

    def __init__(self, shelf: Shelf, remote: Remote, user: str) -> None:
        self._shelf = shelf
        self._remote = remote
        self._user = user
        self._queue: list[tuple[float, int, LocalFile]] = []
        self._due: dict[LocalFile, float] = {}
        self._count = itertools.count()
        self._tasks: dict[LocalFile, asyncio.Task[None]] = {}
        self._pauses: dict[LocalFile, int] = {}
        self._news: dict[LocalFile, asyncio.Event] = {}
        self._held: list[tuple[Names, ...]] = []
        self._quiet_until = 0.0
        self._settling = 0
        self._worked = 0.0
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._running = asyncio.create_task(self._run())
        self.on_sent: SentListener = _ignore
        self.on_conflict: ConflictListener = _ignore

    # ------------------------------------------------------------------ when

    def schedule(self, file: LocalFile, delay: float | None = None) -> None:
        """Have a file sent when it has rested."""
        if delay is None:
            delay = 0 if file in self._news else self._shelf.limits.write_back  # nobody who waits is held up
        due = self._loop.time() + delay
        self._due[file] = due
        heapq.heappush(self._queue, (due, next(self._count), file))
        if self._queue[0][2] is file:
            self._wake.set()

    def worked(self) -> None:
        """Take note that a program changes files at this moment."""
        self._worked = self._loop.time()

    def is_under_way(self, file: LocalFile) -> bool:
        """Say whether a file is being sent."""
        return file in self._tasks

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            due = self._start()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()

    def _start(self) -> float | None:
        """Begin to send what is due; gives when to look again."""
        now = self._loop.time()
        if now < self._quiet_until:
            return self._quiet_until
        while self._queue and self._has_room(self._queue[0][2]):
            due, _, file = self._queue[0]
            if self._due.get(file) != due:
                heapq.heappop(self._queue)
                continue
            later = due if due > now else self._gives_way(now, due)
            if later:
                return later
            heapq.heappop(self._queue)
            self._begin(file)
        return None

    def _has_room(self, file: LocalFile) -> bool:
        """Say whether it may be sent beside those that are under way."""
        most = self._shelf.limits.uploads
        return len(self._tasks) < (most if file.size > _LITTLE else most * _AT_ONCE)

    def _gives_way(self, now: float, due: float) -> float:
        """Give when to look again, since programs are at work and nobody waits; 0: now is the time."""
        idle = self._worked + _QUIET
        if self._settling or now >= idle:
            return 0.0
        pressing = now - due > _LONGEST_WAIT or len(self._due) > _MANY
        return 0.0 if pressing and not self._tasks else idle

    def _begin(self, file: LocalFile) -> None:
        if file in self._tasks or self._is_held(file):
            return  # it comes again when this is over
        del self._due[file]
        task = self._tasks[file] = asyncio.create_task(self._send(file))
        task.add_done_callback(lambda _: self._ended(file))

    def _ended(self, file: LocalFile) -> None:
        del self._tasks[file]
        if not file.is_open:
            file.rest()
            self._shelf.unregister(file)
        if file in self._due:  # somebody asked for it meanwhile
            heapq.heappush(self._queue, (self._due[file], next(self._count), file))
        elif file.outgoing is not None and file.failure is None and not file.discarded:
            self.schedule(file)
        news = self._news.pop(file, None)
        if news is not None:
            news.set()
        self._wake.set()

    # ------------------------------------------------------------------ sending

    async def _send(self, file: LocalFile) -> None:
        try:
            await self._attempt(file)
        except Fault as fault:
            self._failed(file, fault)
        except OSError as error:
            self._failed(file, TransferFailed(str(error)))
        except Exception:
            log.exception("/%s is not sent", "/".join(file.path))
            self._failed(file, TransferFailed("a defect; the log says more"))

    async def _attempt(self, file: LocalFile) -> None:
        changes = file.outgoing
        if changes is None:
            return
        await file.complete(changes)
        if file.outgoing is not changes:
            return  # it was changed meanwhile, and will be handed over again
        file.seal(changes)
        etag = await self._push(file, changes)
        if file.discarded:
            return
        sent = file.sent(changes, etag)
        self._pauses.pop(file, None)
        if self._shelf.shows(file.absolute):
            self._notify(partial(self.on_sent, file.path, sent))

    async def _push(self, file: LocalFile, changes: Changes) -> str | None:
        tries = 0
        while True:
            try:
                return await self._remote.push(changes)
            except Fault as fault:
                tries += 1
                if tries == _TRIES or file.discarded or not await self._may_go_on(file, changes, fault):
                    raise
            if await self._is_there(changes):
                return await asyncio.to_thread(etag_of, changes.location)

    async def _may_go_on(self, file: LocalFile, changes: Changes, fault: Fault) -> bool:
        """Find out what is in the way, and how to go on; say whether anything can be done."""
        if (
            isinstance(fault, OperationNotSupported)
            and changes.version is not None
            and changes.version.etag is not None
        ):
            # A service that is not ours: it knows no versions, and the last writer wins there.
            file.rebase(Version(None, changes.version.size))
            return True
        if not isinstance(fault, PreconditionFailed):
            # An earlier try may have had its effect though its answer was lost; then nothing is to be refused.
            return file in self._pauses and not _passes(fault) and await self._is_there(changes)
        entry = await self._remote.entry(changes.path)
        if entry is None:
            file.rebase(None)
        elif entry.type is NodeType.DATA and entry.etag is None:
            file.rebase(Version(None, entry.length or 0))
        elif not await self._is_there(changes):
            self._put_beside(file, changes)
        return True

    async def _is_there(self, changes: Changes) -> bool:
        """Say whether what the space has are just our bytes.

        The answer to an earlier try may have been lost, perhaps that of a process that was killed.
        """
        entry = await self._remote.entry(changes.path)
        if entry is None or entry.type is not NodeType.DATA or entry.etag is None:
            return False
        return entry.etag == await asyncio.to_thread(etag_of, changes.location)

    def _put_beside(self, file: LocalFile, changes: Changes) -> None:
        path, kept = changes.path, beside(changes.path, "conflict", self._user)
        log.warning(
            "/%s was changed in the space as well: what was changed here is kept as /%s", *map("/".join, (path, kept))
        )
        self._shelf.moved(path, kept)
        file.rebase(None)
        if self._shelf.shows(path):
            self._notify(partial(self.on_conflict, self._shelf.below_root(path), self._shelf.below_root(kept)))

    def _failed(self, file: LocalFile, fault: Fault) -> None:
        name = "/".join(file.absolute)
        if file.discarded:
            return
        if not _passes(fault):
            log.error("/%s is kept here, the space does not take it: %s", name, fault)
            try:
                file.refused(fault)
            except OSError as error:
                log.warning("the journal cannot be written: %s", error)
            return
        file.trouble = fault
        failures = self._pauses[file] = self._pauses.get(file, 0) + 1
        longest = _LONGEST_HELD if isinstance(fault, _HELD) else _LONGEST_PAUSE
        pause = min(longest, _FIRST_PAUSE * 2 ** min(failures - 1, 10)) * random.uniform(0.7, 1.0)  # noqa: S311
        if isinstance(fault, ServiceUnreachable | ServiceBusy):
            self._quiet_until = max(self._quiet_until, self._loop.time() + pause)
        log.warning("/%s is not sent yet: %s; again in %.0f s", name, fault, pause)
        self.schedule(file, pause)

    @staticmethod
    def _notify(listener: Callable[[], None]) -> None:
        try:
            listener()
        except Exception:
            log.exception("a listener failed")

    # ------------------------------------------------------------------ now

    async def settle(self, files: Iterable[LocalFile]) -> None:
        """Send files now and wait until they are in the space, as they are at this moment.

        Raises
        ------
        Fault
            The first that was refused, or that could not be sent as long as anybody would wait.
        """
        waited = []
        for file in files:
            if file.dirty:
                file.hand_over()
                file.failure = file.trouble = None
                self._pauses.pop(file, None)
                self.schedule(file, 0)
                waited.append(self._settled(file, file.serial))
        self._quiet_until = 0.0
        self._wake.set()
        self._settling += 1
        try:
            outcomes = await asyncio.gather(*waited, return_exceptions=True)
        finally:
            self._settling -= 1
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _settled(self, file: LocalFile, serial: int) -> None:
        deadline = self._loop.time() + self._shelf.limits.patience
        while not file.has_sent(serial):
            if file.failure is not None:
                raise file.failure
            if file.trouble is not None and self._loop.time() > deadline:
                raise file.trouble
            if file.outgoing is None:  # it was written to again before it was sent: as it stands now
                file.hand_over()
                self.schedule(file, 0)
            await self._news.setdefault(file, asyncio.Event()).wait()

    async def stop(self, file: LocalFile) -> bool:
        """Send a file no more; say whether it was being sent."""
        self._due.pop(file, None)
        self._pauses.pop(file, None)
        task = self._tasks.get(file)
        if task is None:
            if file in self._news:  # who waits for it waits for nothing any more
                self._news.pop(file).set()
            return False
        if file.size <= _SMALL:
            # Better an answer than a connection that breaks off: then nobody knows.
            await asyncio.wait([task], timeout=_SOON)
        task.cancel()
        await asyncio.wait([task])
        return True

    @asynccontextmanager
    async def held(self, *paths: Names) -> AsyncIterator[None]:
        """Begin to send nothing below these paths, when what is under way there is over."""
        self._held.append(paths)
        try:
            while under_way := [task for file, task in self._tasks.items() if self._is_held(file)]:
                await asyncio.wait(under_way)
            yield
        finally:
            self._held.remove(paths)
            for file, due in self._due.items():
                heapq.heappush(self._queue, (due, next(self._count), file))
            self._wake.set()

    def _is_held(self, file: LocalFile) -> bool:
        return any(file.absolute[: len(path)] == path for paths in self._held for path in paths)

    async def close(self) -> None:
        """Send nothing more; what is under way breaks off, and goes on with the next mount."""
        tasks = [self._running, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for news in self._news.values():
            news.set()
