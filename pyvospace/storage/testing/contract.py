# ruff: noqa: S101 (pytest shows what an assert has found)
"""What every storage backend must do, as a test class to derive from.

::

    from pyvospace.storage.testing.contract import BackendContract

    class TestTapeBackend(BackendContract):
        backend_class = TapeBackend
"""

import asyncio
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_asyncio

from pyvospace.model.claims import OutcomeUnknownError, StoredFile
from pyvospace.model.faults import (
    ChecksumMismatch,
    Fault,
    InsufficientStorage,
    InvalidData,
    NodeBusy,
    RequestEntityTooLarge,
    ServiceBusy,
)
from pyvospace.storage.backend import BackendConfig, ByteRange, FileBytes, Redirect, StorageBackend, StreamBytes
from pyvospace.storage.hashing import Announced
from pyvospace.storage.jobs import ClaimedDownload
from pyvospace.storage.testing.doubles import FailAt, Interrupted
from pyvospace.storage.testing.dying import content
from pyvospace.storage.testing.processes import die, dying, said_by
from pyvospace.storage.testing.rig import Rig, read, rigged

MIB = 1 << 20
SIZES = (0, 1, 70_000, 3 * MIB + 17)
RANGES = (ByteRange(0, 1), ByteRange(0, 100_000), ByteRange(99_999, 100_000), ByteRange(4_321, 65_537))
HOSTILE = (
    "",
    "never/was",
    "../../x",
    "/etc/passwd",
    "..",
    "%2e%2e/x",
    "a\0b",
    "a\nb",
    "\u00e9\ud7ff",
    "a' or 'a' = 'a",
    "x" * 5000,
)
"""Locations that no backend has ever given."""
FILE_POINTS = ("after-fsync", "after-rename", "after-dirsync")


@pytest.mark.asyncio
class BackendContract:
    """Derive a class whose name begins with Test, and set `backend_class`."""

    backend_class: ClassVar[type[StorageBackend]]
    options: ClassVar[Mapping[str, str]] = {}
    """What `BackendConfig.options` is to hold."""
    readers_outlive_deletion: ClassVar[bool] = True
    """Whether a download that has begun can be read to its end after `StorageBackend.delete`."""
    memory: ClassVar[int] = 16 * MIB
    """How much an upload or download of any size may need."""
    large: ClassVar[int] = 48 * MIB
    """Size of the file that shows it."""
    medium: ClassVar[int] = 300_000
    """Size of uploads that are broken off everywhere; stores that take large files in parts want more than one part."""
    interruptions: ClassVar[int] = 25
    """At how many of the places where an upload waits it is cancelled; all of them if they are fewer."""
    deaths: ClassVar[int] = 3
    """The same for processes that are killed."""
    pooled: ClassVar[int] = 4
    """How many more connections may be open after uploads that were cancelled; 0 for backends without any."""
    crash_points: ClassVar[Sequence[str]] = ()
    """Further ones of `pyvospace.model.crash.UPLOAD_POINTS` that uploads pass: of files those of `FILE_POINTS`."""

    async def read_redirect(self, redirect: Redirect, byte_range: ByteRange) -> bytes:
        """Fetch what a redirect leads to; to be overridden by backends that answer with redirects."""
        raise NotImplementedError(redirect, byte_range)

    def outage(self, rig: Rig) -> AbstractContextManager[None]:
        """Let the place answer nobody while it is entered; to be overridden where a test can do that."""
        pytest.skip(f"no outage of {type(rig.backend).__name__} is known")

    def full(self, rig: Rig) -> AbstractContextManager[None]:
        """Let the place have no room for 3 MiB while it is entered; to be overridden where a test can do that."""
        pytest.skip(f"nothing is known that fills {type(rig.backend).__name__}")

    @pytest.fixture
    def config(self, tmp_path: Path) -> BackendConfig:
        """Point to an empty place."""
        return BackendConfig(tmp_path / "store", self.options)

    @pytest.fixture
    def backend(self, config: BackendConfig) -> StorageBackend:
        """Make the backend without starting it."""
        return self.backend_class.configure(config)

    @pytest_asyncio.fixture
    async def rig(self, backend: StorageBackend) -> AsyncIterator[Rig]:
        """Start the backend."""
        async with rigged(backend) as rig:
            yield rig

    async def _read(self, rig: Rig, stored: StoredFile, byte_range: ByteRange | None = None) -> bytes:
        source = await rig.open(stored, byte_range)
        span = byte_range or ByteRange(0, stored.size)
        return await (self.read_redirect(source, span) if isinstance(source, Redirect) else read(source, span))

    async def _require_clean(self, rig: Rig, *known: StoredFile) -> None:
        """Nothing is left of a failed upload, and what was there before can be read."""
        assert await rig.locations() == sorted(stored.location for stored in known)
        assert await rig.leftovers() == 0
        for stored in known:
            assert hashlib.sha256(await self._read(rig, stored)).digest() == stored.sha256

    # Bytes in, bytes out

    @pytest.mark.parametrize("size", SIZES)
    async def test_bytes_come_back(self, rig: Rig, size: int) -> None:
        """What was uploaded is what is downloaded."""
        data = content(size)
        stored = await rig.put(data)
        assert stored.size == size
        assert await self._read(rig, stored) == data
        await self._require_clean(rig, stored)

    @pytest.mark.parametrize("byte_range", RANGES, ids=str)
    async def test_ranges(self, rig: Rig, byte_range: ByteRange) -> None:
        """A range is exactly these bytes."""
        data = content(100_000)
        stored = await rig.put(data)
        assert await self._read(rig, stored, byte_range) == data[byte_range.start : byte_range.stop]

    async def test_small_files_at_once(self, rig: Rig) -> None:
        """A backend may leave all or some of them to single downloads, but what it gives is right."""
        contents = [b"", b"a", os.urandom(70_000)]
        stored = [await rig.put(data, node) for node, data in enumerate(contents, 1)]
        lost = ClaimedDownload("no/location", 7, "text/plain", "lost")
        jobs = [*(ClaimedDownload(one.location, one.size, "text/plain", "x") for one in stored), lost]
        found = await rig.backend.read_small(jobs)
        assert len(found) == len(jobs)
        assert all(one in {None, data} for one, data in zip(found, [*contents, None], strict=True))

    async def test_every_small_range(self, rig: Rig) -> None:
        """Also at the edges of a file of a few bytes."""
        data = content(7)
        stored = await rig.put(data)
        for start in range(7):
            for stop in range(start + 1, 8):
                assert await self._read(rig, stored, ByteRange(start, stop)) == data[start:stop]

    async def test_many_pieces(self, rig: Rig) -> None:
        """A body may come in pieces of any size."""
        pieces = [content(size) for size in (0, 1, 0, 5000, 2, 3, 300_000, 0)]
        stored = await rig.upload(rig.body(pieces))
        assert await self._read(rig, stored) == b"".join(pieces)

    async def test_uploads_at_the_same_time(self, rig: Rig) -> None:
        """They do not mix."""
        data = {node: content(50_000 + node)[node:] for node in range(8)}
        await asyncio.gather(*(rig.put(data[node], node) for node in data))
        for node, expected in data.items():
            stored = rig.catalogue.node(node).stored
            assert stored is not None
            assert await self._read(rig, stored) == expected

    async def test_locations_are_never_used_again(self, rig: Rig) -> None:
        """New bytes for the same node do not touch the old ones; nor do equal bytes share a location."""
        first, second, third = [await rig.put(data) for data in (b"first", b"second", b"second")]
        assert len({first.location, second.location, third.location}) == 3  # noqa: PLR2004
        await rig.backend.delete(second.location)
        await self._require_clean(rig, first, third)
        assert (await rig.put(b"fourth")).location not in {first.location, second.location, third.location}

    async def test_reopened(self, rig: Rig, config: BackendConfig) -> None:
        """Another process, or the next start, finds the same place with the same bytes."""
        stored = await rig.put(b"abc")
        again, once_more = self.backend_class.configure(config), self.backend_class.configure(config)
        assert await again.start() == await once_more.start()
        other = Rig(again, rig.workers, rig.catalogue)
        assert await other.locations() == [stored.location]
        assert await self._read(other, stored) == b"abc"
        await once_more.close()
        await again.close()

    async def test_everything_at_the_same_time(self, rig: Rig) -> None:
        """Also at one location: reading, listing and deleting disturb nobody."""
        data = content(200_000)
        stored, other = await rig.put(data, 1), await rig.put(b"other", 2)
        parts = [self._read(rig, stored, ByteRange(start, start + 50_000)) for start in range(0, 150_001, 30_000)]
        found = await asyncio.gather(*parts, rig.locations(), rig.put(b"new", 3))
        assert found[:6] == [data[start : start + 50_000] for start in range(0, 150_001, 30_000)]
        await asyncio.gather(*(rig.backend.delete(stored.location) for _ in range(5)))
        new = rig.catalogue.node(3).stored
        assert new is not None
        await self._require_clean(rig, other, new)

    async def test_download_that_is_broken_off(self, rig: Rig) -> None:
        """The client goes away, before the first byte or amid the others."""
        stored = await rig.put(content(3 * MIB))
        await self._read(rig, stored)
        opened = open_files()
        for pieces in (0, 1):
            source = await rig.open(stored)
            if isinstance(source, FileBytes):
                source.file.close()
            elif isinstance(source, StreamBytes):
                for _ in range(pieces):
                    await anext(source.pieces)
                if hasattr(source.pieces, "aclose"):
                    await source.pieces.aclose()
        assert open_files() <= opened
        await self._require_clean(rig, stored)

    # Deleting and listing

    async def test_deletion(self, rig: Rig) -> None:
        """What was deleted is gone; deleting it again is fine."""
        stored, other = await rig.put(b"abc", 1), await rig.put(b"other", 2)
        for _ in range(2):
            await rig.backend.delete(stored.location)
        await self._require_clean(rig, other)
        with pytest.raises(FileNotFoundError):
            await self._read(rig, stored)

    @pytest.mark.parametrize("location", HOSTILE, ids=range(len(HOSTILE)))
    async def test_location_that_never_was_one(self, rig: Rig, location: str) -> None:
        """Deleting it does nothing; reading it finds nothing, and nothing outside the place either."""
        stored = await rig.put(b"abc")
        await rig.backend.delete(location)
        with pytest.raises(FileNotFoundError):
            await read(await rig.open(replace(stored, location=location)), ByteRange(0, 3))
        await self._require_clean(rig, stored)

    async def test_deletion_during_a_download(self, rig: Rig) -> None:
        """Whoever reads may read on."""
        if not self.readers_outlive_deletion:
            pytest.skip("this backend says that it does not promise that")
        data = content(3 * MIB)
        stored = await rig.put(data)
        source = await rig.open(stored)
        await rig.backend.delete(stored.location)
        span = ByteRange(0, stored.size)
        assert data == await (self.read_redirect(source, span) if isinstance(source, Redirect) else read(source, span))

    async def test_listing(self, rig: Rig) -> None:
        """Every location once, with the time of its publication."""
        begun = datetime.now(UTC) - timedelta(seconds=2)
        stored = [await rig.put(content(node), node) for node in range(20)]
        found = [entry async for entry in rig.backend.locations()]
        assert sorted(location for location, _ in found) == sorted(file.location for file in stored)
        assert all(begun < published < datetime.now(UTC) + timedelta(seconds=2) for _, published in found)

    async def test_listing_while_the_place_changes(self, rig: Rig) -> None:
        """What is neither published nor deleted meanwhile is listed once."""
        stored = [await rig.put(content(node), node) for node in range(6)]
        listing = rig.backend.locations()
        found = [(await anext(listing))[0]]
        added = await rig.put(b"new", 10)
        gone = next(one for one in stored if one.location != found[0])
        await rig.backend.delete(gone.location)
        found += [location async for location, _ in listing]
        expected = {one.location for one in stored} - {gone.location}
        assert len(set(found)) == len(found)
        assert expected <= set(found) <= expected | {gone.location, added.location}

    async def test_sizes(self, rig: Rig) -> None:
        """They are those of the bytes, in the listing and asked for one by one, where they are told."""
        stored = [await rig.put(content(size), node) for node, size in enumerate((0, 5, 100_000))]
        listed = {one.location: one.size async for one in rig.backend.listing()}
        assert len(listed) == len(stored)
        for file in stored:
            assert listed[file.location] in {None, file.size}
            assert await rig.backend.size(file.location) in {None, file.size}
        if await rig.backend.size(stored[0].location) is not None:
            await rig.backend.delete(stored[0].location)
            with pytest.raises(FileNotFoundError):
                await rig.backend.size(stored[0].location)

    async def test_quarantine(self, rig: Rig) -> None:
        """What is put aside is out of the way of all other methods; what is not there is fine."""
        stored, other = await rig.put(b"abc", 1), await rig.put(b"other", 2)
        if not await rig.backend.quarantine(stored.location):
            await self._require_clean(rig, stored, other)
            return
        assert await rig.backend.quarantine(stored.location)
        with pytest.raises(FileNotFoundError):
            await self._read(rig, stored)
        await self._require_clean(rig, other)

    # Uploads that fail

    async def test_wrong_digest(self, rig: Rig) -> None:
        """The core finds out; the backend lets the fault pass and forgets the bytes."""
        before = await rig.put(b"before")
        with pytest.raises(ChecksumMismatch):
            await rig.upload(rig.body([b"abc"], announced=Announced(md5=bytes(16))))
        await self._require_clean(rig, before)

    async def test_wrong_length(self, rig: Rig) -> None:
        """As above."""
        with pytest.raises(InvalidData):
            await rig.upload(rig.body([b"abc"], size=4))
        with pytest.raises(RequestEntityTooLarge):
            await rig.upload(rig.body([b"abc", content(MIB)], limit=1000))
        await self._require_clean(rig)

    @pytest.mark.parametrize("pieces", range(4))
    async def test_body_that_breaks_off(self, rig: Rig, pieces: int) -> None:
        """After any number of pieces."""
        before = await rig.put(b"before")
        with pytest.raises(InvalidData, match="cut"):
            await rig.upload(rig.body([*[content(300_000)] * pieces, InvalidData("cut")]))
        await self._require_clean(rig, before)

    @pytest.mark.parametrize("pieces", range(4))
    async def test_cancelled_while_receiving(self, rig: Rig, pieces: int) -> None:
        """After any number of pieces; no staged bytes and no open file are left."""
        before = await rig.put(b"before")
        opened = open_files()
        for _ in range(3):
            body = rig.body([*[content(300_000)] * pieces, None])
            upload = asyncio.create_task(rig.upload(body))
            await body.stuck.wait()
            upload.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upload
        assert open_files() <= opened
        await self._require_clean(rig, before)

    async def test_wrong_digest_of_a_larger_file(self, rig: Rig) -> None:
        """It is known only when most of the bytes are on their way into the store."""
        half = content(self.medium // 2)
        with pytest.raises(ChecksumMismatch):
            await rig.upload(rig.body([half, half], announced=Announced(sha256=bytes(32))))
        with pytest.raises(InvalidData):
            await rig.upload(rig.body([half, half], size=2 * len(half) + 1))
        await self._require_clean(rig)

    async def test_cancelled_wherever_it_waits(self, rig: Rig) -> None:
        """Either the node has its bytes then, or nothing is left."""
        before = await rig.put(b"before")
        data = content(self.medium)
        places = await self._places_to_wait(rig, self.interruptions, data)
        opened = open_files()
        for at in places:
            interrupted = Rig(Interrupted(rig.backend, at), rig.workers)
            with suppress(asyncio.CancelledError):
                await interrupted.put(data)
            stored = interrupted.catalogue.node(1).stored
            left = [one.location for one in (before, stored) if one is not None]
            assert (at, await rig.locations()) == (at, sorted(left))
            assert (at, await rig.leftovers()) == (at, 0)
            if stored is not None:
                await rig.backend.delete(stored.location)
        assert open_files() <= opened + self.pooled
        await self._require_clean(rig, before)

    async def _places_to_wait(self, rig: Rig, most: int, data: bytes, *, kill: bool = False) -> list[int]:
        """Choose where an upload is to be interrupted, first and last included; and be warm then."""
        counting = Interrupted(rig.backend, 0, kill=kill)
        stored = await Rig(counting, rig.workers).put(data)
        await rig.backend.delete(stored.location)
        last = counting.waits
        return sorted({1 + round(place * (last - 1) / max(most - 1, 1)) for place in range(min(most, last))})

    @pytest.mark.parametrize("step", ["transaction", "store", "commit"])
    async def test_cancelled_while_publishing(self, rig: Rig, step: str) -> None:
        """Either the node has its bytes then, or nothing is left."""

        def cancel(done: str) -> None:
            if done == step:
                upload.cancel()

        rig.catalogue.before = cancel
        upload = asyncio.create_task(rig.put(content(100_000)))
        with suppress(asyncio.CancelledError):
            await upload
        stored = rig.catalogue.node(1).stored
        await self._require_clean(rig, *([stored] if stored else []))

    @pytest.mark.parametrize("step", ["transaction", "store", "commit"])
    async def test_transaction_that_fails(self, rig: Rig, step: str) -> None:
        """Nothing is left, and the next upload works."""
        before = await rig.put(b"before")
        rig.catalogue.before = FailAt(step, NodeBusy("lost"))
        with pytest.raises(NodeBusy):
            await rig.put(b"new")
        rig.catalogue.before = FailAt("never")
        await self._require_clean(rig, before)
        await self._require_clean(rig, before, await rig.put(b"new"))

    @pytest.mark.parametrize("step", ["commit", "committed"])
    async def test_unknown_outcome(self, rig: Rig, step: str) -> None:
        """If nobody knows whether the node names the location, its bytes stay."""
        rig.catalogue.before = FailAt(step, OutcomeUnknownError())
        with pytest.raises(Fault, match="not known"):
            await rig.put(b"abc")
        assert len(await rig.locations()) == 1
        stored = rig.catalogue.node(1).stored
        assert (stored is not None) == (step == "committed")
        if stored is not None:
            assert await self._read(rig, stored) == b"abc"

    async def test_staged_bytes_are_no_location(self, rig: Rig) -> None:
        """The sweep must not see what is still being received."""
        body = rig.body([content(MIB), None])
        upload = asyncio.create_task(rig.upload(body))
        await body.stuck.wait()
        assert await rig.locations() == []
        upload.cancel()
        with suppress(asyncio.CancelledError):
            await upload

    async def test_running_uploads_are_not_swept(self, rig: Rig) -> None:
        """Staged bytes that are still being written are younger than any grace time."""
        body = rig.body([content(MIB), None])
        upload = asyncio.create_task(rig.upload(body))
        await body.stuck.wait()
        assert await rig.backend.sweep_staging(datetime.now(UTC) - timedelta(minutes=1)) == 0
        upload.cancel()
        with suppress(asyncio.CancelledError):
            await upload
        await self._require_clean(rig)

    # Errors that pass

    async def test_outage(self, rig: Rig) -> None:
        """The client is told to come again, and nothing is left; afterwards everything works."""
        before = await rig.put(b"before")
        with self.outage(rig):
            with pytest.raises(ServiceBusy):
                await rig.put(content(self.medium))
            with pytest.raises(Exception):  # noqa: B017, PT011 (anything)
                await rig.backend.check()
        await self._require_clean(rig, before)
        await rig.backend.check()
        await self._require_clean(rig, before, await rig.put(b"new"))

    async def test_full(self, rig: Rig) -> None:
        """The client is told that there is no room; what was there can be read, and room made is used."""
        before = await rig.put(b"before")
        with self.full(rig):
            with pytest.raises(InsufficientStorage):
                await rig.put(content(3 * MIB))
            assert await self._read(rig, before) == b"before"
        await self._require_clean(rig, before)
        await self._require_clean(rig, before, await rig.put(b"new"))

    # Processes that die

    @pytest.mark.parametrize(
        ("point", "stored"),
        [("", False), ("after-tmp", False), ("before-commit", False), ("after-commit-before-answer", True)],
    )
    async def test_killed(self, config: BackendConfig, rig: Rig, point: str, stored: bool) -> None:  # noqa: FBT001
        """In the middle of the body, or before or after the commit.

        What was committed is there; of the rest nothing is left once the sweep has been.
        """
        before = await rig.put(b"before")
        size = 3 * MIB
        await asyncio.to_thread(die, self.backend_class, config, point, size)
        await rig.leftovers()
        added = set(await rig.locations()) - {before.location}
        assert len(added) <= 1
        if stored:
            data = content(size)
            file = StoredFile(
                location=added.pop(), size=size, md5=b"", sha256=hashlib.sha256(data).digest(), content_type=None
            )
            assert await self._read(rig, file) == data
            await rig.backend.delete(file.location)
        for location in added:
            await rig.backend.delete(location)
        await self._require_clean(rig, before)

    async def test_killed_wherever_it_waits(self, config: BackendConfig, rig: Rig) -> None:
        """Nothing is left but, perhaps, a location that nobody names; the sweep finds it."""
        before = await rig.put(b"before")
        for at in await self._places_to_wait(rig, self.deaths, content(self.medium), kill=True):
            await asyncio.to_thread(die, self.backend_class, config, "", self.medium, at=at)
            await rig.leftovers()
            added = set(await rig.locations()) - {before.location}
            assert len(added) <= 1
            for location in added:
                await rig.backend.delete(location)
            await self._require_clean(rig, before)

    async def test_further_crash_points(self, config: BackendConfig, rig: Rig) -> None:
        """As above, where the backend says that it may happen."""
        before = await rig.put(b"before")
        for point in self.crash_points:
            await asyncio.to_thread(die, self.backend_class, config, point, self.medium)
            await rig.leftovers()
            for location in set(await rig.locations()) - {before.location}:
                await rig.backend.delete(location)
            await self._require_clean(rig, before)

    async def test_two_processes(self, config: BackendConfig, rig: Rig) -> None:
        """What one stores the other finds; neither sweeps what the other is receiving."""
        own = await rig.put(b"own")
        with dying(self.backend_class, config, ["0"], self.medium) as other:
            assert await asyncio.to_thread(said_by, other) == "stuck\n"
            assert await rig.backend.sweep_staging(datetime.now(UTC) - timedelta(minutes=1)) == 0
            assert await rig.locations() == [own.location]
            with dying(self.backend_class, config, ["1"], self.medium) as third:
                assert await asyncio.to_thread(said_by, third) == "done\n"
            [added] = set(await rig.locations()) - {own.location}
            found = replace(own, location=added, size=self.medium)
            assert await self._read(rig, found) == content(self.medium)

    # Limits

    async def test_memory(self, rig: Rig) -> None:
        """Does not grow with the size of a file."""
        size, piece = self.large, content(MIB)
        tracemalloc.start()
        try:
            stored = await rig.upload(rig.body(repeated(piece, size)))
            source = await rig.open(stored)
            if not isinstance(source, Redirect):
                await skim(source, size)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < self.memory

    async def test_files_are_closed(self, rig: Rig) -> None:
        """No descriptor stays open behind a transfer."""
        await self._read(rig, await rig.put(content(100_000)))
        opened = open_files()
        for node in range(5):
            await self._read(rig, await rig.put(content(100_000), node))
        assert open_files() <= opened

    async def test_check_and_space(self, rig: Rig) -> None:
        """They answer."""
        await rig.backend.check()
        free, total = await rig.backend.free_space(), await rig.backend.total_space()
        assert free is None or total is None or 0 <= free <= total


def repeated(piece: bytes, size: int) -> Iterator[bytes]:
    """Give `size` bytes without having them all at once."""
    for _ in range(size // len(piece)):
        yield bytes(bytearray(piece))


async def skim(source: FileBytes | StreamBytes, size: int) -> None:
    """Read a download to its end and keep nothing."""
    if isinstance(source, StreamBytes):
        assert sum([len(piece) async for piece in source.pieces]) == size
    else:
        source.file.close()


def open_files() -> int:
    """Count the descriptors of this process; 0 where that cannot be told."""
    directory = Path("/proc/self/fd")
    return len(list(directory.iterdir())) if directory.exists() else 0
