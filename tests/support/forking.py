"""Real processes of pyvospace without the start of Python: forks of one that has imported everything.

Tests and the pages that they run start hundreds of commands and servers; each would import the same modules for half
a second. Arguments, directory, environment and standard streams go to a process that forks instead; the child is the
command.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pyvospace.cli import lazy, main

_NUMBER = 4
"""Bytes of the numbers that are told: the length of what is asked; the process id; how it ended, minus the signal."""
_SERVERS = ("pyvospace.server.app", "pyvospace.storage.app", "pyvospace.supervisor.workers")
_SCRIPT = """#!{python} -IS
import array, json, os, socket, sys
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    server.sendmsg([len(asked).to_bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    server.sendall(asked)
    server.recv(4)
    code = int.from_bytes(server.recv(4), signed=True)
    sys.exit(code if code >= 0 else 128 - code)
"""


class Forked:
    """A process, with what tests want of `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], *, log: int) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_server())
        asked = json.dumps([list(arguments), str(Path.cwd()), dict(environment)]).encode()
        with Path(os.devnull).open("rb") as nothing:
            streams = array.array("i", [nothing.fileno(), log, log])
            self._connection.sendmsg([len(asked).to_bytes(_NUMBER)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        self._connection.sendall(asked)
        self.pid = int.from_bytes(self._connection.recv(_NUMBER))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Say how it has ended; None: it has not."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and give its exit code, or minus the signal."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = int.from_bytes(self._connection.recv(_NUMBER), signed=True)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("pyvospace", timeout or 0) from None
            self._connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def start(arguments: Sequence[str], environment: Mapping[str, str], *, log: int) -> subprocess.Popen[bytes] | Forked:
    """Start a server: anew if it is to find modules besides, since what there is is looked for once a process."""
    if "PYTHONPATH" not in environment:
        return Forked(arguments, environment, log=log)
    command = [sys.executable, "-m", "pyvospace", *arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@contextlib.contextmanager
def forked_commands() -> Iterator[str]:
    """Give a directory for the PATH, in which `pyvospace` is such a fork."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "pyvospace"
        script.write_text(_SCRIPT.format(python=sys.executable, path=_server()))
        script.chmod(0o755)
        yield folder


@functools.cache
def _server() -> str:
    """Start the process that forks, once for this one, and give the path of its socket."""
    folder = tempfile.TemporaryDirectory()
    path = f"{folder.name}/socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        command = [sys.executable, "-m", __name__, str(listening.fileno())]
        server = subprocess.Popen(command, pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL)

    def end() -> None:
        server.terminate()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    return path


def _serve(listening: socket.socket) -> None:
    parent = os.getppid()
    listening.settimeout(5)
    while os.getppid() == parent:  # else the tests were killed
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        with contextlib.suppress(TimeoutError):
            asked, _ = listening.accept()
            with asked:
                if os.fork() == 0:
                    listening.close()
                    _watch(asked)


def _watch(asked: socket.socket) -> None:
    """Start the process, and tell how it ends: a signal may leave it no time to tell that itself."""
    child = os.fork()
    if child == 0:
        os._exit(_become(asked))
    with contextlib.suppress(OSError):
        asked.sendall(child.to_bytes(_NUMBER))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):  # who asked has gone
        asked.sendall(code.to_bytes(_NUMBER, signed=True))
    os._exit(0)


def _become(asked: socket.socket) -> int:
    """Be what was asked for."""
    code = 1
    try:
        code = _run(asked)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001 (as the interpreter does)
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _run(asked: socket.socket) -> int:
    length, given, _, _ = asked.recvmsg(_NUMBER, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    text = b""
    while len(text) < int.from_bytes(length):
        text += asked.recv(1 << 16)
    asked.close()
    arguments, folder, environment = json.loads(text)
    for number, stream in enumerate(array.array("i", given[0][2])):
        os.dup2(stream, number)
        os.close(stream)
    # Those that there are remember what the files of the server were like.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering=1 if number == 2 else -1, encoding="utf-8", closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return main.run(arguments)


def _import_everything() -> None:
    for file in Path(lazy.__file__).parent.glob("*_action*.py"):
        importlib.import_module(f"pyvospace.cli.{file.stem}")
    for module in (*(f"pyvospace.cli.{part}" for part in lazy.PARTS), *_SERVERS):
        importlib.import_module(module)


if __name__ == "__main__":
    _import_everything()
    _serve(socket.socket(fileno=int(sys.argv[1])))
