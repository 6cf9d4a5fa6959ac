"""Bytes, as fsspec reads and writes them."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest
from fsspec.callbacks import Callback

from pyvospace.filesystem import VOSpaceFileSystem
from tests.support.pair import Pair

DATA = bytes(range(256)) * 4


@pytest.fixture
def file(fs: VOSpaceFileSystem, top: str) -> str:
    path = f"{top}/data.bin"
    fs.pipe(path, DATA)
    return path


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        (3, 8),
        (1000, 9999),
        (9999, None),
        (9000, 9999),
        (-5, None),
        (-9999, None),
        (-8, -3),
        (5, -5),
        (8, 3),
        (0, 0),
    ],
)
def test_parts(fs: VOSpaceFileSystem, file: str, start: int | None, end: int | None) -> None:
    assert fs.cat_file(file, start=start, end=end) == DATA[start:end]


def test_many_parts(fs: VOSpaceFileSystem, file: str, top: str) -> None:
    starts, ends = [0, 7, -3, 500], [3, None, None, 20]
    assert fs.cat_ranges([file] * 4, starts, ends) == [DATA[one:other] for one, other in zip(starts, ends, strict=True)]
    assert fs.cat_ranges([file, file], 2, 4) == [DATA[2:4]] * 2
    found = fs.cat_ranges([file, f"{top}/none", top], 0, 1)
    assert found[0] == DATA[:1]
    assert [type(one) for one in found[1:]] == [FileNotFoundError, IsADirectoryError]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges([f"{top}/none"], 0, 1, on_error="raise")


@pytest.mark.parametrize("cache_type", ["readahead", "none", "blockcache", "bytes", "all", "background"])
def test_open_to_read(fs: VOSpaceFileSystem, file: str, cache_type: str) -> None:
    with fs.open(file, block_size=100, cache_type=cache_type) as opened:
        assert opened.read(10) == DATA[:10]
        opened.seek(-10, 2)
        assert opened.read() == DATA[-10:]
        opened.seek(300)
        assert opened.read(500) == DATA[300:800]
        assert opened.info()["size"] == len(DATA)


def test_an_open_file_is_of_one_version(fs: VOSpaceFileSystem, file: str) -> None:
    opened = fs.open(file, cache_type="none")
    elsewhere = pickle.dumps(opened)
    assert pickle.loads(elsewhere).read(4) == DATA[:4]
    fs.pipe(file, DATA[::-1])
    with pytest.raises(OSError, match="changed") as caught:
        opened.read(4)
    assert caught.value.errno == errno.ESTALE
    with pytest.raises(OSError, match="other bytes") as caught:
        pickle.loads(elsewhere)
    assert caught.value.errno == errno.ESTALE
    with fs.open(file) as anew:
        assert anew.read(4) == DATA[::-1][:4]


def test_what_cannot_be_opened(fs: VOSpaceFileSystem, top: str) -> None:
    with pytest.raises(FileNotFoundError):
        fs.open(f"{top}/none")
    with pytest.raises(IsADirectoryError):
        fs.open(top)
    with pytest.raises(ValueError, match="r\\+b"):
        fs.open(f"{top}/none", "r+b")
    with pytest.raises(IsADirectoryError):
        fs.pipe(top, b"")
    fs.touch(f"{top}/file")
    with pytest.raises(NotADirectoryError):
        fs.pipe(f"{top}/file/below", b"")


def test_written_as_a_whole(fs: VOSpaceFileSystem, top: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvospace.filesystem.bodies.SMALL", 1000)
    path = f"{top}/new/folder/file.txt"
    with fs.open(path, "wb", block_size=100) as opened:
        for _ in range(20):
            opened.write(DATA[:100])
            assert not fs.exists(path)
        assert opened.tell() == 2000
    assert fs.cat(path) == DATA[:100] * 20
    with fs.open(path, "w", encoding="utf-8") as text:
        text.write("größer")
    assert fs.cat(path) == "größer".encode()


def test_added_at_the_end(fs: VOSpaceFileSystem, file: str, top: str) -> None:
    with fs.open(file, "ab") as opened:
        assert opened.tell() == len(DATA)
        opened.write(b"more")
    assert fs.cat(file) == DATA + b"more"
    with fs.open(f"{top}/new", "ab") as opened:
        opened.write(b"first")
    assert fs.cat(f"{top}/new") == b"first"
    late = fs.open(file, "ab")
    late.write(b"lost")
    fs.pipe(file, b"somebody else")
    with pytest.raises(OSError, match="Precondition") as caught:
        late.close()
    assert caught.value.errno == errno.ESTALE
    assert fs.cat(file) == b"somebody else"


def test_nothing_is_replaced(fs: VOSpaceFileSystem, file: str, top: str, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        fs.open(file, "xb")
    one, other = fs.open(f"{top}/new", "xb"), fs.open(f"{top}/new", "xb")
    one.write(b"one")
    one.close()
    other.write(b"other")
    with pytest.raises(FileExistsError):
        other.close()
    assert fs.cat(f"{top}/new") == b"one"
    (tmp_path / "local").write_bytes(b"local")
    with pytest.raises(FileExistsError):
        fs.put_file(tmp_path / "local", file, mode="create")


def test_transactions(fs: VOSpaceFileSystem, file: str, top: str) -> None:
    with fs.transaction, fs.open(f"{top}/kept", "wb") as opened:
        opened.write(b"kept")
        opened.close()
        assert not fs.exists(f"{top}/kept")
    assert fs.cat(f"{top}/kept") == b"kept"
    with pytest.raises(RuntimeError), fs.transaction:
        _break_off(fs, file)
    assert fs.cat(file) == DATA


def _break_off(fs: VOSpaceFileSystem, file: str) -> None:
    with fs.open(file, "wb") as opened:
        opened.write(b"half")
    raise RuntimeError


def test_containers_are_not_made(pair: Pair, top: str) -> None:
    strict = VOSpaceFileSystem(endpoint_url=pair.url, token=pair.token, auto_mkdir=False)
    with pytest.raises(FileNotFoundError):
        strict.pipe(f"{top}/none/file", b"")
    with pytest.raises(FileNotFoundError):
        strict.mv(f"{top}", f"{top}/none/there")
    strict.close()


def test_files_of_this_machine(fs: VOSpaceFileSystem, top: str, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(DATA)
    sent, fetched = Callback(), Callback()
    fs.put_file(tmp_path / "here", f"{top}/there", callback=sent)
    fs.get_file(f"{top}/there", tmp_path / "again", callback=fetched)
    assert (tmp_path / "again").read_bytes() == DATA
    assert [(one.size, one.value) for one in (sent, fetched)] == [(len(DATA), len(DATA))] * 2
    with (tmp_path / "open").open("w+b") as target:
        fs.get_file(f"{top}/there", target)
        target.seek(0)
        assert target.read() == DATA
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{top}/none", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        fs.get_file(f"{top}/there", tmp_path / "folder")


def test_versions_have_names(fs: VOSpaceFileSystem, file: str, top: str) -> None:
    fs.pipe(f"{top}/same", DATA)
    before: Any = fs.ukey(file), fs.checksum(file)
    assert before == (fs.ukey(f"{top}/same"), fs.checksum(f"{top}/same", refresh=True))
    fs.touch(file, truncate=False)
    assert fs.ukey(file) == before[0]
    assert fs.modified(file) > fs.modified(f"{top}/same")
    fs.touch(file)
    assert fs.ukey(file) != before[0]
    assert fs.size(file) == 0
