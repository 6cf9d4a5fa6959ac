"""Makes one side hold what the other side holds.

Folder by folder both listings are read side by side, in the order of names. Nothing is gathered whose length nobody
knows: what waits (folders to go into, things to delete) waits on disk. Copies run while listings are read, deletions
come behind all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pyvospace.client.mirror.batches import Batch, BatchFetcher, BatchSender, Member, Together
from pyvospace.client.mirror.carriers import carrier_for
from pyvospace.client.mirror.comparison import Comparison, Verdict
from pyvospace.client.mirror.events import Act, Event, Observer, Summary
from pyvospace.client.mirror.items import Item, Kind, Names
from pyvospace.client.mirror.pairs import nothing, paired
from pyvospace.client.mirror.patterns import Patterns
from pyvospace.client.mirror.sides import LocalSide, Side, SpaceSide
from pyvospace.client.mirror.spools import Spool
from pyvospace.client.trees import ends_all
from pyvospace.model.faults import DuplicateNode, Fault, InvalidArgument, NodeNotFound

_LEFT_OUT: Final = {Kind.LINK: "it is a link", Kind.SPECIAL: "it is no ordinary file"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a mirror is made."""

    checksum: bool = False
    """Compare digests, not size and time."""
    delete: bool = False
    """Delete from the target what the source has not."""
    force: bool = False
    """Delete also if the source is empty or missing."""
    dry_run: bool = False
    patterns: Patterns = field(default_factory=Patterns)
    parallel: int = 4
    """Most files at once."""


class Mirror:
    """One run. What fails is told to the observer, and the rest goes on."""

    def __init__(self, source: Side, target: Side, options: Options, observer: Observer) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._observer = observer
        self._carrier = carrier_for(source, target)
        self._comparison = Comparison(source, target, checksum=options.checksum)
        self._free = asyncio.Semaphore(options.parallel)
        self._group = asyncio.TaskGroup()
        self._together: Together | None = None
        self._batch: Batch | None = None
        self._source_items = 0
        self._listed = True
        """All listings came to their ends."""
        self.summary = Summary()

    async def run(self) -> Summary:
        """Mirror.

        Raises
        ------
        Fault, OSError
            Nothing more can be done: there is no source, no service, or no room.
        """
        begun = time.monotonic()
        deletions = Spool()
        try:
            source_is, target_is = await self._look()
            try:
                async with self._group:
                    await self._walk(missing=source_is is None, fresh=target_is is None, deletions=deletions)
                    await self._send_batch()
            except BaseExceptionGroup as several:
                # The first one ended the others; which it was says enough.
                raise _first(several) from None
            await self._delete(deletions)
        finally:
            deletions.close()
            self.summary.seconds = time.monotonic() - begun
        return self.summary

    # ------------------------------------------------------------------ before

    async def _look(self) -> tuple[Kind | None, Kind | None]:
        """See what both tops are, and make the target."""
        found = await self._source.kind()
        if found is None and not (self._options.delete and self._options.force):
            raise NodeNotFound(f"{self._source.shown(())}: there is no such folder")
        there = await self._target.kind()
        for side, kind in ((self._source, found), (self._target, there)):
            if kind not in {None, Kind.FOLDER}:
                raise InvalidArgument(f"{side.shown(())} is no folder; pyvospace cp copies files")
        self._require_apart()
        if there is None:
            await self._make_folder(())
        self._together = await _together(self._source, self._target)
        return found, there

    def _require_apart(self) -> None:
        if isinstance(self._source, SpaceSide) and isinstance(self._target, SpaceSide):
            one, other = self._source.top, self._target.top
            shorter = min(len(one.path), len(other.path))
            if one.authority == other.authority and one.path[:shorter] == other.path[:shorter]:
                raise InvalidArgument(f"{one} and {other}: one is the other, or in it")

    async def _make_folder(self, path: Names) -> None:
        if not self._options.dry_run:
            await self._target.make_folder(path)
        self.summary.folders += 1
        self._tell(Act.FOLDER, path, Kind.FOLDER)

    # ------------------------------------------------------------------ folder by folder

    async def _walk(self, *, missing: bool, fresh: bool, deletions: Spool) -> None:
        with ExitStack() as stack:
            waiting: list[tuple[Names, Iterator[list[Any]]]] = []

            async def enter(path: Names, *, fresh: bool) -> None:
                folders = Spool()
                stack.callback(folders.close)
                await self._folder(path, fresh=fresh, missing=missing, folders=folders, deletions=deletions)
                waiting.append((path, folders.rows()))

            await enter((), fresh=fresh)
            while waiting:
                path, rows = waiting[-1]
                row = next(rows, None)
                if row is None:
                    waiting.pop()
                else:
                    await enter((*path, row[0]), fresh=row[1])

    async def _folder(self, path: Names, *, fresh: bool, missing: bool, folders: Spool, deletions: Spool) -> None:
        try:
            here = nothing() if missing else self._source.listing(path)
            there = None if fresh else self._target.listing(path)
            async with aclosing(paired(here, there)) as pairs:
                async for item, other in pairs:
                    self._source_items += item is not None
                    await self._pair(path, self._wanted(path, item), self._wanted(path, other), folders, deletions)
        except (Fault, OSError) as error:
            self._listed = False
            self._note((*path,), Kind.FOLDER, error)

    def _wanted(self, path: Names, item: Item | None) -> Item | None:
        if item is None:
            return None
        wanted = self._options.patterns.want((*path, item.name), folder=item.kind is Kind.FOLDER)
        return item if wanted else None

    async def _pair(
        self, folder: Names, here: Item | None, there: Item | None, folders: Spool, deletions: Spool
    ) -> None:
        if here is None:
            if there is not None and self._options.delete:
                deletions.add((*folder, there.name), there.kind)
            return
        path = (*folder, here.name)
        if here.kind in _LEFT_OUT and not (here.kind is Kind.LINK and self._carrier.takes_links):
            self.summary.left_out += 1
            self._tell(Act.LEAVE_OUT, path, here.kind, reason=_LEFT_OUT[here.kind])
            return
        with self._excused(path, here.kind):
            there = await self._out_of_the_way(path, here, there)
            if here.kind is not Kind.FOLDER:
                await self._file(path, here, there)
            elif there is None and self._carrier.takes_trees and not self._options.patterns:
                await self._start(partial(self._copy, path, here, None))
            else:
                if there is None:
                    await self._make_folder(path)
                folders.add(here.name, there is None)

    async def _out_of_the_way(self, path: Names, here: Item, there: Item | None) -> Item | None:
        """Delete what cannot be replaced by a copy; give what is there then."""
        if there is None or there.kind is here.kind:
            return there
        if here.kind is not Kind.FOLDER and there.kind in self._carrier.replaces:
            return there
        if not self._options.delete:
            shown = self._target.shown(path)
            raise DuplicateNode(f"{shown} is a {there.kind}, and is to become a {here.kind}: --delete replaces it")
        if not await self._remove(path, there.kind):
            raise DuplicateNode(f"{self._target.shown(path)}: what is excluded is still in it")
        return None

    async def _file(self, path: Names, here: Item, there: Item | None) -> None:
        verdict = Verdict.DIFFERENT if there is None else self._comparison.look(here, there)
        if verdict is Verdict.SAME:
            self.summary.unchanged += 1
        elif verdict is not Verdict.DIFFERENT and there is not None:
            await self._start(partial(self._compare, path, here, there, verdict))
        elif self._together is None or not self._together.takes(here, there):
            await self._start(partial(self._copy, path, here, there))
        else:
            if self._batch is not None and not self._batch.has_room_for(here):
                await self._send_batch()
            self._batch = self._batch or self._together.batch()
            self._batch.add((path, here, there))

    # ------------------------------------------------------------------ several at once

    async def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        await self._free.acquire()
        self._group.create_task(self._run(work))

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            self._free.release()

    async def _compare(self, path: Names, here: Item, there: Item, verdict: Verdict) -> None:
        with self._excused(path, here.kind):
            if verdict is Verdict.READ:
                verdict = await self._comparison.read(path, here, there)
            if verdict is Verdict.DIFFERENT:
                await self._copy(path, here, there)
            elif verdict is Verdict.SAME:
                self.summary.unchanged += 1
            else:
                if not self._options.dry_run:
                    await self._target.date(path, here)
                self.summary.dated += 1
                self._tell(Act.DATE, path, here.kind)

    async def _copy(self, path: Names, here: Item, there: Item | None) -> None:
        with self._excused(path, here.kind):
            if not self._options.dry_run:
                with self._observer.file(here.name) as progress:
                    await self._carrier.copy(path, here, there, progress)
            self._copied(path, here, here.size)

    def _copied(self, path: Names, item: Item, size: int) -> None:
        if item.kind is Kind.FOLDER:  # with all that is in it: nobody has counted that
            self.summary.folders += 1
            self._tell(Act.COPY, path, item.kind)
            return
        self.summary.files += 1
        self.summary.bytes += size
        self._tell(Act.COPY, path, item.kind, size=size)

    async def _send_batch(self) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            await self._start(partial(self._carry, batch))

    async def _carry(self, batch: Batch) -> None:
        if self._options.dry_run:
            for path, here, _ in batch.members:
                self._copied(path, here, here.size)
        elif self._together is None or not batch.worthwhile:
            await self._carry_each(batch.members)
        else:
            await self._carry_each(await self._carry_together(self._together, batch))

    async def _carry_together(self, together: Together, batch: Batch) -> list[Member]:
        """Copy a batch; give what has to be tried one by one: all of it if something in it is in the way."""
        try:
            with self._observer.file(f"{len(batch.members)} small files") as progress:
                carried = await together.carry(batch, progress)
        except Fault as fault:
            if ends_all(fault):
                raise
            return batch.members
        for (path, here, _), size in carried.done:
            self._copied(path, here, size)
        for (path, here, _), error in carried.failed:
            self._note(path, here.kind, error)
        return carried.left

    async def _carry_each(self, members: list[Member]) -> None:
        waiting = iter(members)

        async def carry() -> None:
            for member in waiting:
                await self._copy(*member)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._options.parallel):
                group.create_task(carry())

    # ------------------------------------------------------------------ at the end

    async def _delete(self, deletions: Spool) -> None:
        if not deletions.count:
            return
        if not self._listed:
            raise InvalidArgument("nothing is deleted, since not all folders could be listed")
        if not self._source_items and not self._options.force:
            raise InvalidArgument(f"{self._source.shown(())} is empty: to delete all that is in the target use --force")
        for names, kind in deletions.rows():
            path = tuple(names)
            with self._excused(path, Kind(kind)):
                await self._remove(path, Kind(kind))

    async def _remove(self, path: Names, kind: Kind) -> bool:
        """Delete something; of a folder what the patterns want, if there are any. Say whether it is gone."""
        if kind is Kind.FOLDER and self._options.patterns:
            gone = await self._remove_wanted(path)
            if not gone:
                return False
        elif not self._options.dry_run:
            await self._target.delete(path, kind)
        self.summary.deleted += 1
        self._tell(Act.DELETE, path, kind)
        return True

    async def _remove_wanted(self, path: Names) -> bool:
        kept = False
        async with aclosing(self._target.listing(path)) as items:
            async for item in items:
                wanted = self._wanted(path, item) is not None
                kept |= not wanted or not await self._remove((*path, item.name), item.kind)
        return not kept and (self._options.dry_run or await self._target.delete_empty(path))

    # ------------------------------------------------------------------ what is told

    def _tell(self, act: Act, path: Names, kind: Kind, *, size: int | None = None, reason: str | None = None) -> None:
        self._observer.done(Event(act, _shown(path, kind), size, reason))

    def _note(self, path: Names, kind: Kind, error: Fault | OSError) -> None:
        if ends_all(error):
            raise error
        self.summary.failed += 1
        self._observer.failed(self._source.shown(path), _shown(path, kind), error)

    @contextmanager
    def _excused(self, path: Names, kind: Kind) -> Iterator[None]:
        """Tell of a failure and go on, unless all else must fail too."""
        try:
            yield
        except (Fault, OSError) as error:
            self._note(path, kind, error)


async def _together(source: Side, target: Side) -> Together | None:
    """Choose the way for many small files; None: there is none."""
    if isinstance(source, LocalSide) and isinstance(target, SpaceSide) and await target.space.has_entries():
        return BatchSender(source, target)
    if isinstance(source, SpaceSide) and isinstance(target, LocalSide) and await source.space.has_entries():
        return BatchFetcher(source, target)
    return None


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    first = several.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _shown(path: Names, kind: Kind) -> str:
    """Write a path from the top on, which is a dot."""
    return ("/".join(path) or ".") + ("/" if kind is Kind.FOLDER else "")
