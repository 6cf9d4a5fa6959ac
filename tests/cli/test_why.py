"""`pyvospace why`: who may do what, in words."""

from __future__ import annotations

import json

from tests.cli.conftest import Shell


def test_why(shell: Shell) -> None:
    assert shell("mkdir", "vos:box") == 0
    assert shell("why", "read", "vos:box") == 0
    assert shell.out == f"alice may read {shell.home}/box: as the owner of {shell.home}/box\n"
    assert shell("why", "read", "vos:box", "--user", "anonymous") == 1
    assert f"whoever is not logged in may not read {shell.home}/box: a container above may not be read" in shell.out
    assert "vos://localhost~space/home/alice may be read by its owner" in shell.out
    assert shell.err == ""
    assert shell("why", "create", "vos:box/new", "--json") == 0
    (one,) = json.loads(shell.out)["permissions"]
    assert (one["rule"], one["node"]) == ("owner", f"{shell.home}/box")
    assert shell("why", "administer", "vos:box") == 1
    assert "may not administer" in shell.out
    lines = shell.lines("why", "vos:box")
    assert next(line.split()[2] for line in lines if " may not " not in line) == "read"
    assert len(lines) == 10


def test_wrong_questions(shell: Shell) -> None:
    assert shell("why", "own", "vos:") == 2
    assert "none of read, see" in shell.err
    assert shell("why", "read", "vos:a", "vos:b") == 2
    assert shell("why", "read", "/tmp/x") != 0
