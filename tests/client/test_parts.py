from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyvospace.client.parts import Part


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "image.fits"


async def fill(target: Path, version: str | None, content: bytes) -> Path:
    """Leave a part, and give its path if it stayed."""
    with Part(target, version) as part:
        await part.write(content)
    return next(target.parent.glob(f"{target.name}.*.part"), target)


async def test_a_part_stays_until_it_is_published(target: Path) -> None:
    path = await fill(target, "v1", b"first ")
    assert path.name.startswith("image.fits.")
    with Part(target, "v1") as part:
        assert part.size == 6
        await part.write(b"second")
        part.publish()
    assert target.read_bytes() == b"first second"
    assert not path.exists()


@pytest.mark.parametrize(("version", "content"), [(None, b"bytes"), ("v1", b"")])
async def test_a_part_without_use_does_not_stay(target: Path, version: str | None, content: bytes) -> None:
    assert await fill(target, version, content) == target
    assert list(target.parent.iterdir()) == []


async def test_each_version_has_its_own(target: Path) -> None:
    assert await fill(target, "v1", b"one") != await fill(target.with_name("other"), "v1", b"one")
    with Part(target, "v2") as part:
        assert part.size == 0


async def test_a_part_can_be_emptied_and_thrown_away(target: Path) -> None:
    await fill(target, "v1", b"wrong")
    with Part(target, "v1") as part:
        part.empty()
        await part.write(b"right")
        part.discard()
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("trap", ["symbolic link", "hard link", "pipe"])
async def test_what_somebody_else_put_there_is_not_written_to(target: Path, tmp_path: Path, trap: str) -> None:
    path = await fill(target, "v1", b"x")
    path.unlink()
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    if trap == "symbolic link":
        path.symlink_to(victim)
    elif trap == "hard link":
        os.link(victim, path)
    else:
        os.mkfifo(path)
    with Part(target, "v1") as part:
        assert part.size == 0
        await part.write(b"bytes")
        part.publish()
    assert victim.read_bytes() == b"mine"
    assert target.read_bytes() == b"bytes"
    assert not target.is_symlink()


async def test_a_part_is_no_more_readable_than_the_file_that_it_replaces(target: Path) -> None:
    target.write_bytes(b"secret")
    target.chmod(0o600)
    with Part(target, "v1") as part:
        [path] = target.parent.glob("*.part")
        assert path.stat().st_mode & 0o777 == 0o600
        await part.write(b"new secret")
        part.publish()
    assert target.stat().st_mode & 0o777 == 0o600
