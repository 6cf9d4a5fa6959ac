"""Caches of a mount, on a space in memory."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from pyvospace.fuse.cache import Cache, Limits
from pyvospace.fuse.cache.records import MIB
from tests.fuse.cache.memory import ROOT, MemorySpace

OpenCache = Callable[..., Awaitable[Cache]]
SLOW = Limits(bytes=64 * MIB, block=64 << 10, write_back=3600.0, patience=5.0)
"""Nothing is sent unless somebody asks for it."""


@pytest.fixture
def remote() -> MemorySpace:
    return MemorySpace()


@pytest.fixture
async def open_cache(tmp_path: Path, remote: MemorySpace) -> AsyncIterator[OpenCache]:
    """Open caches; they are closed behind the test."""
    opened: list[Cache] = []

    async def begin(
        limits: Limits = SLOW, directory: Path = tmp_path / "mounts", remote: MemorySpace = remote
    ) -> Cache:
        cache = await Cache.open(directory, remote.space, ROOT, limits, user="alice")
        opened.append(cache)
        return cache

    yield begin
    for cache in opened:
        await cache.close()


@pytest.fixture
async def cache(open_cache: OpenCache) -> Cache:
    return await open_cache()


def killed(cache: Cache, to: Path) -> Path:
    """Give a directory of mounts as a process leaves it that is killed now; the cache itself goes on."""
    shutil.copytree(cache.directory, to / "0")
    return to
