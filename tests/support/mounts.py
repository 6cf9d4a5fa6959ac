"""Real mounts for tests: `pyvospace mount` as a process of its own, or a passthrough that shows what is right."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.pair import Pair

ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0
_LIFE = 900.0
"""Seconds after which a mount is killed: who waits for one that hangs cannot be stopped otherwise."""
_MISSING = [
    what
    for what, there in (
        ("/dev/fuse", os.access("/dev/fuse", os.F_OK)),
        ("fusermount3", shutil.which("fusermount3") is not None),
        ("pyfuse3", importlib.util.find_spec("pyfuse3") is not None),
    )
    if not there
]


@dataclass
class Mount:
    """A file system that can be mounted, killed and mounted again."""

    path: Path
    command: tuple[str, ...]
    """Without the mount point."""
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    """A program that runs the command: another user, other limits."""
    life: float = _LIFE
    process: subprocess.Popen[bytes] | None = None
    _end: threading.Timer | None = None

    def start(self, *options: str) -> None:
        """Mount and wait until it is there; skip the test where nothing can be mounted."""
        if _MISSING:
            pytest.skip(f"nothing can be mounted here without {', '.join(_MISSING)}")
        self.path.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYVOSPACE_", "VOSPACE_"))}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, *self.command, *options, str(self.path)],
                env={**kept, **self.environment},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._end = threading.Timer(self.life, self.process.kill)
        self._end.daemon = True
        self._end.start()
        end = time.monotonic() + _PATIENCE
        while not self.path.is_mount():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log()}"
            assert time.monotonic() < end, f"it is not mounted:\n{self.log()}"
            time.sleep(0.02)

    def stop(self) -> int:
        """Unmount as a user does, wait for the end of the process, and give its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            done = subprocess.run(["fusermount3", "-u", str(self.path)], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{done.stderr}\n{self.log()}"
        self._rest()
        return self.process.wait(_PATIENCE)

    def _rest(self) -> None:
        if self._end is not None:
            self._end.cancel()

    def again(self) -> None:
        """Unmount and mount again."""
        assert self.stop() == 0, self.log()
        self.start()

    def kill(self) -> None:
        """Kill it with SIGKILL, and take away the mount point that nobody serves any more."""
        assert self.process is not None
        self._rest()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        subprocess.run(["fusermount3", "-u", "-z", str(self.path)], check=True)

    def clear(self) -> None:
        """Leave nothing, whatever happened."""
        if self.process is None:
            return
        self._rest()
        if self.process.poll() is None:
            subprocess.run(["fusermount3", "-u", "-z", str(self.path)], capture_output=True, check=False)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_PATIENCE)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        subprocess.run(["fusermount3", "-u", "-z", str(self.path)], capture_output=True, check=False)

    def log(self) -> str:
        """Give what it has logged."""
        return self.log_file.read_text(errors="replace")


@contextmanager
def cleared(mount: Mount) -> Iterator[Mount]:
    """Take a mount away at the end."""
    try:
        yield mount
    finally:
        mount.clear()


def passthrough(folder: Path) -> Mount:
    """A mount of a local directory: what it does is what Linux does."""
    (folder / "source").mkdir(parents=True)
    command = (sys.executable, "-m", "benchmarks.passthrough", str(folder / "source"))
    return Mount(folder / "mount", command, folder / "mount.log")


def of_space(pair: Pair, folder: Path, *, cache: Path | None = None, options: tuple[str, ...] = ()) -> Mount:
    """A mount of the user's home; its cache is in the folder, for the next one too, unless it shares one."""
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"vos://{pair.authority}{pair.home}"
    environment = {
        "VOSPACE_URL": pair.url,
        "VOSPACE_TOKEN": pair.token,
        "XDG_CACHE_HOME": str(cache or folder / "cache"),
        "XDG_CONFIG_HOME": str(folder / "config"),
    }
    command = (sys.executable, "-m", "pyvospace", "mount", "--foreground", *options, uri)
    return Mount(folder / "mount", command, folder / "mount.log", environment)
