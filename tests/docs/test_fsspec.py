"""The page on fsspec does what it says: its blocks are one program, run against a real pair."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.io import fits
from fsspec.registry import _registry

from pyvospace.filesystem import VOSpaceFileSystem
from tests.docs.test_python_client import run_blocks
from tests.docs.test_tutorial import commands, environment

__all__ = ["commands", "environment"]
"""Fixtures."""


def test_the_page_works(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    fits.PrimaryHDU(data=[[0.0] * 64] * 64).writeto(tmp_path / "image.fits")
    monkeypatch.setitem(_registry, "vos", VOSpaceFileSystem)  # the page changes it
    run_blocks("fsspec.md")
    printed = capsys.readouterr().out
    assert "83.82" in printed
    assert (tmp_path / "notes.txt").read_text() == "a few words\n"
