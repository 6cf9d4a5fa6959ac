"""What is let go wrong during a soak, and which failures are its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import psutil

from benchmarks.http import request
from benchmarks.soak_clients import Client, FailedError
from benchmarks.systems import Space
from benchmarks.workers import servers

SMALL: Final = "small"
LARGE: Final = "large"
"""The two places for bytes, and their labels: the disk that is measured, and a small one that can be filled."""
_TRIES, _PAUSE = 200, 0.02
_STALLED: Final = 20
_ROOM: Final = 256 << 20
_PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Site:
    """What can be struck."""

    space: Space
    second: subprocess.Popen[bytes]
    """The storage server of the small place."""
    small: Path
    """Where that keeps its bytes, seen from here; not to be filled if it is not a disk of its own."""
    own_disk: bool
    client: Client
    """One of whom nothing else is asked."""


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that happened, in seconds since the load began."""

    name: str
    begun: float
    ended: float
    grace: float

    def covers(self, begun: float, ended: float) -> bool:
        """Say whether an operation met it, or what it left behind."""
        return begun < self.ended + self.grace and ended > self.begun


class Fault:
    """Something that is wrong from `begin` to `end`."""

    name: ClassVar[str]
    text: ClassVar[str]
    grace: ClassVar[float] = 10.0
    """Seconds in which its failures may still come: servers start, pools connect, heartbeats tell."""
    part: ClassVar[str] = ""
    """The server whose failures it explains; empty: both."""
    place: ClassVar[str] = ""
    """The clients whose failures it explains, by the place of their bytes; empty: all."""
    kinds: ClassVar[frozenset[str]] = frozenset()
    needs_disk: ClassVar[bool] = False

    def __init__(self, site: Site) -> None:
        self.site = site

    async def begin(self) -> None:
        """Let it go wrong."""
        raise NotImplementedError

    async def end(self) -> None:
        """Put it right."""

    @classmethod
    def explains(cls, place: str, failure: FailedError) -> bool:
        """Say whether a failure is its own."""
        return failure.kind in cls.kinds and cls.part in {"", failure.part} and cls.place in {"", place}


class Stall(Fault):
    """Clients that begin and do not go on: heads, documents, bytes; and some that do not take what they asked for."""

    name = "stall"
    text = f"{_STALLED} clients stall in the middle of requests"

    async def begin(self) -> None:
        """Begin all of it; nobody else may notice."""
        token, home = self.site.space.token, self.site.space.home
        whole = request("PUT", f"/nodes{home}/stalled", token=token, body=b"x" * 1000)
        asked = request("GET", f"/nodes{home}?detail=max", token=token)
        path = f"/files{home}/stalled"
        bytes_ = [request("PUT", f"{path}/{number}", token=token) for number in range(2)]
        self._open = [
            self._half(self.site.space.port + (number % 2), (whole[:60], whole[:-500], asked, *bytes_)[number % 5])
            for number in range(_STALLED)
        ]

    def _half(self, port: int, begun: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(begun)
        return connection

    async def end(self) -> None:
        """Let go."""
        for connection in self._open:
            connection.close()


class KillMetadata(Fault):
    """One of the workers; connections to it are lost, and a job that it worked on is taken over after its lease."""

    name = "kill-metadata"
    text = "kill -9 of a metadata worker"
    grace = 25.0
    part = "metadata"
    kinds = frozenset({"connection", "timeout"})

    async def begin(self) -> None:
        """Kill; the supervisor starts another one."""
        _kill(servers(self.site.space, "metadata"))


class KillStorage(Fault):
    """One of the workers at the large place."""

    name = "kill-storage"
    text = "kill -9 of a storage worker"
    part = "storage"
    place = LARGE
    kinds = frozenset({"connection"})

    async def begin(self) -> None:
        """Kill; the supervisor starts another one."""
        _kill(servers(self.site.space, "storage"))


class Freeze(Fault):
    """The storage server of the small place says nothing, and takes connections as if it were there."""

    name = "freeze"
    text = "SIGSTOP of a storage server"
    place = SMALL
    # When it goes on it finds that connections have been idle for too long.
    kinds = frozenset({"timeout", "503", "connection"})

    async def begin(self) -> None:
        """Stop it."""
        self.site.second.send_signal(signal.SIGSTOP)

    async def end(self) -> None:
        """Let it go on."""
        self.site.second.send_signal(signal.SIGCONT)


class Full(Fault):
    """Nothing fits on the small place."""

    name = "full"
    text = "a storage out of space"
    place = SMALL
    kinds = frozenset({"507", "503", "connection"})
    needs_disk = True

    async def begin(self) -> None:
        """Fill it."""
        found = os.statvfs(self.site.small)
        await asyncio.to_thread(_fill, self._ballast, found.f_bavail * found.f_frsize)

    async def end(self) -> None:
        """Make room."""
        await asyncio.to_thread(self._ballast.unlink)

    @property
    def _ballast(self) -> Path:
        return self.site.small / "ballast"


class ReadOnly(Fault):
    """The small place takes no writes. While somebody writes the kernel refuses that, so we ask again and again."""

    name = "read-only"
    text = "a storage that is read-only"
    place = SMALL
    kinds = frozenset({"507", "503", "connection"})
    needs_disk = True

    async def begin(self) -> None:
        """Remount it."""
        for _ in range(_TRIES):
            if await self._remount("ro"):
                return
            await asyncio.sleep(_PAUSE)

    async def end(self) -> None:
        """Remount it once more."""
        if not await self._remount("rw"):
            raise RuntimeError("the small place stays read-only")

    async def _remount(self, way: str) -> bool:
        pid = self.site.second.pid
        place = Path("/") / self.site.small.relative_to(f"/proc/{pid}/root")
        words = ("nsenter", f"--mount=/proc/{pid}/ns/mnt", "mount", "-o", f"remount,{way}", str(place))
        done = await asyncio.to_thread(subprocess.run, words, check=False, capture_output=True)
        return done.returncode == 0


class _OfDatabase(Fault):
    """While PostgreSQL is away everything is refused; a 500 says that the outcome of a commit is not known."""

    kinds = frozenset({"503", "500"})

    def _postmaster(self) -> psutil.Process:
        return next(one for one in self.site.space.process.children() if "postgres" in one.name())


class KillBackend(_OfDatabase):
    """One backend; PostgreSQL then ends all others and recovers as from a crash."""

    name = "kill-backend"
    text = "kill -9 of a backend of PostgreSQL, which recovers as from a crash"
    # Jobs of the last moments are not flushed: an endpoint may be forgotten.
    kinds = frozenset({"503", "500", "404"})

    async def begin(self) -> None:
        """Kill one that serves our servers."""
        _kill([one for one in self._postmaster().children() if "pyvospace" in " ".join(one.cmdline())])


class RestartDatabase(_OfDatabase):
    """PostgreSQL stops in order, and starts again."""

    name = "restart-database"
    text = "a restart of PostgreSQL"

    async def begin(self) -> None:
        """Stop it; the supervisor starts it."""
        self._postmaster().send_signal(signal.SIGINT)


FAULTS: Final[tuple[type[Fault], ...]] = (
    Stall, KillMetadata, KillStorage, Full, Freeze, ReadOnly, KillBackend, RestartDatabase,
)  # fmt: skip


def named(names: str) -> tuple[type[Fault], ...]:
    """Find faults by their names, with commas between them; ``all``: all of them; empty: none.

    Raises
    ------
    ValueError
        One is not known.
    """
    known = {one.name: one for one in FAULTS}
    wanted = list(known) if names == "all" else [name for name in names.split(",") if name]
    if unknown := set(wanted) - known.keys():
        raise ValueError(f"no fault {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(known[name] for name in wanted)


def excuse(struck: list[Struck], place: str, begun: float, ended: float, failure: FailedError) -> str:
    """Name the fault that explains a failure; empty: none does."""
    by_name = {one.name: one for one in FAULTS}
    return next(
        (
            one.name
            for one in struck
            if one.covers(begun, ended) and by_name[one.name].explains(place, failure)
        ),
        "",
    )  # fmt: skip


async def strike(
    site: Site, kinds: Sequence[type[Fault]], struck: list[Struck], *, start: float, length: float
) -> None:
    """Let faults happen at known times, one after the other, each at the end of a quiet time of the same length.

    Parameters
    ----------
    struck
        Told of each, also while it lasts.
    start
        When the load begins, by the monotonic clock.
    length
        Seconds of load; the last part of it is quiet too.
    """
    due = [kind for kind in kinds if site.own_disk or not kind.needs_disk]
    slot = length / (len(due) + 1)
    for number, kind in enumerate(due, start=1):
        await asyncio.sleep(max(0.0, start + number * slot - time.monotonic()))
        fault, begun = kind(site), time.monotonic() - start
        struck.append(Struck(kind.name, begun, begun + slot, kind.grace))
        try:
            await fault.begin()
            await asyncio.sleep(min(20.0, slot / 4))
        finally:
            await fault.end()
        struck[-1] = Struck(kind.name, begun, time.monotonic() - start, kind.grace)


def small_disk(path: Path) -> tuple[str, ...]:
    """Give the words in front of a command that has a small disk of its own at `path`; none: there can be none here."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "mount"))):
        return ()
    words = ("unshare", "--mount", "--propagation", "private", "sh", "-c")
    mount = f'mount -t tmpfs -o size={_ROOM},mode=0700 soak "$0" || exit 1; exec "$@"'
    if subprocess.run([*words, mount, str(path), "true"], check=False, capture_output=True).returncode:
        return ()
    return (*words, mount, str(path))


def _fill(file: Path, room: int) -> None:
    """Take all room, in smaller and smaller pieces: others write meanwhile."""
    taken, piece = 0, room
    with file.open("wb") as ballast:
        while piece >= _PAGE:
            try:
                os.posix_fallocate(ballast.fileno(), taken, piece)
                taken += piece
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                piece //= 2


def _kill(processes: list[psutil.Process]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        random.choice(processes).kill()
