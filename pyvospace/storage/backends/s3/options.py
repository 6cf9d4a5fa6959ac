"""What ``[storage.options]`` says of an S3 store."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

_MIB: Final = 1 << 20
_LEAST_PART: Final = 5 * _MIB
_LARGEST_PART: Final = 5 << 30
_LEAST_READ: Final = 64 << 10
_SIZE: Final = re.compile(r"(\d{1,18})\s*(|KiB|MiB|GiB|TiB|PiB)")
_UNITS: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50}
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PREFIX: Final = re.compile(r"|[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?")
_DOTS: Final = re.compile(r"(^|/)\.\.?(/|$)")

CHECKSUMS: Final = ("signature", "md5", "sha256", "crc32")


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of one storage in a bucket."""

    bucket: str
    """Its name; it exists already."""
    prefix: str = ""
    """What all keys begin with, so that several storages share a bucket; ends with a slash if there is one."""
    endpoint: str | None = None
    """URL of the store; None: that of AWS for the region."""
    region: str | None = None
    """Region; None: as environment or profile say, else us-east-1."""
    addressing: str = "auto"
    """Whether the bucket stands in the path or in the name of the host."""
    ca_file: Path | None = None
    """Certificates that may vouch for the store, in place of the usual ones."""
    credentials: Path | None = None
    """File with the keys, in the format of ``~/.aws/credentials``; None: the usual chain of boto3."""
    profile: str | None = None
    """Section of that file, or profile of the usual chain."""
    part_size: int = 8 * _MIB
    """Bytes of a part of an upload."""
    read_size: int = 4 * _MIB
    """Bytes that one request reads."""
    concurrency: int = 8
    """Parts of one upload, and reads of one download, under way at once."""
    threads: int = 32
    """Requests for bytes under way at once, of all transfers."""
    memory: int = 512 * _MIB
    """Bytes that all uploads together may hold; and as much again for all downloads."""
    connect_timeout: float = 5.0
    """Seconds to wait for a connection."""
    read_timeout: float = 30.0
    """Seconds in which something must come."""
    attempts: int = 4
    """How often a request is tried in all."""
    checksum: str = "signature"
    """How the store proves that it has what it was sent."""
    storage_class: str | None = None
    """Class of the objects; None: the default of the bucket."""
    encryption: str | None = None
    """Encryption at the server, as ``AES256``; None: as the bucket has it."""
    kms_key: str | None = field(default=None, repr=False)
    """Key for the encryption ``aws:kms``."""
    capacity: int | None = None
    """Bytes that this storage may hold; None: as many as fit."""
    redirect: bool = False
    """Whether clients fetch bytes from the store itself, by presigned URLs."""
    redirect_expires: int = 300
    """Seconds for which such a URL is good."""

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Self:
        """Read the options.

        Raises
        ------
        ValueError
            One is missing, unknown or wrong; the text names it.
        """
        found: dict[str, Any] = {name: _read(name, text) for name, text in options.items()}
        if "bucket" not in found:
            raise ValueError("storage.options.bucket: name the bucket")
        if "addressing" not in found and found.get("endpoint"):
            found["addressing"] = "path"  # what every store but that of AWS understands
        parsed = cls(**found)
        if parsed.memory < parsed.part_size:
            raise ValueError("storage.options.memory: one part (part_size) must fit")
        if parsed.kms_key and parsed.encryption != "aws:kms":
            raise ValueError('storage.options.kms_key: only for encryption = "aws:kms"')
        return parsed

    def part_size_of(self, size: int | None) -> int:
        """Tell how large the parts of an upload are: so that no more than 10,000 are needed."""
        least = -(-(size or 0) // MOST_PARTS)
        return max(self.part_size, -(-least // _MIB) * _MIB)


MOST_PARTS: Final = 10_000
"""Of one object."""


def _read(name: str, text: str) -> object:
    reader = _READERS.get(name)
    if reader is None:
        raise ValueError(f"storage.options.{name}: the s3 backend has no such option")
    try:
        return reader(text)
    except ValueError as error:
        raise ValueError(f"storage.options.{name}: {error}") from None


def _bucket(text: str) -> str:
    if not _BUCKET.fullmatch(text):
        raise ValueError("that is no name of a bucket")
    return text


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text) or _DOTS.search(text):
        raise ValueError("write words of letters, digits, '.', '-' and '_', with '/' between them")
    return text if not text or text.endswith("/") else f"{text}/"


def _endpoint(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+/?", text):
        raise ValueError("write https://host or https://host:port")
    return text.rstrip("/")


def _word(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("write one word")
    return text


def _file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError("write the whole path of a file")
    return path


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError('write "true" or "false"')
    return text == "true"


class _Choice:
    def __init__(self, *choices: str) -> None:
        self._choices = choices

    def __call__(self, text: str) -> str:
        if text not in self._choices:
            raise ValueError(f"choose one of {', '.join(self._choices)}")
        return text


class _Size:
    def __init__(self, least: int, most: int = 1 << 62) -> None:
        self._least = least
        self._most = most

    def __call__(self, text: str) -> int:
        parts = _SIZE.fullmatch(text.strip())
        size = int(parts[1]) * _UNITS[parts[2]] if parts else -1
        if not self._least <= size <= self._most:
            raise ValueError(f'write a number of bytes, or as "8 MiB"; at least {self._least}, at most {self._most}')
        return size


class _Number:
    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def __call__(self, text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text) or not self._least <= int(text) <= self._most:
            raise ValueError(f"write a number from {self._least} to {self._most}")
        return int(text)


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "bucket": _bucket,
    "prefix": _prefix,
    "endpoint": _endpoint,
    "region": _word,
    "addressing": _Choice("auto", "path", "virtual"),
    "ca_file": _file,
    "credentials": _file,
    "profile": _word,
    "part_size": _Size(_LEAST_PART, _LARGEST_PART),
    "read_size": _Size(_LEAST_READ, _LARGEST_PART),
    "concurrency": _Number(1, 64),
    "threads": _Number(1, 1024),
    "memory": _Size(_LEAST_PART),
    "connect_timeout": _Number(1, 3600),
    "read_timeout": _Number(1, 3600),
    "attempts": _Number(1, 20),
    "checksum": _Choice(*CHECKSUMS),
    "storage_class": _word,
    "encryption": _Choice("AES256", "aws:kms"),
    "kms_key": _word,
    "capacity": _Size(1),
    "redirect": _flag,
    "redirect_expires": _Number(1, 604_800),
}
