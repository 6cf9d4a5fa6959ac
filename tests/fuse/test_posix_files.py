"""Files through a mount, as POSIX and Linux have them: opening, reading, writing, truncating, mapping."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuse.refusals import refused

BLOCK = 4 << 20
"""Of the cache: what crosses it is worth a look."""


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o644) -> Iterator[int]:
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_new_file_is_empty_and_a_file(here: Path) -> None:
    with opened(here / "new", os.O_CREAT | os.O_WRONLY):
        pass
    found = (here / "new").stat()
    assert stat.S_ISREG(found.st_mode)
    assert found.st_size == 0
    assert (here / "new").read_bytes() == b""


def test_creating_without_writing_reads_later(here: Path) -> None:
    (here / "touched").touch()
    assert (here / "touched").read_bytes() == b""
    (here / "touched").touch(exist_ok=True)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_mode_of_a_new_file_obeys_the_umask(here: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        with opened(here / "new", os.O_CREAT | os.O_WRONLY, 0o666):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((here / "new").stat().st_mode) == 0o666 & ~mask


def test_a_file_that_is_made_read_only_is_written_by_its_maker(here: Path) -> None:
    with opened(here / "object", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o444) as file:
        os.write(file, b"as git does")
    assert (here / "object").read_bytes() == b"as git does"
    assert stat.S_IMODE((here / "object").stat().st_mode) == 0o444


def test_exclusive_creation(here: Path) -> None:
    with opened(here / "one", os.O_CREAT | os.O_EXCL | os.O_WRONLY):
        pass
    with refused(errno.EEXIST):
        os.open(here / "one", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    (here / "link").symlink_to("nowhere")
    with refused(errno.EEXIST):
        os.open(here / "link", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def test_what_cannot_be_opened(here: Path) -> None:
    (here / "file").write_bytes(b"x")
    (here / "directory").mkdir()
    (here / "link").symlink_to("file")
    with refused(errno.ENOENT):
        os.open(here / "missing", os.O_RDONLY)
    with refused(errno.ENOENT):
        os.open(here / "missing" / "file", os.O_CREAT | os.O_WRONLY)
    with refused(errno.ENOTDIR):
        os.open(here / "file" / "below", os.O_RDONLY)
    with refused(errno.ENOTDIR):
        os.open(here / "file", os.O_RDONLY | os.O_DIRECTORY)
    with refused(errno.EISDIR):
        os.open(here / "directory", os.O_WRONLY)
    with refused(errno.ELOOP):
        os.open(here / "link", os.O_RDONLY | os.O_NOFOLLOW)


def test_descriptors_do_what_they_were_opened_for(here: Path) -> None:
    (here / "file").write_bytes(b"content")
    with opened(here / "file", os.O_WRONLY) as file, refused(errno.EBADF):
        os.read(file, 1)
    with opened(here / "file", os.O_RDONLY) as file, refused(errno.EBADF):
        os.write(file, b"x")


def test_opening_with_truncation_empties(here: Path) -> None:
    (here / "file").write_bytes(b"long content")
    with opened(here / "file", os.O_WRONLY | os.O_TRUNC) as file:
        assert (here / "file").stat().st_size == 0
        os.write(file, b"new")
    assert (here / "file").read_bytes() == b"new"
    with opened(here / "file", os.O_WRONLY | os.O_TRUNC):
        pass
    assert (here / "file").read_bytes() == b""


def test_appending_goes_to_the_end(here: Path) -> None:
    (here / "log").write_bytes(b"0")
    with opened(here / "log", os.O_WRONLY | os.O_APPEND) as one, opened(here / "log", os.O_RDWR | os.O_APPEND) as two:
        os.write(one, b"1")
        os.write(two, b"2")
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b"3")
        os.ftruncate(two, 2)
        os.write(two, b"4")
        assert os.pread(two, 9, 0) == b"014"
    assert (here / "log").read_bytes() == b"014"
    with (here / "log").open("ab") as file:
        file.write(b"5")
    assert (here / "log").read_bytes() == b"0145"


def test_overwriting_leaves_the_rest(here: Path) -> None:
    (here / "file").write_bytes(b"0123456789")
    with opened(here / "file", os.O_WRONLY) as file:
        os.pwrite(file, b"xy", 3)
    assert (here / "file").read_bytes() == b"012xy56789"
    with opened(here / "file", os.O_RDWR) as file:
        os.lseek(file, -2, os.SEEK_END)
        os.write(file, b"ABCD")
        assert os.pread(file, 100, 6) == b"67ABCD"


def test_reading_ends_at_the_end(here: Path) -> None:
    (here / "file").write_bytes(b"12345")
    with opened(here / "file", os.O_RDONLY) as file:
        assert os.pread(file, 10, 3) == b"45"
        assert os.pread(file, 10, 5) == b""
        assert os.pread(file, 10, 1 << 40) == b""


def test_holes_are_zeros(here: Path) -> None:
    with opened(here / "holes", os.O_CREAT | os.O_RDWR) as file:
        os.pwrite(file, b"end", 2 * BLOCK + 5)
        os.pwrite(file, b"start", 0)
        assert os.pread(file, 10, BLOCK - 5) == bytes(10)
    content = (here / "holes").read_bytes()
    assert len(content) == 2 * BLOCK + 8
    assert content == b"start" + bytes(2 * BLOCK) + b"end"


@pytest.mark.parametrize("by_path", [True, False])
def test_truncation(here: Path, by_path: bool) -> None:
    (here / "file").write_bytes(b"0123456789" * 1000)
    with opened(here / "file", os.O_RDWR) as file:
        place = here / "file" if by_path else file
        os.truncate(place, 5)
        assert os.fstat(file).st_size == 5
        os.truncate(place, 8)
        assert os.pread(file, 100, 0) == b"01234\0\0\0"
        os.truncate(place, BLOCK + 3)
        assert os.pread(file, 100, BLOCK - 1) == bytes(4)
        os.truncate(place, 0)
        os.pwrite(file, b"z", 2)
    assert (here / "file").read_bytes() == b"\0\0z"


def test_truncation_that_is_refused(here: Path) -> None:
    (here / "directory").mkdir()
    (here / "file").write_bytes(b"x")
    with refused(errno.EISDIR):
        os.truncate(here / "directory", 0)
    with refused(errno.ENOENT):
        os.truncate(here / "missing", 0)
    with refused(errno.EINVAL):
        os.truncate(here / "file", -1)
    with opened(here / "file", os.O_RDONLY) as file, refused(errno.EINVAL, errno.EBADF):
        os.ftruncate(file, 0)
    assert (here / "file").read_bytes() == b"x"


def test_truncation_of_a_file_that_nobody_has_open(here: Path) -> None:
    (here / "file").write_bytes(b"0123456789")
    os.truncate(here / "file", 4)
    assert (here / "file").read_bytes() == b"0123"
    os.truncate(here / "file", 6)
    assert (here / "file").read_bytes() == b"0123\0\0"


def test_room_is_made_beforehand(here: Path) -> None:
    with opened(here / "file", os.O_CREAT | os.O_RDWR) as file:
        os.write(file, b"some")
        os.posix_fallocate(file, 0, 10_000)
        assert os.fstat(file).st_size == 10_000
    assert (here / "file").read_bytes() == b"some" + bytes(9_996)


def test_what_is_written_is_seen_at_once(here: Path) -> None:
    with opened(here / "file", os.O_CREAT | os.O_WRONLY) as writer, opened(here / "file", os.O_RDONLY) as reader:
        for number in range(1, 50):
            os.write(writer, b"line\n")
            assert os.pread(reader, 5, 5 * (number - 1)) == b"line\n"
            assert (here / "file").stat().st_size == 5 * number
        assert (here / "file").read_bytes() == b"line\n" * 49


def test_duplicates_of_descriptors(here: Path) -> None:
    with opened(here / "file", os.O_CREAT | os.O_WRONLY) as file:
        other = os.dup(file)
        os.write(file, b"one ")
        os.close(other)
        os.write(file, b"two")
    assert (here / "file").read_bytes() == b"one two"


def test_pieces_of_all_sizes(here: Path) -> None:
    expected = bytearray()
    with opened(here / "file", os.O_CREAT | os.O_WRONLY) as file:
        for size in (1, 4095, 4096, 4097, 131_072, 1_048_577, 3_000_001):
            piece = os.urandom(size)
            assert os.write(file, piece) == size
            expected += piece
    assert (here / "file").read_bytes() == expected


def test_seeking_back_and_forth(here: Path) -> None:
    content = os.urandom(BLOCK + 100_000)
    (here / "file").write_bytes(content)
    with (here / "file").open("rb", buffering=0) as file:
        for offset in (BLOCK - 10, 0, BLOCK + 99_990, 12_345, BLOCK, 1):
            file.seek(offset)
            assert file.read(20) == content[offset : offset + 20]


def test_syncing(here: Path) -> None:
    with opened(here / "file", os.O_CREAT | os.O_WRONLY) as file:
        os.write(file, b"durable")
        os.fsync(file)
        os.write(file, b", more")
        os.fdatasync(file)
    with opened(here, os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.fsync(directory)
    assert (here / "file").read_bytes() == b"durable, more"


def test_maps(here: Path) -> None:
    (here / "file").write_bytes(bytes(10_000))
    with opened(here / "file", os.O_RDWR) as file:
        with mmap.mmap(file, 10_000) as mapped:
            mapped[5_000:5_004] = b"test"
            mapped.flush()
            assert os.pread(file, 6, 4_999) == b"\0test\0"
            os.pwrite(file, b"T", 5_000)
            assert mapped[5_000:5_004] == b"Test"
        with mmap.mmap(file, 10_000, flags=mmap.MAP_PRIVATE) as private:
            private[0] = 1
        assert os.pread(file, 1, 0) == b"\0"
    assert (here / "file").read_bytes()[4_999:5_005] == b"\0Test\0"


def test_a_map_outlives_its_descriptor(here: Path) -> None:
    (here / "file").write_bytes(b"a" * 5_000)
    with opened(here / "file", os.O_RDWR) as file:
        mapped = mmap.mmap(file, 5_000)
    mapped[4_999] = ord("b")
    mapped.close()
    assert (here / "file").read_bytes() == b"a" * 4_999 + b"b"


def test_a_program_runs_from_the_mount(here: Path) -> None:
    (here / "program").write_text("#!/bin/sh\necho ran\n")
    (here / "program").chmod(0o755)
    assert subprocess.run([here / "program"], capture_output=True, check=True).stdout == b"ran\n"


def test_locks_keep_others_out(here: Path) -> None:
    (here / "file").touch()
    other = f"import fcntl; fcntl.lockf(open({str(here / 'file')!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with (here / "file").open("r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert subprocess.run([sys.executable, "-c", other], capture_output=True, check=False).returncode == 1
        fcntl.lockf(file, fcntl.LOCK_UN)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with (here / "file").open() as second, refused(errno.EWOULDBLOCK):
            fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_sizes_in_blocks_say_that_there_are_bytes(here: Path) -> None:
    # tar and cp take a file without blocks for one without content.
    (here / "file").write_bytes(b"x" * 5_000)
    assert (here / "file").stat().st_blocks * 512 >= 5_000


def test_what_a_space_cannot_have(here: Path) -> None:
    (here / "file").touch()
    with refused(errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK):
        os.link(here / "file", here / "hard")
    assert os.listdir(here) == ["file"]


def test_saving_as_editors_do(here: Path) -> None:
    for number in range(10):
        with (here / ".file.tmp").open("wb") as file:
            file.write(b"version %d" % number)
            file.flush()
            os.fsync(file.fileno())
        os.replace(here / ".file.tmp", here / "file")
        assert (here / "file").read_bytes() == b"version %d" % number
    assert os.listdir(here) == ["file"]
