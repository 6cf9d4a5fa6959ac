"""Real processes for commands, without the start of Python: forks of one that has imported everything.

A shell of the tests runs `pyvospace` a hundred times, and each of them would import the same modules for a third of a
second. The script that it finds in its PATH instead hands arguments, directory, environment and standard streams to a
server, which forks; the child is the command.
"""

from __future__ import annotations

import array
import contextlib
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from pyvospace.cli import lazy, main

_LONGEST = 1 << 20
_SCRIPT = """#!{python} -IS
import array, json, os, socket, sys
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    server.sendmsg([len(asked).to_bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    server.sendall(asked)
    sys.exit((server.recv(1) or b"\\1")[0])
"""


@contextlib.contextmanager
def forked_commands() -> Iterator[str]:
    """Give a directory for the PATH, in which `pyvospace` is such a fork."""
    with tempfile.TemporaryDirectory() as folder:
        path, script = f"{folder}/socket", Path(folder) / "pyvospace"
        script.write_text(_SCRIPT.format(python=sys.executable, path=path))
        script.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen(64)
            command = [sys.executable, "-m", __name__, str(listening.fileno())]
            with subprocess.Popen(command, pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL) as server:
                try:
                    yield folder
                finally:
                    server.terminate()


def _serve(listening: socket.socket) -> None:
    parent = os.getppid()
    listening.settimeout(5)
    while os.getppid() == parent:  # else the tests were killed
        try:
            asked, _ = listening.accept()
        except TimeoutError:
            continue
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # what has ended; each has told its exit code itself
                pass
        with asked:
            if os.fork() == 0:
                os._exit(_become(asked))


def _become(asked: socket.socket) -> int:
    """Be the command, and tell how it ended."""
    code = 1
    try:
        code = _run(asked)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001 (as the interpreter does)
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        asked.sendall(bytes([code]))
    return code


def _run(asked: socket.socket) -> int:
    length, given, _, _ = asked.recvmsg(4, socket.CMSG_SPACE(3 * 4))
    text = b""
    while len(text) < int.from_bytes(length):
        text += asked.recv(_LONGEST)
    arguments, folder, environment = json.loads(text)
    streams = array.array("i", given[0][2])
    for number, stream in enumerate(streams):
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
    for part in lazy.PARTS:
        importlib.import_module(f"pyvospace.cli.{part}")


if __name__ == "__main__":
    _import_everything()
    _serve(socket.socket(fileno=int(sys.argv[1])))
