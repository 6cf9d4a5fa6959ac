"""Comparing a store with the catalogue, both ways and in bounded memory, while everything else goes on.

What is published, replaced, deleted and swept meanwhile looks wrong for a moment. So nothing is told at first sight:
bytes that are missed were named before they were looked for, and still are named afterwards; and all that is found is
looked at a second time.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from pyvospace.db.integrity import StoreRecords
from pyvospace.model.crash import crash_point
from pyvospace.model.faults import Fault
from pyvospace.model.integrity import Damage, Finding, Named
from pyvospace.service.content import DEFAULT_TYPE
from pyvospace.storage.backend import FileBytes, Listed, Redirect, StorageBackend, StreamBytes
from pyvospace.storage.deliver import close_source
from pyvospace.storage.jobs import ClaimedDownload
from pyvospace.storage.sweep import delete_each
from pyvospace.storage.waiting import run

log = logging.getLogger(__name__)

_BATCH: Final = 2000
_AT_ONCE: Final = 16
"""Questions to a store whose listing does not tell sizes."""
_SUSPICIOUS: Final = 0.9
"""If the catalogue does not know this share of a full batch, it is probably not our catalogue."""
_PIECE: Final = 1 << 20

Spend = Callable[[int], Awaitable[None]]
"""Told of bytes that were read; takes the time that they may take."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with bytes that something names."""

    kind: Damage
    details: str


class Remedy(Enum):
    """What is done about a finding."""

    NONE = "none"
    QUARANTINE = "quarantine"
    """Damaged bytes are not served any more; what nobody names is put aside."""
    REPAIR = "repair"
    """Damaged bytes are not served any more; what nobody names is deleted."""


async def measure(backend: StorageBackend, named: Named) -> Verdict | None:
    """Look at bytes without reading them; None: there is nothing wrong with them that can be seen like this.

    Raises
    ------
    Fault
        The store cannot tell now.
    """
    try:
        size = await backend.size(named.location)
        if size is None:
            await _open(backend, named)
    except FileNotFoundError:
        return Verdict("missing", "nothing is there")
    except OSError as error:
        return Verdict("unreadable", error.strerror or str(error))
    if size is None or named.size is None or size == named.size:
        return None
    return Verdict("size", f"{size} bytes are there and should be {named.size}")


async def _open(backend: StorageBackend, named: Named) -> None:
    source = await backend.download(_job(named), None)
    if not isinstance(source, Redirect):
        await close_source(source)


def _job(named: Named) -> ClaimedDownload:
    return ClaimedDownload(named.location, named.size or 0, DEFAULT_TYPE, "bytes")


async def verify(backend: StorageBackend, named: Named, *, pool: Executor, spend: Spend) -> Verdict | None:
    """Read bytes and compare them with what they should be; None: they are good.

    Only SHA-256 is computed: bytes that have it have the right MD5 too.

    Raises
    ------
    Fault
        The store cannot tell now.
    """
    verdict = await measure(backend, named)
    if verdict is not None or named.sha256 is None:
        return verdict
    try:
        source = await backend.download(_job(named), None)
        if isinstance(source, Redirect):
            return None
        try:
            size, digest = await _read(source, pool, spend)
        finally:
            await close_source(source)
    except OSError as error:
        return Verdict("unreadable", error.strerror or str(error))
    if size != named.size:
        return Verdict("size", f"{size} bytes came and should be {named.size}")
    good = digest == named.sha256
    return None if good else Verdict("digest", f"SHA-256 is {digest.hex()} and should be {named.sha256.hex()}")


async def _read(source: FileBytes | StreamBytes, pool: Executor, spend: Spend) -> tuple[int, bytes]:
    """Read all bytes: their number and SHA-256."""
    digest = hashlib.sha256()
    size = 0
    async for piece in _file_pieces(source, pool) if isinstance(source, FileBytes) else source.pieces:
        await run(pool, digest.update, piece)
        size += len(piece)
        await spend(len(piece))
    return size, digest.digest()


async def _file_pieces(source: FileBytes, pool: Executor) -> AsyncIterator[bytes]:
    """Read a file from the disk, not from memory, and leave nothing of it in memory."""
    fd, position = source.file.fileno(), source.offset
    await run(pool, _drop, fd, 0, 0)
    while piece := await run(pool, os.pread, fd, _PIECE, position):
        yield piece
        await run(pool, _drop, fd, position, len(piece))
        position += len(piece)


def _drop(fd: int, start: int, length: int) -> None:
    with suppress(OSError):  # no file of a disk: there is nothing to drop
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)


async def free_of_charge(_: int) -> None:
    """Spend nothing: whoever reads is waited for."""


class StoreCheck:
    """One comparison.

    Parameters
    ----------
    grace
        Seconds that bytes without a name are left alone, as for the sweep.
    overdue
        Seconds after which the sweep should have deleted what is obsolete.
    pause
        Seconds between the two looks at what is found.
    """

    def __init__(
        self,
        backend: StorageBackend,
        records: StoreRecords,
        *,
        grace: float,
        overdue: float,
        remedy: Remedy = Remedy.NONE,
        pause: float = 1.0,
    ) -> None:
        self._backend = backend
        self._records = records
        self._grace = grace
        self._overdue = overdue
        self._remedy = remedy
        self._pause = pause
        self._whole = True
        """The listing came to its end."""
        self._strange = False
        """Nearly nothing that is there is known."""

    async def run(self) -> AsyncIterator[Finding]:
        """Compare, and give what is found as it is found."""
        number = await self._records.begin()
        try:
            async for finding in self._there(number):
                yield finding
            if self._whole:
                async for finding in self._not_there(number):
                    yield finding
            for location in await self._records.overdue(self._overdue):
                yield await self._sweep(Finding("overdue", location, "it should have been deleted long ago"))
        finally:
            await self._records.end(number)

    # What is in the store

    async def _there(self, number: int) -> AsyncIterator[Finding]:
        """Go through the store. Of a listing that is not whole nobody can say what it lacks."""
        batch: list[Listed] = []
        try:
            async for one in self._backend.listing():
                batch.append(one)
                if len(batch) == _BATCH:
                    for finding in await self._look_at(number, batch):
                        yield finding
                    batch = []
        except Exception as error:
            # Whatever a plugin raises: it could not go on.
            log.exception("the store could not be listed")
            self._whole = False
            yield Finding("listing", "store", f"it could not be listed as a whole: {error}")
        for finding in await self._look_at(number, batch):
            yield finding

    async def _look_at(self, number: int, batch: Sequence[Listed]) -> list[Finding]:
        before = datetime.now(UTC) - timedelta(seconds=self._grace)
        sizes = await self._sizes(batch)
        wrong = await self._records.listed(number, [one.location for one in batch], sizes)
        old = {one.location for one in batch if one.published <= before}
        unknown = [one.location for one in wrong if one.unknown and one.location in old]
        if len(batch) == _BATCH and len(unknown) > _SUSPICIOUS * len(batch):
            self._strange = True
        damaged = await self._confirm([one.location for one in wrong if not one.unknown])
        return damaged + await self._nameless(unknown)

    async def _sizes(self, batch: Sequence[Listed]) -> list[int | None]:
        """Ask for the sizes that the listing has not told."""
        untold = [one.location for one in batch if one.size is None]
        asked: dict[str, int | None] = {}
        for start in range(0, len(untold), _AT_ONCE):
            some = untold[start : start + _AT_ONCE]
            asked |= zip(some, await asyncio.gather(*map(self._size, some)), strict=True)
        return [asked.get(one.location, one.size) for one in batch]

    async def _size(self, location: str) -> int | None:
        try:
            return await self._backend.size(location)
        except (Fault, OSError):
            return None

    async def _nameless(self, locations: Sequence[str]) -> list[Finding]:
        if not locations:
            return []
        await asyncio.sleep(self._pause)
        found = []
        for location in await self._records.unknown(locations):
            with suppress(FileNotFoundError):  # swept meanwhile
                size = await self._backend.size(location)
                details = "nothing names these bytes" if size is None else f"nothing names these {size} bytes"
                found.append(await self._remove(Finding("unknown", location, details)))
        return found

    async def _remove(self, finding: Finding) -> Finding:
        """Put bytes without a name aside, or delete them, when it is certain that they will never have one."""
        if self._remedy is Remedy.NONE:
            return finding
        if self._strange:
            return replace(finding, outcome="left: nearly all is unknown; is this the right database?")
        if not await self._records.take_unknown([finding.subject], self._grace):
            return replace(
                finding, outcome=f"left: it must be without a name for {self._grace:g} s; the sweep comes back"
            )
        if self._remedy is Remedy.REPAIR:
            await self._backend.delete(finding.subject)
        elif not await self._backend.quarantine(finding.subject):
            return replace(finding, outcome="left: this backend cannot put anything aside")
        crash_point("fsck-mid")
        done = "deleted" if self._remedy is Remedy.REPAIR else "put aside"
        await self._records.note_repair(finding.subject, finding.kind, done)
        return replace(finding, outcome=done)

    # What is not

    async def _not_there(self, number: int) -> AsyncIterator[Finding]:
        after: str | None = ""
        while after is not None:
            missing, after = await self._records.missing(number, after, _BATCH)
            for finding in await self._confirm(missing):
                yield finding

    async def _confirm(self, locations: Sequence[str]) -> list[Finding]:
        """Look for bytes twice; they have a name before, between and after. What is known to be damaged is no news."""
        first = await self._judge(locations)
        if not first:
            return []
        await asyncio.sleep(self._pause)
        second = await self._judge(list(first))
        named = await self._records.named(list(second))
        news = [named[one] for one in second if one in named and named[one].damage is None]
        return [await self._mark(one, second[one.location]) for one in news]

    async def _judge(self, locations: Sequence[str]) -> dict[str, Verdict]:
        found = {}
        for location, named in (await self._records.named(locations)).items() if locations else ():
            try:
                verdict = await measure(self._backend, named)
            except Fault as fault:
                log.warning("%s cannot be looked at now: %s", location, fault.detail)
                continue
            if verdict is not None:
                found[location] = verdict
        return found

    async def _mark(self, named: Named, verdict: Verdict) -> Finding:
        """Enter damage, so that nobody is given these bytes and copies are made elsewhere."""
        finding = Finding(verdict.kind, named.location, verdict.details, named.path)
        if self._remedy is Remedy.NONE:
            return finding
        await self._records.note_damage(named.location, verdict.kind, verdict.details)
        return replace(finding, outcome="entered as damaged: not served any more")

    async def _sweep(self, finding: Finding) -> Finding:
        if self._remedy is Remedy.NONE:
            return finding
        due = await self._records.take_obsolete(self._overdue, _BATCH)
        if failed := await delete_each(self._backend, due):
            await self._records.note_obsolete(failed)
        return replace(finding, outcome="swept")


async def clear(backend: StorageBackend, records: StoreRecords, pool: Executor) -> AsyncIterator[Finding]:
    """Read again all that is damaged: what is good is so no more, the rest is given."""
    after = ""
    while locations := await records.damaged(after):
        for location, named in (await records.named(locations)).items():
            verdict = await verify(backend, named, pool=pool, spend=free_of_charge)
            if verdict is None:
                await records.clear_damage(location)
            else:
                yield Finding(verdict.kind, location, verdict.details, named.path)
        after = locations[-1]
