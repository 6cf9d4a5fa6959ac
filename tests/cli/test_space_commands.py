"""The commands on a space, run as a user runs them, against a real pair."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pyvospace.client.sync import Space
from pyvospace.model.vocabulary import CADC, CORE
from tests.cli.conftest import Shell
from tests.support.pair import Pair

pytestmark = pytest.mark.usefixtures("environment")


def test_a_file_goes_there_and_back(shell: Shell) -> None:
    content = os.urandom(100_000)
    Path("image.fits").write_bytes(content)
    assert shell("cp", "image.fits", "vos:image.fits") == 0
    assert (shell.out, shell.err) == ("", "")
    assert shell("cp", "vos:image.fits", "copy.fits") == 0
    assert Path("copy.fits").read_bytes() == content
    assert shell("cat", "vos:image.fits") == 0


def test_ls(shell: Shell) -> None:
    shell.space.ensure_container("vos:folder")
    shell.space.push(b"12345", "vos:file.txt")
    shell.space.link("vos:folder", "vos:link")
    shell.space.push(b"", "vos:folder/inside")
    assert shell.lines("ls") == ["file.txt", "folder/", "link"]
    assert shell.lines("ls", "vos:folder") == ["inside"]
    assert shell.lines("ls", "vos:link") == ["inside"]
    assert shell.lines("ls", "vos:file.txt") == ["file.txt"]
    assert shell.lines("ls", str(shell.home.child("file.txt"))) == ["file.txt"]
    assert shell.lines("ls", "vos:f*") == ["file.txt", f"{shell.home.child('folder')}:", "inside"]
    assert "home/" in shell.lines("ls", "vos:/")
    file, folder, link = shell.lines("ls", "-l")
    assert re.fullmatch(r"-rw-------  alice {18,}5  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  file\.txt", file)
    assert folder.startswith("drw-------  alice")
    assert link.endswith(f"link -> {shell.home.child('folder')}")
    assert shell("tag", "vos:file.txt", "ispublic=true", "groupread=ivo://cadc.nrc.ca/gms?a") == 0
    assert shell.lines("ls", "-l", "vos:file.txt")[0].startswith("-rw-r--r--  alice")


def test_ls_json(shell: Shell) -> None:
    shell.space.push(b"12345", "vos:ü.txt", content_type="text/plain")
    shell.space.ensure_container("vos:folder")
    folder, file = [json.loads(line) for line in shell.lines("ls", "--json")]
    assert folder["type"] == "ContainerNode"
    assert folder["length"] == 0
    assert file["uri"] == str(shell.home.child("ü.txt"))
    assert file["name"] == "ü.txt"
    assert file["length"] == 5
    assert file["content_type"] == "text/plain"
    assert file["properties"][CORE + "length"] == "5"
    assert file["public"] is False


def test_info(shell: Shell) -> None:
    shell.space.push(b"12345", "vos:x")
    told = dict(line.split(":", 1) for line in shell.lines("info", "vos:x") if not line.startswith("ivo:"))
    assert told["uri"].strip() == str(shell.home.child("x"))
    assert told["length"].strip() == "5"
    assert len(shell.lines("info", "--json", "vos:x")) == 1
    assert json.loads(shell.out)["md5"] == "827ccb0eea8a706c4c34a16891f84e7b"
    assert len(shell.lines("info", "--json", "vos:x", "vos:")) == 2


def test_mkdir(shell: Shell) -> None:
    assert shell("mkdir", "vos:a", "vos:b") == 0
    assert shell("mkdir", "vos:a") == 4
    assert shell.err.startswith("pyvospace: DuplicateNode ")
    assert shell("mkdir", "vos:c/d") == 3
    assert shell("mkdir", "-p", "vos:c/d/e", "vos:a") == 0
    assert shell.lines("ls") == ["a/", "b/", "c/"]
    assert shell("mkdir", "vos:x", "vos:a", "vos:y") == 4
    assert shell.lines("ls") == ["a/", "b/", "c/", "x/", "y/"]
    assert shell("mkdir", "vos:/mine") == 5


def test_rm(shell: Shell) -> None:
    shell.space.ensure_container("vos:a/b", parents=True)
    for name in ("1.fits", "2.fits", "3.txt", ".hidden.fits", "a*b", "axb"):
        shell.space.push(b"", shell.home.child(name))
    assert shell("rm", "vos:*.fits") == 0
    assert shell.lines("ls") == [".hidden.fits", "3.txt", "a/", "a*b", "axb"]
    assert shell("rm", "vos:a%2Ab") == 0
    assert shell.lines("ls") == [".hidden.fits", "3.txt", "a/", "axb"]
    assert shell("rm", "vos:.*", "vos:ax*") == 0
    assert shell("rm", "vos:a", "vos:3.txt") == 2
    assert "with -r" in shell.err
    assert shell.lines("ls") == ["a/"]
    assert shell("rm", "vos:nope") == 3
    assert shell("rm", "vos:*.nope") == 3
    assert shell("rm", "-f", "vos:nope", "vos:*.nope") == 0
    shell.space.link("vos:a", "vos:link")
    assert shell("rm", "vos:link") == 0
    assert shell("rm", "-r", "vos:a") == 0
    assert shell.lines("ls") == []


@pytest.mark.parametrize("uri", ["vos:", "vos:/"])
def test_nobody_deletes_everything_by_an_empty_variable(shell: Shell, uri: str) -> None:
    assert shell("rm", "-r", "-f", uri) == 2
    assert shell.space.find("vos:") is not None


def test_ln(shell: Shell) -> None:
    shell.space.push(b"bytes", "vos:file")
    shell.space.ensure_container("vos:folder")
    assert shell("ln", "vos:file", "vos:link") == 0
    assert shell("ln", "vos:file", "vos:folder") == 0
    assert shell("ln", "https://example.org/a/b.fits", "vos:folder") == 0
    assert shell.lines("ls", "vos:folder") == ["b.fits", "file"]
    assert shell.lines("cat", "vos:folder/file") == ["bytes"]
    assert shell("ln", "vos:file", "vos:link") == 4
    assert shell("ln", "file", "vos:other") == 2


def test_tag(shell: Shell) -> None:
    shell.space.push(b"", "vos:x")
    assert shell("tag", "vos:x", "title=a = b", "quality=good", "description=", "ivo://o/p#q=1") == 0
    node = shell.space.get_node("vos:x")
    assert node.value(CORE + "title") == "a = b"
    assert node.value("quality") == "good"
    assert node.value(CORE + "description") == ""
    assert node.value("ivo://o/p#q") == "1"
    assert {"title=a = b", "quality=good", "description=", "ivo://o/p#q=1"} <= set(shell.lines("tag", "vos:x"))
    assert shell("tag", "vos:x", "title=new", "--delete", "quality", "--delete", "description") == 0
    assert {"title=new", "ivo://o/p#q=1"} <= set(shell.lines("tag", "vos:x"))
    assert "quality" not in shell.out
    assert shell("tag", "vos:x", "islocked=true") == 0
    assert shell.space.get_node("vos:x").value(CADC + "islocked") == "true"
    assert shell("rm", "vos:x") == 6
    assert "NodeLocked" in shell.err
    assert shell("tag", "vos:x", "--delete", "islocked") == 0
    assert shell("tag", "vos:x", "quota=5") == 5
    assert shell("tag", "vos:x", "creator=admin") == 5
    assert shell("tag", "-R", "vos:x", "creator=admin") == 2
    assert shell("tag", "vos:x", "length=5") == 2
    assert shell("tag", "vos:x", "novalue") == 2
    assert shell("tag", "vos:x", "=value") == 2
    assert shell("tag", "vos:x", "length=5") == 2
    assert "cannot be set" in shell.err
    assert shell("tag", "vos:x", "groupread=survey") == 2
    assert "pyvospace group list" in shell.err


def test_cat(shell: Shell) -> None:
    shell.space.push(b"0123456789", "vos:a")
    shell.space.push(b"abcdefghij", "vos:b")
    for arguments, text in (
        (("vos:a", "vos:b"), "0123456789abcdefghij"),
        (("--range", "2-4", "vos:a"), "234"),
        (("--range", "8-", "vos:a"), "89"),
        (("--range", "-3", "vos:a"), "789"),
        (("--range", "8-99", "vos:?"), None),
    ):
        assert shell("cat", *arguments) == (0 if text is not None else 2)
        assert shell.out == (text or "")
    for wrong in ("x", "5-4", "-0", "-", "1-2-3", ""):
        assert shell("cat", "--range", wrong, "vos:a") == 2
    assert shell("cat", "--range", "10-", "vos:a") == 1
    assert "RangeNotSatisfiable" in shell.err
    assert shell("cat", "vos:nope", "vos:a") == 3
    assert shell.out == "0123456789"


def test_cp_into(shell: Shell) -> None:
    for name in ("a", "b"):
        Path(name).write_text(name)
    shell.space.ensure_container("vos:box")
    assert shell("cp", "a", "b", "vos:box") == 0
    assert shell.lines("ls", "vos:box") == ["a", "b"]
    assert shell("cp", "a", "vos:box/c") == 0
    assert shell("cp", "a", "vos:box/") == 0
    assert shell.lines("ls", "vos:box") == ["a", "b", "c"]
    assert shell("cp", "a", "vos:missing/") == 3
    assert shell("cp", "a", "b", "vos:missing") == 3
    assert shell("cp", "a", "b", "vos:box/a") == 2
    assert shell("cp", "a", "vos:missing/a") == 3
    Path("out").mkdir()
    assert shell("cp", "vos:box/a", "vos:box/b", "out") == 0
    assert shell("cp", "vos:box/*", "out") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a", "b", "c"]
    assert shell("cp", "vos:box/a", "vos:box/b", "new") == 2
    assert shell("cp", "vos:box/a", "new/") == 2
    assert shell("cp", "vos:box/a", "new/a") == 1
    Path("sub").mkdir()
    Path("sub/a").write_text("another a")
    assert shell("cp", "a", "sub/a", "vos:box") == 2
    assert "called a" in shell.err


def test_what_cannot_be_copied_is_said_with_what_to_do(shell: Shell) -> None:
    Path("file").write_text("x")
    shell.space.push(b"x", "vos:file")
    shell.space.ensure_container("vos:folder")
    for arguments, code, words in (
        (
            ["file", "vos:no/where"],
            3,
            "no/where (file)\npyvospace: hint: pyvospace mkdir -p makes the containers above\n",
        ),
        (["vos:file", "no/where"], 1, "pyvospace: no: there is no such directory\n"),
        (["vos:file", "no/"], 2, "there is no directory no/\n"),
        (["vos:file", "file/"], 2, "file/ is no directory\n"),
        (["-r", "vos:folder", "file"], 1, "pyvospace: file: is there and is no folder"),
        (["-r", "", "vos:"], 2, "an empty name"),
        (["vos:file", ""], 2, "an empty name"),
        (["file", "vos:.auto"], 2, "choose one"),
    ):
        assert shell("cp", *arguments) == code
        assert words in shell.err
    assert shell("mkdir", "vos:a/b") == 3
    assert "mkdir -p" in shell.err
    assert shell("ls", "folder") == 2
    assert "write vos:path, " in shell.err
    assert shell.lines("ls") == ["file", "folder/"]
    (made,) = shell.lines("mkdir", "vos:.auto")
    assert f"{made.rpartition('/')[2]}/" in shell.lines("ls")


def test_cp_folders(shell: Shell) -> None:
    Path("tree/sub").mkdir(parents=True)
    Path("tree/sub/x").write_text("x")
    assert shell("cp", "tree", "vos:") == 2
    assert "with -r" in shell.err
    assert shell("cp", "-r", "tree", "vos:") == 0
    assert shell("cp", "-r", "tree", "vos:copy") == 0
    assert shell.lines("ls") == ["copy/", "tree/"]
    assert shell.lines("ls", "vos:copy") == ["sub/"]
    assert shell("cp", "vos:tree", "back") == 2
    assert shell("cp", "-r", "vos:tree", "back") == 0
    assert Path("back/sub/x").read_text() == "x"
    assert shell("cp", "-r", "vos:tree", "back") == 0
    assert Path("back/tree/sub/x").read_text() == "x"
    os.chdir("tree")
    assert shell("cp", "-r", ".", "vos:box") == 0
    assert shell("cp", "-r", ".", "vos:copy") == 0
    assert shell.lines("ls", "vos:box") == ["sub/"]
    assert shell.lines("ls", "vos:copy") == ["sub/", "tree/"]


def test_cp_tells_each_failure_and_goes_on(shell: Shell) -> None:
    Path("tree").mkdir()
    for name in ("a", "b", "c"):
        Path("tree", name).write_text(name)
    Path("tree/link").symlink_to("a")
    shell.space.ensure_container("vos:tree/b", parents=True)
    code = shell("cp", "-r", "tree", "vos:")
    assert code != 0
    assert "tree/link is left out: it is a symbolic link" in shell.err
    assert "tree/b" in shell.err
    assert shell.lines("ls", "vos:tree") == ["a", "b/", "c"]


def test_cp_between_places_of_one_kind(shell: Shell) -> None:
    Path("a").write_text("a")
    assert shell("cp", "a", "b") == 2
    assert shell("cp", "a", "vos:a", "b") == 2
    assert shell("cp", "missing", "vos:x") == 1
    assert shell.err == "pyvospace: missing: No such file or directory\n"


def test_names_that_need_care(shell: Shell) -> None:
    for name in ("a b", "ü", "%41", "-x"):
        Path(name).write_text(name)
        assert shell("cp", f"./{name}", "vos:") == 0
    assert shell.lines("ls") == ["%41", "-x", "a b", "ü"]
    assert shell.lines("cat", "vos:a b", "vos:%2541") == ["a b%41"]
    assert shell("cat", "vos:a?b") == 2
    assert "%3F" in shell.err
    assert shell("ls", "vos:../x") == 2


def test_spaces(shell: Shell, environment: dict[str, str], pair: Pair) -> None:
    assert shell("ls", "vos://elsewhere/x") == 2
    assert '[spaces."elsewhere"]' in shell.err
    Path(environment["VOSPACE_CLIENT_CONFIG"]).write_text(f'[spaces."elsewhere"]\nurl = "{pair.url}"\n')
    assert shell("ls", "vos://elsewhere/") == 2
    assert "calls itself" in shell.err
    Path(environment["VOSPACE_CLIENT_CONFIG"]).write_text("nonsense = 1")
    assert shell("ls") == 2


def test_options_come_before_the_environment(shell: Shell, pair: Pair) -> None:
    assert shell("ls", "--token", "wrong") == 5
    assert "NotAuthenticated" in shell.err
    assert shell("ls", "--url", pair.url + "/", "--token", pair.token) == 0
    assert shell("ls", "--url", "nonsense") == 2


def test_without_a_token(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOSPACE_TOKEN")
    assert shell("ls") == 5
    assert shell.err.endswith(
        "hint: no token is given: set VOSPACE_TOKEN, use --token, or log in with `pyvospace login`\n"
    )


def test_a_url_of_something_else(shell: Shell, pair: Pair) -> None:
    assert shell("ls", "--url", pair.storage_url) == 3
    assert f"there is no VOSpace at {pair.storage_url} " in shell.err


def test_what_another_user_put_into_a_shared_container(shell: Shell, pair: Pair) -> None:
    shell.space.ensure_container("vos:box")
    path = "/" + "/".join(shell.home.path)
    with Space(pair.url, token=pair.admin_token, authority=pair.authority, home=path) as admin:
        admin.push(b"x", "vos:box/file")
        admin.ensure_container("vos:box/folder")
    assert shell("info", "vos:box/file") == 5
    folder, file = sorted(shell.lines("ls", "-l", "vos:box"))[::-1]
    assert folder.split() == ["drw-------", "-", "-", "folder/"]
    assert file.split() == ["-rw-------", "-", "-", "file"]
    assert shell("rm", "vos:box/folder") == 2
    assert "with -r" in shell.err
    assert shell("rm", "vos:box/nothing") == 3
    assert shell("rm", "vos:box/file") == 0
    assert shell("rm", "-r", "vos:box/folder") == 0
    assert shell.lines("ls", "vos:box") == []


def test_without_a_space(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOSPACE_URL")
    assert shell("ls") == 2
    assert "VOSPACE_URL" in shell.err


@pytest.mark.parametrize("arguments", [["ls", "--nope"], ["cp", "x"], ["mkdir"], ["cp", "-j", "0", "a", "vos:"]])
def test_wrong_usage(shell: Shell, arguments: list[str]) -> None:
    assert shell(*arguments) == 2
    assert shell.err.startswith("pyvospace: ")


def process(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "pyvospace", *arguments],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def test_standard_input_and_output(shell: Shell) -> None:
    content = os.urandom(3 << 20)
    with process("cp", "-", "vos:stream") as sending:
        _, err = sending.communicate(content)
    assert (sending.returncode, err) == (0, b"")
    with process("cp", "vos:stream", "-") as receiving:
        out, err = receiving.communicate()
    assert (receiving.returncode, err) == (0, b"")
    assert out == content
    assert shell("cp", "-", "vos:") == 2
    Path("x").write_bytes(content)
    with Path("x").open("rb") as file, process("cp", "-", "vos:file", stdin=file) as sending:
        assert sending.wait() == 0
    assert b"".join(shell.space.read("vos:file")) == content


def test_ctrl_c_while_standard_input_is_silent(shell: Shell) -> None:
    with process("cp", "-", "vos:never") as waiting:
        assert waiting.stdin is not None
        waiting.stdin.write(b"begin")
        waiting.stdin.flush()
        while not _connected(waiting.pid):
            assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == 130
        assert waiting.stderr is not None
        assert b"Traceback" not in waiting.stderr.read()
    assert shell.space.find("vos:never") is None


def _connected(pid: int) -> bool:
    return bool(psutil.Process(pid).net_connections("tcp"))


def test_a_reader_that_goes_away_is_no_matter(shell: Shell) -> None:
    shell.space.push(os.urandom(8 << 20), "vos:big")
    for command in (("cat", "vos:big"), ("cp", "vos:big", "-")):
        with process(*command) as writing:
            assert writing.stdout is not None
            assert writing.stderr is not None
            writing.stdout.read(10)
            writing.stdout.close()
            assert writing.wait(30) != 0
            assert writing.stderr.read() == b""


def _peak(*arguments: str) -> int:
    """Give the most memory, in bytes, that a command needs."""
    with process(*arguments) as running:
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        assert running.returncode == 0
    return usage.ru_maxrss * 1024


def test_large_files_need_no_more_memory_than_small_ones(shell: Shell) -> None:
    for name, size in (("small", 1 << 20), ("large", 120 << 20)):
        with Path(name).open("wb") as file:
            file.truncate(size)
    peaks = {
        name: (_peak("cp", name, f"vos:{name}"), _peak("cp", f"vos:{name}", f"{name}.back"))
        for name in ("small", "large")
    }
    for small, large in zip(peaks["small"], peaks["large"], strict=True):
        assert large - small < 40 << 20
    assert Path("large.back").stat().st_size == 120 << 20
