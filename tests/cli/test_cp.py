"""cp of many files: patterns, times, and what is there already."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pyvospace.model.vocabulary import FILE_TIME
from tests.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("environment")

OLD, NEW = 1_000_000_000_123_456_789, 2_000_000_000_000_000_000


def write(name: str, content: str, time: int = OLD) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content)
    os.utime(name, ns=(time, time))


def told(shell: Shell, *words: str) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in shell.lines("cp", "--json", *words)]
    return sorted((one["action"], one["target"].rpartition("/")[2]) for one in lines)


def test_patterns_on_both_sides(shell: Shell) -> None:
    for name in ("a.fits", "b.txt", "sub/c.fits", "sub/deep/d.fits", "sub/.hidden.fits", "st*r"):
        write(name, name)
    shell.space.ensure_container("vos:all")
    assert told(shell, "*.fits", "vos:all") == [("copy", "a.fits")]
    assert told(shell, "sub/**/*.fits", "vos:all") == [("copy", "c.fits"), ("copy", "d.fits")]
    assert told(shell, "st*r", "vos:all") == [("copy", "st*r")]
    assert shell("cp", "*.none", "vos:all") == 1
    assert shell("cp", "-r", "sub", "vos:") == 0
    Path("out").mkdir()
    assert told(shell, "vos:s*b/d*/*.fits", "out") == [("copy", "d.fits")]
    assert told(shell, "vos:sub/**/*.fits", "out") == [("copy", "c.fits"), ("copy", "d.fits")]
    assert told(shell, "vos:all/st%2Ar", "vos:all/*.fits", "out") == [
        *[("copy", f"{name}.fits") for name in "acd"], ("copy", "st*r"),
    ]  # fmt: skip
    assert shell("cp", "vos:**/none", "out") == 3
    assert "vos:**/none" in shell.err
    assert shell("cp", "vos:**/*.fits", "out") == 2  # two of them are called c.fits


def test_times_are_preserved_if_that_is_wanted(shell: Shell) -> None:
    write("sub/a", "alpha")
    assert shell("cp", "sub/a", "vos:plain") == 0
    assert shell.space.get_node("vos:plain").value(FILE_TIME) is None
    assert shell("cp", "-rp", "sub", "vos:sub") == 0
    assert shell.space.get_node("vos:sub/a").value(FILE_TIME) == "2001-09-09T01:46:40.123456789Z"
    shell.space.link("vos:sub/a", "vos:link")
    for words, copy in ((("-p", "vos:sub/a", "one"), "one"), (("-p", "vos:link", "two"), "two"),
                        (("-rp", "vos:sub", "tree"), "tree/a")):  # fmt: skip
        assert shell("cp", *words) == 0
        assert Path(copy).stat().st_mtime_ns == OLD


def test_what_is_there_already(shell: Shell) -> None:
    write("here/old", "1")
    write("here/new", "2", NEW)
    shell.space.ensure_container("vos:here")
    for name in ("old", "new"):
        shell.space.push(b"there", f"vos:here/{name}")
    assert told(shell, "-n", "here/old", "here/new", "vos:here") == [("keep", "new"), ("keep", "old")]
    assert told(shell, "-ru", "here", "vos:") == [("copy", "new"), ("keep", "old")]
    assert shell.space.get_node("vos:here/new").value(FILE_TIME) is None
    write("other", "mine")
    assert told(shell, "-rn", "vos:here", "here2") == [("copy", "new"), ("copy", "old")]
    assert told(shell, "-n", "vos:here/old", "other") == [("keep", "other")]
    assert told(shell, "-u", "vos:here/old", "other") == [("copy", "other")]
    assert Path("other").read_text() == "there"
    assert told(shell, "-u", "vos:here/old", "other") == [("keep", "other")]


def test_options_that_do_not_fit(shell: Shell) -> None:
    write("a", "1")
    assert shell("cp", "-n", "-u", "a", "vos:") == 2
    assert shell("cp", "-p", "vos:a", "vos:b") == 2
    assert shell("cp", "--json", "a", "vos:missing/a") != 0
    assert json.loads(shell.out)["action"] == "fail"
