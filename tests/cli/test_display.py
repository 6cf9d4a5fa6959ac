"""Progress bars, on a terminal that is one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.pair import Pair


@pytest.fixture
def environment(pair: Pair) -> dict[str, str]:
    return {
        **os.environ,
        "TERM": "xterm",
        "COLUMNS": "100",
        "VOSPACE_URL": pair.url,
        "VOSPACE_TOKEN": pair.token,
        "VOSPACE_AUTHORITY": pair.authority,
        "VOSPACE_HOME": pair.home,
        "VOSPACE_CLIENT_CONFIG": "/nonexistent",
    }


def on_a_terminal(folder: Path, environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run a command with standard error on a terminal; give exit code, standard output, and what the terminal got."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pyvospace", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=theirs) as running:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
        assert running.stdout is not None
        out = running.stdout.read()
    os.close(ours)
    return running.returncode, out.decode(), shown.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other side is closed
        return b""


def test_bars_for_large_files_and_words_for_what_is_left_out(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "large[red].fits").write_bytes(os.urandom(30 << 20))
    (folder / "small").write_bytes(b"x")
    (folder / "link").symlink_to("small")
    target = f"vos:{uuid4().hex}"
    code, out, shown = on_a_terminal(tmp_path, environment, "cp", "-r", "folder", target)
    assert (code, out) == (0, "")
    assert "large[red].fits" in shown
    assert "30.0 MiB" in shown
    assert "2 files" in shown
    assert "link is left out" in shown
    code, out, shown = on_a_terminal(tmp_path, environment, "cp", "-q", f"{target}/large[red].fits", "back")
    assert (code, out, shown) == (0, "", "")
    assert (tmp_path / "back").read_bytes() == (folder / "large[red].fits").read_bytes()


def test_a_failure_is_shown_among_the_bars(tmp_path: Path, environment: dict[str, str]) -> None:
    code, out, shown = on_a_terminal(tmp_path, environment, "cp", "vos:/home/alice/missing", "x")
    assert code == 3
    assert out == ""
    assert "pyvospace: NodeNotFound" in shown
