"""The parts of a mirror that need no space: patterns, lists of any length, digests that are remembered."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from pyvospace.client.mirror import Patterns, Rule, spools
from pyvospace.client.mirror.items import Item, Kind
from pyvospace.client.mirror.known import KnownDigests
from pyvospace.client.mirror.pairs import paired
from pyvospace.client.mirror.spools import in_order
from pyvospace.model.faults import InvalidArgument


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("*.fits", ["a.fits", "d/e/a.fits"], ["a.fits.gz", "a.fits/x"]),
        ("/a", ["a", "a/"], ["d/a", "ab"]),
        ("d/a", ["d/a", "x/d/a"], ["xd/a", "d/x/a"]),
        ("cache/", ["cache/", "x/cache/"], ["cache"]),
        ("d/**/a", ["d/x/a", "d/x/y/a"], ["d/a"]),
        ("d/***", ["d/a", "d/x/y", "x/d/a/"], ["dx/a"]),
        ("a?[0-9]", ["ab1", "x/ac2"], ["a/1", "abx"]),
        ("a[!0-9]", ["ab"], ["a1", "a/"]),
        (r"a\*[", ["a*["], ["ab["]),
        ("ü.*", ["ü.txt"], ["u.txt"]),
    ],
)
def test_patterns(pattern: str, fits: Sequence[str], fits_not: Sequence[str]) -> None:
    patterns = Patterns.of([Rule(pattern, wanted=False)])
    for text, wanted in [*((one, False) for one in fits), *((one, True) for one in fits_not)]:
        path = tuple(text.rstrip("/").split("/"))
        assert patterns.want(path, folder=text.endswith("/")) is wanted, text


def test_the_first_pattern_that_fits_decides() -> None:
    only_fits = Patterns.of([Rule("*/", wanted=True), Rule("*.fits", wanted=True), Rule("*", wanted=False)])
    assert only_fits.want(("d",), folder=True)
    assert only_fits.want(("d", "a.fits"), folder=False)
    assert not only_fits.want(("d", "a.txt"), folder=False)
    assert Patterns().want(("anything",), folder=False)


@pytest.mark.parametrize("pattern", ["", "/", "a[z-a]"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        Patterns.of([Rule(pattern, wanted=True)])


async def _items(*names: str) -> AsyncGenerator[Item]:
    for name in names:
        yield Item(name, Kind.FILE, 7, 8, md5="x")


async def test_names_are_sorted_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "_RUN", 3)
    names = ["z", "ü", "a", "B", "a.b", "a/", "\udcff", "\U0001f600", "\uffff", "m"]
    found = [item async for item in in_order(_items(*names))]
    assert [item.name for item in found] == sorted(names, key=lambda name: name.encode(errors="surrogateescape"))
    assert all(item == Item(item.name, Kind.FILE, 7, 8, md5="x") for item in found)


async def test_two_listings_become_pairs() -> None:
    pairs = [
        (here and here.name, there and there.name)
        async for here, there in paired(_items("a", "b", "d"), _items("0", "b", "c", "e", "f"))
    ]
    assert pairs == [
        (None, "0"), ("a", None), ("b", "b"), (None, "c"), ("d", None), (None, "e"), (None, "f"),
    ]  # fmt: skip


def test_digests_are_remembered_as_long_as_the_file_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownDigests(tmp_path / "cache" / "digests.sqlite")
    file = tmp_path / "x"
    file.write_bytes(b"one")
    os.utime(file, ns=(10**18, 10**18))
    first = known.of(file)
    assert not (tmp_path / "cache").exists()  # it may change again in this moment, without that it shows
    monkeypatch.setattr("pyvospace.client.mirror.known._SETTLED", -1)
    assert known.of(file) == first
    with monkeypatch.context() as unreadable:
        unreadable.setattr("pyvospace.client.mirror.known._digests", None)
        assert known.of(file) == first
    assert (tmp_path / "cache" / "digests.sqlite").stat().st_mode & 0o077 == 0
    far = 3 * 2**62
    os.utime(file, ns=(far, far))
    assert known.of(file) == first  # not remembered: there is no room for such a time
    file.write_bytes(b"two")
    os.utime(file, ns=(10**18, 10**18))
    second = known.of(file)
    assert second != first
    (tmp_path / "cache" / "digests.sqlite").write_bytes(b"no database" * 100)
    assert known.of(file) == second
