"""docs/howto/other-clients.md: every block on the page is run."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pyvospace.supervisor.data import Access
from tests.interop.machine import Folder, Machine

PAGE = Path(__file__).parents[2] / "docs/howto/other-clients.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, str]:
    """Give the text below each heading."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def script_of(section: str) -> str:
    """Write the blocks of a section as one script, with the access data first."""
    pieces = ["set -euo pipefail", ". var/access.env"]
    for language, block in BLOCK.findall(section):
        assert language in {"sh", "python"}
        pieces.append(block if language == "sh" else f"python3 - <<'PROGRAM'\n{block}PROGRAM")
    return "\n".join(pieces)


def prepare(machine: Machine, folder: Folder, home: Path, image: Path) -> Machine:
    """Have the files of the page where it has them; the test's own folder takes the part of the home."""
    user = replace(machine, home=home)
    user.settle()
    access = Access(machine.url, machine.authority, "alice", str(machine.token)).render()
    (home / "var").mkdir()
    (home / "var/access.env").write_text(access.replace("=/home/alice", f"={folder.path}"))
    shutil.copy(image, home / "image.fits")
    return user


@pytest.mark.parametrize("title", [title for title in sections() if not title.startswith("vosfs")])
def test_page(machine: Machine, folder: Folder, fits_file: Path, tmp_path: Path, title: str) -> None:
    if title == "wget" and shutil.which("wget") is None:
        pytest.skip("wget is not installed")
    user = prepare(machine, folder, tmp_path, fits_file)
    if title.startswith("astropy"):
        user.curl("-T", fits_file, folder.file_url("image.fits"))
    user.run("bash", "-c", script_of(sections()[title]))


def test_page_about_vosfs(secure_machine: Machine, secure_folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    (title,) = [title for title in sections() if title.startswith("vosfs")]
    user = prepare(secure_machine, secure_folder, tmp_path, fits_file)
    user.run("bash", "-c", script_of(sections()[title]))
    assert (tmp_path / "copy.fits").read_bytes() == fits_file.read_bytes()
