"""`pyvospace up` as a user runs it: a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from pyvospace.supervisor.accounts import Account
from pyvospace.supervisor.data import Access, DataDirectory

PATIENCE = 60.0
READY = b"A VOSpace is ready"


class Up:
    """A running `pyvospace up`."""

    def __init__(self, process: subprocess.Popen[bytes], data: DataDirectory, errors: IO[bytes]) -> None:
        self.process = process
        self.data = data
        self._errors = errors
        self.output = b""

    def wait_ready(self) -> None:
        """Wait until it says so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if READY in line:
                return
        raise AssertionError(f"exit code {self.process.wait()}: {self.errors()}")

    def errors(self) -> str:
        """Give what it has written to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode()

    @property
    def access(self) -> Access:
        """Read access.env."""
        access = self.data.access()
        assert access is not None
        return access

    def tree(self) -> list[psutil.Process]:
        """Give all its processes, itself first."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def named(self, word: str) -> list[psutil.Process]:
        """Give those whose command line has this word."""
        return [process for process in self.tree() if word in process.cmdline()]

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it and give its exit code."""
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> int:
        """Wait for its end."""
        assert self.process.stdout is not None
        self.output += self.process.stdout.read()
        return self.process.wait(PATIENCE)


@contextmanager
def running_up(
    data: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
    account: Account | None = None,
) -> Iterator[Up]:
    """Run it for the time of a test, and wait until all its processes are gone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYVOSPACE_", "VOSPACE_"))}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [python, "-P", "-m", "pyvospace", "up", "--data", str(data), *options],
            env={**kept, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        running = Up(process, DataDirectory(data), errors)
        children: list[psutil.Process] = []
        try:
            yield running
        finally:
            if process.poll() is None:
                children = running.tree()
                process.kill()
            process.communicate()
            psutil.wait_procs(children, timeout=PATIENCE)
