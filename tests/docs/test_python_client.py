"""The page on the Python client does what it says: its blocks are one program, run against a real pair."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.io import fits

from tests.docs.test_tutorial import blocks_of, commands, environment

__all__ = ["commands", "environment"]
"""Fixtures."""


def test_the_page_works(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    fits.PrimaryHDU(data=[[0.0] * 64] * 64).writeto(tmp_path / "image.fits")
    run_blocks("python-client.md")
    printed = capsys.readouterr().out
    assert "somebody was quicker" in printed
    assert "there is one already" in printed
    assert (tmp_path / "copy.fits").read_bytes() == (tmp_path / "image.fits").read_bytes()


def run_blocks(page: str) -> None:
    names: dict[str, object] = {}
    for number, (language, text) in enumerate(blocks_of(f"howto/{page}")):
        if language == "python":
            exec(compile(text, f"block {number} of {page}", "exec"), names)
