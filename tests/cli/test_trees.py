"""The commands on trees: ls in all its orders, tree, du and copy."""

from __future__ import annotations

import json
import sys

import pytest

from pyvospace.cli import listing_actions
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import LENGTH, NodeType
from tests.cli.conftest import Shell
from tests.support.pair import Pair

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def planted(shell: Shell) -> Shell:
    shell.space.ensure_container("vos:a/b", parents=True)
    shell.space.ensure_container("vos:c")
    shell.space.push(b"1" * 2000, "vos:a/b/deep")
    shell.space.push(b"1" * 30, "vos:a/flat")
    shell.space.push(b"1" * 5, "vos:file")
    shell.space.link("vos:a/flat", "vos:link")
    return shell


def test_ls_in_other_orders(planted: Shell) -> None:
    assert planted.lines("ls", "-S") == ["a/", "file", "c/", "link"]
    assert planted.lines("ls", "-r") == ["link", "file", "c/", "a/"]
    assert planted.lines("ls", "-t")[0] == "link"
    assert planted.lines("ls", "-S", "-r")[-1] == "a/"
    assert planted("ls", "--sort", "colour") == 2
    assert "there are name, size, date" in planted.err
    assert planted.lines("ls", "-l", "-h", "vos:a")[0].split()[2] == "2.0K"


def test_ls_of_a_tree(planted: Shell) -> None:
    home = planted.home
    assert planted.lines("ls", "-R", "vos:a") == [f"{home}/a:", "b/", "flat", "", f"{home}/a/b:", "deep"]
    names = [json.loads(line)["name"] for line in planted.lines("ls", "-R", "--json")]
    assert names == ["a", "c", "file", "link", "b", "flat", "deep"]


def test_ls_on_a_terminal_puts_names_beside_each_other(planted: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert [line.split() for line in planted.lines("ls")] == [["a/", "c/", "file", "link"]]
    assert "\x1b" not in planted.out
    assert planted.lines("ls", "-1") == ["a/", "c/", "file", "link"]


def test_tree(planted: Shell) -> None:
    home = planted.home
    assert planted.lines("tree") == [
        str(home),
        "├── a/",
        "│   ├── b/",
        "│   │   └── deep",
        "│   └── flat",
        "├── c/",
        "├── file",
        f"└── link -> {home}/a/flat",
        "",
        "3 containers, 4 others",
    ]
    assert planted.lines("tree", "-L", "1", "--limit", "2")[1:4] == ["├── a/", "├── c/", "└── ... 2 more"]
    assert planted.lines("tree", "-d", "vos:a") == [f"{home}/a", "└── b/", "", "1 container, 0 others"]
    told = [json.loads(line) for line in planted.lines("tree", "--json")]
    assert [(one["name"], one["depth"]) for one in told][:3] == [("a", 1), ("b", 2), ("deep", 3)]
    assert planted("tree", "vos:file") == 2


def test_du(planted: Shell) -> None:
    home = planted.home
    assert planted.lines("du") == [f"2000\t{home}/a/b", f"2030\t{home}/a", f"0\t{home}/c", f"2035\t{home}"]
    assert planted.lines("du", "-s", "-h") == [f"2.0K\t{home}"]
    assert planted.lines("du", "-d", "1", "vos:") == [f"2030\t{home}/a", f"0\t{home}/c", f"2035\t{home}"]
    assert f"30\t{home}/a/flat" in planted.lines("du", "-a", "vos:a")
    assert planted.lines("du", "vos:a/flat", "vos:link") == [f"30\t{home}/a/flat"] * 2
    assert json.loads(planted.lines("du", "-s", "--json")[0]) == {
        "uri": str(home),
        "type": "ContainerNode",
        "bytes": 2035,
    }


def test_copy(planted: Shell) -> None:
    assert planted("copy", "vos:a", "vos:file", "vos:c") == 0
    assert planted.lines("ls", "vos:c") == ["a/", "file"]
    assert planted("copy", "vos:file", "vos:a/flat") == 4
    assert "nothing is replaced" in planted.err
    assert json.loads(planted.lines("copy", "vos:file", "vos:twin", "--json")[0])["uri"] == f"{planted.home}/twin"


def test_what_is_nearly_called_so_is_suggested(planted: Shell) -> None:
    assert planted("cat", "vos:a/flut") == 3
    assert planted.err.splitlines()[-1] == f"pyvospace: hint: did you mean {planted.home}/a/flat ?"
    assert planted("ls", "vos:a/*.fits") == 3
    assert "hint" not in planted.err  # the container that is named is there
    assert planted("cat", "vos:a/quite-another") == 3
    assert "hint" not in planted.err
    assert planted("rm", "vos:x", "vos:y", "vos:z") == 3
    assert planted.err.count("NodeNotFound") == 3


def test_sizes_that_the_service_does_not_know_are_added_up() -> None:
    files = {("a", "b", "x"): 5, ("a", "y"): 7}
    told = [
        Node(NodeUri("x~y", path), NodeType.DATA, properties=(Property(LENGTH, str(size)),))
        for path, size in files.items()
    ]
    nodes = [*told, Node(NodeUri("x~y", ("a", "b")), NodeType.CONTAINER)]
    assert listing_actions._sums(nodes, 1) == {("a",): 12, ("a", "b"): 5, **files}


def test_the_service_knows_where_home_is(shell: Shell, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOSPACE_HOME")
    inner = shell.home.name
    assert f"{inner}/" in shell.lines("ls", "vos:")
    assert shell.lines("du", "-s", f"vos:{inner}", f"vos:{inner}") == [f"0\t{shell.home}"] * 2
    monkeypatch.delenv("VOSPACE_TOKEN")
    assert shell("ls", "vos:") == 2
    assert "VOSPACE_HOME is not set" in shell.err
