"""The commands that bring back what was replaced or deleted, without the rights of an administrator."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Shell


def test_versions_are_shown_fetched_restored_and_removed(shell: Shell) -> None:
    shell.lines("policies", "set", str(shell.home), "--versions", "3")
    assert "versions\t3\t" + str(shell.home) in shell.lines("policies", "show", "vos:")
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


def test_deleted_nodes_are_listed_restored_and_purged(shell: Shell) -> None:
    shell.lines("policies", "set", str(shell.home), "--trash-days", "3")
    shell.space.ensure_container("vos:box")
    for name in ("vos:box/a", "vos:b"):
        shell.space.push(b"bytes", name)
    shell.lines("rm", "-r", "vos:box")
    shell.lines("rm", "vos:b")
    found = [line.split("\t") for line in shell.lines("trash", "list") if str(shell.home) in line]
    assert [(line[1], line[2]) for line in found] == [(f"{shell.home}/b", "5 in 1"), (f"{shell.home}/box", "5 in 2")]
    leaf, tree = (line[0] for line in found)
    assert shell.lines("trash", "restore", tree) == [f"{shell.home}/box"]
    assert shell.lines("cat", "vos:box/a") == ["bytes"]
    assert shell("trash", "restore", tree) == 3
    shell.lines("trash", "restore", leaf, "vos:box")
    assert sorted(shell.lines("ls", "vos:box")) == ["a", "b"]
    shell.lines("rm", "-r", "vos:box")
    (line,) = [line for line in shell.lines("trash", "list") if str(shell.home) in line]
    shell.lines("trash", "purge", line.split("\t")[0])
    assert shell("trash", "restore", line.split("\t")[0], "nowhere") == 2
    assert not [line for line in shell.lines("trash", "list") if str(shell.home) in line]
