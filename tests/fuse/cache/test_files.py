"""One file of a cache: what its readers and writers see, and what the space gets."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pyvospace.client import ContentChanged
from pyvospace.fuse.cache import Cache, Limits, LocalFile, Sent, Version
from pyvospace.fuse.cache.records import MIB
from pyvospace.model.faults import OperationNotSupported, PermissionDenied, QuotaExceeded
from tests.fuse.cache.conftest import SLOW, OpenCache
from tests.fuse.cache.memory import MemorySpace, Node

A, B = ("a.txt",), ("b.txt",)
BLOCK = SLOW.block


def new(cache: Cache, path: tuple[str, ...] = A) -> LocalFile:
    file = cache.file(path, None, mtime_ns=1, mode=0o644)
    file.retain()
    return file


def known(cache: Cache, remote: MemorySpace, data: bytes, path: tuple[str, ...] = A) -> LocalFile:
    node = remote.put(path, data)
    file = cache.file(path, Version(node.etag, len(data)), mtime_ns=1, mode=None)
    file.retain()
    return file


async def whole(file: LocalFile) -> bytes:
    return await file.read(0, file.size + 1)


async def write(file: LocalFile, data: bytes, offset: int = 0) -> None:
    await file.write(offset, data)
    await file.flush()


async def sending(cache: Cache, remote: MemorySpace) -> asyncio.Task[None]:
    task = asyncio.create_task(cache.settle())
    await remote.half_way.wait()
    return task


async def test_empty_file_is_sent_though_nothing_was_written(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    assert [one.path for one in cache.unsent()] == [A]
    await cache.settle()
    assert not file.dirty
    assert not cache.unsent()


async def test_times_and_modes_go_with_the_bytes(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"x")
    assert file.touch(mtime_ns=5, mode=0o600)
    heard: list[tuple[tuple[str, ...], Sent]] = []
    cache.on_sent = lambda path, sent: heard.append((path, sent))
    await cache.settle(A)
    assert remote.nodes[A] == Node(b"x", 5, 0o600)
    assert heard == [(A, Sent(etag=remote.nodes[A].etag, size=1, mtime_ns=5, mode=0o600))]
    assert file.version == Version(remote.nodes[A].etag, 1)
    assert not file.touch(mtime_ns=6)
    assert file.mtime_ns == 6


async def test_only_what_is_read_is_fetched(cache: Cache, remote: MemorySpace) -> None:
    data = os.urandom(20 * BLOCK)
    file = known(cache, remote, data)
    assert await file.read(10 * BLOCK + 5, 10) == data[10 * BLOCK + 5 : 10 * BLOCK + 15]
    assert sum(stop - start for start, stop in remote.fetched) <= 4 * BLOCK
    await file.write(5 * BLOCK, b"here")
    await file.write(19 * BLOCK + 7, b"and there")
    assert sum(stop - start for start, stop in remote.fetched) <= 4 * BLOCK
    assert await file.read(5 * BLOCK - 1, 6) == data[5 * BLOCK - 1 : 5 * BLOCK] + b"here" + data[5 * BLOCK + 4 :][:1]
    await file.flush()
    await cache.settle()
    expected = bytearray(data)
    expected[5 * BLOCK : 5 * BLOCK + 4] = b"here"
    expected[19 * BLOCK + 7 : 19 * BLOCK + 16] = b"and there"
    assert remote.nodes[A].data == expected
    assert await whole(file) == expected


async def test_whoever_reads_on_has_blocks_fetched_before(cache: Cache, remote: MemorySpace) -> None:
    data = os.urandom(64 * BLOCK)
    file = known(cache, remote, data)
    for offset in range(0, 32 * BLOCK, BLOCK // 2):
        assert await file.read(offset, BLOCK // 2) == data[offset : offset + BLOCK // 2]
    await asyncio.sleep(0.01)
    assert max(stop for _, stop in remote.fetched) > 32 * BLOCK
    assert len(remote.fetched) == len({start for start, _ in remote.fetched}), "nothing is fetched twice"


async def test_whoever_reads_everywhere_has_blocks_fetched(open_cache: OpenCache, remote: MemorySpace) -> None:
    cache = await open_cache(Limits(write_back=3600))
    data = os.urandom(32 * MIB)
    file = known(cache, remote, data)
    for number in range(2000):
        offset = number * 7919 * 4096 % len(data)
        assert await file.read(offset, 4096) == data[offset : offset + 4096]
    assert len(remote.fetched) <= 100


async def test_warm_bytes_are_not_fetched_again(open_cache: OpenCache, remote: MemorySpace) -> None:
    data = os.urandom(3 * BLOCK)
    cache = await open_cache()
    file = known(cache, remote, data)
    assert await whole(file) == data
    file.release()
    await cache.close()
    remote.fetched.clear()
    again = known(await open_cache(), remote, data)
    assert await whole(again) == data
    assert not remote.fetched


async def test_sent_bytes_are_warm(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"x" * 3 * BLOCK)
    await cache.settle()
    assert await whole(file) == b"x" * 3 * BLOCK
    assert not remote.fetched


async def test_limit_of_clean_bytes(open_cache: OpenCache, remote: MemorySpace) -> None:
    cache = await open_cache(Limits(bytes=4 * BLOCK, block=BLOCK, write_back=3600))
    data = os.urandom(40 * BLOCK)
    file = known(cache, remote, data)
    for _ in range(2):
        assert await whole(file) == data
    assert await asyncio.gather(*(file.read(BLOCK * part, 2 * BLOCK) for part in range(39))) == [
        data[BLOCK * part :][: 2 * BLOCK] for part in range(39)
    ]
    used = sum(path.stat().st_blocks * 512 for path in (cache.directory / "blocks").iterdir())
    assert used <= 5 * BLOCK
    assert cache._shelf.blocks._bytes <= 4 * BLOCK


async def test_limit_that_is_less_than_a_block(open_cache: OpenCache, remote: MemorySpace) -> None:
    cache = await open_cache(Limits(bytes=1, block=BLOCK, write_back=3600))
    data = os.urandom(5 * BLOCK)
    file = known(cache, remote, data)
    assert await whole(file) == data
    await write(file, b"here", 2 * BLOCK)
    await cache.settle()
    assert remote.nodes[A].data == data[: 2 * BLOCK] + b"here" + data[2 * BLOCK + 4 :]
    assert await whole(file) == remote.nodes[A].data


async def test_changes_have_no_limit(open_cache: OpenCache, remote: MemorySpace) -> None:
    cache = await open_cache(Limits(bytes=BLOCK, block=BLOCK, write_back=3600))
    file = new(cache)
    await write(file, b"x" * 10 * BLOCK)
    assert await whole(file) == b"x" * 10 * BLOCK
    await cache.settle()
    assert await whole(file) == b"x" * 10 * BLOCK


async def test_another_version_is_another_file(cache: Cache, remote: MemorySpace) -> None:
    file = known(cache, remote, b"old")
    assert await whole(file) == b"old"
    assert known(cache, remote, b"newer") is file
    assert await whole(file) == b"newer"


async def test_bytes_that_are_gone_are_told(cache: Cache, remote: MemorySpace) -> None:
    file = known(cache, remote, bytes(10 * BLOCK))
    await file.read(0, 1)
    remote.put(A, b"other")
    with pytest.raises(ContentChanged):
        await file.read(9 * BLOCK, 1)


async def test_sent_bytes_are_of_one_moment(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"a" * 6 * MIB)
    with remote.stopped():
        task = await sending(cache, remote)
        assert file.sending
        await write(file, b"b" * 6 * MIB)
        await file.truncate(5 * MIB)
    await task
    assert remote.nodes[A].data == b"a" * 6 * MIB
    assert file.dirty
    await file.flush()
    await cache.settle()
    assert remote.nodes[A].data == b"b" * 5 * MIB
    assert remote.pushed == [A, A]


async def test_change_on_one_that_is_being_sent_lies_on_what_was_sent(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"a" * 5 * MIB)
    with remote.stopped():
        task = await sending(cache, remote)
        await write(file, b"b", 3)
        assert await file.read(0, 5) == b"aaaba"
    await task
    assert await file.read(0, 5) == b"aaaba"
    await cache.settle()
    assert remote.nodes[A].data == b"aaab" + b"a" * (5 * MIB - 4)
    assert not remote.fetched


async def test_change_on_one_that_is_refused(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"a" * 5 * MIB)
    with remote.stopped():
        task = await sending(cache, remote)
        await write(file, b"b", 3)
        remote.nodes[A] = Node(b"theirs")
    await task
    kept = file.path
    assert "conflict-alice-" in kept[0]
    await cache.settle()
    assert remote.nodes[A].data == b"theirs"
    assert remote.nodes[kept].data == b"aaab" + b"a" * (5 * MIB - 4)


async def test_two_writers(cache: Cache, remote: MemorySpace, caplog: pytest.LogCaptureFixture) -> None:
    file = known(cache, remote, b"base", ("archive.tar.gz",))
    await write(file, b"ours")
    remote.put(("archive.tar.gz",), b"theirs")
    heard: list[Any] = []
    cache.on_conflict = lambda path, kept: heard.append((path, kept, file.path))
    await cache.settle()
    (path, kept, now) = heard[0]
    assert path == ("archive.tar.gz",)
    assert kept == now
    assert kept[0].startswith("archive.conflict-alice-")
    assert kept[0].endswith("Z.tar.gz")
    assert remote.nodes[path].data == b"theirs"
    assert remote.nodes[kept].data == b"ours"
    assert "is kept as" in caplog.text
    await write(file, b"more")
    await cache.settle()
    assert remote.nodes[kept].data == b"more"


async def test_file_that_was_deleted_meanwhile_comes_back(cache: Cache, remote: MemorySpace) -> None:
    file = known(cache, remote, b"base")
    await write(file, b"ours")
    del remote.nodes[A]
    await cache.settle()
    assert remote.nodes[A].data == b"ours"


async def test_own_bytes_are_no_conflict(
    cache: Cache, remote: MemorySpace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyvospace.fuse.cache.sending._FIRST_PAUSE", 0.001)
    file = known(cache, remote, b"base")
    await write(file, b"ours")
    remote.lost_answers = 1
    await cache.settle()
    assert set(remote.nodes) == {A}
    assert not file.dirty
    assert "again in" in caplog.text


async def test_refusals_are_kept_and_told(cache: Cache, remote: MemorySpace, caplog: pytest.LogCaptureFixture) -> None:
    remote.refuses = lambda _: QuotaExceeded("full")
    file = new(cache)
    await write(file, b"x")
    with pytest.raises(QuotaExceeded):
        await cache.settle()
    assert cache.unsent()[0].failure == "QuotaExceeded full"
    with pytest.raises(QuotaExceeded):
        await file.fsync()
    file.release()
    again = cache.file(A, None, mtime_ns=0, mode=None)
    assert again is file
    assert await whole(again) == b"x"
    await write(again, b"y", 1)
    assert again.failure is None
    remote.refuses = lambda _: None
    await cache.settle()
    assert remote.nodes[A].data == b"xy"


async def test_closing_waits_without_write_back(open_cache: OpenCache, remote: MemorySpace) -> None:
    cache = await open_cache(Limits(write_back=0))
    file = new(cache)
    await write(file, b"x")
    assert remote.nodes[A].data == b"x"
    remote.refuses = lambda _: PermissionDenied("no")
    with pytest.raises(PermissionDenied):
        await write(file, b"y")


async def test_whoever_begins_anew_leaves_what_was_whole(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"whole")
    await file.truncate(0)
    await file.write(0, b"ha")
    assert await whole(file) == b"ha"
    rows = cache._shelf.journal.rows()
    assert [(row.size, row.handed) for row in rows] == [(5, 1)]
    await write(file, b"half", 0)
    assert [(row.size, row.handed) for row in cache._shelf.journal.rows()] == [(4, 1)]
    assert len(list((cache.directory / "changes").iterdir())) == 1
    await cache.settle()
    assert remote.pushed == [A]
    assert remote.nodes[A].data == b"half"


async def test_deleted_while_open(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"gone")
    assert not await file.discard()
    assert cache.find(A) is None
    assert await whole(file) == b"gone"
    await write(file, b"still", 4)
    assert await whole(file) == b"gonestill"
    assert not list((cache.directory / "changes").iterdir())
    other = new(cache)
    assert other is not file
    assert other.size == 0
    file.release()
    await cache.settle()
    assert remote.nodes[A].data == b""


async def test_deleted_while_it_is_sent(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"x" * 5 * MIB)
    with remote.stopped():
        task = await sending(cache, remote)
        assert await file.discard()
    await task
    assert not remote.nodes
    assert not cache.unsent()
    assert not cache._shelf.journal.rows()


async def test_new_file_takes_the_place_of_another(cache: Cache, remote: MemorySpace) -> None:
    node = remote.put(B, b"old")
    file = new(cache)
    await write(file, b"new")
    cache.moved(A, B)
    file.rebase(Version(node.etag, 3))
    await cache.settle()
    assert remote.nodes == {B: Node(b"new", file.mtime_ns, 0o644)}


async def test_containers_move_with_all_below(cache: Cache, remote: MemorySpace) -> None:
    for name in ("x", "y"):
        file = new(cache, ("old", "deep", name))
        await write(file, name.encode())
        file.release()
    cache.moved(("old",), ("new",))
    assert {one.path for one in cache.unsent_below(("new", "deep"))} == {("new", "deep", "x"), ("new", "deep", "y")}
    assert not cache.unsent_below(("old",))
    await cache.settle(("new",))
    assert {path: node.data for path, node in remote.nodes.items()} == {
        ("new", "deep", "x"): b"x",
        ("new", "deep", "y"): b"y",
    }


async def test_nothing_is_sent_where_somebody_moves(open_cache: OpenCache, remote: MemorySpace) -> None:
    cache = await open_cache(Limits(write_back=0.001))
    file = new(cache)
    async with cache.held(A, B):
        await write(file, b"x")
        await asyncio.sleep(0.02)
        assert not remote.pushed
        cache.moved(A, B)
    while file.dirty:
        await asyncio.sleep(0.005)
    assert remote.pushed == [B]


async def test_nobody_waits_for_what_was_deleted(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"x")
    async with cache.held(A):
        waiting = asyncio.create_task(cache.settle())
        await asyncio.sleep(0.01)
        await file.discard()
        await asyncio.wait_for(waiting, 5)
    assert not remote.pushed


async def test_settling_ends_though_somebody_goes_on_writing(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"x")
    async with cache.held(A):
        waiting = asyncio.create_task(cache.settle())
        await asyncio.sleep(0.01)
        await file.write(1, b"y")  # and no flush
    await asyncio.wait_for(waiting, 5)
    assert remote.nodes[A].data == b"xy"


async def test_full_disk(cache: Cache, remote: MemorySpace, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = known(cache, remote, os.urandom(2 * BLOCK), B)
    await whole(kept)
    file = new(cache)
    await write(file, b"before")
    real, full = os.pwrite, True

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="full"):
        await file.write(6, b"after")
    assert await whole(file) == b"before"
    assert cache._shelf.blocks._bytes < 2 * BLOCK, "what can be fetched again went first"
    full = False
    await write(file, b"after", 6)
    await cache.settle()
    assert remote.nodes[A].data == b"beforeafter"


async def test_the_journal_has_room_on_a_full_disk(cache: Cache, remote: MemorySpace) -> None:
    database, places = cache._shelf.journal._database, list(cache.directory.glob("journal.db*"))
    (pages,) = database.execute("pragma page_count").fetchone()
    database.execute(f"pragma max_page_count = {pages:d}")
    before = [place.stat().st_size for place in places]
    for number in range(40):
        await write(new(cache, (f"{number}",)), b"x")
    await cache.settle()
    assert len(remote.nodes) == 40
    assert [place.stat().st_size for place in places] == before


async def test_files_that_rest_have_nothing_open(cache: Cache) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        file = new(cache, (f"{number}",))
        await write(file, b"x")
        file.release()
        if number % 2:
            await file.discard()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_what_comes_after_the_last_flush_is_sent(cache: Cache, remote: MemorySpace) -> None:
    file = new(cache)
    await write(file, b"flushed")
    await file.write(0, b"mapped!")
    file.release()
    await cache.settle()
    assert remote.nodes[A].data == b"mapped!"


async def test_sending_gives_way(open_cache: OpenCache, remote: MemorySpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvospace.fuse.cache.sending._QUIET", 3600.0)
    cache = await open_cache(Limits(write_back=0.001))
    for number in range(5):
        await write(new(cache, (f"{number}",)), b"x")
    await asyncio.sleep(0.02)
    assert not remote.pushed
    sender = cache._shelf.sender
    now = asyncio.get_running_loop().time()
    assert sender._gives_way(now, now - 1.0) > now
    assert not sender._gives_way(now, now - 60.0), "it has waited long enough"
    await cache.settle()
    assert len(remote.pushed) == 5


async def test_services_that_know_no_versions(cache: Cache, remote: MemorySpace) -> None:
    file = known(cache, remote, b"base")
    await write(file, b"ours")
    remote.put(A, b"theirs")
    refusals = [OperationNotSupported("no versions")]
    remote.refuses = lambda _: refusals.pop() if refusals else None
    await cache.settle()
    assert remote.nodes[A].data == b"ours"


async def test_unknown_etags(cache: Cache, remote: MemorySpace, tmp_path: Path) -> None:
    """A node that never had bytes is replaced without a condition."""
    file = cache.file(A, Version(None, 0), mtime_ns=1, mode=None)
    file.retain()
    assert await whole(file) == b""
    await write(file, b"first")
    await cache.settle()
    assert remote.nodes[A].data == b"first"
