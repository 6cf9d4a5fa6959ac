"""Pages that show commands for a space: each block is run, with what the page takes for granted."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.io import fits

from tests.docs.test_tutorial import blocks_of, commands, environment, run
from tests.support.pair import Pair

__all__ = ["commands", "environment"]
"""Fixtures."""

PAGES = {
    "search.md": 'export AUTH="Authorization: Bearer $VOSPACE_TOKEN"; pyvospace cp image.fits vos:',
    "sharing.md": "pyvospace cp image.fits vos:",
    "permissions.md": "true",
    "audit.md": "true",
    "json.md": "pyvospace cp image.fits vos:",
    "entries.md": "pyvospace cp image.fits vos:",
    "archives.md": "pyvospace mkdir vos:survey; pyvospace cp image.fits vos:survey/",
    "structured-data.md": "true",
    "command-line.md": "true",
    "credentials.md": "true",
    "third-party.md": "true",
    "trash-and-versions.md": "true",
    "sync.md": "true",
}
"""What comes before the first block."""


@pytest.mark.parametrize("page", ["administration.md", "many-storage-servers.md"])
def test_page_for_administrators(environment: dict[str, str], pair: Pair, tmp_path: Path, page: str) -> None:
    blocks = [text for language, text in blocks_of(f"howto/{page}") if language == "sh"]
    script = "\n".join(blocks)
    assert run([("sh", script)], {**environment, "VOSPACE_TOKEN": pair.admin_token}, tmp_path) == 1


@pytest.mark.parametrize("page", PAGES)
def test_page(environment: dict[str, str], tmp_path: Path, page: str) -> None:
    exposures = [fits.ImageHDU(name="SCI", ver=version) for version in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *exposures]).writeto(tmp_path / "image.fits")
    blocks = [text for language, text in blocks_of(f"howto/{page}") if language == "sh"]
    assert blocks
    script = "\n".join([PAGES[page], *blocks])
    assert run([("sh", script)], environment, tmp_path) == 1
    if page == "structured-data.md":
        with fits.open(tmp_path / "sci2.fits") as hdus:
            assert hdus[1].ver == 2
    if page == "archives.md":
        assert (tmp_path / "survey.tar").stat().st_size > (tmp_path / "image.fits").stat().st_size
