"""Many writers and a space that fails, at once: in the end it has what each of them wrote last."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import pytest

from pyvospace.fuse.cache import Cache, Limits, LocalFile
from pyvospace.model.faults import Fault, QuotaExceeded, ServiceBusy
from tests.fuse.cache.conftest import OpenCache
from tests.fuse.cache.memory import MemorySpace

SEEDS = int(os.environ.get("PYVOSPACE_CACHE_SEEDS", "2"))
LIMITS = Limits(bytes=20_000, block=2048, write_back=0.002, patience=5)
MOST = 12_000


class SlowSpace(MemorySpace):
    """Takes files piece by piece, refuses some, and loses answers."""

    chance = random.Random(0)

    def next_failure(self) -> Fault | None:
        self.lost_answers = int(self.chance.random() < 0.1)
        kind = self.chance.random()
        if kind < 0.1:
            return ServiceBusy("busy", retry_after=0)
        return QuotaExceeded("full") if kind < 0.15 else None

    async def _receive(self, source: bytes | Path) -> bytes:
        if isinstance(source, bytes):
            return source
        data = b""
        with source.open("rb") as file:
            while piece := file.read(2000):
                data += piece
                await asyncio.sleep(self.chance.random() * 0.001)
        return data


class Writer:
    """Changes one file, and a bytearray in the same way."""

    def __init__(self, cache: Cache, remote: SlowSpace, number: int, chance: random.Random) -> None:
        self.cache, self.remote, self.chance = cache, remote, chance
        self.name, self.path = f"f{number}", (f"f{number}",)
        self.file = self._new()

    def _new(self) -> LocalFile:
        self.model = bytearray()
        file = self.cache.file(self.path, None, mtime_ns=1, mode=None)
        file.retain()
        return file

    async def write(self) -> None:
        offset, data = (
            self.chance.randrange(MOST),
            bytes([self.chance.randrange(1, 255)]) * self.chance.randrange(1, 5000),
        )
        await self.file.write(offset, data)
        self.model.extend(bytes(max(0, offset - len(self.model))))
        self.model[offset : offset + len(data)] = data

    async def truncate(self) -> None:
        size = self.chance.choice([0, self.chance.randrange(MOST)])
        await self.file.truncate(size)
        self.model.extend(bytes(max(0, size - len(self.model))))
        del self.model[size:]

    async def read(self) -> None:
        offset, size = self.chance.randrange(MOST), self.chance.randrange(6000)
        assert await self.file.read(offset, size) == self.model[offset : offset + size]

    async def flush(self) -> None:
        await self.file.flush()

    async def reopen(self) -> None:
        await self.file.flush()
        self.file.release()
        self.file = self.cache.find(self.path) or self.cache.file(self.path, self.file.version, mtime_ns=1, mode=None)
        self.file.retain()

    async def rename(self) -> None:
        new = (f"{self.name}-{self.chance.randrange(10**9)}",)
        async with self.cache.held(self.path, new):
            if self.path in self.remote.nodes:
                self.remote.nodes[new] = self.remote.nodes.pop(self.path)
            self.cache.moved(self.path, new)
        self.path = new
        assert self.file.path == new

    async def delete(self) -> None:
        if await self.file.discard() or self.file.version:
            self.remote.nodes.pop(self.path, None)
        assert self.path not in self.remote.nodes
        self.file.release()
        self.file = self._new()

    async def work(self) -> None:
        works = [self.write, self.truncate, self.read, self.flush, self.reopen, self.rename, self.delete]
        for _ in range(120):
            (work,) = self.chance.choices(works, [40, 10, 20, 15, 5, 3, 1])
            await work()
            await asyncio.sleep(self.chance.random() * 0.003)
        await self.file.flush()
        self.file.release()


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_many_writers(open_cache: OpenCache, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    for name, value in {"_FIRST_PAUSE": 0.001, "_LONGEST_PAUSE": 0.01, "_QUIET": 0.0}.items():
        monkeypatch.setattr(f"pyvospace.fuse.cache.sending.{name}", value)
    monkeypatch.setattr("pyvospace.fuse.cache.remote._IN_MEMORY", 50)
    remote = SlowSpace()
    chance = remote.chance = random.Random(seed)
    remote.refuses = lambda _: remote.next_failure()
    cache = await open_cache(LIMITS, remote=remote)
    writers = [Writer(cache, remote, number, chance) for number in range(6)]
    await asyncio.gather(*(writer.work() for writer in writers))
    remote.refuses = lambda _: None
    remote.lost_answers = 0
    await cache.settle()
    assert {path: node.data for path, node in remote.nodes.items()} == {one.path: bytes(one.model) for one in writers}
    assert not cache.unsent()
    assert not cache._shelf.journal.rows()
    assert not list((cache.directory / "changes").iterdir())
