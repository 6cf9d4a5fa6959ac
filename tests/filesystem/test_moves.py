"""What the service copies and moves by itself, for fsspec."""

from __future__ import annotations

import urllib.request

import pytest
from fsspec.asyn import sync

from pyvospace.filesystem import VOSpaceFileSystem


@pytest.fixture
def tree(fs: VOSpaceFileSystem, top: str) -> str:
    fs.pipe({f"{top}/from/one": b"1", f"{top}/from/deep/two": b"22", f"{top}/file": b"old"})
    return top


def test_copies_take_the_place_of_files(fs: VOSpaceFileSystem, tree: str) -> None:
    fs.cp_file(f"{tree}/from/one", f"{tree}/file")
    assert fs.cat(f"{tree}/file") == b"1"
    assert fs.ls(tree, detail=False) == [f"{tree}/file", f"{tree}/from"]
    fs.cp_file(f"{tree}/from/one", f"{tree}/from/one")
    fs.cp_file(f"{tree}/from/one", f"{tree}/new/folder/one")
    assert fs.cat(f"{tree}/new/folder/one") == b"1"
    with pytest.raises(IsADirectoryError):
        fs.cp_file(f"{tree}/from/one", f"{tree}/new")
    with pytest.raises(FileNotFoundError):
        fs.cp_file(f"{tree}/none", f"{tree}/new/none")


def test_trees_are_copied_as_a_whole(fs: VOSpaceFileSystem, tree: str) -> None:
    fs.cp(f"{tree}/from", f"{tree}/to", recursive=True)
    assert fs.find(f"{tree}/to") == [f"{tree}/to/deep/two", f"{tree}/to/one"]
    fs.cp(f"{tree}/from", f"{tree}/to", recursive=True)
    assert fs.cat(f"{tree}/to/from/deep/two") == b"22"
    fs.pipe(f"{tree}/from/one", b"changed")
    fs.cp(f"{tree}/from/", f"{tree}/to", recursive=True)
    assert fs.cat(f"{tree}/to/one") == b"changed"


def test_copies_by_way_of_here(fs: VOSpaceFileSystem, tree: str) -> None:
    sync(fs.loop, fs._carry, f"{tree}/from/one", f"{tree}/other/space")
    assert fs.cat(f"{tree}/other/space") == b"1"


def test_moves(fs: VOSpaceFileSystem, tree: str) -> None:
    fs.mv(f"{tree}/from/one", f"{tree}/file")
    assert fs.cat(f"{tree}/file") == b"1"
    assert not fs.exists(f"{tree}/from/one")
    fs.mv(f"{tree}/file", f"{tree}/from")
    assert fs.cat(f"{tree}/from/file") == b"1"
    fs.mv(f"{tree}/from", f"{tree}/new/name", recursive=True)
    assert fs.find(tree) == [f"{tree}/new/name/deep/two", f"{tree}/new/name/file"]
    fs.mv(f"{tree}/new/name/*", f"{tree}/new", recursive=True)
    assert fs.find(tree) == [f"{tree}/new/deep/two", f"{tree}/new/file"]
    fs.mv([f"{tree}/new/file"], [f"{tree}/renamed"])
    fs.mv(f"{tree}/renamed", f"{tree}/renamed")
    assert fs.cat(f"{tree}/renamed") == b"1"
    with pytest.raises(FileNotFoundError):
        fs.mv(f"{tree}/none", f"{tree}/nowhere/none")
    assert not fs.exists(f"{tree}/nowhere")


def test_a_full_folder_is_not_replaced(fs: VOSpaceFileSystem, tree: str) -> None:
    fs.makedirs(f"{tree}/other/from")
    fs.touch(f"{tree}/other/from/file")
    with pytest.raises(OSError, match="from"):
        fs.mv(f"{tree}/from", f"{tree}/other")
    assert fs.exists(f"{tree}/from/one")


def test_urls_for_others(fs: VOSpaceFileSystem, tree: str) -> None:
    with urllib.request.urlopen(fs.sign(f"{tree}/from/one", expiration=60)) as answer:
        assert answer.read() == b"1"
    with pytest.raises(IsADirectoryError):
        fs.sign(tree)
