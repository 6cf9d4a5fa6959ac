# ruff: noqa: S101 (pytest shows what an assert has found)
"""Other processes at the same place, some of which die."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pyvospace.model.crash import VARIABLE
from pyvospace.storage.backend import BackendConfig, StorageBackend


def die(
    backend_class: type[StorageBackend], config: BackendConfig, point: str, size: int, *, at: int | None = None
) -> None:
    """Let another process upload and die at a crash point, the `at`-th time it waits, or in the middle of the body."""
    whole = "1" if point or at is not None else "0"
    with dying(backend_class, config, [whole, *([] if at is None else [str(at)])], size, point) as process:
        said = said_by(process)
        process.kill()
        code = process.wait()
    if at is None and (point in {"before-commit", "after-commit-before-answer"} or not point):
        assert (said, code) == ("" if point else "stuck\n", -signal.SIGKILL)


@contextmanager
def dying(
    backend_class: type[StorageBackend], config: BackendConfig, how: Sequence[str], size: int, point: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Start a process that uploads as `pyvospace.storage.testing.dying` says; it is killed in the end."""
    name = f"{backend_class.__module__}:{backend_class.__qualname__}"
    command = [sys.executable, "-m", "pyvospace.storage.testing.dying", name, str(config.path)]
    environment = {**os.environ, VARIABLE: point, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = [json.dumps(dict(config.options)), str(size), *how]
    with subprocess.Popen([*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.kill()


def said_by(process: subprocess.Popen[str]) -> str:
    """Read the next line that a process writes; empty: it has ended."""
    return process.stdout.readline() if process.stdout else ""
