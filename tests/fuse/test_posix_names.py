"""Names through a mount, as POSIX and Linux have them: directories, renaming, deleting, links, and attributes."""

from __future__ import annotations

import errno
import math
import os
import stat
import time
import unicodedata
from pathlib import Path

import pytest

from tests.fuse.refusals import EXCHANGE, NOREPLACE, refused, renameat2
from tests.support.mounts import Mount

XATTR = "user.vospace.title"
NAMES = (
    "a name with spaces", " led by one", "ended by one ", "ünïcödé", "目录", "🔭 observation", "a+b", "100%", "%41%2F",
    "#?&=;",
    "a'b\"c`d", "a\\b", "a:b", "~tilde", ".hidden", "...", "trailing.", "-rf", "*", "[a]", "{x}", "<a>&amp;", "x" * 255,
    "ü" * 127, unicodedata.normalize("NFD", "é"), unicodedata.normalize("NFC", "é"), "con", "|", "$HOME", "a@b!",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names(here: Path, name: str) -> None:
    (here / name).write_bytes(name.encode())
    assert os.listdir(here) == [name]
    assert (here / name).read_bytes() == name.encode()
    (here / name).rename(here / "plain")
    (here / name).mkdir()
    (here / name / name).write_bytes(b"below")
    assert (here / name / name).read_bytes() == b"below"
    assert sorted(os.listdir(here)) == sorted([name, "plain"])
    (here / name / name).unlink()
    (here / name).rmdir()


def test_names_that_differ_in_form_alone_are_two(here: Path) -> None:
    for form in ("NFC", "NFD"):
        (here / unicodedata.normalize(form, "é")).write_text(form)
    (here / "e").write_text("small")
    (here / "E").write_text("large")
    assert len(os.listdir(here)) == 4
    assert (here / unicodedata.normalize("NFD", "é")).read_text() == "NFD"
    assert (here / "e").read_text() == "small"


def test_names_that_are_too_long(here: Path) -> None:
    for act in (Path.touch, Path.mkdir, Path.stat):
        with refused(errno.ENAMETOOLONG):
            act(here / ("x" * 256))
    with refused(errno.ENAMETOOLONG):
        (here / ("ü" * 128)).touch()


@pytest.mark.parametrize("name", [b"new\nline", b"\x01", b"not \xff utf-8"])
def test_odd_names_are_kept_or_refused(here: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(here), name)
    told = 0
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    except OSError as error:
        told = error.errno or 0
    assert told in {0, errno.EINVAL, errno.EILSEQ}
    assert os.listdir(os.fsencode(here)) == ([] if told else [name])
    if not told:
        os.unlink(path)


def test_deep_directories(here: Path) -> None:
    deep = here.joinpath(*["d" * 40] * 20)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"deep")
    (here / ("d" * 40)).rename(here / "moved")
    assert here.joinpath("moved", *["d" * 40] * 19, "file").read_bytes() == b"deep"


def test_directories(here: Path) -> None:
    (here / "d").mkdir(mode=0o755)
    assert stat.S_ISDIR((here / "d").stat().st_mode)
    with refused(errno.EEXIST):
        (here / "d").mkdir()
    (here / "file").touch()
    with refused(errno.EEXIST):
        (here / "file").mkdir()
    with refused(errno.ENOENT):
        (here / "missing" / "d").mkdir()
    with refused(errno.ENOTDIR):
        (here / "file" / "d").mkdir()
    with refused(errno.ENOTDIR):
        os.listdir(here / "file")


def test_removing_directories(here: Path) -> None:
    (here / "d" / "e").mkdir(parents=True)
    (here / "file").touch()
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        (here / "d").rmdir()
    with refused(errno.ENOTDIR):
        (here / "file").rmdir()
    with refused(errno.ENOENT):
        (here / "missing").rmdir()
    with refused(errno.EISDIR, errno.EPERM):
        (here / "d").unlink()
    (here / "d" / "e").rmdir()
    (here / "d").rmdir()
    assert os.listdir(here) == ["file"]


def test_a_directory_with_a_file_that_was_just_written_is_full(here: Path) -> None:
    (here / "d").mkdir()
    (here / "d" / "file").write_bytes(b"x")
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        (here / "d").rmdir()
    (here / "d" / "file").unlink()
    (here / "d").rmdir()
    assert os.listdir(here) == []


def test_renaming_files(here: Path) -> None:
    (here / "one").write_bytes(b"1")
    (here / "two").write_bytes(b"2")
    (here / "d").mkdir()
    (here / "one").rename(here / "two")
    assert (here / "two").read_bytes() == b"1"
    (here / "two").rename(here / "two")
    (here / "two").rename(here / "d" / "three")
    assert os.listdir(here) == ["d"]
    assert (here / "d" / "three").read_bytes() == b"1"
    with refused(errno.ENOENT):
        (here / "missing").rename(here / "d" / "three")
    with refused(errno.ENOENT):
        (here / "d" / "three").rename(here / "missing" / "three")
    assert (here / "d" / "three").read_bytes() == b"1"


def test_renaming_directories(here: Path) -> None:
    for name in ("full", "other", "empty"):
        (here / name).mkdir()
    (here / "full" / "file").write_bytes(b"in it")
    (here / "other" / "file").write_bytes(b"too")
    (here / "plain").touch()
    with refused(errno.ENOTEMPTY, errno.EEXIST):
        (here / "full").rename(here / "other")
    with refused(errno.EISDIR):
        (here / "plain").rename(here / "empty")
    with refused(errno.ENOTDIR):
        (here / "empty").rename(here / "plain")
    with refused(errno.EINVAL):
        (here / "full").rename(here / "full" / "below")
    (here / "full").rename(here / "empty")
    assert (here / "empty" / "file").read_bytes() == b"in it"
    assert sorted(os.listdir(here)) == ["empty", "other", "plain"]
    (here / "empty").rename(here / "other" / "inner")
    assert (here / "other" / "inner" / "file").read_bytes() == b"in it"


def test_renaming_an_open_file(here: Path) -> None:
    with (here / "old").open("wb", buffering=0) as file:
        file.write(b"before, ")
        (here / "old").rename(here / "new")
        file.write(b"after")
        (here / "old").write_bytes(b"another")
    assert (here / "new").read_bytes() == b"before, after"
    assert (here / "old").read_bytes() == b"another"


def test_renaming_a_directory_with_an_open_file(here: Path) -> None:
    (here / "d").mkdir()
    with (here / "d" / "file").open("wb", buffering=0) as file:
        file.write(b"before, ")
        (here / "d").rename(here / "e")
        file.write(b"after")
    assert (here / "e" / "file").read_bytes() == b"before, after"
    assert os.listdir(here) == ["e"]


def test_renaming_over_an_open_file(here: Path) -> None:
    (here / "target").write_bytes(b"old content")
    (here / "source").write_bytes(b"new")
    with (here / "target").open("rb", buffering=0) as file:
        assert file.read(3) == b"old"
        (here / "source").rename(here / "target")
        assert file.read() == b" content"
    assert (here / "target").read_bytes() == b"new"


def test_renaming_over_a_file_that_is_being_written(here: Path) -> None:
    with (here / "target").open("wb", buffering=0) as file:
        file.write(b"to be lost")
        (here / "source").write_bytes(b"to be kept")
        (here / "source").rename(here / "target")
        file.write(b", too")
    assert (here / "target").read_bytes() == b"to be kept"


def test_renaming_with_flags(here: Path) -> None:
    (here / "one").write_bytes(b"1")
    (here / "two").write_bytes(b"2")
    with refused(errno.EEXIST):
        renameat2(here / "one", here / "two", NOREPLACE)
    renameat2(here / "one", here / "three", NOREPLACE)
    with refused(errno.EINVAL, errno.ENOSYS):
        renameat2(here / "two", here / "three", EXCHANGE)
    assert (here / "two").read_bytes() == b"2"
    assert (here / "three").read_bytes() == b"1"


def test_unlinking(here: Path) -> None:
    (here / "file").write_bytes(b"x")
    (here / "link").symlink_to("file")
    (here / "link").unlink()
    assert (here / "file").read_bytes() == b"x"
    (here / "file").unlink()
    with refused(errno.ENOENT):
        (here / "file").unlink()
    with refused(errno.ENOENT):
        (here / "file").stat()
    assert os.listdir(here) == []


def test_unlinking_an_open_file(here: Path) -> None:
    with (here / "file").open("wb+", buffering=0) as file:
        file.write(b"before, ")
        (here / "file").unlink()
        assert not (here / "file").exists()
        file.write(b"after")
        os.ftruncate(file.fileno(), 12)
        assert os.fstat(file.fileno()).st_size == 12
        assert os.pread(file.fileno(), 100, 0) == b"before, afte"
        (here / "file").write_bytes(b"another")
        assert os.pread(file.fileno(), 6, 0) == b"before"
    assert (here / "file").read_bytes() == b"another"


def test_unlinking_an_open_file_that_is_in_the_space(here: Path, mount: Mount) -> None:
    (here / "file").write_bytes(b"stored " * 1000)
    mount.again()
    with (here / "file").open("rb+", buffering=0) as file:
        (here / "file").unlink()
        assert file.read() == b"stored " * 1000
        os.pwrite(file.fileno(), b"S", 0)
        assert os.pread(file.fileno(), 6, 0) == b"Stored"
    assert os.listdir(here) == []


def test_links(here: Path) -> None:
    (here / "d").mkdir()
    (here / "d" / "file").write_bytes(b"linked")
    targets = {
        "relative": "d/file", "upwards": f"../{here.name}/d/file", "directory": "d", "dangling": "no/where",
        "absolute": "/etc/hostname", "spaces": "a b ü%20", "long": "x/" * 500, "dots": "./d/../d/file",
    }  # fmt: skip
    for name, target in targets.items():
        (here / name).symlink_to(target)
    assert {name: os.readlink(here / name) for name in targets} == targets
    assert (here / "relative").read_bytes() == (here / "upwards").read_bytes() == b"linked"
    assert (here / "dots").read_bytes() == b"linked"
    assert os.listdir(here / "directory") == ["file"]
    with refused(errno.ENOENT):
        (here / "dangling").read_bytes()
    assert stat.S_ISLNK((here / "relative").lstat().st_mode)
    with refused(errno.EEXIST):
        (here / "relative").symlink_to("d")
    with refused(errno.EINVAL):
        os.readlink(here / "d")
    (here / "relative").rename(here / "renamed")
    assert os.readlink(here / "renamed") == "d/file"


def test_links_that_lead_in_a_circle(here: Path) -> None:
    (here / "one").symlink_to("two")
    (here / "two").symlink_to("one")
    with refused(errno.ELOOP):
        (here / "one").read_bytes()


def test_writing_through_a_link(here: Path) -> None:
    (here / "link").symlink_to("file")
    (here / "link").write_bytes(b"made by it")
    assert (here / "file").read_bytes() == b"made by it"
    assert (here / "link").is_symlink()


def test_modes_and_times_are_kept(here: Path, mount: Mount) -> None:
    when = 1_234_567_890_123_456_789
    (here / "d").mkdir()
    for name in ("file", "d"):
        if name == "file":
            (here / name).write_bytes(b"x")
        (here / name).chmod(0o750)
        os.utime(here / name, ns=(when, when))
    with (here / "early").open("wb") as file:
        file.write(b"as rsync, cp -a and tar do")
        file.flush()
        os.utime(file.fileno(), ns=(when, when))
        os.fchmod(file.fileno(), 0o600)
    (here / "link").symlink_to("file")
    expected = {"file": 0o750, "d": 0o750, "early": 0o600}
    for turn in range(2):
        for name, mode in expected.items():
            found = (here / name).stat()
            assert (name, turn, oct(stat.S_IMODE(found.st_mode))) == (name, turn, oct(mode))
            assert (name, turn, found.st_mtime_ns // 1000) == (name, turn, when // 1000)
        assert os.readlink(here / "link") == "file"
        mount.again()


@pytest.mark.parametrize("when", [-(10**11), 10**11], ids=["before 1677", "after 2262"])
def test_times_that_nobody_keeps_are_the_nearest(here: Path, mount: Mount, when: int) -> None:
    with (here / "unsent").open("wb") as file:
        file.write(b"x")
        os.utime(file.fileno(), (when, when))
        os.fsync(file.fileno())
    mount.again()
    os.utime(here / "unsent", (0, 0))
    os.utime(here / "unsent", (when, when))
    mount.again()
    assert (here / "unsent").stat().st_mtime == pytest.approx(math.copysign(2**63 / 1e9, when))
    assert (here / "unsent").read_bytes() == b"x"


def test_what_changes_a_file_changes_its_times(here: Path) -> None:
    (here / "file").write_bytes(b"x")
    os.utime(here / "file", (1_000_000_000, 1_000_000_000))
    with (here / "file").open("ab") as file:
        file.write(b"y")
    assert abs((here / "file").stat().st_mtime - time.time()) < 60
    os.utime(here / "file", (1_000_000_000, 1_000_000_000))
    os.truncate(here / "file", 1)
    assert abs((here / "file").stat().st_mtime - time.time()) < 60


def test_reading_changes_no_time(here: Path) -> None:
    (here / "file").write_bytes(b"x")
    os.utime(here / "file", (1_000_000_000, 1_000_000_000))
    (here / "file").read_bytes()
    (here / "file").rename(here / "other")
    assert (here / "other").stat().st_mtime == 1_000_000_000


def test_renaming_keeps_mode_and_times(here: Path, mount: Mount) -> None:
    (here / "file").write_bytes(b"x")
    (here / "file").chmod(0o711)
    os.utime(here / "file", (1_000_000_000, 1_000_000_000))
    (here / "file").rename(here / "other")
    mount.again()
    found = (here / "other").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o711, 1_000_000_000)


def test_the_owner_is_the_one_who_mounted(here: Path) -> None:
    (here / "file").touch()
    found = (here / "file").stat()
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())
    os.chown(here / "file", os.geteuid(), os.getegid())


def test_numbers_of_inodes(here: Path) -> None:
    for name in ("a", "b"):
        (here / name).write_bytes(b"x")
    (here / "d").mkdir()
    stats = {name: (here / name).stat().st_ino for name in ("a", "b", "d")}
    assert len(set(stats.values())) == 3
    assert {entry.name: entry.inode() for entry in os.scandir(here)} == stats
    (here / "a").rename(here / "c")
    assert (here / "c").stat().st_ino == stats["a"]
    assert os.path.samefile(here, here / "d" / "..")


def test_kinds_in_listings(here: Path) -> None:
    (here / "file").touch()
    (here / "directory").mkdir()
    (here / "link").symlink_to("file")
    found = {entry.name: (entry.is_symlink(), entry.is_dir(), entry.is_file()) for entry in os.scandir(here)}
    assert found == {"file": (False, False, True), "directory": (False, True, False), "link": (True, False, True)}


def test_listings_while_names_come_and_go(here: Path) -> None:
    stay = {f"stays {number:03}" for number in range(150)}
    for name in stay:
        (here / name).mkdir()
    for number in range(20):
        (here / f"goes {number:03}").touch()
    seen = []
    with os.scandir(here) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number < 20:
                (here / f"goes {number:03}").unlink()
                (here / f"comes {number:03}").touch()
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)
    assert set(os.listdir(here)) == stay | {f"comes {number:03}" for number in range(20)}


def test_deleting_while_listing(here: Path) -> None:
    for number in range(100):
        (here / f"{number}").touch()
    with os.scandir(here) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(here) == []


def test_room(here: Path) -> None:
    found = os.statvfs(here)
    assert found.f_namemax == 255
    assert found.f_frsize > 0
    assert found.f_blocks >= found.f_bfree >= found.f_bavail > 0


def test_extended_attributes(here: Path) -> None:
    (here / "file").touch()
    (here / "d").mkdir()
    for path in (here / "file", here / "d"):
        with refused(errno.ENODATA):
            os.getxattr(path, XATTR)
        os.setxattr(path, XATTR, "Ein Ti¶el".encode())
        assert os.getxattr(path, XATTR).decode() == "Ein Ti¶el"
        assert XATTR in os.listxattr(path)
        os.setxattr(path, XATTR, b"another")
        assert os.getxattr(path, XATTR) == b"another"
        os.removexattr(path, XATTR)
        with refused(errno.ENODATA):
            os.getxattr(path, XATTR)
        assert XATTR not in os.listxattr(path)


def test_extended_attributes_of_the_system_are_not_supported(here: Path) -> None:
    (here / "file").touch()
    with refused(errno.ENOTSUP):
        os.getxattr(here / "file", "security.selinux")
    with refused(errno.ENOTSUP, errno.EPERM):
        os.setxattr(here / "file", "security.selinux", b"x")
