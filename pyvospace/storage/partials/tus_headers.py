"""What requests of TUS 1.0.0 say in their headers, without HTTP."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pyvospace.model.claims import Facts
from pyvospace.model.entries import MODE_HEADER, MTIME_HEADER
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.partials import partial_id
from pyvospace.model.ranges import Conditions
from pyvospace.service.content import file_facts
from pyvospace.storage.partials.incoming import Checksum

VERSION: Final = "1.0.0"
OFFSET_TYPE: Final = "application/offset+octet-stream"
ALGORITHMS: Final = ("sha1", "md5", "sha256")
_DIGITS: Final = 18
_METADATA: Final = 4096
_PARTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Concatenation:
    """What Upload-Concat says."""

    part: bool = False
    parts: tuple[str, ...] | None = None
    """Ids of the uploads that a final one is put together from."""


def number(headers: Mapping[str, str], name: str) -> int | None:
    """Read a number of bytes; None: the header is not there.

    Raises
    ------
    InvalidArgument
        It is none.
    """
    text = headers.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS:
        raise InvalidArgument(f"{name}: {text[:40]!r} is no number of bytes")
    return int(text)


def length(headers: Mapping[str, str], *, final: bool) -> int | None:
    """Read how many bytes an upload will have; None: the client says so later, or the parts do.

    Raises
    ------
    InvalidArgument
        He says nothing, or two things.
    """
    told, deferred = number(headers, "Upload-Length"), headers.get("Upload-Defer-Length")
    if final:
        if told is not None or deferred is not None:
            raise InvalidArgument("Upload-Length is not for what is put together from other uploads")
        return None
    if deferred not in {None, "1"} or (told is None) == (deferred is None):
        raise InvalidArgument("say Upload-Length, or Upload-Defer-Length: 1")
    return told


def metadata(header: str) -> dict[str, bytes]:
    """Read Upload-Metadata: keys, each with a value in base64 or none.

    Raises
    ------
    InvalidArgument
        It is malformed, or too long.
    """
    if len(header) > _METADATA:
        raise InvalidArgument(f"Upload-Metadata has more than {_METADATA} characters")
    found: dict[str, bytes] = {}
    for item in filter(None, (one.strip(" \t") for one in header.split(","))):
        key, _, value = item.partition(" ")
        if not key.isascii() or not key.isprintable() or key in found:
            raise InvalidArgument("Upload-Metadata: a key stands there twice, or is none")
        found[key] = _decoded("Upload-Metadata", value)
    return found


def facts(header: str) -> Facts:
    """Read what Upload-Metadata says of the file: ``filetype``, ``mtime`` and ``mode``, as headers would.

    Raises
    ------
    InvalidArgument
        It is malformed, or a value is none.
    """
    told = {key: value.decode("latin-1") for key, value in metadata(header).items()}
    return file_facts(told.get("filetype"), told.get("mtime"), told.get("mode"))


def conditions(header: str) -> Conditions:
    """Read what Upload-Metadata says must be true of the node: ``if-match`` and ``if-none-match``, as headers would."""
    told = {key: value.decode("latin-1") for key, value in metadata(header).items()}
    return Conditions(if_match=told.get("if-match"), if_none_match=told.get("if-none-match"))


def checksum(header: str | None) -> Checksum | None:
    """Read Upload-Checksum.

    Raises
    ------
    InvalidArgument
        It is malformed, or the algorithm is not one of `ALGORITHMS`.
    """
    if header is None:
        return None
    algorithm, _, value = header.strip(" \t").partition(" ")
    if algorithm not in ALGORITHMS:
        raise InvalidArgument(f"Upload-Checksum: {algorithm[:40]!r} is not one of {', '.join(ALGORITHMS)}")
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    digest = _decoded("Upload-Checksum", value)
    if len(digest) != hasher.digest_size:
        raise InvalidArgument(f"Upload-Checksum: this is no {algorithm}")
    return Checksum(digest, hasher)


def concatenation(header: str | None) -> Concatenation:
    """Read Upload-Concat: ``partial``, or ``final;`` and the URLs of uploads.

    Raises
    ------
    InvalidArgument
        It is malformed.
    """
    if header is None:
        return Concatenation()
    kind, _, urls = header.strip(" \t").partition(";")
    if kind == "partial" and not urls:
        return Concatenation(part=True)
    secrets = [url.rpartition("/")[2] for url in urls.split()]
    right = kind == "final" and header.isascii() and 0 < len(secrets) <= _PARTS
    if not right or len(set(secrets)) < len(secrets):
        raise InvalidArgument(f'Upload-Concat: "partial", or "final;" and up to {_PARTS} different URLs')
    return Concatenation(parts=tuple(map(partial_id, secrets)))


def as_metadata(headers: Mapping[str, str]) -> str:
    """Write what headers say of times and modes as Upload-Metadata says it."""
    told = {"mtime": headers.get(MTIME_HEADER), "mode": headers.get(MODE_HEADER)}
    return ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in told.items() if value is not None
    )


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value.strip(" \t"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgument(f"{name}: {value[:40]!r} is no base64") from None
