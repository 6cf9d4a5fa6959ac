"""The mounts of a user: a record and a socket for each, so that commands find them and hear what is unsent.

Commands import this without pyfuse3.

The socket takes one word and answers with lines of JSON: ``status`` with one, ``wait`` with one now and then until the
mount has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

TYPE: Final = "fuse.pyvospace"
"""What the table of mounts calls the file system."""
_INTERVAL: Final = 0.2
"""Seconds between two lines for those who wait."""
_PATIENCE: Final = 10.0
"""Seconds that a mount has for an answer."""


def cache_home() -> Path:
    """Give the directory of what can be made again, and of what a mount has not sent yet."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyvospace"


def _records() -> Path:
    return cache_home() / "mounted"


def log_file(directory: Path) -> Path:
    """Give the usual log of what is mounted at a directory."""
    base = os.environ.get("XDG_STATE_HOME")
    state = (Path(base) if base else Path.home() / ".local" / "state") / "pyvospace"
    return state / f"mount{str(directory).replace('/', '-')[:200]}.log"


def is_mounted(directory: Path) -> bool:
    """Say whether something of ours is mounted at an absolute path; the path itself is not touched."""
    shown = str(directory).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    with Path("/proc/self/mounts").open(errors="surrogateescape") as lines:
        return any(line.split()[1:3] == [shown, TYPE] for line in lines)


def unmount_command(directory: str, *, lazy: bool) -> tuple[str, ...]:
    """Give the command that unmounts for this user."""
    if os.getuid() == 0:
        return ("umount", *(["-l"] if lazy else []), directory)
    return ("fusermount3", "-u", *(["-z"] if lazy else []), directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A mount that runs, or did when its process was killed."""

    pid: int
    uri: str
    directory: str
    """Absolute, without symbolic links."""
    log: str | None
    """File; None: standard error."""
    cache: str
    read_only: bool

    @property
    def _stem(self) -> Path:
        return _records() / str(self.pid)

    def write(self) -> None:
        """Let commands find it."""
        _records().mkdir(mode=0o700, parents=True, exist_ok=True)
        self._stem.with_suffix(".json").write_text(json.dumps(asdict(self)))

    def remove(self) -> None:
        """Let nobody find it any more."""
        for suffix in (".json", ".sock"):
            self._stem.with_suffix(suffix).unlink(missing_ok=True)

    def ask(self, word: str) -> Iterator[dict[str, Any]]:
        """Ask the mount, and give its answers as they come; none if it has gone."""
        with suppress(OSError), _short(_records()) as short, socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(_PATIENCE)
            channel.connect(f"{short}/{self.pid}.sock")
            channel.sendall(word.encode() + b"\n")
            with channel.makefile() as lines:
                for line in lines:
                    yield json.loads(line)


def records() -> list[Record]:
    """Give the mounts of this user whose processes run; records of others are removed."""
    found = []
    for file in sorted(_records().glob("*.json")):
        try:
            record = Record(**json.loads(file.read_text()))
        except (ValueError, TypeError, FileNotFoundError):
            continue
        if next(record.ask("status"), None) is None:
            record.remove()
        else:
            found.append(record)
    return found


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    """Give a short name of a directory: that of a socket has room for 107 bytes."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Answers:
    """The socket of a mount.

    Parameters
    ----------
    status
        Gives what is told.
    """

    def __init__(self, record: Record, status: Callable[[], dict[str, Any]]) -> None:
        self._record = record
        self._status = status
        self._ended = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Answer from now on."""
        self._record.write()
        with _short(_records()) as short:
            path = f"{short}/{self._record.pid}.sock"
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 (a path of /proc)
            before = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._answer, path)
            finally:
                os.umask(before)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Tell those who wait how it has ended."""
        self._ended.set()
        if self._asking:
            await asyncio.wait(self._asking, timeout=1.0)
        self._server.close()
        self._record.remove()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._asking.add(task)
        try:
            word = (await reader.readline()).strip()
            while word == b"wait" and not self._ended.is_set():
                await _tell(writer, self._status())
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), _INTERVAL)
            await _tell(writer, {**self._status(), "ended": self._ended.is_set()})
        except ConnectionError:
            pass
        finally:
            writer.close()
            if task is not None:
                self._asking.discard(task)


async def _tell(writer: asyncio.StreamWriter, told: dict[str, Any]) -> None:
    writer.write(json.dumps(told).encode() + b"\n")
    await writer.drain()
