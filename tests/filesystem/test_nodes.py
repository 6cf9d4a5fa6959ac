"""The tree of nodes as fsspec sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from pyvospace.client.service import Service
from pyvospace.client.sync import Space
from pyvospace.filesystem import VOSpaceFileSystem
from pyvospace.model.vocabulary import STANDARD_ENTRIES, STANDARD_SEARCH
from tests.support.pair import Pair


@pytest.fixture
def tree(fs: VOSpaceFileSystem, top: str) -> str:
    """A few files below folders."""
    fs.pipe({f"{top}/a/one.fits": b"1", f"{top}/a/deep/two.fits": b"22", f"{top}/b/three.txt": b"333"})
    fs.mkdir(f"{top}/empty")
    return top


def test_what_is_told(fs: VOSpaceFileSystem, tree: str, pair: Pair) -> None:
    info = fs.info(f"{tree}/b/three.txt")
    assert (info["name"], info["type"], info["size"]) == (f"{tree}/b/three.txt", "file", 3)
    assert (info["owner"], info["public"], info["content_type"]) == (pair.user, False, "text/plain")
    assert fs.isdir(f"{tree}/b")
    assert fs.isfile(f"{tree}/b/three.txt")
    assert not any(fs.exists(f"{tree}/{name}") for name in ("c", "..", "x" * 300))
    assert fs.ls(f"{tree}/b/three.txt") == [info]
    assert fs.ls(f"{tree}/empty") == []
    assert fs.created(f"{tree}/b") <= fs.modified(f"{tree}/b/three.txt") <= datetime.now(UTC)


def test_spaces_by_name(fs: VOSpaceFileSystem, tree: str, pair: Pair) -> None:
    named = f"{pair.authority}{tree}"
    assert fs.ls(named, detail=False) == [f"{named}/a", f"{named}/b", f"{named}/empty"]
    assert fs.cat(f"vos://{named}/a/one.fits") == b"1"
    assert fs.unstrip_protocol(named) == f"pyvospace://{named}"
    with pytest.raises(FileNotFoundError, match="begins with a slash"):
        fs.ls(tree.removeprefix("/"))


def test_what_is_below(fs: VOSpaceFileSystem, tree: str) -> None:
    files = [f"{tree}/a/deep/two.fits", f"{tree}/a/one.fits", f"{tree}/b/three.txt"]
    assert fs.find(tree) == files
    assert fs.find(tree, maxdepth=2, withdirs=True) == sorted(
        [tree, f"{tree}/a", f"{tree}/a/deep", f"{tree}/a/one.fits", f"{tree}/b", f"{tree}/b/three.txt", f"{tree}/empty"]
    )
    assert fs.find(f"{tree}/a/one.fits") == [f"{tree}/a/one.fits"]
    assert fs.find(f"{tree}/none") == []
    assert fs.cat(f"{tree}/a", recursive=True) == {files[0]: b"22", files[1]: b"1"}
    assert fs.du(tree) == 6
    assert fs.du(tree, total=False)[files[0]] == 2
    assert [folder for folder, _, _ in fs.walk(tree)] == [
        tree,
        f"{tree}/a",
        f"{tree}/a/deep",
        f"{tree}/b",
        f"{tree}/empty",
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("**/*.fits", ["a/deep/two.fits", "a/one.fits"]),
        ("*/*.fits", ["a/one.fits"]),
        ("[ab]/?*.*", ["a/one.fits", "b/three.txt"]),
        ("a/**", ["a", "a/deep", "a/deep/two.fits", "a/one.fits"]),
        ("*/deep/two.fits", ["a/deep/two.fits"]),
        ("e*/", ["empty"]),
        ("none/*", []),
    ],
)
def test_patterns(fs: VOSpaceFileSystem, tree: str, pattern: str, found: list[str]) -> None:
    assert fs.glob(f"{tree}/{pattern}") == [f"{tree}/{one}" for one in found]


def test_a_large_tree_is_searched(fs: VOSpaceFileSystem, tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {name: (one["type"], one["size"]) for name, one in fs.find(tree, withdirs=True, detail=True).items()}
    monkeypatch.setattr(fs, "batch_size", 1)
    found = fs.find(tree, withdirs=True, detail=True)
    assert {name: (one["type"], one["size"]) for name, one in found.items()} == listed


def test_links(fs: VOSpaceFileSystem, tree: str, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with Space(pair.url, token=pair.token) as space:
        for name, target in {"file": "a/one.fits", "folder": "a", "circle": "circle", "broken": "nothing"}.items():
            space.link(f"vos:{tree}/{target}", f"vos:{tree}/{name}")
        space.link("https://example.org/", f"vos:{tree}/outside")
    told = {one["name"].rpartition("/")[2]: one["type"] for one in fs.ls(tree)}
    assert {told[name] for name in ("file", "folder", "circle", "broken", "outside")} == {"link"}
    assert fs.info(f"{tree}/file")["size"] == 1
    assert fs.info(f"{tree}/file")["islink"]
    assert fs.isdir(f"{tree}/folder")
    assert fs.cat(f"{tree}/folder/one.fits") == b"1"
    assert fs.ls(f"{tree}/folder", detail=False) == [f"{tree}/folder/deep", f"{tree}/folder/one.fits"]
    assert [fs.info(f"{tree}/{name}")["type"] for name in ("circle", "broken", "outside")] == ["link"] * 3
    monkeypatch.setattr(fs, "batch_size", 1)  # a search tells the names behind the link
    assert fs.find(f"{tree}/folder") == [f"{tree}/folder/deep/two.fits", f"{tree}/folder/one.fits"]
    fs.rm(f"{tree}/folder", recursive=True)
    assert fs.exists(f"{tree}/a/one.fits")


def test_what_is_deleted(fs: VOSpaceFileSystem, tree: str) -> None:
    with pytest.raises(OSError, match="not empty"):
        fs.rm(f"{tree}/a")
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(f"{tree}/a")
    with pytest.raises(NotADirectoryError):
        fs.rmdir(f"{tree}/b/three.txt")
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{tree}/none")
    fs.rmdir(f"{tree}/empty")
    fs.rm([f"{tree}/b/three.txt", f"{tree}/b"])
    fs.rm(f"{tree}/*", recursive=True)
    assert fs.ls(tree) == []


def test_what_is_made(fs: VOSpaceFileSystem, top: str) -> None:
    with pytest.raises(FileExistsError):
        fs.mkdir(top)
    with pytest.raises(FileExistsError):
        fs.makedirs(top)
    with pytest.raises(FileNotFoundError):
        fs.mkdir(f"{top}/a/b", create_parents=False)
    fs.makedirs(f"{top}/a/b")
    fs.makedirs(f"{top}/a/b", exist_ok=True)
    fs.touch(f"{top}/file")
    with pytest.raises(FileExistsError):
        fs.mkdir(f"{top}/file")


def test_what_may_not_be_seen(fs: VOSpaceFileSystem, tree: str, pair: Pair) -> None:
    other = VOSpaceFileSystem(endpoint_url=pair.url, token=pair.add_user(f"u{uuid4().hex}"))
    for call in (other.ls, other.info, other.cat, other.open):
        with pytest.raises((PermissionError, FileNotFoundError)):
            call(f"{tree}/a/one.fits")
    with pytest.raises(PermissionError):
        other.ls(pair.home)
    with pytest.raises(PermissionError):
        other.pipe(f"{tree}/mine", b"")
    other.close()


def test_listings_that_are_kept(fs: VOSpaceFileSystem, tree: str, pair: Pair) -> None:
    keeping = VOSpaceFileSystem(endpoint_url=pair.url, token=pair.token, use_listings_cache=True)
    assert len(keeping.ls(tree)) == 3
    fs.touch(f"{tree}/later")
    assert len(keeping.ls(tree)) == 3
    assert len(keeping.ls(tree, refresh=True)) == 4
    keeping.pipe(f"{tree}/own", b"bytes")
    assert keeping.info(f"{tree}/own")["size"] == 5
    assert len(keeping.ls(tree)) == 5
    fs.rm(f"{tree}/own")
    assert keeping.exists(f"{tree}/own")
    keeping.invalidate_cache()
    assert not keeping.exists(f"{tree}/own")
    keeping.close()


def test_services_of_others(fs: VOSpaceFileSystem, tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def offers(self: Service, standard: str) -> bool:
        return standard not in {STANDARD_ENTRIES, STANDARD_SEARCH} and standard in await self._resources()

    found = fs.find(tree, withdirs=True)
    monkeypatch.setattr(Service, "_offers", offers)
    assert fs.find(tree, withdirs=True) == found
    assert fs.info(f"{tree}/b/three.txt")["etag"] is None
    with fs.open(f"{tree}/b/three.txt") as opened:
        assert opened.read() == b"333"
    with pytest.raises(OSError, match="not empty"):
        fs.rm(f"{tree}/a")
    fs.mv(f"{tree}/b/three.txt", f"{tree}/a/one.fits")
    assert fs.cat(f"{tree}/a/one.fits") == b"333"
    fs.rm(f"{tree}/a", recursive=True)
    assert fs.ls(tree, detail=False) == [f"{tree}/b", f"{tree}/empty"]
