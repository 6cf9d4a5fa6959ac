"""The commands that bring back what was replaced or deleted, without the rights of an administrator."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Shell


def test_versions_are_shown_fetched_restored_and_removed(shell: Shell) -> None:
    shell.lines("policies", "set", str(shell.home), "--versions", "3")
    assert "versions\t3\t" + str(shell.home) in shell.lines("policies", "show", str(shell.home))
    for content in (b"first", b"second"):
        shell.space.push(content, "vos:data")
    (line,) = shell.lines("versions", "vos:data")
    assert line.split("\t")[:2] == ["1", "5"]
    assert json.loads(shell.lines("versions", "vos:data", "--json")[0])["stored_by"] == "alice"
    assert shell.lines("versions", "vos:data", "--get", "1", "-") == ["first"]
    shell.lines("versions", "vos:data", "--get", "1", "old")
    assert Path("old").read_bytes() == b"first"
    shell.lines("versions", "vos:data", "--restore", "1")
    assert shell.lines("cat", "vos:data") == ["first"]
    shell.lines("versions", "vos:data", "--delete", "2")
    assert shell.lines("versions", "vos:data") == []
    assert shell("versions", "vos:data", "--get", "2", "-") == 3
    assert shell("versions", "vos:data", "--delete", "1", "--restore", "1") == 2
    shell.lines("policies", "set", str(shell.home), "--inherit", "versions")
    assert shell("policies", "set", str(shell.home), "--inherit", "colour") == 2
    assert shell("policies", "set", str(shell.home)) == 2
    assert shell("policies", "set", str(shell.home), "--label", "ssd") == 5
    assert shell("policies", "list") == 5
    shell.lines("policies", "remove", str(shell.home))
