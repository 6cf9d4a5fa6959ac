"""Mounts that are measured beside each other: ours, a passthrough, and those that people use today.

All reach a server on this machine, and all their servers keep bytes on the same disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg

from benchmarks.systems import Space, free_port, process, wait_for
from pyvospace.client import sync

OURS, PASSTHROUGH, SSHFS, RCLONE, RCLONE_FULL = "pyvospace", "passthrough", "sshfs", "rclone", "rclone, cache full"
NAMES = (OURS, PASSTHROUGH, SSHFS, RCLONE_FULL, RCLONE)
SLOW = (RCLONE_FULL, RCLONE)
"""They create a few files a second: a tenth of them tells as much."""
_BELOW = (
    "with recursive below as (select id, size from nodes where name = $1"
    " union all select n.id, n.size from nodes n join below b on n.parent_id = b.id)"
    " select count(size), coalesce(sum(size), 0)::bigint from below"
)
_FILL = (
    "insert into nodes (parent_id, name, type, owner_id, size, md5, sha256, storage_id, location, stored_by, modified)"
    " select p.id, 'observation ' || to_char(i, 'FM0000000') || '.fits', 'DataNode', p.owner_id, 0,"
    " decode(md5(i::text), 'hex'), sha256(i::text::bytea), (select min(id) from storages),"
    " p.name || '-' || i, p.owner_id, now() from nodes p, generate_series(1, $2) as i where p.name = $1"
)


class Behind(Protocol):
    """What a mount shows, as seen from the other side."""

    def make(self, folder: str) -> None:
        """Make a directory at the top."""

    def put(self, folder: str, name: str, source: Path) -> None:
        """Bring a file there that the mount has never seen."""

    def fill(self, folder: str, number: int) -> None:
        """Bring so many empty files there."""

    def arrived(self, folder: str) -> tuple[int, int]:
        """Count files and bytes that are there, all the way down."""

    def remove(self, folder: str) -> None:
        """Delete it and all that is in it."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory that somebody serves."""

    path: Path

    def make(self, folder: str) -> None:
        (self.path / folder).mkdir()

    def put(self, folder: str, name: str, source: Path) -> None:
        shutil.copyfile(source, self.path / folder / name)

    def fill(self, folder: str, number: int) -> None:
        for one in range(1, number + 1):
            (self.path / folder / f"observation {one:07}.fits").touch()

    def arrived(self, folder: str) -> tuple[int, int]:
        sizes = [(Path(top) / name).lstat().st_size for top, _, names in os.walk(self.path / folder) for name in names]
        return len(sizes), sum(sizes)

    def remove(self, folder: str) -> None:
        # Emptied and put aside: new files that got the inodes of deleted ones would have the sizes that a kernel which
        # writes back believes to know.
        gone = (self.path / folder).rename(self.path.with_name(f"{self.path.name}-{folder}"))
        for top, _, names in os.walk(gone):
            for name in names:
                if not (file := Path(top) / name).is_symlink():
                    os.truncate(file, 0)


@dataclass(frozen=True, slots=True)
class Home:
    """The home of a user in a space."""

    space: Space

    def _uri(self, *names: str) -> str:
        return "/".join((f"vos://{self.space.authority}{self.space.home}", *names))

    def _client(self) -> sync.Space:
        return sync.Space(f"http://127.0.0.1:{self.space.port}", token=self.space.token)

    def _ask(self, statement: str, *values: object) -> asyncpg.Record | None:
        async def asked() -> asyncpg.Record | None:
            connection = await asyncpg.connect(self.space.dsn)
            try:
                return await connection.fetchrow(statement, *values)
            finally:
                await connection.close()

        return asyncio.run(asked())

    def make(self, folder: str) -> None:
        with self._client() as client:
            client.ensure_container(self._uri(folder))

    def put(self, folder: str, name: str, source: Path) -> None:
        with self._client() as client:
            client.push(source, self._uri(folder, name))

    def fill(self, folder: str, number: int) -> None:
        # In the database directly: nobody reads their bytes.
        self._ask(_FILL, folder, number)
        self._ask("analyze nodes")

    def arrived(self, folder: str) -> tuple[int, int]:
        row = self._ask(_BELOW, folder)
        return (row[0], row[1]) if row else (0, 0)

    def remove(self, folder: str) -> None:
        with self._client() as client:
            client.delete_node(self._uri(folder))


@dataclass(frozen=True, slots=True)
class Mounted:
    """A mount and its other side."""

    name: str
    path: Path
    behind: Behind
    forgetful: subprocess.Popen[bytes] | None = None
    """Looks for what came from behind only when SIGHUP tells it to."""

    def notice(self, folder: str) -> Path:
        """Wait until the mount shows a directory that came from behind."""
        for _ in range(300):
            if self.forgetful is not None:
                self.forgetful.send_signal(signal.SIGHUP)
                time.sleep(0.2)
            if (self.path / folder).is_dir():
                return self.path / folder
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not show {folder}")


def missing(name: str) -> str | None:
    """Tell what a mount needs and this machine lacks."""
    programs = {
        SSHFS: ("sshfs", "ssh-keygen", "/usr/sbin/sshd"),
        RCLONE: ("rclone", "fusermount3"),
        RCLONE_FULL: ("rclone", "fusermount3"),
    }
    if not os.access("/dev/fuse", os.F_OK):
        return "/dev/fuse"
    lacking = [program for program in programs.get(name, ("fusermount3",)) if shutil.which(program) is None]
    if name in {OURS, PASSTHROUGH} and importlib.util.find_spec("pyfuse3") is None:
        lacking.append("pyfuse3")
    return ", ".join(lacking) or None


@contextlib.contextmanager
def mounted(name: str, folder: Path, space: Space) -> Iterator[Mounted]:
    """Run a mount with all that it needs, in a folder of its own."""
    folder.mkdir()
    if name == OURS:
        with _ours(folder, space) as one:
            yield one
        return
    (folder / "source").mkdir()
    started = {PASSTHROUGH: _passthrough, SSHFS: _sshfs, RCLONE: _rclone, RCLONE_FULL: _rclone_full}[name]
    with started(folder) as one:
        yield one


@contextlib.contextmanager
def _running(name: str, folder: Path, behind: Behind, *command: str, **environment: str) -> Iterator[Mounted]:
    """Run a mount in the foreground until it is there; unmount it at the end."""
    path = folder / "mount"
    path.mkdir()
    program = (*command, str(path))
    with process(*program, folder=folder, name="mount", **environment) as started:
        for _ in range(300):
            if started.poll() is not None or path.is_mount():
                break
            time.sleep(0.1)
        if not path.is_mount():
            raise RuntimeError(f"{name} is not mounted: {(folder / 'mount.log').read_text()}")
        try:
            yield Mounted(name, path, behind, started if name in SLOW else None)
        finally:
            subprocess.run(["fusermount3", "-u", "-z", str(path)], check=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(60)


@contextlib.contextmanager
def _ours(folder: Path, space: Space) -> Iterator[Mounted]:
    uri = f"vos://{space.authority}{space.home}"
    command = (sys.executable, "-m", "pyvospace", "mount", "--foreground", uri)
    environment = {
        "VOSPACE_URL": f"http://127.0.0.1:{space.port}",
        "VOSPACE_TOKEN": space.token,
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    with _running(OURS, folder, Home(space), *command, **environment) as one:
        yield one


@contextlib.contextmanager
def _passthrough(folder: Path) -> Iterator[Mounted]:
    source = folder / "source"
    command = (sys.executable, "-m", "benchmarks.passthrough", str(source))
    with _running(PASSTHROUGH, folder, Directory(source), *command) as one:
        yield one


@contextlib.contextmanager
def _sshfs(folder: Path) -> Iterator[Mounted]:
    """Mount over a server of SSH of our own, with keys that are thrown away."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    port = free_port()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    lines = (
        f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host", f"AuthorizedKeysFile {folder}/user.pub",
        "PidFile none", "UsePAM no", "StrictModes no", "PermitRootLogin yes", "Subsystem sftp internal-sftp",
    )  # fmt: skip
    (folder / "sshd_config").write_text("\n".join(lines) + "\n")
    command = ("/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config"))
    source = folder / "source"
    options = f"port={port},IdentityFile={folder}/user,StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null"
    user = pwd.getpwuid(os.geteuid()).pw_name
    with process(*command, folder=folder, name="sshd") as started:
        wait_for(port, started)
        mount = ("sshfs", "-f", "-o", options, f"{user}@127.0.0.1:{source}")
        with _running(SSHFS, folder, Directory(source), *mount) as one:
            yield one


@contextlib.contextmanager
def _rclone(folder: Path, mode: str = "off", name: str = RCLONE) -> Iterator[Mounted]:
    """Mount a WebDAV server, which is rclone's own."""
    port, source = free_port(), folder / "source"
    (folder / "rclone.conf").touch()
    rclone = ("rclone", "--config", str(folder / "rclone.conf"))
    # With its usual five minutes it would not see what comes from behind, without any it reads directories for ever.
    server = (*rclone, "serve", "webdav", "--addr", f"127.0.0.1:{port}", "--dir-cache-time", "1s", str(source))
    with process(*server, folder=folder, name="webdav") as started:
        wait_for(port, started)
        options = ("--webdav-url", f"http://127.0.0.1:{port}", "--cache-dir", str(folder / "cache"))
        # As long as our own mount waits before it sends.
        caching = ("--vfs-cache-mode", mode, "--vfs-write-back", "1s")
        mount = (*rclone, "mount", *options, *caching, ":webdav:")
        with _running(name, folder, Directory(source), *mount) as one:
            yield one


@contextlib.contextmanager
def _rclone_full(folder: Path) -> Iterator[Mounted]:
    with _rclone(folder, "full", RCLONE_FULL) as one:
        yield one
