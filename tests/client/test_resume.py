"""Uploads of our client that go on where they broke off."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pyvospace.client import Condition, Space, sources, sync
from pyvospace.client.retry import Retry
from pyvospace.client.unfinished import state_directory
from pyvospace.model.faults import Fault, PreconditionFailed
from tests.support.resumable import CutPair

QUICK = Retry(first=0.01, longest=0.02)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sources, "RESUMABLE", 5 << 20)
    path = tmp_path / "large"
    path.write_bytes(os.urandom((6 << 20) + 12345))
    return path


@pytest.fixture
async def space(cut_pair: CutPair) -> AsyncIterator[Space]:
    async with Space(cut_pair.url, token=cut_pair.token, home=cut_pair.home, retry=QUICK) as made:
        yield made
    cut_pair.proxy.cut(0, after=0)


async def digest(space: Space, name: str) -> str:
    hasher = hashlib.sha256()
    async for piece in space.read(f"vos:{name}"):
        hasher.update(piece)
    return hasher.hexdigest()


async def test_ten_cuts(space: Space, cut_pair: CutPair, large: Path) -> None:
    cut_pair.proxy.cut(10, after=500_000)
    stored = await space.push(large, "vos:cut", content_type="image/fits")
    assert cut_pair.proxy.made == 10
    assert stored.size == large.stat().st_size
    assert await digest(space, "cut") == hashlib.sha256(large.read_bytes()).hexdigest()
    assert not list(state_directory().iterdir())


async def test_another_run_goes_on(
    space: Space, cut_pair: CutPair, large: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut_pair.proxy.cut(1, after=3 << 20)

    class Progress:
        def expect(self, total: int | None) -> None:
            del total

        def advance(self, count: int) -> None:
            del count
            if cut_pair.proxy.made:
                raise asyncio.CancelledError  # as if killed

    with pytest.raises(asyncio.CancelledError):
        await space.push(large, "vos:killed", progress=Progress())
    assert len(list(state_directory().iterdir())) == 1
    async with Space(cut_pair.url, token=cut_pair.token, home=cut_pair.home, retry=QUICK) as again:
        with caplog.at_level(logging.WARNING):
            await again.push(large, "vos:killed")
    assert "going on behind byte" in caplog.text
    assert await digest(space, "killed") == hashlib.sha256(large.read_bytes()).hexdigest()


async def test_what_is_remembered_may_be_gone(space: Space, cut_pair: CutPair, large: Path) -> None:
    cut_pair.proxy.cut(50, after=2 << 20)
    with pytest.raises(Fault):
        async with Space(cut_pair.url, token=cut_pair.token, home=cut_pair.home, retry=Retry(attempts=1)) as hasty:
            await hasty.push(large, "vos:gone")
    cut_pair.proxy.cut(0, after=0)
    (remembered,) = state_directory().iterdir()
    text = remembered.read_text()
    remembered.write_text(text.replace(text[-20:-2], "0" * 18))
    await space.push(large, "vos:gone")
    assert await digest(space, "gone") == hashlib.sha256(large.read_bytes()).hexdigest()


async def test_a_condition_is_kept_through_cuts(space: Space, cut_pair: CutPair, large: Path) -> None:
    cut_pair.proxy.cut(2, after=2_000_000)
    stored = await space.push(large, "vos:conditional", condition=Condition.new(), mtime=1_500_000_000, mode=0o600)
    entry = await space.entry("vos:conditional")
    assert (entry.etag, entry.mtime_ns, entry.mode) == (stored.etag, 1_500_000_000, 0o600)
    with pytest.raises(PreconditionFailed):
        await space.push(large, "vos:conditional", condition=Condition.new())
    assert not list(state_directory().iterdir())
    small = await space.push(b"small", "vos:conditional", condition=Condition.matching(stored.etag or ""))
    with pytest.raises(PreconditionFailed):
        await space.push(large, "vos:conditional", condition=Condition.matching(stored.etag or ""))

    class Rival:
        def expect(self, total: int | None) -> None:
            del total
            with sync.Space(cut_pair.url, token=cut_pair.token, home=cut_pair.home) as rival:
                rival.push(b"rival", "vos:conditional")

        def advance(self, count: int) -> None:
            del count

    with pytest.raises(PreconditionFailed):
        await space.push(large, "vos:conditional", condition=Condition.matching(small.etag or ""), progress=Rival())
    rival = await space.entry("vos:conditional")
    assert rival.length == 5
    await space.push(large, "vos:conditional", condition=Condition.matching(rival.etag or ""))
    assert await digest(space, "conditional") == stored.etag
