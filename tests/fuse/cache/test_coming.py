"""Bytes on their way into the cache."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pyvospace.fuse.cache.blocks import Blocks, Held
from pyvospace.fuse.cache.coming import Coming
from pyvospace.fuse.cache.records import Version

BLOCK = 64 << 10
DATA = os.urandom(4 * BLOCK)


@pytest.fixture
def blocks(tmp_path: Path) -> Blocks:
    return Blocks(tmp_path / "blocks", 3 * BLOCK, BLOCK)


@pytest.fixture
def held(blocks: Blocks) -> Held:
    return blocks.held(Version("0" * 64, len(DATA)))


def write(coming: Coming, count: int) -> int:
    """Write as a thread does; gives what it tells of it."""
    mark = coming.mark()
    with coming.path.open("r+b") as file:
        file.seek(coming.reached)
        file.write(DATA[coming.reached : coming.reached + count])
    return mark


async def test_a_part_is_there_before_the_whole(held: Held) -> None:
    coming = Coming(held, 0, len(DATA))
    first = asyncio.create_task(coming.read(5, 100))
    second = asyncio.create_task(coming.read(BLOCK, BLOCK + 10))
    await asyncio.sleep(0)
    assert coming.is_awaited
    coming.wrote(BLOCK, write(coming, BLOCK))
    assert await first == DATA[5:100]
    coming.take(DATA[BLOCK : BLOCK + 10])
    assert await second == DATA[BLOCK : BLOCK + 10]
    assert await coming.read(BLOCK - 3, BLOCK + 3) == DATA[BLOCK - 3 : BLOCK + 3]
    assert not coming.is_awaited


async def test_nothing_counts_that_was_thrown_away_meanwhile(blocks: Blocks, held: Held) -> None:
    coming = Coming(held, 0, len(DATA))
    coming.wrote(10, write(coming, 10))
    mark = write(coming, 20)
    blocks._shrink(0)
    coming.wrote(20, mark)
    assert not held.present
    assert await coming.read(10, 30) is None
    coming.wrote(30, write(coming, 30))
    assert await coming.read(30, 60) == DATA[30:60]


async def test_bytes_for_which_there_is_no_room_are_given_all_the_same(blocks: Blocks, held: Held) -> None:
    coming = Coming(held, 0, len(DATA))
    coming.take(DATA[:7])
    blocks._shrink(0)
    coming.take(DATA[7:20])
    blocks._shrink(0)
    assert await coming.read(3, 15) == DATA[3:15]


async def test_whoever_waits_hears_of_the_end(held: Held) -> None:
    coming = Coming(held, 0, len(DATA))
    waiting = asyncio.create_task(coming.read(0, 1))
    await asyncio.sleep(0)
    coming.end(OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        await waiting


async def test_bytes_of_a_file_that_nobody_has_open_do_not_count(blocks: Blocks, held: Held) -> None:
    coming = Coming(held, 0, len(DATA))
    coming.wrote(10, write(coming, 10))
    mark = write(coming, 20)
    blocks.release(held)
    coming.wrote(20, mark)
    assert list(held.present) == [(0, 10)]
