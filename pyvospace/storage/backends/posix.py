"""Bytes in files of directories that belong to the service alone, one on each disk.

::

    storage.json            which storage this is
    directories/<id>        which other directories it has
    staging/<upload id>     what is being received; locked (flock) by the process that receives it
    data/<3 hex>/<32 hex>   what nodes name; the location is ``<3 hex>/<32 hex>``
    quarantine/<32 hex>     what nobody names, put there by ``pyvospace fsck --quarantine``

The other directories have staging/ and data/ as well, and directory.json: their id (8 hex), which stands before the
locations of what is in them, and the storage they belong to. So paths may change, and a disk that is not mounted is
never taken for an empty one.

No name in here comes from a client. Nothing is ever written over: files are made exclusively, and a location is
a new random number each time.
"""

import errno
import logging
import re
import threading
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Final, Self
from uuid import UUID, uuid4

from pyvospace.model.faults import InsufficientStorage, ServiceBusy
from pyvospace.model.together import Together
from pyvospace.storage.backend import (
    BackendConfig,
    Body,
    ByteRange,
    Download,
    DownloadJob,
    FileBytes,
    Listed,
    StorageBackend,
    UploadJob,
    in_thread,
)
from pyvospace.storage.backends.posix_directory import PRIVATE_DIRECTORY, Directory, Staged, publish_together
from pyvospace.storage.backends.posix_marks import DIRECTORY, KNOWN, STORAGE, keep_mark, read_mark

log = logging.getLogger(__name__)

_LOCATION: Final = re.compile("(?:([0-9a-f]{8})/)?([0-9a-f]{3})/([0-9a-f]{32})")
_ID: Final = re.compile("[0-9a-f]{8}")
_FOLDER: Final = re.compile("[0-9a-f]{3}")
_TROUBLE: Final = frozenset(
    {
        errno.EIO,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENODEV,
        errno.ENXIO,
        errno.ESTALE,
        errno.EUCLEAN,
        errno.ENOENT,
    }
)
"""What a directory says that can take no bytes, whoever sent them."""
_AVOIDED_FOR: Final = 60.0
"""Seconds for which bytes go elsewhere after that."""
_TRIED_AGAIN: Final = 1.0
"""Seconds after which a directory that is not there is looked for again."""
_ONE_FOLDER_FOR: Final = 0.05
_IN_ONE_FOLDER: Final = 64
"""Seconds for which, and the number of files for which, new files go to the same folder."""
_GROUPS: Final = 8
"""Of files that are published together: more than one only while a disk is slow."""
_random: Final = SystemRandom()


class PosixBackend(StorageBackend):
    """Keeps bytes below `path` and the other `directories`, which one or several processes of one machine serve."""

    reads_small_at_once = True

    def __init__(
        self,
        path: Path,
        *,
        directories: Sequence[Path] = (),
        draining: Iterable[Path] = (),
        remote: bool = False,
    ) -> None:
        emptied = set(draining)
        self._home = Directory(path, draining=path in emptied)
        self._others = [Directory(one, draining=one in emptied) for one in directories]
        self._remote = remote
        self._identity = ""
        self._admitting = threading.Lock()
        self._publishing = Together(self._publish_together, groups=_GROUPS)
        self._folder = ""
        self._folder_until = 0.0
        self._left_in_folder = 0

    @classmethod
    def configure(cls, config: BackendConfig) -> Self:
        """Make a backend for the directory ``storage.path``, and for more.

        Options: ``directories``, absolute paths with colons between them, each an existing directory of its own on
        another disk; ``draining``, those among all directories that take no new bytes any more; ``network_filesystem =
        "true"`` permits directories on NFS and the like, where a flush may not mean what it says, and a lock may not
        hold.
        """
        options = dict(config.options)
        remote = options.pop("network_filesystem", "false")
        directories = _paths(options, "directories")
        draining = _paths(options, "draining")
        for option in options:
            raise ValueError(f"storage.options.{option}: the posix backend has no such option")
        if remote not in {"true", "false"}:
            raise ValueError('storage.options.network_filesystem: write "true" or "false"')
        known = [config.path, *directories]
        if len(set(known)) < len(known):
            raise ValueError("storage.options.directories: name every directory once, and storage.path not at all")
        for path in draining:
            if path not in known:
                raise ValueError(f"storage.options.draining: {path} is none of the directories")
        return cls(config.path, directories=directories, draining=draining, remote=remote == "true")

    # Directories: which are there, and which are not

    async def start(self) -> UUID:
        """Make the directories if need be and open them; one that is missing is reported."""
        await in_thread(self._start)
        return UUID(self._identity)

    def _start(self) -> None:
        self._home.path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        marks = [_mark_of(one) for one in self._others]
        if any(marks) and not (self._home.path / STORAGE).exists():
            raise FileNotFoundError(f"{self._home.path / STORAGE}: other directories have bytes; is the disk mounted?")
        self._home.open(remote=self._remote)
        self._identity = keep_mark(self._home.path / STORAGE, lambda: {"id": str(uuid4())})["id"]
        lost = self._known() - {mark["id"] for mark in marks if mark}
        for directory in self._others:
            try:
                self._admit(directory, new=not lost)
            except PermissionError:
                raise  # a mistake of the administrator, not of a disk
            except OSError as error:
                _miss(directory, error)

    def _admit(self, directory: Directory, *, new: bool) -> None:
        """Open a directory if it is ours.

        A directory that says nothing is made ours if `new` permits it. It does not while another one that we know is
        nowhere to be found: this may be that one, not mounted, under another name.
        """
        mark = read_mark(directory.path / DIRECTORY) or self._prepare(directory, new=new)
        if not _ID.fullmatch(mark["id"]):
            raise ValueError(f"{directory.path / DIRECTORY} is damaged: {mark['id']!r} is no id")
        if mark.get("storage") != self._identity:
            raise PermissionError(f"{directory.path} belongs to the storage {mark.get('storage')}")
        if any(mark["id"] == other.id for other in self._others if other is not directory):
            raise PermissionError(f"{directory.path} is one of the other directories under another name")
        known = self._home.path / KNOWN
        known.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        keep_mark(known / mark["id"], lambda: {"id": mark["id"], "path": str(directory.path)})
        directory.id = mark["id"]
        directory.open(remote=self._remote)
        directory.avoided_until = 0.0
        _report(directory, "")

    def _prepare(self, directory: Directory, *, new: bool) -> dict[str, str]:
        """Make a directory ours."""
        if not new:
            raise FileNotFoundError(errno.ENOENT, "is the disk mounted?", str(directory.path / DIRECTORY))
        if (directory.path / STORAGE).exists():
            raise PermissionError(f"{directory.path} is the first directory of a storage of its own")
        return keep_mark(directory.path / DIRECTORY, lambda: {"id": uuid4().hex[:8], "storage": self._identity})

    def _known(self) -> set[str]:
        """Give the ids of all other directories that were ever taken into use."""
        try:
            return {path.name for path in (self._home.path / KNOWN).iterdir() if path.suffix != ".draft"}
        except FileNotFoundError:
            return set()

    def _open_ones(self) -> list[Directory]:
        """Give all directories that are there, those included that came back."""
        with self._admitting:
            for directory in self._others:
                if not directory.is_open and directory.avoided_until <= time.monotonic():
                    try:
                        self._admit(directory, new=False)
                    except (OSError, ValueError) as error:
                        _miss(directory, error)
        return [one for one in (self._home, *self._others) if one.is_open]

    def _find(self, location: str) -> tuple[Directory, str, str]:
        """Split a location into directory, folder and name.

        Raises
        ------
        FileNotFoundError
            It never was one.
        ServiceBusy
            Its directory is not there now.
        """
        parts = _LOCATION.fullmatch(location)
        if parts is None:
            raise FileNotFoundError(location)
        directory_id, folder, name = parts[1] or "", parts[2], parts[3]
        for directory in (self._home, *self._others):
            if directory.is_open and directory.id == directory_id:
                return directory, folder, name
        for directory in self._open_ones():
            if directory.id == directory_id:
                return directory, folder, name
        known = self._home.path / KNOWN / directory_id
        if not known.exists():
            raise FileNotFoundError(location)
        log.error("%s is in a directory that is not there: see %s", location, known)
        raise ServiceBusy("the disk with these bytes cannot be read now")

    async def close(self) -> None:
        """Close the directories."""
        for directory in (self._home, *self._others):
            directory.close()

    # Bytes

    async def upload(self, job: UploadJob, body: Body) -> None:
        """Write to a staging file, then rename it inside the transaction."""
        staged = Staged(job.id)
        try:
            await body.write_to(partial(self._stage, staged, job.size))
            async with job.transaction() as transaction:
                location = self._new_location(staged)
                await transaction.store(location, shared=True)
                await self._publishing.do((staged, location))
        except OSError as error:
            if await in_thread(self._can_go_elsewhere, staged, error):
                raise ServiceBusy("the disk has failed; another one will take these bytes") from error
            raise
        finally:
            if not staged.ended:
                await in_thread(_remove, staged)

    def _new_location(self, staged: Staged) -> str:
        """Think of a location; those of about the same time are in one folder, so that one flush will do for them."""
        if not self._left_in_folder or self._folder_until <= time.monotonic():
            self._folder = f"{_random.getrandbits(12):03x}"
            self._left_in_folder, self._folder_until = _IN_ONE_FOLDER, time.monotonic() + _ONE_FOLDER_FOR
        self._left_in_folder -= 1
        prefix = f"{staged.home.id}/" if staged.home.id else ""
        return f"{prefix}{self._folder}/{uuid4().hex}"

    def _stage(self, staged: Staged, size: int | None) -> int:
        """Open a staging file where there is room for `size` bytes, in the first directory that can."""
        failure: OSError | None = None
        for directory in self._by_room(size or 0):
            try:
                return staged.open(directory)
            except OSError as error:
                if not self._avoid(directory, error):
                    raise
                failure = error
        raise failure or ServiceBusy("no disk takes new bytes now")

    def _by_room(self, size: int) -> list[Directory]:
        """Give the directories with room for `size` bytes in a random order, those with much free space rather first.

        Raises
        ------
        InsufficientStorage
            There are some, but none with so much room.
        """
        taking = self._taking()
        if len(taking) <= 1:
            return taking  # the core has compared the size
        room = {one: self._space(one)[1] for one in taking}
        fitting = [one for one in taking if room[one] > size]
        if not fitting:
            raise InsufficientStorage("there is no room for these bytes")
        order = {one: _random.expovariate(room[one]) for one in fitting}
        return sorted(fitting, key=order.__getitem__)

    def _taking(self) -> list[Directory]:
        """Give the directories that take new bytes; those that have just failed only if there are no others."""
        taking = [one for one in self._open_ones() if not one.draining]
        now = time.monotonic()
        return [one for one in taking if one.avoided_until <= now] or taking

    def _can_go_elsewhere(self, staged: Staged, error: OSError) -> bool:
        """Tell whether the directory is the reason of `error`, and another one is likely to take the bytes."""
        if staged.directory is None or not self._avoid(staged.directory, error):
            return False
        return any(one.avoided_until <= time.monotonic() for one in self._taking())

    def _avoid(self, directory: Directory, error: OSError) -> bool:
        """Let new bytes go elsewhere for a while if the directory, and not the upload, is the reason of `error`."""
        if error.errno not in _TROUBLE:
            return False
        directory.avoided_until = time.monotonic() + _AVOIDED_FOR
        _report(directory, f"takes no bytes: {error.strerror}")
        return True

    async def _publish_together(self, files: Sequence[tuple[Staged, str]]) -> list[BaseException | None]:
        return await in_thread(self._publish, files)

    def _publish(self, files: Sequence[tuple[Staged, str]]) -> list[BaseException | None]:
        return publish_together(files)

    async def download(self, job: DownloadJob, byte_range: ByteRange | None) -> Download:
        """Open the file; who reads it keeps it, also if it is deleted meanwhile."""
        del byte_range  # the core reads from the file what it needs
        return await in_thread(self._open_stored, job.location, job.size)

    def _open_stored(self, location: str, size: int) -> FileBytes:
        directory, folder, name = self._find(location)
        path = directory.path / "data" / folder / name
        return FileBytes(directory.open_stored(folder, name, size), path=path)

    async def read_small(self, jobs: Sequence[DownloadJob]) -> Sequence[bytes | None]:
        """Read all files in one go."""
        return await in_thread(self._read_all, jobs)

    def _read_all(self, jobs: Sequence[DownloadJob]) -> list[bytes | None]:
        return [self._read_whole(job.location, job.size) for job in jobs]

    def _read_whole(self, location: str, size: int) -> bytes | None:
        try:
            directory, folder, name = self._find(location)
        except (FileNotFoundError, ServiceBusy):
            return None
        return directory.read_whole(folder, name, size)

    async def delete(self, location: str) -> None:
        """Delete the file. Readers that have it open are not disturbed.

        What is in a directory that is not there stays. The sweep finds it when the directory is back.
        """
        with suppress(FileNotFoundError, ServiceBusy):
            await in_thread(self._delete, location)

    def _delete(self, location: str) -> None:
        directory, folder, name = self._find(location)
        directory.delete(folder, name)

    # Housekeeping

    async def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        """Go through what `listing` finds."""
        async for one in self.listing():
            yield one.location, one.published

    async def listing(self) -> AsyncIterator[Listed]:
        """Go through data/ of each directory, a folder (one of 4096) at a time.

        Raises
        ------
        ServiceBusy
            After everything else: a directory is not there, so the list is not whole.
        """
        directories = await in_thread(self._open_ones)
        for directory in directories:
            prefix = f"{directory.id}/" if directory.id else ""
            for folder in filter(_FOLDER.fullmatch, await in_thread(directory.folders)):
                for name, published, size in await in_thread(directory.files_in, folder):
                    yield Listed(f"{prefix}{folder}/{name}", published, size)
        lost = await in_thread(self._known) - {one.id for one in directories}
        if lost:
            raise ServiceBusy(f"the list lacks what is in directories that are not there: {', '.join(sorted(lost))}")

    async def size(self, location: str) -> int:
        """Look at the file."""
        return await in_thread(self._size, location)

    def _size(self, location: str) -> int:
        directory, folder, name = self._find(location)
        return directory.size(folder, name)

    async def quarantine(self, location: str) -> bool:
        """Move the file into quarantine/ of its directory, where an operator may look at it or remove it."""
        with suppress(FileNotFoundError):
            await in_thread(self._set_aside, location)
        return True

    def _set_aside(self, location: str) -> None:
        directory, folder, name = self._find(location)
        directory.set_aside(folder, name)

    async def sweep_staging(self, older_than: datetime) -> int:
        """Remove old staging files that no living process has locked."""
        directories = await in_thread(self._open_ones)
        return sum([await in_thread(one.sweep, older_than.timestamp()) for one in directories])

    async def free_space(self) -> int:
        """Tell what the file systems of the directories that take new bytes have left for us."""
        return sum(free for free, _ in await in_thread(self._spaces))

    async def total_space(self) -> int:
        """Tell the size of the same file systems."""
        return sum(total for _, total in await in_thread(self._spaces))

    def _spaces(self) -> list[tuple[int, int]]:
        """Give free and total space of each file system, once."""
        found = [self._space(one) for one in self._taking()]
        return list({device: (free, total) for device, free, total in found}.values())

    def _space(self, directory: Directory) -> tuple[int, int, int]:
        try:
            return directory.space()
        except OSError as error:
            if not self._avoid(directory, error):
                raise
            return -1, 0, 0

    async def check(self) -> None:
        """Write a file to each directory and delete it; one that takes it is enough, what others say is reported."""
        await in_thread(self._check)

    def _check(self) -> None:
        failures: list[OSError] = []
        wanted = [one for one in self._open_ones() if not one.draining]
        for directory in wanted:
            try:
                directory.probe()
            except OSError as error:
                failures.append(error)
                if not self._avoid(directory, error):
                    _report(directory, f"takes no bytes: {error}")
            else:
                directory.avoided_until = 0.0
                _report(directory, "")
        if failures and len(failures) == len(wanted):
            raise failures[0]
        if not wanted and not all(one.draining for one in (self._home, *self._others)):
            raise OSError("the directories that take new bytes are not there")


def _paths(options: dict[str, str], name: str) -> list[Path]:
    """Take an option that names directories."""
    found = [Path(one) for one in options.pop(name, "").split(":") if one]
    for path in found:
        if not path.is_absolute():
            raise ValueError(f"storage.options.{name}: {path} does not begin with /")
    return found


def _mark_of(directory: Directory) -> dict[str, str] | None:
    """Read what a directory says of itself; None if it does not, or cannot be read."""
    try:
        return read_mark(directory.path / DIRECTORY)
    except OSError:
        return None


def _miss(directory: Directory, error: Exception) -> None:
    """Go on without a directory for a moment."""
    directory.avoided_until = time.monotonic() + _TRIED_AGAIN
    _report(directory, f"not there: {error}")


def _report(directory: Directory, trouble: str) -> None:
    """Log what has changed about a directory; no trouble: it is well."""
    if trouble == directory.trouble:
        return
    directory.trouble = trouble
    if trouble:
        log.error("the directory %s: %s", directory.path, trouble)
    else:
        log.warning("the directory %s is back", directory.path)


def _remove(staged: Staged) -> None:
    try:
        staged.remove()
    except OSError as error:  # the upload has its own failure to tell; the sweep comes later
        log.warning("a staging file is left: %s", error)
