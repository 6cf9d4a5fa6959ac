"""The tutorial and the page on jobs do what they say: their commands are run from first to last, and their programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.forking import forked_commands
from tests.support.pair import Pair

DOCS = Path(__file__).parents[2] / "docs"
STARTING = ("./dev", "access.env")
DONE_WITH_CURL = """
for _ in $(seq 100); do
    if [ -z "$(pyvospace find vos: --name moved)" ] &&
        pyvospace find vos:copied --property 'title=of the first*' | grep 1.fits; then exit; fi
done
exit 1
"""
"""Jobs may go on when curl has ended."""


@pytest.fixture(scope="session")
def commands() -> Iterator[str]:
    """Give the directory of a `pyvospace` that is quick to start."""
    with forked_commands() as folder:
        yield folder


@pytest.fixture
def environment(pair: Pair, commands: str) -> dict[str, str]:
    name = f"reader-{uuid4().hex[:8]}"
    pair.add_user(name)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOSPACE_")},
        "PATH": f"{commands}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VOSPACE_URL": pair.url,
        "VOSPACE_AUTHORITY": pair.authority,
        "VOSPACE_TOKEN": pair.token_for(name),
        "VOSPACE_HOME": f"/home/{name}",
        "VOSPACE_CLIENT_CONFIG": "/nonexistent",
    }


def test_the_tutorial_works(environment: dict[str, str], tmp_path: Path) -> None:
    blocks = blocks_of("tutorial.md")
    assert run(blocks, environment, tmp_path) == len(blocks) - 2


def test_the_page_on_jobs_works(environment: dict[str, str], tmp_path: Path) -> None:
    blocks = blocks_of("howto/jobs.md")
    prepare = ("sh", "mkdir raw; echo 1 > raw/1.fits; pyvospace cp -r raw vos:")
    assert run([prepare, *blocks, ("sh", DONE_WITH_CURL)], environment, tmp_path) == len(blocks) + 2


def blocks_of(page: str) -> list[tuple[str, str]]:
    return re.findall(r"```(sh|python)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def run(blocks: list[tuple[str, str]], environment: dict[str, str], folder: Path) -> int:
    ran = 0
    for language, text in blocks:
        if any(word in text for word in STARTING):
            continue
        command = ["bash", "-eu", "-o", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        assert not [line for line in done.stderr.splitlines() if " is shared until 2" not in line], text
        ran += 1
    return ran
