"""The page on the Python client does what it says: its blocks are one program, run against a real pair."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.io import fits

from tests.docs.test_tutorial import blocks_of, environment

__all__ = ["environment"]
"""A fixture."""


def test_the_page_works(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    fits.PrimaryHDU(data=[[0.0] * 64] * 64).writeto(tmp_path / "image.fits")
    blocks = [text for language, text in blocks_of("howto/python-client.md") if language == "python"]
    names: dict[str, object] = {}
    for number, text in enumerate(blocks):
        exec(compile(text, f"block {number} of python-client.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "somebody was quicker" in printed
    assert "there is one already" in printed
    assert (tmp_path / "copy.fits").read_bytes() == (tmp_path / "image.fits").read_bytes()
