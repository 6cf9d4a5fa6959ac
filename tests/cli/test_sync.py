"""The command sync, both ways and within a space."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pyvospace.client.failures import ServiceUnreachable
from pyvospace.client.mirror import carriers
from pyvospace.client.mirror.batches import BatchSender
from pyvospace.client.space import Space
from pyvospace.model.faults import InvalidData, PermissionDenied
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import FILE_TIME
from tests.cli.conftest import Shell

pytestmark = pytest.mark.usefixtures("environment")

OLD = 1_000_000_000_123_456_789
FILES = {"a.txt": b"alpha", "b.txt": b"", "ü b.dat": os.urandom(3000), "sub/c.txt": b"gamma", "sub/deep/d": b"delta"}


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def write(top: str, files: dict[str, bytes] = FILES, *, time: int = OLD) -> None:
    for name, content in files.items():
        path = Path(top, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(time, time))


def held(top: str) -> dict[str, bytes]:
    return {str(one.relative_to(top)): one.read_bytes() for one in sorted(Path(top).rglob("*")) if one.is_file()}


def summary(shell: Shell, *words: str, code: int = 0) -> dict[str, int]:
    """Run sync; its summary without what is 0, and without times."""
    assert shell("sync", "--json", *words) == code, shell.err
    *_, last = [json.loads(line) for line in shell.out.splitlines()]
    assert last.pop("action") == "summary"
    last.pop("seconds")
    return {name: count for name, count in last.items() if count}


def acts(shell: Shell) -> set[tuple[str, str]]:
    told = [json.loads(line) for line in shell.out.splitlines()]
    return {(one["action"], one["path"]) for one in told if one["action"] != "summary"}


def test_there_and_back(shell: Shell) -> None:
    write("here")
    Path("here", "empty").mkdir()
    size = sum(map(len, FILES.values()))
    assert summary(shell, "here", "vos:there") == {"files": 5, "bytes": size, "folders": 4}
    assert summary(shell, "here", "vos:there") == {"unchanged": 5}
    assert summary(shell, "vos:there", "back") == {"files": 5, "bytes": size, "folders": 4}
    assert held("back") == FILES
    assert {one.stat().st_mtime_ns for one in Path("back").rglob("*") if one.is_file()} == {OLD}
    assert Path("back", "empty").is_dir()
    assert summary(shell, "vos:there", "back") == {"unchanged": 5}
    assert summary(shell, "back", "vos:there") == {"unchanged": 5}


def test_what_has_changed(shell: Shell) -> None:
    write("here")
    summary(shell, "here", "vos:there")
    write("here", {"a.txt": b"ALPHA", "new": b"n", "sub/c.txt": b"longer than gamma"}, time=OLD + 10**9)
    os.utime(Path("here", "sub", "deep", "d"), ns=(OLD, OLD + 10**9))
    assert summary(shell, "here", "vos:there") == {"files": 3, "bytes": 23, "dated": 1, "unchanged": 2}
    assert acts(shell) == {("copy", "a.txt"), ("copy", "new"), ("copy", "sub/c.txt"), ("date", "sub/deep/d")}
    assert shell.space.get_node("vos:there/sub/deep/d").value(FILE_TIME) == "2001-09-09T01:46:41.123456789Z"
    write("back")
    assert summary(shell, "vos:there", "back") == {"files": 3, "bytes": 23, "dated": 1, "unchanged": 2}
    assert held("back") == held("here")
    assert Path("back", "sub", "deep", "d").stat().st_mtime_ns == OLD + 10**9


def test_checksums_see_what_size_and_time_do_not(shell: Shell) -> None:
    write("here")
    summary(shell, "here", "vos:there")
    write("here", {"a.txt": b"ALPHA"})
    assert summary(shell, "here", "vos:there") == {"unchanged": 5}
    assert summary(shell, "here", "vos:there", "--checksum") == {"files": 1, "bytes": 5, "unchanged": 4}
    write("here", {"a.txt": b"alpha"})
    assert summary(shell, "vos:there", "here", "-c") == {"files": 1, "bytes": 5, "unchanged": 4}


def test_delete(shell: Shell) -> None:
    write("here")
    write("other", {"a.txt": b"alpha", "sub/x": b"x", "old/one/two": b"2", "z": b"z"})
    summary(shell, "other", "vos:there")
    assert summary(shell, "here", "vos:there", "--dry-run", "--delete")["deleted"] == 3
    assert acts(shell) >= {("delete", "old/"), ("delete", "z"), ("delete", "sub/x"), ("copy", "sub/c.txt")}
    assert summary(shell, "here", "vos:there", "--delete")["deleted"] == 3
    assert summary(shell, "vos:there", "other", "--delete")["deleted"] == 3
    assert held("other") == FILES


def test_nothing_is_deleted_for_an_empty_or_missing_source(shell: Shell) -> None:
    write("here")
    summary(shell, "here", "vos:there")
    Path("empty").mkdir()
    assert shell("sync", "--delete", "empty", "vos:there") == 2
    assert "--force" in shell.err
    assert shell("sync", "--delete", "missing", "vos:there") != 0
    assert shell("sync", "missing", "vos:there", "--force") != 0
    assert shell("sync", "--delete", "vos:missing", "here") != 0
    assert held("here") == FILES
    assert summary(shell, "here", "vos:there") == {"unchanged": 5}
    assert summary(shell, "--delete", "--force", "missing", "vos:there") == {"deleted": 4}
    assert not shell.lines("ls", "vos:there")


def test_nothing_is_deleted_if_the_source_was_not_listed(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write("here")
    summary(shell, "here", "vos:there")
    write("new", {"a.txt": b"alpha", "sub/new": b"new"})
    with monkeypatch.context() as changed:
        changed.setattr(os, "scandir", _failing_below("sub", os.scandir))
        assert summary(shell, "new", "vos:there", "--delete", code=1) == {"failed": 1, "unchanged": 1}
    assert "nothing is deleted" in shell.err
    assert shell.lines("ls", "vos:there/sub") == ["c.txt", "deep/"]


def _failing_below(name: str, scan: Callable[[Path], object]) -> Callable[[Path], object]:
    def fail(path: Path) -> object:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    return fail


def test_patterns_count_in_their_order(shell: Shell) -> None:
    write("here", {"a.txt": b"1", "b.dat": b"2", "sub/c.txt": b"3", "cache/x": b"4"})
    words = ("--include", "*.txt", "--exclude", "/cache/", "--include", "*/", "--exclude", "*")
    assert summary(shell, "here", "vos:there", *words) == {"files": 2, "bytes": 2, "folders": 2}
    assert acts(shell) >= {("copy", "a.txt"), ("copy", "sub/c.txt")}
    assert shell("sync", "here", "vos:there", "--exclude", "[z-a]") == 2
    # What is left out stays where the other side has it, also in folders that go.
    summary(shell, "here", "vos:there")
    Path("here", "a.txt").unlink()
    Path("here", "sub", "c.txt").unlink()
    Path("here", "sub").rmdir()
    write("more", {"keep.log": b"5", "c.txt": b"6"})
    summary(shell, "more", "vos:there/sub")
    assert summary(shell, "here", "vos:there", "--delete", "--exclude", "*.log")["deleted"] == 2
    assert shell.lines("ls", "vos:there/sub") == ["keep.log"]


def test_links_and_special_files_are_left_out(shell: Shell) -> None:
    write("here", {"a": b"1"})
    Path("here", "link").symlink_to("a")
    os.mkfifo(Path("here", "pipe"))
    assert summary(shell, "here", "vos:there") == {"files": 1, "bytes": 1, "folders": 1, "left_out": 2}
    shell.space.link("vos:there/a", "vos:there/link")
    assert shell("sync", "vos:there", "back") == 0
    assert "link is left out" in shell.err
    assert held("back") == {"a": b"1"}


def test_what_is_of_another_kind(shell: Shell) -> None:
    write("here", {"x": b"1", "y/z": b"2"})
    write("other", {"x/in": b"1", "y": b"2"})
    summary(shell, "other", "vos:there")
    assert summary(shell, "here", "vos:there", code=4)["failed"] == 2
    assert "--delete replaces it" in shell.err
    assert summary(shell, "vos:there", "here", code=4)["failed"] == 2
    assert summary(shell, "here", "vos:there", "--delete") == {"files": 2, "bytes": 2, "folders": 1, "deleted": 2}
    assert summary(shell, "vos:there", "other", "--delete")["deleted"] == 2
    assert held("other") == held("here")


def test_files_do_not_go_through_links(shell: Shell) -> None:
    write("here", {"x": b"new", "sub/y": b"new"})
    summary(shell, "here", "vos:there")
    write("outside", {"x": b"old", "y": b"old"})
    Path("back").mkdir()
    Path("back", "x").symlink_to("../outside/x")
    Path("back", "sub").symlink_to("../outside")
    assert summary(shell, "vos:there", "back", code=4) == {"files": 1, "bytes": 3, "failed": 1}
    assert held("outside") == {"x": b"old", "y": b"old"}
    shell.space.push(b"aim", "vos:aim")
    shell.space.link("vos:aim", "vos:there/z")
    write("here", {"z": b"new"})
    assert summary(shell, "here", "vos:there", code=4)["failed"] == 1
    assert summary(shell, "here", "vos:there", "--delete") == {"files": 1, "bytes": 3, "unchanged": 2, "deleted": 1}
    shell("cat", "vos:aim")
    assert shell.out == "aim"


def test_within_a_space(shell: Shell) -> None:
    write("here")
    summary(shell, "here", "vos:one")
    shell.space.link("vos:one/a.txt", "vos:one/link")
    made = summary(shell, "vos:one", "vos:two")
    assert (made["files"], made["folders"]) == (4, 2)  # one of these by a single copy, with what is in it
    assert summary(shell, "vos:one", "vos:two") == {"unchanged": 6}
    write("here", {"a.txt": b"ALPHA!", "sub/c.txt": b"C"})
    summary(shell, "here", "vos:one")
    assert summary(shell, "vos:one", "vos:two", "--delete")["files"] == 2
    summary(shell, "vos:two", "back")
    assert held("back") == held("here")
    assert shell("sync", "vos:one", "vos:one/sub") == 2
    assert not [name for name in shell.lines("ls", "vos:two") if name.startswith(".sync")]


def test_failures_are_named(shell: Shell) -> None:
    write("here", {"good": b"1", ".auto": b"2", "new\nline": b"3"})
    assert summary(shell, "here", "vos:there", code=2) == {"files": 1, "bytes": 1, "folders": 1, "failed": 2}
    assert ".auto" in shell.err
    assert ("fail", ".auto") in acts(shell)


def test_small_files_travel_together(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write("here", {f"d{number % 3}/f{number:03}": b"%d" % number for number in range(60)})
    with monkeypatch.context() as changed:
        changed.setattr(carriers.Upwards, "copy", None)
        assert summary(shell, "here", "vos:there") == {"files": 60, "bytes": 110, "folders": 4}
        assert summary(shell, "here", "vos:there") == {"unchanged": 60}
        changed.setattr(carriers.Downwards, "copy", None)
        assert summary(shell, "vos:there", "back") == {"files": 60, "bytes": 110, "folders": 4}
        assert held("back") == held("here")
        assert summary(shell, "vos:there", "back") == {"unchanged": 60}
    write("here", {f"d0/f{number:03}": b"-%d" % number for number in range(0, 60, 3)})
    write("here", {"d0/.auto": b"no such name"}, time=OLD + 1)
    assert summary(shell, "here", "vos:there", code=2) == {"files": 20, "bytes": 56, "unchanged": 40, "failed": 1}


def test_what_cannot_travel_together_goes_one_by_one(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise InvalidData("no archives today")

    write("here", {f"f{number}": b"x" for number in range(20)})
    monkeypatch.setattr(Space, "push_archive", refuse)
    assert summary(shell, "here", "vos:there") == {"files": 20, "bytes": 20, "folders": 1}
    assert summary(shell, "here", "vos:there") == {"unchanged": 20}


def test_without_a_service_all_ends(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise InvalidData("no archives today")

    async def vanish(*_: object, **__: object) -> None:
        raise ServiceUnreachable("gone")

    write("here", {f"f{number}": b"x" for number in range(20)})
    monkeypatch.setattr(Space, "push_archive", refuse)
    monkeypatch.setattr(Space, "push", vanish)
    assert shell("sync", "here", "vos:there") == ServiceUnreachable.exit_code
    assert shell.err.count("gone") == 1


def test_what_changes_while_it_travels_is_fetched_by_itself(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write("here", {f"f{number}": b"x" for number in range(20)})
    summary(shell, "here", "vos:there")
    fetch = Space.pull_archive

    async def change(space: Space, uris: Sequence[NodeUri], target: BinaryIO, **how: Any) -> None:
        await space.push(b"other", uris[3])
        await space.delete_node(uris[5])
        await fetch(space, uris, target, **how)

    monkeypatch.setattr(Space, "pull_archive", change)
    assert summary(shell, "vos:there", "back", code=3) == {"files": 19, "bytes": 19, "folders": 1, "failed": 1}
    assert sorted(held("back").values()) == [b"other", *[b"x"] * 18]


def test_a_service_that_has_no_entries(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def none(*_: object) -> bool:
        return False

    monkeypatch.setattr(Space, "has_entries", none)
    offers = Space._offers

    async def few(space: Space, standard: str) -> bool:
        return "entries" not in standard and await offers(space, standard)

    monkeypatch.setattr(Space, "_offers", few)
    monkeypatch.setattr(BatchSender, "carry", None)
    write("here")
    assert summary(shell, "here", "vos:there")["files"] == 5
    assert summary(shell, "here", "vos:there") == {"unchanged": 5}
    assert summary(shell, "vos:there", "back")["files"] == 5
    assert summary(shell, "vos:there", "back", "-c") == {"unchanged": 5}
    assert held("back") == FILES


def test_words_for_people(shell: Shell) -> None:
    write("here", {"a": b"1" * 2048})
    *lines, last = shell.lines("sync", "here", "vos:there", "-n")
    assert lines == ["make ./", "copy a (2.0K)"]
    assert last.startswith("1 file (2.0K) to copy, 0 unchanged, 1 folder to make; ")
    assert shell.lines("sync", "here", "vos:there", "-v")[:2] == lines
    assert shell.lines("sync", "here", "vos:there", "-q") == []
    assert shell("sync", "here", "back") == 2
    assert shell("sync", "", "vos:there") == 2
    assert shell("sync", "here/a", "vos:there") == 2


def test_denied(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise PermissionDenied("not you")

    write("here", {"a": b"1", "b/c": b"2"})
    monkeypatch.setattr(Space, "ensure_container", refuse)
    assert shell("sync", "here", "vos:there") == PermissionDenied.exit_code
