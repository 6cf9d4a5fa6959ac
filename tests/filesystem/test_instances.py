"""File system objects: found by URL, kept, written down, used by coroutines; and no secret in any name of them."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import get_filesystem_class

from pyvospace.filesystem import VOSpaceFileSystem
from tests.support.pair import Pair


@pytest.fixture
def configured(pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The default space stands in the environment, the same one by its name in the file."""
    file = tmp_path / "client.toml"
    file.touch(0o600)
    file.write_text(f'[spaces."{pair.authority}"]\nurl = "{pair.url}"\ntoken = "{pair.token}"\n')
    monkeypatch.setenv("VOSPACE_CLIENT_CONFIG", str(file))
    monkeypatch.setenv("VOSPACE_URL", pair.url)
    monkeypatch.setenv("VOSPACE_TOKEN", pair.token)
    return file


def test_found_by_url(configured: Path, top: str, pair: Pair) -> None:
    with fsspec.open(f"pyvospace://{top}/file", "w") as opened:
        opened.write("text")
    with fsspec.open(f"pyvospace://{pair.authority}{top}/file", "r") as opened:
        assert opened.read() == "text"
    assert get_filesystem_class("pyvospace") is VOSpaceFileSystem
    offered = {one.value for one in entry_points(group="fsspec.specs") if one.name == "vos"}
    assert "pyvospace.filesystem:VOSpaceFileSystem" in offered


def test_several_spaces_in_one_call(configured: Path, top: str, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("pyvospace").pipe(f"{top}/file", b"text")
    monkeypatch.setenv("VOSPACE_URL", "http://localhost:9/")
    monkeypatch.setenv("VOSPACE_AUTHORITY", "elsewhere")
    files = fsspec.open_files([f"pyvospace://{pair.authority}{top}/file", f"pyvospace://unknown{top}/file"])
    with files[0] as opened:
        assert opened.read() == b"text"
    with pytest.raises(FileNotFoundError, match="unknown"):
        files[1].open()


def test_a_new_token_is_noticed(configured: Path, top: str, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = fsspec.filesystem("pyvospace", batch_size=7)
    monkeypatch.setenv("VOSPACE_TOKEN", "expired")
    with pytest.raises(PermissionError):
        fs.ls(top)
    monkeypatch.setenv("VOSPACE_TOKEN", pair.token)
    assert fs.ls(top) == []


def test_kept_and_written_down(configured: Path, pair: Pair, top: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fs = fsspec.filesystem("pyvospace", endpoint_url=pair.url, token=pair.token)
    other = fsspec.filesystem("pyvospace", endpoint_url=pair.url, token="another")
    assert fsspec.filesystem("pyvospace", endpoint_url=pair.url, token=pair.token) is fs
    assert pickle.loads(pickle.dumps(fs)) is fs
    assert VOSpaceFileSystem.from_json(fs.to_json()) is fs
    assert fs != other
    fs.pipe(f"{top}/file", b"")
    opened = fsspec.open(f"pyvospace://{top}/file", endpoint_url=pair.url, token=pair.token)
    told = [repr(fs), fs.fsid, fs.to_json(include_password=False), repr(opened), fs.unstrip_protocol(top), caplog.text]
    assert not any(pair.token in one for one in told)
    assert fs._fs_token == other._fs_token  # it tells nothing of the secret
    assert pair.token.encode() not in pickle.dumps(fsspec.filesystem("pyvospace"))


def test_options_that_are_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOSPACE_CLIENT_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.delenv("VOSPACE_URL", raising=False)
    with pytest.raises(ValueError, match="no service is named"):
        VOSpaceFileSystem().ls("/")
    with pytest.raises(ValueError, match="do not belong") as caught:
        VOSpaceFileSystem(endpoint_url="https://me:secret@example.org")
    assert "secret" not in str(caught.value)
    with pytest.raises(TypeError):
        VOSpaceFileSystem(tokn="x")  # type: ignore[call-arg]
    with pytest.raises(OSError, match="nowhere"):
        VOSpaceFileSystem(endpoint_url="http://nowhere.invalid").ls("/")


def test_coroutines(pair: Pair, top: str) -> None:
    async def work() -> bytes:
        async with VOSpaceFileSystem(endpoint_url=pair.url, token=pair.token, asynchronous=True) as fs:
            for mode, data in {"xb": b"one", "ab": b" two"}.items():
                async with await fs.open_async(f"{top}/file", mode) as opened:
                    await opened.write(data)
            with pytest.raises(FileExistsError):
                await fs.open_async(f"{top}/file", "xb")
            with pytest.raises(ValueError, match="binary"):
                await fs.open_async(f"{top}/file", "r")
            async with await fs.open_async(f"{top}/file") as opened:
                first = await opened.read(4)
                assert first + await opened.read() == b"one two"
            return b"".join(await asyncio.gather(*(fs._cat_file(f"{top}/file", n, n + 1) for n in range(7))))

    # The same object is used by one loop after the other.
    assert [asyncio.run(work()), asyncio.run(work_again(pair, top))] == [b"one two", b"one two"]


async def work_again(pair: Pair, top: str) -> bytes:
    async with VOSpaceFileSystem(endpoint_url=pair.url, token=pair.token, asynchronous=True) as fs:
        whole: bytes = await fs._cat_file(f"{top}/file")
        return whole


FORKING = """
import os, sys, fsspec
path = sys.argv[1]
fs = fsspec.filesystem("pyvospace")
fs.pipe(path, b"bytes")
if os.fork() == 0:
    assert fsspec.filesystem("pyvospace").cat(path) == b"bytes"
    del fs
    sys.exit(0)
assert os.wait()[1] == 0
print(fs.cat(path))
"""


def test_a_child_leaves_the_connections_alone(configured: Path, top: str) -> None:
    # What a child closes would be gone from the epoll that it has in common with its parent, which would wait for ever.
    done = subprocess.run(
        [sys.executable, "-c", FORKING, f"{top}/file"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'bytes'\n", "")


def test_nothing_is_left_open(pair: Pair, top: str) -> None:
    # Warnings of connections that nobody closed are errors here.
    fs = VOSpaceFileSystem(endpoint_url=pair.url, token=pair.token, skip_instance_cache=True)  # type: ignore[call-arg]
    fs.ls(top)
    del fs
    gc.collect()
