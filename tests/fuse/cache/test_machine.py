"""Random operations on one file, compared with a bytearray: whatever happens meanwhile, no byte is wrong or lost."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyvospace.fuse.cache import Cache, Limits, LocalFile, Version
from pyvospace.model.faults import PermissionDenied
from tests.fuse.cache.conftest import killed
from tests.fuse.cache.memory import ROOT, MemorySpace

PATH = ("file.dat",)
BLOCK = 1024
MOST = 9 * BLOCK
LIMITS = Limits(bytes=4 * BLOCK, block=BLOCK, read_ahead=2, write_back=3600.0, patience=1.0)
OFFSETS = st.integers(0, MOST) | st.sampled_from([0, BLOCK, 2 * BLOCK])
DATA = st.builds(lambda byte, size: bytes([byte]) * size, st.integers(1, 255), st.integers(0, 3 * BLOCK))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvospace.fuse.cache.sending._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("pyvospace.fuse.cache.remote._IN_MEMORY", 100)


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="cache-machine-")
        self.base = Path(self.directory.name)
        self.loop = asyncio.new_event_loop()
        self.remote = MemorySpace()
        self.kills = 0
        self.sending: asyncio.Task[None] | None = None

    def run(self, awaited: Any) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(awaited, 20))

    async def _open(self, directory: Path) -> Cache:
        return await Cache.open(directory, self.remote.space, ROOT, LIMITS, user="alice")

    @initialize(data=DATA, there=st.booleans())
    def begin(self, data: bytes, there: bool) -> None:
        self.cache: Cache = self.run(self._open(self.base / "0"))
        self.path: tuple[str, ...] = PATH
        self.model = bytearray(data if there else b"")
        """As who has it open sees it."""
        self.handed: bytes | None = bytes(self.model)
        """As it was handed over last, or is in the space; None: never."""
        self.base_data = bytes(self.model)
        self.theirs: dict[tuple[str, ...], bytes] = {}
        if there:
            self.remote.put(PATH, data)
        self._reopen()
        if not there:
            self.handed = None

    def _reopen(self) -> None:
        async def reopen() -> LocalFile:
            node = self.remote.nodes.get(self.path)
            version = None if node is None else Version(node.etag, len(node.data))
            file = self.cache.file(self.path, version, mtime_ns=1, mode=None)
            file.retain()
            return file

        self.file: LocalFile = self.run(reopen())

    # ------------------------------------------------------------------ what a program does

    @rule(offset=OFFSETS, data=DATA)
    def write(self, offset: int, data: bytes) -> None:
        assert self.run(self.file.write(offset, data)) == len(data)
        if data:
            self.model.extend(bytes(max(0, offset - len(self.model))))
            self.model[offset : offset + len(data)] = data

    @rule(size=OFFSETS)
    def truncate(self, size: int) -> None:
        self.run(self.file.truncate(size))
        self.model.extend(bytes(max(0, size - len(self.model))))
        del self.model[size:]

    @rule(offset=OFFSETS, size=st.integers(0, 3 * BLOCK))
    def read(self, offset: int, size: int) -> None:
        assert self.run(self.file.read(offset, size)) == self.model[offset : offset + size]

    @rule(durable=st.booleans())
    def hand_over(self, durable: bool) -> None:
        self.run(self.file.fsync() if durable else self.file.flush())
        if self.file.dirty:
            self.handed = bytes(self.model)

    @rule(mtime=st.integers(10**9, 10**10))
    def touch(self, mtime: int) -> None:
        async def touch() -> bool:
            return self.file.touch(mtime_ns=mtime)

        dirty = self.file.dirty
        assert self.run(touch()) == dirty
        assert self.file.mtime_ns == mtime

    @rule()
    def reopen(self) -> None:
        self.hand_over(durable=False)
        self.file.release()
        self._reopen()

    @rule(number=st.integers(0, 3))
    def rename(self, number: int) -> None:
        path = (f"file-{number}.dat",)
        if path == self.path or path in self.remote.nodes or self.sending is not None:
            return

        async def rename() -> None:
            async with self.cache.held(self.path, path):
                if self.path in self.remote.nodes and self.file.version is not None:
                    self.remote.nodes[path] = self.remote.nodes.pop(self.path)
                self.cache.moved(self.path, path)

        if self.path in self.theirs:
            return
        self.run(rename())
        self.path = path
        assert self.cache.find(path) is self.file

    # ------------------------------------------------------------------ what happens meanwhile

    @rule()
    def evict(self) -> None:
        async def evict() -> None:
            self.cache._shelf.blocks.make_room()

        self.run(evict())

    @precondition(lambda self: self.sending is None)
    @rule()
    def send_half(self) -> None:
        """A half is sent; what is written from now on must not be in the other half."""
        if not self.file.dirty:
            return
        self.handed = bytes(self.model)
        self.remote.open.clear()
        self.remote.half_way.clear()

        async def begin() -> asyncio.Task[None]:
            task = asyncio.create_task(self.cache.settle())
            half = asyncio.create_task(self.remote.half_way.wait())
            await asyncio.wait([half, task], return_when=asyncio.FIRST_COMPLETED)
            half.cancel()
            return task

        self.sent_data = bytes(self.model)
        self.sending = self.run(begin())

    @precondition(lambda self: self.sending is not None)
    @rule(lost=st.booleans())
    def send_rest(self, lost: bool) -> None:
        assert self.sending is not None
        self.remote.lost_answers = int(lost)
        self.remote.open.set()
        self.run(self.sending)
        self.remote.lost_answers = 0
        self.sending = None
        self._sent(self.sent_data)

    @precondition(lambda self: self.sending is None)
    @rule(refused=st.booleans())
    def settle(self, refused: bool) -> None:
        if refused and self.file.dirty:
            self.remote.failures.append(PermissionDenied("not today"))
            try:
                self.run(self.cache.settle())
            except PermissionDenied:
                # Or it has been sent after all, by an attempt that was under way already.
                assert all(one.failure for one in self.cache.unsent())
            self.remote.failures.clear()
        self.handed = bytes(self.model) if self.file.dirty else self.handed
        self.run(self.cache.settle())
        assert not self.cache.unsent()
        self._sent(bytes(self.model))

    def _sent(self, data: bytes) -> None:
        self.path = self.file.path
        assert self.remote.nodes[self.path].data in {data, self.handed}
        for path, theirs in self.theirs.items():
            assert self.remote.nodes[path].data == theirs
        if not self.file.dirty:
            self.base_data = data

    @precondition(lambda self: self.sending is None and self.path in self.remote.nodes)
    @rule(data=DATA)
    def somebody_else_writes(self, data: bytes) -> None:
        if self.path in self.theirs:
            return
        if not self.file.dirty:
            self.remote.put(self.path, data)
            self.file.release()
            self._reopen()
            self.model = bytearray(data)
            self.handed = self.base_data = data
        elif data != self.model and self._is_whole():
            self.theirs[self.path] = data
            self.remote.put(self.path, data)

    def _is_whole(self) -> bool:
        return not any(changes.missing for changes in self.file.unsent_changes)

    @precondition(lambda self: self.sending is None)
    @rule()
    def kill(self) -> None:
        """The process is gone; what it had handed over is there, and is sent."""
        altered = any(changes.altered for changes in self.file.unsent_changes)
        dirty = self.file.dirty
        self.kills += 1
        directory = killed(self.cache, self.base / str(self.kills))
        self.run(self.cache.close())
        self.cache = self.run(self._open(directory))
        self.run(self.cache.settle())
        node = self.remote.nodes.get(self.path)
        if not dirty:
            pass
        elif not altered:
            kept = [node.data for path, node in self.remote.nodes.items() if path == self.path or "conflict" in path[0]]
            assert bytes(self.model) in kept
        for path, theirs in self.theirs.items():
            assert self.remote.nodes[path].data == theirs
        assert node is not None or self.handed is None or self.theirs or not dirty
        self.theirs.clear()
        self._reopen()
        self.model = bytearray(self.run(self.file.read(0, MOST * 2)))
        self.base_data = bytes(self.model)
        self.handed = self.base_data if self.path in self.remote.nodes else None

    @invariant()
    def limits_are_kept(self) -> None:
        if hasattr(self, "cache"):
            assert self.cache._shelf.blocks._bytes <= LIMITS.bytes
            assert self.file.size == len(self.model)

    def teardown(self) -> None:
        self.remote.open.set()
        if self.sending is not None:
            self.run(self.sending)
        if hasattr(self, "cache"):
            self.run(self.cache.close())
        self.loop.close()
        self.directory.cleanup()


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(
    max_examples=int(os.environ.get("PYVOSPACE_CACHE_EXAMPLES", "25")), stateful_step_count=30, deadline=None
)


def test_a_flush_does_not_hold_up_who_waits() -> None:
    """It asks for the usual rest while somebody waits for what was handed over before."""
    machine = CacheMachine()
    machine.begin(b"", there=False)
    machine.truncate(1024)
    machine.truncate(0)
    machine.reopen()
    machine.truncate(0)
    machine.send_half()
    machine.truncate(260)
    machine.reopen()
    machine.send_rest(lost=False)
    machine.teardown()
