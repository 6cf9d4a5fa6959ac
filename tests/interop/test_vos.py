"""The commands of vos 3.7 as its users run them."""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from pyvospace.db.bootstrap import new_token
from pyvospace.model.vocabulary import MTIME
from tests.interop.conftest import CROWD, Team, wait_for_log
from tests.interop.machine import Folder, Machine
from tests.support.agents import Agent, children_of, properties_of
from tests.support.pair import Pair

EPERM, ENOENT, EACCES, EFAULT, EEXIST, EINVAL = 1, 2, 13, 14, 17, 22
FORBIDDEN = 403 % 256
FAILED = 255


@pytest.fixture
def tree(tmp_path: Path, small_file: Path) -> Path:
    """A folder with names that users choose."""
    tree = tmp_path / "survey data"
    for name in ("plain.txt", "100%.txt", "R&D.txt", "sub one/naïve file.bin", "sub one/deep/日本.bin", "a+b=c.txt"):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small_file.read_bytes() + name.encode())
    (tree / "empty.txt").touch()
    (tree / "nothing here").mkdir()
    return tree


def content_of(tree: Path) -> dict[str, bytes | None]:
    """Give all files below with their bytes, folders with None; names as nodes, decoded."""
    paths = sorted(tree.rglob("*"))
    return {unquote(str(path.relative_to(tree))): path.read_bytes() if path.is_file() else None for path in paths}


def test_version(machine: Machine) -> None:
    assert machine.run("vcp", "--version").out.strip() == "vos 3.7"


@pytest.mark.clause("T9")
def test_fits_file_there_and_back(machine: Machine, folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    remote = folder.vos(fits_file.name)
    machine.vos("vcp", fits_file, folder.vos())
    (line,) = machine.vos("vls", "-l", remote).lines
    assert re.fullmatch(rf"-rw-------\s+alice\s.*\s{fits_file.stat().st_size}\s.*\s{fits_file.name}", line)
    machine.vos("vcp", remote, tmp_path)
    assert (tmp_path / fits_file.name).read_bytes() == fits_file.read_bytes()
    machine.vos("vrm", remote)
    assert "NodeNotFound" in machine.vos("vls", remote, code=ENOENT).errors


@pytest.mark.clause("T8")
def test_overwriting(machine: Machine, folder: Folder, fits_file: Path, small_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(reversed(small_file.read_bytes())))  # of the same size
    for source in (small_file, other, fits_file, small_file):
        machine.vos("vcp", source, folder.vos("a"))
        machine.vos("vcp", folder.vos("a"), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.mark.clause("N15")
def test_an_unchanged_file_is_not_sent_again(machine: Machine, folder: Folder, small_file: Path) -> None:
    assert "Skip transfer!" not in machine.vos("vcp", "-v", small_file, folder.vos("a")).errors
    assert "Skip transfer!" in machine.vos("vcp", "-v", small_file, folder.vos("a")).errors


@pytest.mark.clause("N3")
@pytest.mark.clause("N13")
@pytest.mark.clause("T15")
def test_empty_files(machine: Machine, folder: Folder, small_file: Path, tmp_path: Path) -> None:
    empty, back = tmp_path / "empty", tmp_path / "back"
    empty.touch()
    for source in (empty, small_file, empty):
        machine.vos("vcp", source, folder.vos("a"))
        machine.vos("vcp", folder.vos("a"), back)
        assert back.read_bytes() == source.read_bytes()
    machine.vos("vcp", folder.vos("a"), tmp_path)
    assert (tmp_path / "a").read_bytes() == b""
    assert " 0 " in machine.vos("vls", "-l", folder.vos("a")).out


@pytest.mark.clause("N5")
@pytest.mark.parametrize("name", ["100%.txt", "two words.txt", "naïve.txt", "日本.txt", "R&D.txt", "it's +1=2.txt"])
def test_names(machine: Machine, folder: Folder, small_file: Path, tmp_path: Path, name: str) -> None:
    machine.vos("vcp", small_file, folder.vos(name))
    machine.vos("vcp", folder.vos(name), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == small_file.read_bytes()
    (shown,) = machine.vos("vls", folder.vos()).lines
    assert unquote(shown) == name
    machine.vos("vrm", folder.vos(name))
    assert machine.vos("vls", folder.vos()).lines == []


@pytest.mark.clause("N5")
def test_whole_trees(machine: Machine, folder: Folder, tree: Path, tmp_path: Path) -> None:
    """On the way back vos names files as nodes are written in URIs, as it does with every service."""
    machine.vos("vcp", tree, folder.vos("tree"))
    machine.vos("vcp", folder.vos("tree"), tmp_path / "back")
    assert content_of(tmp_path / "back") == content_of(tree)


def test_wildcards(machine: Machine, folder: Folder, tree: Path, tmp_path: Path) -> None:
    machine.vos("vcp", tree, folder.vos("tree"))
    shown = machine.vos("vls", folder.vos("tree", "*.txt")).lines
    assert sorted(map(unquote, shown)) == ["100%.txt", "R&D.txt", "a+b=c.txt", "empty.txt", "plain.txt"]
    (tmp_path / "back").mkdir()
    machine.vos("vcp", folder.vos("tree", "p*.txt"), tmp_path / "back")
    assert content_of(tmp_path / "back") == {"plain.txt": (tree / "plain.txt").read_bytes()}


@pytest.mark.clause("N19")
def test_making_and_removing_containers(machine: Machine, folder: Folder) -> None:
    assert "NodeNotFound" in machine.vos("vls", folder.vos("a"), code=ENOENT).errors
    assert "ContainerNotFound" in machine.vos("vmkdir", folder.vos("a", "b"), code=ENOENT).errors
    machine.vos("vmkdir", "-p", folder.vos("a", "b", "c d"))
    machine.vos("vmkdir", "-p", folder.vos("a", "b", "c d"))
    assert "DuplicateNode" in machine.vos("vmkdir", folder.vos("a"), code=EEXIST).errors
    assert machine.vos("vls", folder.vos("a")).lines == ["b"]
    machine.vos("vrmdir", folder.vos("a"))
    assert machine.vos("vls", folder.vos()).lines == []


@pytest.mark.clause("N1")
@pytest.mark.clause("N2")
@pytest.mark.clause("N14")
def test_links(machine: Machine, folder: Folder, small_file: Path, tmp_path: Path) -> None:
    machine.vos("vcp", small_file, folder.vos("some file"))
    machine.vos("vmkdir", folder.vos("sub"))
    machine.vos("vln", folder.vos("some file"), folder.vos("link"))
    machine.vos("vln", folder.vos("sub"), folder.vos("sublink"))
    machine.vos("vln", "https://example.org/a?b=c&d", folder.vos("elsewhere"))
    shown = machine.vos("vls", "-l", folder.vos()).lines
    assert [line[0] for line in shown] == ["l", "l", "-", "d", "l"]
    assert shown[0].endswith("elsewhere -> https://example.org/a?b=c&d")
    assert shown[1].endswith(f"link -> {folder.vos('some%20file')}")
    machine.vos("vcp", "-L", folder.vos("link"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == small_file.read_bytes()
    machine.vos("vcp", small_file, folder.vos("sublink", "through"))
    assert machine.vos("vls", folder.vos("sublink")).lines == ["through"]
    machine.vos("vrm", folder.vos("link"), folder.vos("elsewhere"))
    assert machine.vos("vls", folder.vos()).lines == ["some%20file", "sub", "sublink"]


@pytest.mark.clause("N16")
def test_tags(machine: Machine, folder: Folder, small_file: Path) -> None:
    remote = folder.vos("a.fits")
    machine.vos("vcp", small_file, remote)
    machine.vos("vtag", remote, "quality=good", "title=NGC 1275", "ivo://example.org/p#x=1")
    assert machine.vos("vtag", remote, "quality").out == "'good'\n"
    told = machine.vos("vtag", remote).out
    assert "'title': 'NGC 1275'" in told
    assert "'ivo://example.org/p#x': '1'" in told
    machine.vos("vtag", remote, "quality=better", "title=")
    machine.vos("vtag", "--remove", remote, "ivo://example.org/p#x")
    told = machine.vos("vtag", remote).out
    assert "'quality': 'better'" in told
    assert "title" not in told
    assert "example.org" not in told


@pytest.mark.clause("N4")
@pytest.mark.clause("N18")
def test_rights(
    machine: Machine, stranger: Machine, team: Team, public_folder: Folder, small_file: Path, tmp_path: Path
) -> None:
    remote, member = public_folder.vos("a"), replace(machine, token=team.token)
    machine.vos("vcp", small_file, remote)
    assert "NotAuthenticated" in stranger.vos("vcp", remote, tmp_path, code=EACCES).errors
    assert "PermissionDenied" in member.vos("vcp", remote, tmp_path, code=FORBIDDEN).errors
    machine.vos("vchmod", "g+rw", remote, f"others {team.group}", team.group)
    assert re.match(
        rf"-rw-rw----\s+alice\s+others {team.group}\s+{team.group}\s", machine.vos("vls", "-lg", remote).out
    )
    member.vos("vcp", remote, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == small_file.read_bytes()
    member.vos("vtag", remote, "quality=good")
    machine.vos("vchmod", "g-rw", remote)
    assert re.match(r"-rw-------\s+alice\s+NONE\s+NONE\s", machine.vos("vls", "-lg", remote).out)
    member.vos("vls", remote, code=FORBIDDEN)
    machine.vos("vchmod", "o+r", remote)
    assert machine.vos("vls", "-l", remote).out.startswith("-rw----r--")
    stranger.vos("vcp", remote, tmp_path / "public")
    assert (tmp_path / "public").read_bytes() == small_file.read_bytes()
    machine.vos("vchmod", "o-r", remote)
    stranger.vos("vls", remote, code=EACCES)


@pytest.mark.clause("N2")
def test_listings_with_what_one_may_not_read(
    machine: Machine, stranger: Machine, public_folder: Folder, small_file: Path
) -> None:
    assert {"alice", "surveyor"} <= set(stranger.vos("vls", "vos://localhost!space/home").lines)
    machine.vos("vcp", small_file, public_folder.vos("a"))
    machine.vos("vln", public_folder.vos("a"), public_folder.vos("link"))
    assert stranger.vos("vls", public_folder.vos()).lines == ["a", "link"]
    shown = stranger.vos("vls", "-l", public_folder.vos()).lines
    assert [re.split(r"\s+", line, maxsplit=8)[4] for line in shown] == ["0", "0"]


@pytest.mark.clause("T15")
def test_vcat(machine: Machine, stranger: Machine, public_folder: Folder, tmp_path: Path) -> None:
    """It takes no token."""
    text = "SIMPLE  = T\nnaïve\n" * 1000
    (tmp_path / "a.txt").write_text(text)
    machine.vos("vcp", tmp_path / "a.txt", public_folder.vos("a.txt"))
    machine.vos("vln", public_folder.vos("a.txt"), public_folder.vos("link"))
    assert "NotAuthenticated" in stranger.run("vcat", public_folder.vos("a.txt"), code=EACCES).errors
    machine.vos("vchmod", "o+r", public_folder.vos("a.txt"))
    machine.vos("vchmod", "o+r", public_folder.vos("link"))
    for name in ("a.txt", "link"):
        assert stranger.run("vcat", public_folder.vos(name)).out == text + "\n\n"
    assert "NodeNotFound" in stranger.run("vcat", public_folder.vos("missing"), code=ENOENT).errors


@pytest.mark.clause("N10")
def test_sorted_listings(machine: Machine, folder: Folder, tmp_path: Path) -> None:
    for name, size in (("b.txt", 20), ("c.txt", 300), ("a.txt", 1)):
        (tmp_path / name).write_bytes(b"x" * size)
        machine.vos("vcp", tmp_path / name, folder.vos())
    orders = {
        (): ["a.txt", "b.txt", "c.txt"], ("-r",): ["c.txt", "b.txt", "a.txt"],
        ("-S",): ["c.txt", "b.txt", "a.txt"], ("-S", "-r"): ["a.txt", "b.txt", "c.txt"],
        ("-t",): ["a.txt", "c.txt", "b.txt"], ("-t", "-r"): ["b.txt", "c.txt", "a.txt"],
    }  # fmt: skip
    for options, expected in orders.items():
        assert machine.vos("vls", *options, folder.vos()).lines == expected, options


@pytest.mark.clause("N17")
def test_locks(machine: Machine, folder: Folder, small_file: Path, fits_file: Path) -> None:
    machine.vos("vcp", small_file, folder.vos("data"))
    machine.vos("vlock", folder.vos("data"), code=FAILED)
    machine.vos("vlock", "--lock", folder.vos("data"))
    machine.vos("vlock", folder.vos("data"))
    assert "NodeLocked" in machine.vos("vrm", folder.vos("data"), code=FAILED).errors
    assert "NodeLocked" in machine.vos("vcp", fits_file, folder.vos("data"), code=EPERM).errors
    machine.vos("vlock", "--unlock", folder.vos("data"))
    machine.vos("vlock", folder.vos("data"), code=FAILED)
    machine.vos("vrm", folder.vos("data"))


@pytest.mark.clause("D8")
def test_password_in_netrc(machine: Machine, team: Team, small_file: Path, tmp_path: Path) -> None:
    """Basic authentication, also for vcat."""
    member = Machine(tmp_path / "surveyor", machine.url, machine.authority)
    member.connect()
    netrc = member.home / ".netrc"
    netrc.write_text(f'machine localhost login {team.member} password "{team.password}"\n')
    netrc.chmod(0o600)
    remote = f"vos://localhost!space/home/{team.member}/netrc.txt"
    source = tmp_path / "a.txt"
    source.write_text("by password")
    member.vos("vcp", source, remote)
    assert member.run("vcat", remote).out == "by password\n\n"
    member.vos("vcp", remote, tmp_path / "back")
    assert (tmp_path / "back").read_text() == "by password"
    member.vos("vrm", remote)


async def test_vsync(alice: Agent, machine: Machine, folder: Folder, tree: Path, tmp_path: Path) -> None:
    """It leaves out names with spaces or outside of ASCII, and says so."""

    async def stored() -> list[str]:
        """Give when bytes came."""
        names = [("plain.txt",), ("R&D.txt",), ("sub", "other.txt")]
        return [properties_of(await alice.node(folder.node_path(*one)))[MTIME] for one in names]

    (tree / "sub").mkdir()
    shutil.copy(tree / "plain.txt", tree / "sub/other.txt")
    first = machine.vos("vsync", "-r", f"{tree}/", folder.vos())
    assert "100%.txt contains illegal characters" in first.errors
    assert children_of(await alice.node(folder.path)) == ["R%26D.txt", "a+b=c.txt", "empty.txt", "plain.txt", "sub"]
    before = await stored()
    assert " -> vos:" not in machine.vos("vsync", "-v", "-r", f"{tree}/", folder.vos()).errors
    assert await stored() == before
    (tree / "sub/other.txt").write_text("changed")
    machine.vos("vsync", "-r", f"{tree}/", folder.vos())
    assert [one == other for one, other in zip(before, await stored(), strict=True)] == [True, True, False]
    assert await alice.pull(folder.node_path("sub", "other.txt")) == b"changed"


@pytest.mark.clause("N7")
@pytest.mark.clause("N8")
def test_many_children(machine: Machine, crowd: Folder, tmp_path: Path) -> None:
    assert machine.vos("vls", crowd.vos()).lines == CROWD
    assert len(machine.vos("vls", "-l", crowd.vos()).lines) == len(CROWD)
    assert machine.vos("vls", crowd.vos("frame249*.fits")).lines == CROWD[2490:]
    listed = machine.python(
        "import sys, vos; client = vos.Client(vospace_token=sys.argv[1]);"
        "print(*(node.name for node in client.get_info_list(sys.argv[2])), sep='\\n')",
        str(machine.token),
        crowd.vos(),
    )
    assert listed.lines == CROWD


@pytest.mark.parametrize(
    ("command", "words", "code", "message"),
    [
        ("vls", ["{}/missing"], ENOENT, "NodeNotFound"),
        ("vcp", ["{}/missing", "."], ENOENT, "NodeNotFound"),
        ("vrm", ["{}/missing"], ENOENT, "NodeNotFound"),
        ("vrmdir", ["{}/missing"], FAILED, "is a not a container node"),
        ("vtag", ["{}/missing", "a=b"], ENOENT, "NodeNotFound"),
        ("vchmod", ["o+r", "{}/missing"], ENOENT, "NodeNotFound"),
        ("vmkdir", ["{}/missing/sub"], ENOENT, "ContainerNotFound"),
        ("vcp", ["empty.txt", "{}/missing/sub"], ENOENT, "ContainerNotFound"),
        ("vcp", ["some.txt", "{}/missing/sub"], EFAULT, "ContainerNotFound"),
        ("vcp", ["some.txt", "vos://localhost!space/home/a.txt"], EACCES, "PermissionDenied"),
        ("vmkdir", ["vos://localhost!space/home/mallory"], FAILED, "PermissionDenied"),
        ("vls", ["vos://localhost!space/home/surveyor"], FORBIDDEN, "PermissionDenied"),
        ("vrm", ["vos://localhost!space/home/surveyor"], FORBIDDEN, "PermissionDenied"),
        ("vls", ["vos://localhost!elsewhere/a"], FAILED, "No VOSpace service found"),
    ],
)
def test_what_users_see(
    machine: Machine,
    folder: Folder,
    team: Team,
    tmp_path: Path,
    command: str,
    words: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "some.txt").write_text("some")
    outcome = machine.vos(command, *(word.format(folder.vos()) for word in words), code=code, cwd=tmp_path)
    assert message in outcome.errors
    assert "Traceback" not in outcome.errors


def test_without_an_account(machine: Machine, stranger: Machine, folder: Folder, small_file: Path) -> None:
    machine.vos("vcp", small_file, folder.vos("a"))
    for words in (["vls", folder.vos()], ["vcp", folder.vos("a"), "a"], ["vmkdir", folder.vos("b")]):
        assert "NotAuthenticated" in stranger.vos(*words, code=EACCES).errors
    wrong = replace(machine, token="0" * 64)
    assert "NotAuthenticated" in wrong.vos("vls", folder.vos(), code=EACCES).errors


@pytest.mark.clause("J1")
@pytest.mark.clause("J2")
def test_moving(machine: Machine, folder: Folder, tree: Path, small_file: Path, tmp_path: Path) -> None:
    """Renamed, or into a container that is there."""
    machine.vos("vcp", small_file, folder.vos("a b"))
    machine.vos("vmv", folder.vos("a b"), folder.vos("c"))
    machine.vos("vcp", tree, folder.vos("tree"))
    machine.vos("vmv", folder.vos("tree"), folder.vos("moved"))
    machine.vos("vmv", folder.vos("c"), folder.vos("moved"))
    assert machine.vos("vls", folder.vos()).lines == ["moved"]
    machine.vos("vcp", folder.vos("moved"), tmp_path / "back")
    assert content_of(tmp_path / "back") == content_of(tree) | {"c": small_file.read_bytes()}


@pytest.mark.clause("J1")
@pytest.mark.clause("J2")
@pytest.mark.clause("J3")
@pytest.mark.parametrize(
    ("source", "goal", "code", "message"),
    [
        ("missing", "x", ENOENT, "NodeNotFound"),
        ("a", "b", EFAULT, "DuplicateNode"),  # vos looks for "DuplicateNode." with a dot
        ("a", "missing/x", ENOENT, "NodeNotFound"),
        ("sub", "sub/sub", EINVAL, "InvalidArgument"),
        ("a", "vos://localhost!space/home/a", EACCES, "PermissionDenied"),
    ],
)
def test_moves_that_fail(
    machine: Machine, folder: Folder, small_file: Path, source: str, goal: str, code: int, message: str
) -> None:
    """The name of the fault, alone at /error, becomes the exit code; nothing is changed."""
    for name in ("a", "b"):
        machine.vos("vcp", small_file, folder.vos(name))
    machine.vos("vmkdir", folder.vos("sub"))
    outcome = machine.vos("vmv", folder.vos(source), goal if ":" in goal else folder.vos(goal), code=code)
    assert message in outcome.errors, outcome
    assert "Traceback" not in outcome.errors
    assert machine.vos("vls", folder.vos()).lines == ["a", "b", "sub"]


@pytest.mark.clause("J4")
@pytest.mark.clause("J5")
@pytest.mark.clause("J6")
def test_whole_trees_at_once(
    machine: Machine, stranger: Machine, team: Team, public_folder: Folder, tree: Path, tmp_path: Path
) -> None:
    remote = public_folder.vos("tree")
    machine.vos("vcp", tree, remote)
    deep, member = f"{remote}/sub%20one/deep/日本.bin".replace("%20", " "), replace(machine, token=team.token)
    machine.vos("vtag", "-R", remote, "quality=good")
    assert machine.vos("vtag", deep, "quality").out == "'good'\n"
    stranger.vos("vcp", deep, tmp_path / "x", code=EACCES)
    machine.vos("vchmod", "-R", "o+r", remote)
    stranger.vos("vcp", deep, tmp_path / "x")
    machine.vos("vchmod", "-R", "o-r", remote)
    stranger.vos("vls", deep, code=EACCES)
    assert "PermissionDenied" in member.vos("vrm", "-R", remote, code=FORBIDDEN).errors
    machine.vos("vrm", "-R", remote)
    assert machine.vos("vls", public_folder.vos()).lines == []


@pytest.mark.clause("J4")
@pytest.mark.clause("J5")
def test_trees_that_are_partly_of_others(machine: Machine, team: Team, public_folder: Folder, small_file: Path) -> None:
    """What is refused stays, the rest is done, and both are counted."""
    member = replace(machine, token=team.token)
    tree = public_folder.vos("tree")
    machine.vos("vmkdir", "-p", f"{tree}/closed")
    machine.vos("vchmod", "g+w", tree, team.group)
    machine.vos("vchmod", "-R", "o+r", tree)
    machine.vos("vcp", small_file, f"{tree}/closed/mine")
    member.vos("vcp", small_file, f"{tree}/his")
    assert "updated count: 2, failed count: 2" in member.vos("vtag", "-R", tree, "quality=good", code=FAILED).errors
    assert member.vos("vtag", f"{tree}/his", "quality").out == "'good'\n"
    assert "deleted count: 1, failed count: 3" in member.vos("vrm", "-R", tree, code=FAILED).errors
    assert machine.vos("vls", tree).lines == ["closed"]
    assert machine.vos("vls", f"{tree}/closed").lines == ["mine"]


def test_ranges_through_the_library(machine: Machine, folder: Folder, fits_file: Path) -> None:
    machine.vos("vcp", fits_file, folder.vos("a.fits"))
    program = (
        "import sys, vos; client = vos.Client(vospace_token=sys.argv[1]);"
        "sys.stdout.buffer.write(client.open(sys.argv[2], view='data', byte_range='bytes=0-79').read())"
    )
    read = machine.python(program, str(machine.token), folder.vos("a.fits"))
    assert read.out.encode() == fits_file.read_bytes()[:80]


@pytest.mark.clause("T14")
def test_continued_download(pair: Pair, machine: Machine, folder: Folder, fits_file: Path, tmp_path: Path) -> None:
    """What a broken download left is the beginning of the next one."""
    content, name = fits_file.read_bytes(), f"{uuid.uuid4().hex}.fits"
    machine.vos("vcp", fits_file, folder.vos(name))
    part = tmp_path / f"{name}-{hashlib.md5(content).hexdigest()}.part"
    part.write_bytes(content[:1_000_000])
    machine.vos("vcp", folder.vos(name), tmp_path)
    assert (tmp_path / name).read_bytes() == content
    assert not part.exists()
    wait_for_log(pair, f"{name} 206 ")


def test_tokens_are_no_options() -> None:
    """`vls --token -xyz` would be two options."""
    assert re.fullmatch(r"[0-9a-f]{64}", new_token()[0])
