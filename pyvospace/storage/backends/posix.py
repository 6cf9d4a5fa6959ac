"""Bytes in files of a directory that belongs to the service alone.

::

    storage.json            which storage this is
    staging/<upload id>     what is being received; locked (flock) by the process that receives it
    data/<3 hex>/<32 hex>   what nodes name; the location is ``<3 hex>/<32 hex>``

No name in here comes from a client. Nothing is ever written over: files are made exclusively, and a location is
a new random number each time.
"""

import fcntl
import io
import json
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Self, cast
from uuid import UUID, uuid4

import aiofiles
import psutil

from pyvospace.model.crash import crash_point
from pyvospace.storage.backend import (
    BackendConfig,
    Body,
    ByteRange,
    Download,
    DownloadJob,
    FileBytes,
    StorageBackend,
    UploadJob,
    in_thread,
)

_LOCATION: Final = re.compile("([0-9a-f]{3})/([0-9a-f]{32})")
_STAGED: Final = re.compile("[0-9a-f]{1,64}")
_PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ncpfs", "afs"})
"""File systems of other machines whose promises are not those of a disk."""


def filesystem_of(path: Path) -> str:
    """Give the type of the file system that a directory is on; empty: it is not known."""
    place = path.resolve()
    mounts = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    return next((mounts[above] for above in (place, *place.parents) if above in mounts), "")


class PosixBackend(StorageBackend):
    """Keeps bytes below `path`, which one or several processes of one machine serve."""

    def __init__(self, path: Path, *, remote: bool = False) -> None:
        self._path = path
        self._remote = remote
        self._staging = -1
        self._data = -1
        self._made: set[str] = set()
        """Directories below data/ whose own entries are known to be durable."""

    @classmethod
    def configure(cls, config: BackendConfig) -> Self:
        """Make a backend for the directory ``storage.path``.

        The option ``network_filesystem = "true"`` permits one on NFS and the like, where a flush may not mean what it
        says, and a lock may not hold.
        """
        options = dict(config.options)
        remote = options.pop("network_filesystem", "false")
        for option in options:
            raise ValueError(f"storage.options.{option}: the posix backend has no such option")
        if remote not in {"true", "false"}:
            raise ValueError('storage.options.network_filesystem: write "true" or "false"')
        return cls(config.path, remote=remote == "true")

    async def start(self) -> UUID:
        """Make the directories if need be and open them."""
        await in_thread(self._prepare)
        return await _identity(self._path / "storage.json")

    def _prepare(self) -> None:
        self._path.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        if not self._remote and (kind := filesystem_of(self._path)) in _REMOTE:
            raise PermissionError(
                f"{self._path} is on {kind}, which may lose what it has acknowledged: take a local directory, or set "
                'storage.options.network_filesystem = "true"'
            )
        for name in ("staging", "data"):
            (self._path / name).mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
        root = os.open(self._path, _DIRECTORY)
        try:
            if os.fstat(root).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise PermissionError(f"others may write to {self._path}: chmod go-w it")
            self._staging = os.open("staging", _DIRECTORY, dir_fd=root)
            self._data = os.open("data", _DIRECTORY, dir_fd=root)
            os.fsync(root)
        finally:
            os.close(root)

    async def close(self) -> None:
        """Close the directories."""
        for directory in (self._staging, self._data):
            if directory >= 0:
                os.close(directory)
        self._staging = self._data = -1

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Write to a staging file, then rename it inside the transaction."""
        staged = _Staged(self._staging, job.id)
        try:
            await body.write_to(staged.open)
            async with job.transaction() as transaction:
                location = _new_location()
                await transaction.store(location)
                await in_thread(self._publish, staged, location)
        finally:
            if not staged.ended:
                await in_thread(staged.remove)

    def _publish(self, staged: "_Staged", location: str) -> None:
        folder, name = location.split("/")
        self._make_folder(folder)
        with _opened(folder, self._data) as directory:
            staged.move(directory, name)
            crash_point("after-rename")
            os.fsync(directory)
            crash_point("after-dirsync")

    def _make_folder(self, folder: str) -> None:
        if folder in self._made:
            return
        with suppress(FileExistsError):
            os.mkdir(folder, _PRIVATE_DIRECTORY, dir_fd=self._data)
        # Even if it was there: another process may have made it just now and not synced yet.
        os.fsync(self._data)
        self._made.add(folder)

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Open the file; who reads it keeps it, also if it is deleted meanwhile."""
        del byte_range  # the core reads from the file what it needs
        return FileBytes(await in_thread(self._open_stored, job.location, job.size))

    def _open_stored(self, location: str, size: int) -> BinaryIO:
        parts = _LOCATION.fullmatch(location)
        if parts is None:
            raise FileNotFoundError(location)
        with _opened(parts[1], self._data) as directory:
            file = io.FileIO(os.open(parts[2], _READ, dir_fd=directory))
        try:
            _require_whole(os.fstat(file.fileno()), location, size)
        except OSError:
            file.close()
            raise
        return cast("BinaryIO", file)

    async def read_small(self, jobs: Sequence[DownloadJob]) -> Sequence[bytes | None]:
        """Read all files in one go."""
        return await in_thread(self._read_all, jobs)

    def _read_all(self, jobs: Sequence[DownloadJob]) -> list[bytes | None]:
        return [self._read_whole(job.location, job.size) for job in jobs]

    def _read_whole(self, location: str, size: int) -> bytes | None:
        """Read a file; None if it is missing or not as it should be."""
        if not _LOCATION.fullmatch(location):
            return None
        try:
            fd = os.open(location, _READ, dir_fd=self._data)
            try:
                content = os.read(fd, size + 1)
            finally:
                os.close(fd)
        except OSError:
            return None
        return content if len(content) == size else None

    async def delete(self, location: str) -> None:
        """Delete the file. Readers that have it open are not disturbed."""
        parts = _LOCATION.fullmatch(location)
        if parts is not None:
            await in_thread(self._unlink, parts[1], parts[2])

    def _unlink(self, folder: str, name: str) -> None:
        with suppress(FileNotFoundError), _opened(folder, self._data) as directory:
            os.unlink(name, dir_fd=directory)

    async def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        """Go through data/, a folder (one of 4096) at a time."""
        for folder in sorted(await in_thread(_names, self._data)):
            for location in await in_thread(self._files_in, folder):
                yield location

    def _files_in(self, folder: str) -> list[tuple[str, datetime]]:
        """List the files of one folder with the time of the last change of each.

        That time is set by the rename that published the file; the time of modification is that of its
        last byte, which may be much older.
        """
        found = []
        with suppress(FileNotFoundError, NotADirectoryError), _opened(folder, self._data) as directory:
            for name in _names(directory):
                location = f"{folder}/{name}"
                if _LOCATION.fullmatch(location):
                    changed = os.stat(name, dir_fd=directory, follow_symlinks=False).st_ctime
                    found.append((location, datetime.fromtimestamp(changed, UTC)))
        return found

    async def sweep_staging(self, older_than: datetime) -> int:
        """Remove old staging files that no living process has locked."""
        return await in_thread(self._sweep_staging, older_than.timestamp())

    def _sweep_staging(self, older_than: float) -> int:
        removed = 0
        for name in _names(self._staging):
            with suppress(OSError):
                removed += _STAGED.fullmatch(name) is not None and self._remove_abandoned(name, older_than)
        return removed

    def _remove_abandoned(self, name: str, older_than: float) -> bool:
        fd = os.open(name, _READ, dir_fd=self._staging)
        try:
            if os.fstat(fd).st_mtime >= older_than:
                return False
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: somebody is writing
            os.unlink(name, dir_fd=self._staging)
        finally:
            os.close(fd)
        return True

    async def free_space(self) -> int:
        """Tell what the file system has left for us."""
        status = await in_thread(os.fstatvfs, self._data)
        return status.f_bavail * status.f_frsize

    async def total_space(self) -> int:
        """Tell the size of the file system."""
        status = await in_thread(os.fstatvfs, self._data)
        return status.f_blocks * status.f_frsize

    async def check(self) -> None:
        """Write a file and delete it."""
        await in_thread(self._probe)

    def _probe(self) -> None:
        name = uuid4().hex
        fd = os.open(name, _NEW, _PRIVATE_FILE, dir_fd=self._staging)
        try:
            os.write(fd, b"probe")
            os.fsync(fd)
        finally:
            os.close(fd)
            os.unlink(name, dir_fd=self._staging)


def _new_location() -> str:
    name = uuid4().hex
    return f"{name[:3]}/{name}"


def _require_whole(status: os.stat_result, location: str, size: int) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        raise OSError(f"{location} is damaged: it has {status.st_size} bytes and should have {size}")


def _names(directory: int) -> list[str]:
    return os.listdir(directory)


class _Staged:
    """A staging file, locked from its making to its end, however often it is closed in between."""

    def __init__(self, staging: int, name: str) -> None:
        self._staging = staging
        self._name = name
        self._lock = -1
        self.ended = False
        """Whether it is no staging file any more."""

    def open(self) -> int:
        """Make it; the lock says that a living process owns it, so the sweep leaves it alone."""
        fd = os.open(self._name, _NEW, _PRIVATE_FILE, dir_fd=self._staging)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock = os.dup(fd)  # a lock is held as long as one of its descriptors is open
        except OSError:
            os.close(fd)
            raise
        return fd

    def move(self, directory: int, name: str) -> None:
        """Let it become a file of `directory`."""
        os.rename(self._name, name, src_dir_fd=self._staging, dst_dir_fd=directory)
        self._end()

    def remove(self) -> None:
        """Delete it if it was made."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._staging)
        finally:
            self._end()

    def _end(self) -> None:
        self.ended = True
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


@contextmanager
def _opened(folder: str, parent: int) -> Iterator[int]:
    """Open a directory that must not be a symbolic link."""
    directory = os.open(folder, _DIRECTORY, dir_fd=parent)
    try:
        yield directory
    finally:
        with suppress(OSError):  # whatever had to be durable was synced
            os.close(directory)


async def _identity(path: Path) -> UUID:
    """Read which storage this is; make a name for a new one.

    Several processes may start on a new directory at once: link() lets one of them win.
    """
    while True:
        with suppress(FileNotFoundError):
            async with aiofiles.open(path, encoding="utf-8") as file:
                return UUID(json.loads(await file.read())["id"])
        draft = path.with_name(f"storage-{uuid4().hex}.draft")
        async with aiofiles.open(draft, "x", encoding="utf-8") as file:
            await file.write(json.dumps({"id": str(uuid4()), "made": datetime.now(UTC).isoformat()}) + "\n")
            await file.flush()
            await in_thread(os.fsync, file.fileno())
        await in_thread(_link_durably, draft, path)


def _link_durably(draft: Path, path: Path) -> None:
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    directory = os.open(path.parent, _DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
