"""Writing and hashing in worker threads: odd sizes, short writes, full disks."""

import errno
import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvospace.model.faults import ChecksumMismatch
from pyvospace.storage.direct import BLOCK, DirectFile
from pyvospace.storage.hashing import Announced, Digests
from pyvospace.storage.sink import Sink, Whole, take_together
from pyvospace.storage.threads import Workers

AREA = 16 * BLOCK


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    pools = Workers(threads=4)
    yield pools
    pools.close()


def aligned(data: bytes) -> memoryview:
    view = memoryview(mmap.mmap(-1, AREA))
    view[: len(data)] = data
    return view[: len(data)]


@given(
    st.lists(st.integers(0, AREA) | st.integers(0, 16).map(lambda blocks: blocks * BLOCK), max_size=6), st.booleans()
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
def test_any_sizes_are_written_as_they_are(tmp_path: Path, sizes: list[int], direct: bool) -> None:
    path = tmp_path / "file"
    expected = b"".join(os.urandom(size) for size in sizes)
    file = DirectFile(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), direct=direct)
    position = 0
    for size in sizes:
        file.write([aligned(expected[position : position + size])], size)
        position += size
    os.close(file.fd)
    assert path.read_bytes() == expected


def test_file_system_that_only_says_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EINVAL at a direct write: what is left goes through the page cache."""
    file = DirectFile(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT), direct=True)
    write = os.write

    def picky(fd: int, data: bytes) -> int:
        if file._is_direct:
            raise OSError(errno.EINVAL, "no")
        return write(fd, data)

    monkeypatch.setattr(os, "write", picky)
    data = os.urandom(AREA)
    file.write([aligned(data)], AREA)
    file.write([aligned(data)], AREA)
    os.close(file.fd)
    assert (tmp_path / "file").read_bytes() == data * 2


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, writev = os.write, os.writev
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[: max(len(data) // 3, 1)]))
    monkeypatch.setattr(os, "writev", lambda fd, pieces: writev(fd, [bytes(pieces[0])[:5]]))
    file = DirectFile(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT), direct=False)
    pieces = [os.urandom(n) for n in (3, 700, 0, 64)]
    file.write(pieces, 767)
    os.close(file.fd)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_many_pieces(tmp_path: Path) -> None:
    file = DirectFile(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT), direct=False)
    file.write([b"x"] * 5000, 5000)
    os.close(file.fd)
    assert (tmp_path / "file").stat().st_size == 5000


def make_sink(path: Path, workers: Workers, announced: Announced | None = None) -> Sink:
    return Sink(
        lambda: os.open(path, os.O_WRONLY | os.O_CREAT),
        hashing=workers.hashing,
        flushing=workers.flushing,
        verify=lambda _, digests: (announced or Announced()).verify(digests),
    )


@pytest.mark.parametrize("size", [0, 1, 1 << 17, 3 << 20])
def test_digests(tmp_path: Path, workers: Workers, size: int) -> None:
    data = os.urandom(size)
    sink = make_sink(tmp_path / "file", workers)
    sink.take([data[: size // 2], data[size // 2 :]], size, last=False)
    sink.take([data], size, last=True)
    assert sink.digests == Digests(hashlib.md5(data * 2).digest(), hashlib.sha256(data * 2).digest())
    assert (tmp_path / "file").read_bytes() == data * 2


def test_failed_flush_in_between_is_final(tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells an error of writing out once; who does not listen then hears of success."""
    monkeypatch.setattr("pyvospace.storage.sink._FLUSH_EVERY", 1)
    monkeypatch.setattr("pyvospace.storage.sink._write_out", failing)
    sink = make_sink(tmp_path / "file", workers)
    sink.take([b"abc"], 3, last=False)
    with pytest.raises(OSError, match="disk"):
        sink.take([b"abc"], 3, last=True)
    sink.close()
    assert sink.digests is None


def test_failed_fsync_is_final(tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing)
    sink = make_sink(tmp_path / "file", workers)
    with pytest.raises(OSError, match="disk"):
        sink.take([b"abc"], 3, last=True)
    sink.close()
    assert sink.digests is None


def failing(_: int) -> None:
    raise OSError(errno.EIO, "disk")


def test_wrong_digest_is_found_before_the_disk_has_work(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing)
    sink = make_sink(tmp_path / "file", workers, Announced(md5=bytes(16)))
    with pytest.raises(ChecksumMismatch):
        sink.take([b"abc"], 3, last=True)
    sink.close()


def test_closing_twice(tmp_path: Path, workers: Workers) -> None:
    sink = make_sink(tmp_path / "file", workers)
    sink.take([b"abc"], 3, last=False)
    sink.close()
    sink.close()


@given(st.lists(st.lists(st.binary(max_size=3000), max_size=3), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
def test_together_they_are_kept_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, workers: Workers, bodies: list[list[bytes]]
) -> None:
    path = tmp_path_factory.mktemp("together")
    sinks = [make_sink(path / str(number), workers) for number in range(len(bodies))]
    wholes = [Whole(sink, pieces, sum(map(len, pieces))) for sink, pieces in zip(sinks, bodies, strict=True)]
    assert take_together(wholes) == [None] * len(bodies)
    for number, (sink, pieces) in enumerate(zip(sinks, bodies, strict=True)):
        alone = make_sink(path / f"alone-{number}", workers)
        alone.take(pieces, sum(map(len, pieces)), last=True)
        assert (sink.digests, sink.size) == (alone.digests, alone.size)
        assert (path / str(number)).read_bytes() == (path / f"alone-{number}").read_bytes() == b"".join(pieces)


def test_one_of_several_that_fails_fails_alone(
    tmp_path: Path, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has no place, one comes with a wrong digest, the flush of one fails: the others are there, and flushed."""
    flushed, fsync = [], os.fsync

    def flush(fd: int) -> None:
        name = Path(f"/proc/self/fd/{fd}").readlink().name
        flushed.append(name)
        if name == "3":
            failing(fd)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", flush)
    wrong = {2: Announced(md5=bytes(16))}
    (tmp_path / "1").mkdir()
    sinks = [make_sink(tmp_path / str(number), workers, wrong.get(number, Announced())) for number in range(5)]
    outcomes = take_together([Whole(sink, [b"abc"], 3) for sink in sinks])
    for sink in sinks:
        sink.close()
    assert [type(one) for one in outcomes] == [type(None), IsADirectoryError, ChecksumMismatch, OSError, type(None)]
    assert [sink.digests is not None for sink in sinks] == [True, False, False, False, True]
    assert flushed == ["0", "3", "4"]
