"""`rm --dry-run` and `tag -R --dry-run`: what would be done is said, and nothing is."""

from __future__ import annotations

from tests.cli.conftest import Shell


def test_dry_runs(shell: Shell) -> None:
    for path in ("vos:t", "vos:t/box"):
        shell.space.ensure_container(path)
    for path in ("vos:t/a", "vos:t/box/b"):
        shell.space.push(b"x", path)
    assert shell("rm", "vos:t", "--dry-run") == 2
    assert shell.lines("rm", "-r", "vos:t", "--dry-run") == [f"{shell.home}/t: 4 nodes would be deleted"]
    assert shell.lines("tag", "-R", "vos:t", "title=x", "--dry-run") == [f"{shell.home}/t: 4 nodes would be changed"]
    assert shell("tag", "vos:t", "title=x", "--dry-run") == 2
    assert shell("tag", "vos:t/a", "islocked=true") == 0
    assert shell("rm", "-r", "vos:t", "--dry-run") == 1
    assert f"{shell.home}/t: nothing would be deleted" in shell.err
    assert f"[{shell.home}/t/a locked: the node is locked]" in shell.err
    assert shell("rm", "--partial", "vos:t", "--dry-run") == 1
    assert f"{shell.home}/t: 2 nodes would be deleted" in shell.err
    assert shell.lines("ls", "vos:t") == ["a", "box/"]
    assert shell.lines("tag", "vos:t/box") == ["ispublic=false", "publicread=false"]
