"""What the next process finds of a cache whose process was killed, at every moment."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyvospace.fuse.cache import Cache, Limits, LocalFile, Version, cache_directory
from pyvospace.fuse.cache.journal import Journal
from pyvospace.fuse.cache.naming import beside
from pyvospace.model.faults import PermissionDenied
from tests.fuse.cache.conftest import SLOW, OpenCache, killed
from tests.fuse.cache.memory import ROOT, MemorySpace, Node

A, B = ("a.txt",), ("b.txt",)
SIZE = 20_000


def new(cache: Cache, path: tuple[str, ...] = A) -> LocalFile:
    file = cache.file(path, None, mtime_ns=1, mode=0o644)
    file.retain()
    return file


def known(cache: Cache, remote: MemorySpace, data: bytes, path: tuple[str, ...] = A) -> LocalFile:
    node = remote.put(path, data)
    file = cache.file(path, Version(node.etag, len(data)), mtime_ns=1, mode=None)
    file.retain()
    return file


async def write(file: LocalFile, data: bytes, offset: int = 0) -> None:
    await file.write(offset, data)
    await file.flush()


async def test_what_was_handed_over_is_sent(
    cache: Cache, open_cache: OpenCache, remote: MemorySpace, tmp_path: Path
) -> None:
    await write(known(cache, remote, b"base"), b"changed")
    file = new(cache, B)
    await file.write(0, b"new")
    file.touch(mtime_ns=7, mode=0o640)
    await file.fsync()
    again = await open_cache(directory=killed(cache, tmp_path / "killed"))
    assert {(one.path, one.size, one.new) for one in again.unsent()} == {(A, 7, False), (B, 3, True)}
    found = again.find(B)
    assert found is not None
    assert (found.mtime_ns, found.mode, found.dirty) == (7, 0o640, True)
    assert await found.read(0, 9) == b"new"
    await again.settle()
    assert remote.nodes == {A: Node(b"changed", remote.nodes[A].mtime), B: Node(b"new", 7, 0o640)}


async def test_what_was_not_finished_is_kept_beside(
    cache: Cache, open_cache: OpenCache, remote: MemorySpace, tmp_path: Path
) -> None:
    file = known(cache, remote, b"base that is whole" * 10_000)
    await file.write(3, b"half")
    cache._note()
    again = await open_cache(directory=killed(cache, tmp_path / "killed"))
    await again.settle()
    assert remote.nodes[A].data == b"base that is whole" * 10_000
    ((path, node),) = [(path, node) for path, node in remote.nodes.items() if path != A]
    assert path[0].startswith("a.recovered-alice-")
    assert node.data == b"bas" + b"half" + (b"base that is whole" * 10_000)[7:]


async def test_bytes_that_the_journal_does_not_know_are_put_aside(
    cache: Cache, open_cache: OpenCache, remote: MemorySpace, tmp_path: Path
) -> None:
    await new(cache).write(0, b"only just begun")
    again = await open_cache(directory=killed(cache, tmp_path / "killed"))
    assert [path.read_bytes() for path in (again.directory / "recovered").iterdir()] == [b"only just begun"]
    assert not again.unsent()


async def test_damaged_journal(
    open_cache: OpenCache, remote: MemorySpace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await open_cache()
    remote.refuses = lambda _: PermissionDenied("no")
    await write(new(cache), b"precious")
    await cache.close()
    (cache.directory / "journal.db").write_bytes(b"no database at all" * 1000)
    for suffix in ("-wal", "-shm"):
        (cache.directory / f"journal.db{suffix}").unlink(missing_ok=True)
    again = await open_cache()
    assert again.directory == cache.directory
    (kept,) = (again.directory / "recovered").iterdir()
    assert kept.name.endswith("a.txt")
    assert kept.read_bytes() == b"precious"
    assert "put aside" in caplog.text
    remote.refuses = lambda _: None
    await write(new(again), b"goes on")
    await again.settle()
    assert remote.nodes[A].data == b"goes on"


async def test_damaged_list_of_blocks(open_cache: OpenCache, remote: MemorySpace) -> None:
    cache = await open_cache()
    await known(cache, remote, b"warm").read(0, 4)
    await cache.close()
    (cache.directory / "blocks.db").write_bytes(b"no database at all" * 1000)
    again = await open_cache()
    assert await known(again, remote, b"warm").read(0, 4) == b"warm"
    assert len(remote.fetched) == 2


async def test_power_cut(
    cache: Cache, open_cache: OpenCache, remote: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that nobody synced may be zeros by then, whatever the journal says."""
    await write(known(cache, remote, b"base"), b"flushed")
    synced = new(cache, B)
    await synced.write(0, b"synced")
    await synced.fsync()
    directory = killed(cache, tmp_path / "killed")
    monkeypatch.setattr("pyvospace.fuse.cache.recovery.boot_id", lambda: "another")
    await (await open_cache(directory=directory)).settle()
    assert remote.nodes[A].data == b"base"
    assert remote.nodes[B].data == b"synced"
    assert [node.data for path, node in remote.nodes.items() if "recovered" in path[0]] == [b"flushed"]


async def test_every_process_has_a_slot(open_cache: OpenCache, remote: MemorySpace, tmp_path: Path) -> None:
    remote.refuses = lambda _: PermissionDenied("no")
    first, second, third = await open_cache(), await open_cache(), await open_cache()
    assert [one.directory.name for one in (first, second, third)] == ["0", "1", "2"]
    assert first.directory.stat().st_mode & 0o777 == 0o700
    await write(new(second), b"of the second")
    await write(new(third, B), b"of the third")
    await second.close()
    await third.close()
    remote.refuses = lambda _: None
    fourth = await open_cache()
    assert fourth.directory.name == "1", "what has something unsent is taken first"
    assert {one.path for one in fourth.unsent()} == {A, B}
    await fourth.settle()
    assert {path: node.data for path, node in remote.nodes.items()} == {A: b"of the second", B: b"of the third"}
    assert not list((third.directory / "changes").iterdir())
    assert not list((fourth.directory / "changes").iterdir())


async def test_same_name_in_two_slots(
    open_cache: OpenCache, remote: MemorySpace, caplog: pytest.LogCaptureFixture
) -> None:
    remote.refuses = lambda _: PermissionDenied("no")
    first, second = await open_cache(), await open_cache()
    await write(new(first), b"of the first")
    await write(new(second), b"of the second")
    await first.close()
    await second.close()
    remote.refuses = lambda _: None
    await (await open_cache()).settle()
    assert sorted(node.data for node in remote.nodes.values()) == [b"of the first", b"of the second"]


async def test_what_is_in_the_space_is_neither_sent_again_nor_taken_over(
    cache: Cache, open_cache: OpenCache, remote: MemorySpace, tmp_path: Path
) -> None:
    await write(new(cache), b"sent")
    await cache.settle()
    remote.refuses = lambda _: PermissionDenied("no")
    await write(new(cache, B), b"refused")
    directory = killed(cache, tmp_path / "killed")
    shutil.copytree(directory / "0", directory / "1")
    remote.refuses = lambda _: None
    again = await open_cache(directory=directory)
    await again.settle()
    assert {path for path in remote.nodes if "recovered" not in path[0]} == {A, B}
    assert [path[0][:12] for path in remote.nodes if "recovered" in path[0]] == ["b.recovered-"]
    assert remote.pushed.count(A) == 1
    assert not again._shelf.journal.rows()


async def test_subtrees_share_a_cache(open_cache: OpenCache, remote: MemorySpace, tmp_path: Path) -> None:
    """What is outside the mount is sent too; it is just not shown."""
    cache = await open_cache()
    remote.refuses = lambda _: PermissionDenied("no")
    await write(new(cache, ("home", "x")), b"x")
    await write(new(cache, ("other", "y")), b"y")
    await cache.close()
    remote.refuses = lambda _: None
    below = await Cache.open(tmp_path / "mounts", remote.space, ROOT.child("home"), SLOW, user="alice")
    heard: list[tuple[str, ...]] = []
    below.on_sent = lambda path, _: heard.append(path)
    try:
        assert [one.path for one in below.unsent()] == [("x",)]
        await below.settle()
        while len(remote.nodes) < 2:
            await asyncio.sleep(0.001)
        assert set(remote.nodes) == {("home", "x"), ("other", "y")}
        assert heard == [("x",)]
    finally:
        await below.close()


def test_names() -> None:
    assert beside(("d", "x.tar.gz"), "conflict", "a/b c")[1].startswith("x.conflict-a_b_c-2")
    assert beside(("d", "x.tar.gz"), "conflict", "a")[1].endswith("Z.tar.gz")
    assert beside((".profile",), "conflict", "")[0].startswith(".profile.conflict-unknown-")
    assert len(beside(("ä" * 127 + ".b",), "conflict", "a" * 99)[0].encode()) <= 255


def test_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, other = cache_directory("http://h/s", "alice", "h~s"), cache_directory("http://h/s", "bob", "h~s")
    assert one.parent == tmp_path / "pyvospace" / "mounts"
    assert one != other
    elsewhere = cache_directory("http://h/s", "alice", "h~s", tmp_path)
    assert elsewhere == tmp_path / one.name  # whose unsent files are whose is clear there too


# ---------------------------------------------------------------------- every moment


class Moments:
    """Copies what is on the disk before each thing that is done to it."""

    def __init__(self, cache: Cache, remote: MemorySpace, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._cache, self._remote, self._to = cache, remote, to
        self.found: list[tuple[Path, dict[Any, Node], bytes, bytes]] = []
        self.acknowledged = self.coming = b""
        for where, name in ((Journal, "keep"), (Journal, "drop"), (Journal, "together"), (Path, "rename")):
            monkeypatch.setattr(where, name, self._watched(getattr(where, name)))
        for name in ("pwrite", "ftruncate", "fsync"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))
        monkeypatch.setattr(Path, "unlink", self._watched(Path.unlink))

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **named: Any) -> Any:
            self.take()
            return real(*args, **named)

        return done

    def take(self) -> None:
        copy = self._to / str(len(self.found))
        shutil.copytree(self._cache.directory, copy / "0")
        self.found.append((copy, dict(self._remote.nodes), self.acknowledged, self.coming))


async def test_killed_at_every_moment(
    open_cache: OpenCache, remote: MemorySpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it is killed: what was acknowledged is in the space then, or what came next, and nothing between."""
    monkeypatch.setattr("pyvospace.fuse.cache.remote._IN_MEMORY", 100)
    cache = await open_cache(Limits(block=4 << 10, write_back=3600))
    base = b"0" * 3 * SIZE
    file = known(cache, remote, base)
    with monkeypatch.context() as patch:
        moments = Moments(cache, remote, tmp_path / "moments", patch)
        moments.acknowledged = moments.coming = base

        async def step(work: Callable[[], Any], coming: bytes) -> None:
            moments.coming = coming
            await work()
            moments.acknowledged = coming

        async def rewrite(data: bytes, *, durable: bool = False) -> None:
            await file.truncate(0)
            await file.write(0, data)
            await (file.fsync() if durable else file.flush())

        await step(lambda: rewrite(b"1" * SIZE), b"1" * SIZE)
        await step(lambda: rewrite(b"2" * SIZE, durable=True), b"2" * SIZE)
        with remote.stopped():
            sending = asyncio.create_task(cache.settle())
            await remote.half_way.wait()
            await step(lambda: write(file, b"3"), b"3" + b"2" * (SIZE - 1))
        await sending
        await step(cache.settle, moments.coming)
        await step(lambda: rewrite(b"4"), b"4")
        moments.take()
    await cache.close()
    assert len(moments.found) > 20
    for copy, nodes, acknowledged, coming in moments.found:
        after = MemorySpace(nodes)
        again = await Cache.open(copy, after.space, ROOT, SLOW, user="alice")
        await again.settle()
        assert after.nodes[A].data in {acknowledged, coming}, copy
        await again.close()
        shutil.rmtree(copy)
