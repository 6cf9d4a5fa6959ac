"""Runs an engine until its owner is gone, whatever became of it: python -m tests.support.engines.keeper NAME STATE PID.

All processes of the engine are children of this one and die with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.engines.stores import Engine

_PATIENCE = 60.0
_SET_PDEATHSIG = 1


class Keeper:
    """What an engine is started with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, env: Mapping[str, str] | None = None, user: str | None = None) -> None:
        """Start a process of the engine."""
        with (self.folder / f"{len(self._children)}-{Path(command[0]).name}.log").open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                cwd=self.folder,
                user=user,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (no threads here)
            )
        self._children.append(child)

    def run(self, *command: str) -> str:
        """Run a program to its end."""
        done = subprocess.run(
            command, cwd=self.folder, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        if done.returncode not in {0, 1} or (done.returncode and "swift" not in command[0]):
            raise RuntimeError(f"{command}: {done.stdout} {done.stderr}")
        return done.stdout

    def wait(self, ready: Callable[[], bool]) -> None:
        """Wait for something to come true."""
        until = time.monotonic() + _PATIENCE
        while not ready():
            self.require_alive()
            if time.monotonic() > until:
                raise RuntimeError("not ready in time")
            time.sleep(0.1)

    def require_alive(self) -> None:
        """See that no process has ended."""
        for child in self._children:
            if child.poll() is not None:
                raise RuntimeError(f"{child.args!r} ended with {child.returncode}")

    def end(self) -> None:
        """End all processes."""
        for child in reversed(self._children):
            child.kill()
            child.wait()


def answers(url: str) -> bool:
    """Tell whether somebody speaks HTTP there."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)


def _stop(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def main(arguments: Sequence[str]) -> None:
    """Start, tell, wait, end."""
    name, state, owner = arguments[0], Path(arguments[1]), int(arguments[2])
    signal.signal(signal.SIGTERM, _stop)
    folder = Path(tempfile.mkdtemp(prefix=f"pyvospace-{name}-"))
    folder.chmod(0o755)
    keeper = Keeper(folder)
    try:
        engine: Engine = import_module(f"tests.support.engines.{name}").start(keeper)
        draft = state.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(engine)))
        draft.rename(state)
        while _alive(owner):
            keeper.require_alive()
            time.sleep(0.3)
    finally:
        keeper.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
