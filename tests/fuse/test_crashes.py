"""A mount that is killed, unmounted in haste, or whose servers die: what was acknowledged arrives."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvospace.client.sync import Space
from pyvospace.model.faults import Fault
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.fuse.eventually import eventually
from tests.fuse.refusals import refused
from tests.support.mounts import Mount, cleared, of_space
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer

LATE = ("--write-back", "300")
"""Nothing is sent before the mount is killed or unmounted."""


@pytest.fixture
def space(pair: Pair) -> Iterator[Space]:
    with Space(pair.url, token=pair.token) as opened:
        yield opened


@pytest.fixture
def folder(space: Space, pair: Pair, request: pytest.FixtureRequest) -> str:
    """Name of a new container in the home."""
    name = str(request.node.name)
    space.ensure_container(pair.uri(name))
    return name


@pytest.fixture
def late(pair: Pair, tmp_path: Path) -> Iterator[Mount]:
    with cleared(of_space(pair, tmp_path, options=LATE)) as mount:
        mount.start()
        yield mount


def stored(space: Space, uri: str) -> bytes | None:
    """Give the bytes that the space has; None: it has no such node."""
    try:
        return b"".join(space.read(uri))
    except Fault:
        return None


def write_and_sync(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def test_what_was_synced_arrives_after_kill_9(late: Mount, space: Space, pair: Pair, folder: str) -> None:
    here, large = late.path / folder, os.urandom(9 << 20)
    space.push(b"0123456789", pair.uri(f"{folder}/changed"))
    space.push(b"to be replaced", pair.uri(f"{folder}/replaced"))
    eventually((here / "changed").read_bytes, b"0123456789")
    write_and_sync(here / "new", b"acknowledged")
    write_and_sync(here / "large", large)
    write_and_sync(here / "temporary", b"renamed over")
    (here / "temporary").rename(here / "replaced")
    (here / "directory").mkdir()
    write_and_sync(here / "directory" / "inner", b"in a new directory")
    (here / "directory").rename(here / "moved")
    write_and_sync(here / "deleted", b"unwanted")
    (here / "deleted").unlink()
    file = os.open(here / "changed", os.O_RDWR)
    os.pwrite(file, b"xy", 4)
    os.fsync(file)
    assert stored(space, pair.uri(f"{folder}/new")) is None
    late.kill()
    with refused(errno.ENOTCONN):
        os.close(file)
    expected: dict[str, bytes | None] = {
        "new": b"acknowledged", "large": large, "replaced": b"renamed over", "moved/inner": b"in a new directory",
        "changed": b"0123xy6789",
    }  # fmt: skip
    late.start("--write-back", "0.1")
    assert {name: (here / name).read_bytes() for name in expected} == expected
    eventually(lambda: {name: stored(space, pair.uri(f"{folder}/{name}")) for name in expected}, expected)
    names = {entry.name for entry in space.entries(pair.uri(folder))}
    assert names == {"new", "large", "replaced", "moved", "changed"} == set(os.listdir(here))


def test_unmounting_waits_for_what_is_unsent(late: Mount, space: Space, pair: Pair, folder: str) -> None:
    here = late.path / folder
    for number in range(20):
        (here / f"{number}").write_bytes(b"%d" % number * 1000)
    assert list(space.entries(pair.uri(folder))) == []
    assert late.stop() == 0
    assert {entry.name for entry in space.entries(pair.uri(folder))} == {f"{number}" for number in range(20)}
    assert stored(space, pair.uri(f"{folder}/7")) == b"7" * 1000
    assert "20" in late.log()


def test_sigterm_unmounts_and_waits_too(late: Mount, space: Space, pair: Pair, folder: str) -> None:
    assert late.process is not None
    (late.path / folder / "file").write_bytes(b"content")
    late.process.terminate()
    assert late.process.wait(60) == 0
    assert stored(space, pair.uri(f"{folder}/file")) == b"content"
    assert not late.path.is_mount()


def test_killed_while_programs_write(late: Mount, space: Space, pair: Pair, folder: str) -> None:
    script = (
        "import os, sys\n"
        "for number in range(10_000):\n"
        "    with open(f'{sys.argv[1]}/{number}', 'wb', buffering=0) as file:\n"
        "        file.write(b'%d ' % number * 500)\n"
        "        os.fsync(file.fileno())\n"
        "    print(number, flush=True)\n"
    )
    command = [sys.executable, "-S", "-c", script, str(late.path / folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None
        acknowledged = [int(program.stdout.readline()) for _ in range(30)]
        late.kill()
        acknowledged += [int(line) for line in program.stdout]
    late.start("--write-back", "0")
    for number in acknowledged:
        assert (late.path / folder / f"{number}").read_bytes() == b"%d " % number * 500
    assert late.stop() == 0
    for number in acknowledged:
        assert stored(space, pair.uri(f"{folder}/{number}")) == b"%d " % number * 500


@pytest.fixture(scope="module")
def mortals(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Servers that tests may kill."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        with running_pair(dsn, tmp_path_factory.mktemp("mortal"), storage_dsn=storage_dsn) as running:
            yield running


@pytest.fixture
def mortal(mortals: Pair) -> Iterator[Pair]:
    """The same, running before and after."""
    yield mortals
    for name, process in mortals.processes.items():
        if process.poll() is not None:
            mortals.start(name)


class Meanwhile:
    """Something that is done by others while the test goes on."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.result: object = None
        self._act = act
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.result = self._act()
        except Exception as error:  # noqa: BLE001 - told by `done`
            self.result = error

    def busy(self) -> bool:
        return self._thread.is_alive()

    def done(self) -> object:
        self._thread.join(90)
        assert not self._thread.is_alive()
        return self.result


def test_operations_wait_for_servers_that_come_back(mortal: Pair, tmp_path: Path) -> None:
    with Space(mortal.url, token=mortal.token) as space:
        space.push(b"before" * 1000, mortal.uri("waiting"))
        space.push(b"unread" * 1000, mortal.uri("unread"))
    with cleared(of_space(mortal, tmp_path, options=("--write-back", "0.1"))) as mount:
        mount.start()
        assert (mount.path / "waiting").read_bytes() == b"before" * 1000
        for name in ("metadata", "storage"):
            mortal.kill(name)
        started = [
            Meanwhile((mount.path / "unread").read_bytes),
            Meanwhile((mount.path / "directory").mkdir),
            Meanwhile(lambda: (mount.path / "another").write_bytes(b"another")),
        ]
        # What is here needs nobody.
        assert (mount.path / "waiting").read_bytes() == b"before" * 1000
        with (mount.path / "waiting").open("ab") as file:
            file.write(b"written without servers")
        time.sleep(1.5)
        assert started[0].busy()
        assert started[1].busy()
        mortal.start()
        assert started[0].done() == b"unread" * 1000
        assert started[1].done() is None
        assert started[2].done() == len(b"another")
        assert (mount.path / "directory").is_dir()
        assert mount.stop() == 0
    with Space(mortal.url, token=mortal.token) as space:
        assert stored(space, mortal.uri("waiting")) == b"before" * 1000 + b"written without servers"
        assert stored(space, mortal.uri("another")) == b"another"


def test_patience_ends_with_an_error_and_the_mount_goes_on(mortal: Pair, tmp_path: Path) -> None:
    with Space(mortal.url, token=mortal.token) as space:
        space.push(b"later" * 1000, mortal.uri("later"))
    options = ("--write-back", "0.1", "--patience", "1", "--fresh", "0")
    with cleared(of_space(mortal, tmp_path, options=options)) as mount:
        mount.start()
        mortal.kill("metadata")
        mortal.kill("storage")
        assert mount.path.is_dir()  # or nobody could unmount
        with refused(errno.EIO, errno.ETIMEDOUT, errno.EHOSTDOWN):
            (mount.path / "later").read_bytes()
        with refused(errno.EIO, errno.ETIMEDOUT, errno.EHOSTDOWN):
            (mount.path / "without patience").mkdir()
        mortal.start()
        eventually((mount.path / "later").read_bytes, b"later" * 1000)
        (mount.path / "without patience").mkdir(exist_ok=True)
        assert mount.stop() == 0


def test_a_storage_server_that_dies_while_bytes_are_sent(mortal: Pair, tmp_path: Path) -> None:
    content = os.urandom(20 << 20)
    with cleared(of_space(mortal, tmp_path, options=("--write-back", "0"))) as mount:
        mount.start()
        writing = Meanwhile(lambda: (mount.path / "sent").write_bytes(content))
        time.sleep(0.1)
        mortal.kill("storage")
        time.sleep(0.5)
        mortal.start("storage")
        assert writing.done() == len(content)
        assert mount.stop() == 0
    with Space(mortal.url, token=mortal.token) as space:
        assert stored(space, mortal.uri("sent")) == content


def test_a_second_signal_ends_it_while_the_servers_say_nothing(mortal: Pair, tmp_path: Path) -> None:
    with Space(mortal.url, token=mortal.token) as space:
        space.push(b"unread" * 1000, mortal.uri("silent"))
    with cleared(of_space(mortal, tmp_path, options=LATE)) as mount:
        mount.start()
        (mount.path / "unsent").write_bytes(b"unsent")
        pids = [process.pid for process in mortal.processes.values()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            reading = Meanwhile((mount.path / "silent").read_bytes)
            assert mount.process is not None
            eventually(reading.busy, True)
            mount.process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                mount.process.wait(1)
            mount.process.terminate()
            assert mount.process.wait(20) != 0
            assert isinstance(reading.done(), OSError)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert not mount.path.is_mount()
        mount.start()
        assert (mount.path / "unsent").read_bytes() == b"unsent"
