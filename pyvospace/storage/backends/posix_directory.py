"""One directory with bytes, within one file system: what is staged is published by a rename. For worker threads."""

import fcntl
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, cast
from uuid import uuid4

import psutil

from pyvospace.model.crash import crash_point

PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600
_FILE: Final = re.compile("[0-9a-f]{32}")
_STAGED: Final = re.compile("[0-9a-f]{1,64}")
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


class Directory:
    """``staging/`` and ``data/`` of one directory; `folder` and `name` are the last two parts of a location."""

    def __init__(self, path: Path, *, draining: bool = False) -> None:
        self.path = path
        self.draining = draining
        self.id = ""
        """Empty for the first directory of a storage."""
        self.trouble = ""
        """What was last reported of it."""
        self.avoided_until = 0.0
        """On the monotonic clock: it has failed, so bytes go elsewhere if there is an elsewhere. One that is not open
        is not tried again before that."""
        self._staging = -1
        self._data = -1
        self._made: set[str] = set()
        """Folders of data/ whose own entries are known to be durable."""

    @property
    def is_open(self) -> bool:
        """Whether it is there and belongs to us."""
        return self._data >= 0

    def open(self, *, remote: bool) -> None:
        """Make what is missing in it, and open it.

        Raises
        ------
        PermissionError
            Others may write to it, or it is on another machine and `remote` does not permit that.
        """
        if not remote and (kind := filesystem_of(self.path)) in _REMOTE:
            raise PermissionError(
                f"{self.path} is on {kind}, which may lose what it has acknowledged: take a local directory, or set "
                'storage.options.network_filesystem = "true"'
            )
        for name in ("staging", "data"):
            (self.path / name).mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        root = os.open(self.path, _DIRECTORY)
        try:
            if os.fstat(root).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise PermissionError(f"others may write to {self.path}: chmod go-w it")
            os.fsync(root)
            self._staging = os.open("staging", _DIRECTORY, dir_fd=root)
            self._data = os.open("data", _DIRECTORY, dir_fd=root)
        except OSError:
            self.close()
            raise
        finally:
            os.close(root)

    def close(self) -> None:
        """Close it."""
        for directory in (self._staging, self._data):
            if directory >= 0:
                os.close(directory)
        self._staging = self._data = -1

    def stage(self, name: str) -> int:
        """Make a new staging file and open it for writing."""
        return os.open(name, _NEW, _PRIVATE_FILE, dir_fd=self._staging)

    def unstage(self, name: str) -> None:
        """Delete a staging file; it need not be there."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._staging)

    def publish(self, folder: str, names: Sequence[tuple[str, str]]) -> list[OSError | None]:
        """Turn staging files into bytes with a location, durably; tell for each what went wrong.

        Parameters
        ----------
        names
            Of each what it is called in staging, and what it is to be called.
        """
        self._make_folder(folder)
        with _opened(folder, self._data) as directory:
            outcomes = [self._rename(staged, name, directory) for staged, name in names]
            crash_point("after-rename")
            os.fsync(directory)
            crash_point("after-dirsync")
        return outcomes

    def _rename(self, staged: str, name: str, directory: int) -> OSError | None:
        try:
            os.rename(staged, name, src_dir_fd=self._staging, dst_dir_fd=directory)
        except OSError as error:
            return error
        return None

    def _make_folder(self, folder: str) -> None:
        if folder in self._made:
            return
        with suppress(FileExistsError):
            os.mkdir(folder, PRIVATE_DIRECTORY, dir_fd=self._data)
        # Even if it was there: another process may have made it just now and not synced yet.
        os.fsync(self._data)
        self._made.add(folder)

    def open_stored(self, folder: str, name: str, size: int) -> BinaryIO:
        """Open the bytes of a location, if they are `size` many."""
        with _opened(folder, self._data) as directory:
            file = io.FileIO(os.open(name, _READ, dir_fd=directory))
        try:
            _require_whole(os.fstat(file.fileno()), self.path / "data" / folder / name, size)
        except OSError:
            file.close()
            raise
        return cast("BinaryIO", file)

    def read_whole(self, folder: str, name: str, size: int) -> bytes | None:
        """Read the bytes of a location; None if they are missing or not as they should be."""
        try:
            fd = os.open(f"{folder}/{name}", _READ, dir_fd=self._data)
            try:
                content = os.read(fd, size + 1)
            finally:
                os.close(fd)
        except OSError:
            return None
        return content if len(content) == size else None

    def delete(self, folder: str, name: str) -> None:
        """Delete the bytes of a location; they need not be there."""
        with suppress(FileNotFoundError), _opened(folder, self._data) as directory:
            os.unlink(name, dir_fd=directory)

    def folders(self) -> list[str]:
        """List the folders of data/."""
        return sorted(_names(self._data))

    def size(self, folder: str, name: str) -> int:
        """Tell how many bytes a location has."""
        return os.stat(f"{folder}/{name}", dir_fd=self._data, follow_symlinks=False).st_size

    def set_aside(self, folder: str, name: str) -> None:
        """Move the bytes of a location into quarantine/, which is made if need be; they need not be there."""
        place = self.path / "quarantine"
        place.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        with suppress(FileNotFoundError), _opened(folder, self._data) as directory:
            os.rename(name, place / name, src_dir_fd=directory)
            os.fsync(directory)

    def files_in(self, folder: str) -> list[tuple[str, datetime, int]]:
        """List the files of one folder with the time of the last change of each, and their sizes.

        That time is set by the rename that published the file; the time of modification is that of its
        last byte, which may be much older.
        """
        found = []
        with suppress(FileNotFoundError, NotADirectoryError), _opened(folder, self._data) as directory:
            for name in filter(_FILE.fullmatch, _names(directory)):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    found.append((name, datetime.fromtimestamp(status.st_ctime, UTC), status.st_size))
        return found

    def sweep(self, older_than: float) -> int:
        """Remove old staging files that no living process has locked; tell how many."""
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

    def space(self) -> tuple[int, int, int]:
        """Tell which file system it is on, the bytes that this has left for us, and all of its bytes."""
        status = os.fstatvfs(self._data)
        return os.fstat(self._data).st_dev, status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize

    def probe(self) -> None:
        """Write a file and delete it."""
        name = uuid4().hex
        fd = self.stage(name)
        try:
            os.write(fd, b"probe")
            os.fsync(fd)
        finally:
            os.close(fd)
            self.unstage(name)


def _names(directory: int) -> list[str]:
    return os.listdir(directory)


def _require_whole(status: os.stat_result, path: Path, size: int) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        raise OSError(f"{path} is damaged: it has {status.st_size} bytes and should have {size}")


class Staged:
    """A staging file, locked from its making to its end, however often it is closed in between."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = -1
        self.directory: Directory | None = None
        """Where it was made; None: nowhere yet."""
        self.ended = False
        """Whether it is no staging file any more."""

    def open(self, directory: Directory) -> int:
        """Make it; the lock says that a living process owns it, so the sweep leaves it alone."""
        fd = directory.stage(self.name)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._lock = os.dup(fd)  # a lock is held as long as one of its descriptors is open
        except OSError:
            os.close(fd)
            directory.unstage(self.name)
            raise
        self.directory = directory
        return fd

    def remove(self) -> None:
        """Delete it if it was made."""
        try:
            if self.directory is not None:
                self.directory.unstage(self.name)
        finally:
            self.end()

    @property
    def home(self) -> Directory:
        """Give where it was made."""
        if self.directory is None:
            raise RuntimeError("nothing was staged")
        return self.directory

    def end(self) -> None:
        """Be no staging file any more."""
        self.ended = True
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def publish_together(files: Sequence[tuple[Staged, str]]) -> list[BaseException | None]:
    """Let staging files become the bytes of these locations, those of one folder by one flush of it.

    What went wrong is told for each. Where the flush failed, it is told for all of the folder.
    """
    outcomes: list[BaseException | None] = [None] * len(files)
    folders: dict[tuple[Directory, str], list[int]] = {}
    for number, (staged, location) in enumerate(files):
        folders.setdefault((staged.home, location.split("/")[-2]), []).append(number)
    for (directory, folder), numbers in folders.items():
        names = [(files[number][0].name, files[number][1].rpartition("/")[2]) for number in numbers]
        found: Sequence[BaseException | None]
        try:
            found = directory.publish(folder, names)
        except Exception as error:  # noqa: BLE001 (whoever waits for these is to hear of it, and nobody else)
            found = [error] * len(numbers)
        for number, failure in zip(numbers, found, strict=True):
            outcomes[number] = failure
            if failure is None:
                files[number][0].end()
    return outcomes


@contextmanager
def _opened(folder: str, parent: int) -> Iterator[int]:
    """Open a directory that must not be a symbolic link."""
    directory = os.open(folder, _DIRECTORY, dir_fd=parent)
    try:
        yield directory
    finally:
        with suppress(OSError):  # whatever had to be durable was synced
            os.close(directory)
