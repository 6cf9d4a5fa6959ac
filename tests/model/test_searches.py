"""Patterns of searches."""

import fnmatch

import pytest

from pyvospace.model.searches import Glob


def test_pattern_is_read_once_however_many_names_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    translate = fnmatch.translate

    def count(pattern: str) -> str:
        read.append(pattern)
        return translate(pattern)

    monkeypatch.setattr(fnmatch, "translate", count)
    glob = Glob("[a-c]*" * 150 + "[!d]")
    assert [text for text in ("abc" * 80, "d" * 200, "x" * 200) if glob.fits(text)] == ["abc" * 80]
    assert len(read) == 1
