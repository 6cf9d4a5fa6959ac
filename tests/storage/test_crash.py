"""The server dies at each point of an upload and of the sweep; what was acknowledged stays, nothing else does."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from pyvospace.model.crash import UPLOAD_POINTS, VARIABLE

ROOT = Path(__file__).parents[2]
OLD = b"old"


class Process:
    """The server of `tests.storage.crashing`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self.process = process
        self._output = process.stdout
        self._input = process.stdin
        self.port = int(self._output.readline())

    def put(self, data: bytes) -> int:
        request = Request(f"http://127.0.0.1:{self.port}/files/put-1/x", data=data, method="PUT")
        with urlopen(request, timeout=60) as answer:
            return int(answer.status)

    def get(self) -> bytes:
        with urlopen(f"http://127.0.0.1:{self.port}/files/get-1/x", timeout=60) as answer:
            return bytes(answer.read())

    def sweep(self) -> str:
        self._input.write("sweep\n")
        self._input.flush()
        return self._output.readline()


@contextmanager
def running(directory: Path, crash: str = "") -> Iterator[Process]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.crashing", str(directory)],
        cwd=ROOT,
        env={**os.environ, VARIABLE: crash},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            yield Process(process)
        finally:
            process.kill()


def files(directory: Path) -> tuple[int, int]:
    """Count what is in data/ and in staging/."""
    store = directory / "store"
    return sum(path.is_file() for path in (store / "data").rglob("*")), len(list((store / "staging").iterdir()))


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("point", sorted(UPLOAD_POINTS))
def test_upload(tmp_path: Path, point: str, size: int) -> None:
    new = os.urandom(size)
    with running(tmp_path) as server:
        assert server.put(OLD) == 201
    with running(tmp_path, crash=point) as server:
        with pytest.raises((ConnectionError, HTTPError, OSError)):
            server.put(new)
        assert server.process.wait(60) == -signal.SIGKILL
    with running(tmp_path) as server:
        assert server.get() == (new if point == "after-commit-before-answer" else OLD)
        server.sweep()
        assert files(tmp_path) == (1, 0)
        assert server.put(new) == 201
        assert server.get() == new


def test_middle_of_a_body(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        assert server.put(OLD) == 201
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(
                b"PUT /files/put-1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + bytes(5_000_000)
            )
            while files(tmp_path)[1] == 0:
                pass
            # A living upload is not swept, however old it is.
            assert "staged=0" in server.sweep()
            server.process.send_signal(signal.SIGKILL)
            assert server.process.wait(60) == -signal.SIGKILL
    assert files(tmp_path) == (1, 1)
    with running(tmp_path) as server:
        assert server.get() == OLD
        assert "staged=1" in server.sweep()
        assert files(tmp_path) == (1, 0)


def test_sweep(tmp_path: Path) -> None:
    """The row is gone and the file is not: it is unknown from now on, and swept as such."""
    with running(tmp_path) as server:
        assert server.put(OLD) == 201
    with running(tmp_path, crash="gc-row-deleted") as server:
        assert server.put(b"new") == 201
        assert server.sweep() == ""
        assert server.process.wait(60) == -signal.SIGKILL
    assert files(tmp_path) == (2, 0)
    with running(tmp_path) as server:
        assert "unknown=1" in server.sweep()
        assert files(tmp_path) == (1, 0)
        assert server.get() == b"new"
