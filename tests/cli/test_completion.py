"""Completion by the shell: of commands, options, and nodes of a real pair."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pyvospace.cli.completing import join_words, nodes
from tests.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def offered(shell: Shell) -> typer.Context:
    shell.space.ensure_container("vos:alpha/inner", parents=True)
    shell.space.push(b"", "vos:a file, 100%25%3F.txt")
    context = typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))
    context.params = {"url": None}
    return context


def test_nodes(shell: Shell, offered: typer.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nodes(offered, "vos:a") == ["vos:a%20file,%20100%25%3F.txt", "vos:alpha/"]
    assert shell("cat", "vos:a%20file,%20100%25%3F.txt") == 0
    # The only one that fits comes with what is in it, so that no shell ends the word there.
    assert nodes(offered, "vos:al") == ["vos:alpha/", "vos:alpha/inner/"]
    assert nodes(offered, f"{shell.home}/al")[0] == f"{shell.home}/alpha/"
    assert nodes(offered, "vos:a%20f") == ["vos:a%20file,%20100%25%3F.txt"]
    assert nodes(offered, "v") == ["vos:", "vos:/"]
    assert nodes(offered, "/etc/pass") == nodes(offered, "") == []
    assert nodes(offered, "vos:nothing/like/it") == []
    monkeypatch.setenv("VOSPACE_URL", "http://127.0.0.1:1")
    assert nodes(offered, "vos:/h") == []
    assert shell.err == ""


@pytest.mark.parametrize(
    ("words", "current", "joined", "now", "cut"),
    [
        ("pyvospace ls vos : /ho", 4, "pyvospace ls vos:/ho", 2, "vos:"),
        ("pyvospace ls vos :", 3, "pyvospace ls vos:", 2, "vos:"),
        ("pyvospace ls vos:/ho", 2, "pyvospace ls vos:/ho", 2, ""),
        ("pyvospace cp vos : /a vos : /b", 7, "pyvospace cp vos:/a vos:/b", 3, "vos:"),
        ("pyvospace cp vos : /a lo", 5, "pyvospace cp vos:/a lo", 3, ""),
        ("pyvospace l", 1, "pyvospace l", 1, ""),
    ],
)
def test_words_that_bash_has_cut(words: str, current: int, joined: str, now: int, cut: str) -> None:
    environ = {"COMP_WORDS": words.replace(" ", "\n"), "COMP_CWORD": str(current)}
    assert join_words(environ) == cut
    assert environ == {"COMP_WORDS": joined.replace(" ", "\n"), "COMP_CWORD": str(now)}


def test_bash_itself(offered: typer.Context, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = """
        pyvospace --install-completion && . "$HOME/.bashrc"
        COMP_WORDS=(pyvospace ls vos : al) COMP_CWORD=4
        _pyvospace_completion pyvospace
        echo "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": path}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "alpha/ alpha/inner/"
    assert done.stderr == ""
