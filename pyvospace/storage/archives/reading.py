"""Archives as strangers send them: members out, one after the other. For worker threads, one call at a time.

Nothing is ever written to a file system under a name of the archive. What could lead out of the tree, fill the store
or eat the memory is refused, and with it the whole archive; the formats themselves are read by the standard library,
through files that give no large piece at once and never go back.
"""

import gzip
import io
import re
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import IO, BinaryIO, Final

from pyvospace.model.archives import TAR_GZ, ZIP, ArchiveFormat
from pyvospace.model.entries import write_file_time
from pyvospace.model.faults import InvalidData, InvalidURI, RequestEntityTooLarge
from pyvospace.model.uris import MAX_DEPTH, RESERVED, check_name

PIECE: Final = 1 << 20
"""Most bytes that are read at once."""
_LARGEST_HEAD: Final = 128 << 10
_DIGITS: Final = re.compile(rb"[0-9]{100}")
"""Longer numbers stand in no head; tarfile searches them in quadratic time (CVE-2024-6232)."""
_SECONDS: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,30})?")
_HEAD_PIECES: Final = 40
"""Pieces that are read for one member: a head, and with it perhaps a long name, a long target and keywords."""
_COMMON_KEYWORDS: Final = 100
"""Keywords for all members that follow: tarfile keeps them, and looks at all of them for each member."""
_RATIO_FROM: Final = 64 << 20
"""Bytes up to which nobody minds how well they were compressed."""
_TABLE_ROW: Final = 160
"""Bytes for each member in the table of a zip archive, on average, at the most."""
_ZIP_TYPES: Final = frozenset({0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_ZIP_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED: Final = 0x1


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an archive may be at the most."""

    members: int
    size: int
    """Bytes of all members together, with what the format needs beside them."""
    ratio: int
    """How many times larger it may be than what was sent."""
    depth: int
    """Names that may lead to a member."""


@dataclass(frozen=True, slots=True)
class ReadMember:
    """A member of an archive, found to be harmless."""

    path: tuple[str, ...]
    """From the container on; empty: the container itself."""
    size: int = 0
    is_folder: bool = False
    target: tuple[str, ...] | None = None
    """Of a link: a path from the container on."""
    changed: str | None = None
    """When a file was changed, as the property FILE_TIME says it; None: the archive does not say."""


class ArchiveReader(ABC):
    """Gives the members of an archive, and after each its bytes."""

    def __init__(self, limits: UnpackLimits) -> None:
        self._limits = limits
        self._seen = 0

    def next(self) -> ReadMember | None:
        """Go on to the next member; None: that was the last.

        Raises
        ------
        InvalidData
            The archive is damaged, or a member is none that can become a node.
        RequestEntityTooLarge
            It is too large in some way.
        """
        with _damage():
            return self._next()

    def read(self) -> bytes:
        """Read on in the present member; empty: at its end."""
        with _damage():
            return self._read()

    @abstractmethod
    def _next(self) -> ReadMember | None: ...

    @abstractmethod
    def _read(self) -> bytes: ...

    def _member(self, name: str, *, size: int = 0, is_folder: bool = False, link: str | None = None) -> ReadMember:
        self._seen += 1  # also those of one name: the bytes of each are stored before the last is known
        if self._seen > self._limits.members + 1:
            raise too_many(self._limits)
        path = _path(name)
        if len(path) > self._limits.depth:
            raise InvalidData(f"{name[:300]!r} is too deep: a path has {MAX_DEPTH} names at the most")
        if not path and not is_folder:
            raise InvalidData("a member without a name can only be a directory")
        return ReadMember(path, size, is_folder, None if link is None else _target(path, link))


class TarReader(ArchiveReader):
    """Reads tar archives of all kinds that tar itself writes."""

    def __init__(self, file: BinaryIO, limits: UnpackLimits, *, sent: int, compressed: bool) -> None:
        super().__init__(limits)
        read = gzip.GzipFile(fileobj=file, mode="rb").read if compressed else file.read
        self._file = _Forwards(read, limits, sent=sent)
        self._tar: tarfile.TarFile | None = None
        self._content: IO[bytes] | None = None

    def _next(self) -> ReadMember | None:
        if self._tar is None:
            self._tar = tarfile.TarFile(fileobj=self._file, encoding="utf-8", errors="surrogateescape")
        self._file.pieces_left = _HEAD_PIECES
        info = self._tar.next()
        self._tar.members.clear()  # type: ignore[attr-defined] # it would keep them all
        if len(self._tar.pax_headers) > _COMMON_KEYWORDS:
            raise InvalidData(f"the archive has more than {_COMMON_KEYWORDS} keywords for all of its members")
        if info is None:
            self._file.require_end()
            return None
        if info.size < 0 or info.issparse() or not (info.isreg() or info.isdir() or info.issym()):
            raise InvalidData(f"{info.name[:300]!r} is neither a plain file nor a directory nor a symbolic link")
        self._file.require(info.size)
        if info.isreg():
            self._content = self._tar.extractfile(info)
        link = info.linkname if info.issym() else None
        size = info.size if info.isreg() else 0
        member = self._member(info.name, size=size, is_folder=info.isdir(), link=link)
        return replace(member, changed=_time_of(info)) if info.isreg() else member

    def _read(self) -> bytes:
        self._file.in_content = True
        try:
            return self._content.read(PIECE) if self._content is not None else b""
        finally:
            self._file.in_content = False


class _Forwards(io.RawIOBase):
    """A file that is read from its beginning to its end, in small pieces and up to a limit."""

    def __init__(self, read: Callable[[int], bytes], limits: UnpackLimits, *, sent: int) -> None:
        self._take_from = read
        self._position = 0
        self._last = b""
        self._limits = limits
        self._most = min(limits.size, max(limits.ratio * sent, _RATIO_FROM))
        self.in_content = False
        """What is read now are bytes of a member: nobody looks for anything in them."""
        self.pieces_left = _HEAD_PIECES
        """Pieces that may be read until the next member is found."""

    def read(self, size: int = -1) -> bytes:
        if not self.in_content:
            self.pieces_left -= 1
            if self.pieces_left < 0:
                raise InvalidData("the archive has too many heads for one member")
        if not 0 <= size <= (PIECE if self.in_content else _LARGEST_HEAD):
            raise InvalidData("the archive has a head that is too large")
        piece = self._take(size)
        if not self.in_content and _DIGITS.search(piece):
            raise InvalidData("the archive has a head with a number that is too long")
        return piece

    def _take(self, size: int) -> bytes:
        self._last = self._take_from(size)
        self._position += len(self._last)
        self.require(0)
        return self._last

    def require(self, size: int) -> None:
        """Refuse an archive of which so many bytes are to come, if these are too many."""
        if self._position + size > self._most:
            raise RequestEntityTooLarge(f"the archive holds more than {self._most} bytes")

    def seek(self, position: int, _whence: int = 0) -> int:
        if position < self._position:
            raise InvalidData("the archive leads back to what was read before")
        while self._position < position and self._take(min(PIECE, position - self._position)):
            pass
        return self._position

    def tell(self) -> int:
        return self._position

    def require_end(self) -> None:
        """Make sure that the archive has ended, and is not just damaged; read what is behind it."""
        if len(self._last) != tarfile.BLOCKSIZE or any(self._last):
            raise InvalidData("the archive is damaged, or ends too early")
        while self._take(PIECE):
            pass


class ZipReader(ArchiveReader):
    """Reads zip archives, plain or compressed with the method that all know."""

    def __init__(self, file: BinaryIO, limits: UnpackLimits, *, sent: int) -> None:
        super().__init__(limits)
        self._sent = sent
        self._file = _Pieces(file, max(limits.members * _TABLE_ROW, PIECE))
        self._zip: zipfile.ZipFile | None = None
        self._infos: Iterator[zipfile.ZipInfo] = iter(())
        self._content: IO[bytes] | None = None

    def _next(self) -> ReadMember | None:
        if self._zip is None:
            self._zip = zipfile.ZipFile(self._file)
            self._check(self._zip.infolist())
            self._infos = iter(self._zip.infolist())
        info = next(self._infos, None)
        if info is None:
            return None
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in _ZIP_TYPES or info.flag_bits & _ENCRYPTED or info.compress_type not in _ZIP_METHODS:
            raise InvalidData(f"{info.filename[:300]!r} is of a special type, encrypted, or compressed in a rare way")
        if info.is_dir() or kind == stat.S_IFDIR:
            return self._member(info.filename, is_folder=True)
        self._content = self._zip.open(info)
        if kind == stat.S_IFLNK:
            return self._member(info.filename, link=self._content.read(PIECE).decode())
        return self._member(info.filename, size=info.file_size)

    def _check(self, infos: list[zipfile.ZipInfo]) -> None:
        size = sum(info.file_size for info in infos)
        most = min(self._limits.size, max(self._limits.ratio * self._sent, _RATIO_FROM))
        if len(infos) > self._limits.members:
            raise too_many(self._limits)
        if size > most:
            raise RequestEntityTooLarge(f"the archive holds more than {most} bytes")

    def _read(self) -> bytes:
        return self._content.read(PIECE) if self._content is not None else b""


class _OutsideError(OSError):
    """A place in a zip archive that it does not have; the standard library tries some that small ones do not have."""


class _Pieces(io.RawIOBase):
    """A file that gives no more than `most` bytes at once."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file = file
        self._most = most

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise InvalidData("the table of the archive is too large")
        return self._file.read(size if size >= 0 else self._most)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            raise _OutsideError("the table of the archive leads out of it") from None

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()


def archive_reader(wanted: ArchiveFormat, file: BinaryIO, limits: UnpackLimits, *, sent: int) -> ArchiveReader:
    """Make the reader of a format, for `file` of `sent` bytes."""
    if wanted is ZIP:
        return ZipReader(file, limits, sent=sent)
    return TarReader(file, limits, sent=sent, compressed=wanted is TAR_GZ)


def too_many(limits: UnpackLimits) -> RequestEntityTooLarge:
    """Refuse an archive for the number of its members."""
    return RequestEntityTooLarge(f"an archive makes {limits.members} nodes at the most")


def _time_of(info: tarfile.TarInfo) -> str | None:
    """Read when a file was changed: keywords tell it exactly; None: it is no time that a file can have."""
    told = info.pax_headers.get("mtime", "")
    try:
        if _SECONDS.fullmatch(told):
            return write_file_time(int(Decimal(told).scaleb(9)))
        return write_file_time(int(info.mtime) * 10**9)
    except (ArithmeticError, ValueError):
        return None


def _path(name: str) -> tuple[str, ...]:
    """Read the path of a member by the rules of all paths (`model.uris`); what tar writes for here does not count."""
    if name.startswith("/"):
        raise InvalidData(f"{name[:300]!r} is an absolute path")
    names = tuple(part for part in name.split("/") if part not in {"", "."})
    for one in names:
        try:
            check_name(one)
        except InvalidURI as error:
            raise InvalidData(f"a member of the archive: {error.detail}") from None
        if one in RESERVED:
            raise InvalidData(f"{one} is reserved and no name of a node")
    return names


def _target(path: tuple[str, ...], link: str) -> tuple[str, ...]:
    """Follow a symbolic link from where it stands; it must not leave the tree, not even on its way."""
    if link.startswith("/"):
        raise InvalidData(f"{path[-1]!r} leads out of the archive")
    found = list(path[:-1])
    for part in link.split("/"):
        if part == "..":
            if not found:
                raise InvalidData(f"{path[-1]!r} leads out of the archive")
            found.pop()
        else:
            found.extend(_path(part))
    return tuple(found)


@contextmanager
def _damage() -> Iterator[None]:
    """Say in our words what the standard library finds wrong with an archive."""
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        UnicodeError,
        ValueError,
        NotImplementedError,
        OverflowError,
        gzip.BadGzipFile,
        _OutsideError,
    ) as error:
        raise InvalidData(f"the archive is damaged: {str(error)[:200]}") from error
