"""The tutorial does what it says: its commands are run from the first to the last, and its program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pair import Pair

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE.read_text(), re.DOTALL)
STARTING = ("./dev", "access.env")


@pytest.fixture
def environment(pair: Pair) -> dict[str, str]:
    pair.add_user("reader")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("VOSPACE_")},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VOSPACE_URL": pair.url,
        "VOSPACE_AUTHORITY": pair.authority,
        "VOSPACE_TOKEN": pair.token_for("reader"),
        "VOSPACE_HOME": "/home/reader",
        "VOSPACE_CLIENT_CONFIG": "/nonexistent",
    }


def test_the_tutorial_works(environment: dict[str, str], tmp_path: Path) -> None:
    ran = 0
    for language, text in BLOCKS:
        if any(word in text for word in STARTING):
            continue
        command = ["bash", "-eu", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        assert done.stderr == "", text
        ran += 1
    assert ran == len(BLOCKS) - 2
