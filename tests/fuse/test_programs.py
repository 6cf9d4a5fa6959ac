"""Programs that people use, in a mount: they know nothing of spaces."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mounts import Mount

LARGE = int(os.environ.get("PYVOSPACE_FUSE_LARGE", "24")) << 20
"""Bytes of the large file; PYVOSPACE_FUSE_LARGE=4096 (MiB) is the long form."""
MIB = 1 << 20
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "Alice", "GIT_AUTHOR_EMAIL": "alice@example.org",
    "GIT_COMMITTER_NAME": "Alice", "GIT_COMMITTER_EMAIL": "alice@example.org",
}  # fmt: skip


def sh(script: str, cwd: Path, *, code: int = 0) -> str:
    """Run a script and give what it writes."""
    done = subprocess.run(
        ["sh", "-c", script], cwd=cwd, env=os.environ | GIT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == code, f"{script}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program}")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of a user: files of all sizes, modes and ages, empty ones, links, odd names."""
    top, chance = tmp_path_factory.mktemp("tree") / "tree", random.Random(6)
    for number in range(60):
        folder = top / f"package {number % 6}" / ("inner" if number % 3 == 0 else "")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"mödule{number:02}.py"
        file.write_bytes(chance.randbytes(int(chance.lognormvariate(7, 1.5))))
        file.chmod((0o644, 0o600, 0o755, 0o444)[number % 4])
        os.utime(file, ns=(1_600_000_000_123_456_000 + number * 10**9,) * 2)
    (top / "empty").touch()
    (top / "large").write_bytes(chance.randbytes(5 * MIB + 1))
    (top / "no files").mkdir()
    (top / "link").symlink_to("package 0")
    (top / "dangling").symlink_to("../nowhere/at all")
    for folder in (top, *(path for path in top.rglob("*") if path.is_dir() and not path.is_symlink())):
        os.utime(folder, (1_500_000_000, 1_500_000_000))
    return top


@needs("git")
def test_git(here: Path, tmp_path: Path, mount: Mount) -> None:
    source = tmp_path / "source"
    sh(f"git init -q -b main {source}", tmp_path)
    for number in range(30):
        (source / f"file{number}.txt").write_text(f"{number}\n" * number)
        if number % 10 == 0:
            sh(f"git add . && git commit -qm 'Commit {number}'", source)
    sh("git add . && git commit -qm 'The last one'", source)
    sh(f"git clone -q --no-local {source} clone", here)
    clone = here / "clone"
    assert sh("git status --porcelain", clone) == ""
    (clone / "file1.txt").write_text("changed\n")
    (clone / "new.txt").write_text("new\n")
    assert sh("git status --porcelain", clone) == " M file1.txt\n?? new.txt\n"
    sh("git add . && git commit -qm Change && git checkout -q -b other && git mv new.txt moved.txt", clone)
    sh(
        "git commit -qm Move && git checkout -q main && git merge -q other && git gc -q && git push -q origin other",
        clone,
    )
    mount.again()
    assert sh("git status --porcelain", clone) == ""
    sh("git fsck --strict", clone)
    assert sh("git log --format=%s -3", clone) == "Move\nChange\nThe last one\n"
    assert (clone / "moved.txt").read_text() == "new\n"


@needs("rsync")
def test_rsync_has_nothing_to_do_the_second_time(here: Path, tree: Path, mount: Mount) -> None:
    sh(f"rsync -a '{tree}/' copy/", here)
    assert sh(f"rsync -a --checksum --itemize-changes '{tree}/' copy/", here) == ""
    mount.again()
    assert sh(f"rsync -a --checksum --itemize-changes '{tree}/' copy/", here) == ""
    assert sh(f"rsync -a --itemize-changes '{tree}/' copy/", here) == ""
    (here / "copy" / "empty").write_text("no more")
    (here / "copy" / "extra").write_text("to go")
    sh(f"rsync -a --delete '{tree}/' copy/", here)
    sh(f"diff -r --no-dereference '{tree}' copy", here)


def test_cp(here: Path, tree: Path, mount: Mount) -> None:
    sh(f"cp -r '{tree}' plain && cp -a '{tree}' archive", here)
    sh(f"diff -r --no-dereference '{tree}' plain && diff -r --no-dereference '{tree}' archive", here)
    sh("cp -a archive inside && mv inside moved && rm -r plain", here)
    mount.again()
    listing = r"find . -printf '%P %y %m %TY%Tm%Td%TH%TM%TS %l\n' | sort"
    assert sh(listing, here / "archive") == sh(listing, tree) == sh(listing, here / "moved")
    sh("diff -r --no-dereference archive moved", here)
    assert sorted(os.listdir(here)) == ["archive", "moved"]


def test_tar(here: Path, tree: Path, tmp_path: Path, mount: Mount) -> None:
    sh(f"tar -cf '{tmp_path}/tree.tar' -C '{tree}' .", here)
    sh(f"mkdir out && tar -xf '{tmp_path}/tree.tar' -C out && tar -df '{tmp_path}/tree.tar' -C out", here)
    mount.again()
    sh(f"tar -df '{tmp_path}/tree.tar' -C out && tar -czf back.tgz -C out .", here)
    sh(f"mkdir '{tmp_path}/back' && tar -xzf back.tgz -C '{tmp_path}/back'", here)
    sh(f"diff -r --no-dereference '{tree}' '{tmp_path}/back'", here)


def test_sqlite(here: Path, mount: Mount) -> None:
    for journal in ("delete", "wal", "truncate"):
        _use_database(here / f"{journal}.db", journal)
    mount.again()
    for journal in ("delete", "wal", "truncate"):
        base = sqlite3.connect(here / f"{journal}.db")
        assert base.execute("pragma integrity_check").fetchone() == ("ok",)
        assert base.execute("select count(*), sum(b = 'changed') from t").fetchone() == (900, 128)
        base.close()


def _use_database(path: Path, journal: str) -> None:
    base = sqlite3.connect(path, isolation_level=None)
    assert base.execute(f"pragma journal_mode = {journal}").fetchone() == (journal,)
    base.execute("create table t (a integer primary key, b text)")
    for number in range(10):
        base.execute("begin")
        base.executemany("insert into t (b) values (?)", [(f"row {number} " * 20,)] * 100)
        base.execute("rollback" if number == 5 else "commit")
    base.execute("update t set b = 'changed' where a % 7 = 0")
    other = sqlite3.connect(path)
    assert other.execute("select count(*) from t").fetchone() == (900,)
    other.execute("pragma busy_timeout = 0")
    base.execute("begin immediate")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("begin immediate")
    base.execute("rollback")
    other.close()
    base.execute("vacuum")
    base.close()


def test_dd_with_seeks(here: Path, tmp_path: Path, mount: Mount) -> None:
    (tmp_path / "source").write_bytes(random.Random(1).randbytes(3 * MIB))
    commands = (
        "bs=64k seek=70", "bs=4k seek=3 skip=100 count=5 conv=notrunc", "bs=1 seek=4194300 count=10 conv=notrunc",
        "bs=1M seek=2 skip=1 count=1 conv=notrunc,fsync", "bs=512 seek=9000 count=1 conv=notrunc oflag=append",
        "bs=100k seek=10 skip=10 count=3 conv=sparse,notrunc",
    )  # fmt: skip
    for command in commands:
        for folder in (here, tmp_path):
            sh(f"dd if='{tmp_path}/source' of='{folder}/target' {command} 2>/dev/null", here)
        assert (here / "target").read_bytes() == (tmp_path / "target").read_bytes(), command
    mount.again()
    sh(f"cmp target '{tmp_path}/target'", here)
    for command in ("bs=7 skip=599186 count=9", "bs=1M skip=3", "bs=4096 skip=2 count=1"):
        outputs = [
            sh(f"dd if='{folder}/target' {command} 2>/dev/null | sha256sum", here) for folder in (here, tmp_path)
        ]
        assert outputs[0] == outputs[1]


def test_a_large_file(here: Path, mount: Mount) -> None:
    block, digest, half = random.Random(2).randbytes(MIB), hashlib.sha256(), LARGE // 2
    with (here / "large").open("wb", buffering=0) as file:
        for number in range(LARGE // MIB):
            piece = number.to_bytes(8) + block[8:]
            if number * MIB >= half:
                file.seek(number * MIB)
                file.write(piece)
            digest.update(piece if number * MIB >= half else bytes(MIB))
    mount.again()
    assert (here / "large").stat().st_size == LARGE
    with (here / "large").open("rb", buffering=0) as file:
        file.seek(-MIB, os.SEEK_END)
        assert file.read(8) == (LARGE // MIB - 1).to_bytes(8)
        file.seek(half - 4)
        assert file.read(12) == bytes(4) + (half // MIB).to_bytes(8)
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
    assert found == digest.hexdigest()


def test_many_files_in_a_directory(here: Path) -> None:
    for number in range(300):
        (here / f"{number:05}").write_bytes(b"%d" % number)
    assert sh("ls | wc -l; ls -l | tail -n 1 | wc -w; find . -type f -size -2 | wc -l", here) == "300\n9\n300\n"
    assert sh("cat 00001 00123 00299", here) == "1123299"
    sh("rm *", here)
    assert os.listdir(here) == []


def test_programs_at_once(here: Path) -> None:
    script = (
        "import sys; name = sys.argv[1]\n"
        "for number in range(40):\n"
        "    open(f'{name} {number}', 'w').write(name * 100)\n"
        "    assert open(f'{name} {number}').read() == name * 100"
    )
    started = [subprocess.Popen([sys.executable, "-S", "-c", script, name], cwd=here) for name in "abcd"]
    assert [one.wait(300) for one in started] == [0] * 4
    assert len(os.listdir(here)) == 160
