"""Digests of what streams by, and the headers in which clients announce and learn them."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from pyvospace.model.faults import ChecksumMismatch, InvalidArgument

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_BESIDE: Final = 128 << 10
"""From so many bytes on a second thread costs less than it saves."""
Watch = Callable[["Sequence[ReadableBuffer]"], None]

_LENGTHS: Final = {"md5": 16, "sha-256": 32}
_HEADERS: Final = ("Digest", "Repr-Digest", "Content-Digest")


@dataclass(frozen=True, slots=True)
class Digests:
    """Both digests of the same bytes."""

    md5: bytes
    sha256: bytes

    def headers(self) -> dict[str, str]:
        """Give the headers that tell them: old and new style, and the entity tag without quotes."""
        return {
            "Digest": f"md5={base64.b64encode(self.md5).decode()}",
            "Repr-Digest": f"sha-256=:{base64.b64encode(self.sha256).decode()}:",
            "ETag": f'"{self.sha256.hex()}"',
        }


class Hashes:
    """Both digests of bytes so far, for those that go on elsewhere."""

    def __init__(self) -> None:
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha256 = hashlib.sha256(usedforsecurity=False)

    def copy(self) -> Self:
        """Give the same, to be gone on with."""
        other = type(self)()
        other.md5, other.sha256 = self.md5.copy(), self.sha256.copy()
        return other


class Hasher:
    """MD5 and SHA-256 of one stream: MD5 in a thread of `pool`, SHA-256 in the caller's.

    Not for several threads at once, but each call may come from another one. `watch` is shown all pieces; `begun` is
    what came before the first.
    """

    def __init__(self, pool: Executor, watch: Watch | None = None, begun: Hashes | None = None) -> None:
        self._pool = pool
        self._watch = watch
        self.hashes = begun.copy() if begun is not None else Hashes()
        self._md5, self._sha256 = self.hashes.md5, self.hashes.sha256
        self._beside: Future[None] | None = None
        self.size = 0

    def update(self, pieces: "Sequence[ReadableBuffer]", size: int) -> None:
        """Add `pieces` of together `size` bytes.

        MD5 may still be reading them on return: they must not change before the next call of `update`
        or `settle` has returned.
        """
        self.settle()
        self.size += size
        if size >= _BESIDE:
            self._beside = self._pool.submit(self._add_md5, pieces)
        else:
            self._add_md5(pieces)
        for piece in pieces:
            self._sha256.update(piece)
        if self._watch is not None:
            self._watch(pieces)

    def settle(self) -> None:
        """Wait for the other thread."""
        if self._beside is not None:
            self._beside.result()
            self._beside = None

    def digests(self) -> Digests:
        """Tell the digests of all that was added."""
        self.settle()
        return Digests(self._md5.digest(), self._sha256.digest())

    def _add_md5(self, pieces: "Sequence[ReadableBuffer]") -> None:
        for piece in pieces:
            self._md5.update(piece)


@dataclass(frozen=True, slots=True)
class Announced:
    """What a client says that the digests of its bytes are."""

    md5: bytes | None = None
    sha256: bytes | None = None

    def verify(self, found: Digests) -> None:
        """Compare with what came.

        Raises
        ------
        ChecksumMismatch
            They differ.
        """
        for name, announced, actual in (("MD5", self.md5, found.md5), ("SHA-256", self.sha256, found.sha256)):
            if announced is not None and announced != actual:
                raise ChecksumMismatch(f"{name} of the bytes received is {actual.hex()}, announced {announced.hex()}")


def announced(headers: Mapping[str, str]) -> Announced:
    """Read the digests that a PUT announces.

    ``Digest`` (RFC 3230), ``Repr-Digest`` and ``Content-Digest`` (RFC 9530; no ranges are written, so they
    mean the same) and ``Content-MD5``; values in base64 or hex. Algorithms that we do not know are passed over.

    Raises
    ------
    InvalidArgument
        A value cannot be a digest of its algorithm, or two values for one algorithm differ.
    """
    items = [item for name in _HEADERS if name in headers for item in _items(headers[name])]
    if "Content-MD5" in headers:
        items.append(("md5", headers["Content-MD5"]))
    found: dict[str, bytes] = {}
    for algorithm, text in items:
        if algorithm in _LENGTHS:
            value = _decode(algorithm, text)
            if found.setdefault(algorithm, value) != value:
                raise InvalidArgument(f"two different {algorithm} digests are announced")
    return Announced(found.get("md5"), found.get("sha-256"))


def _items(header: str) -> list[tuple[str, str]]:
    """Split ``md5=value, sha-256=:value:``; neither base64 nor hex contains a comma."""
    pairs = (item.partition("=") for item in header.split(","))
    return [(name.strip(" \t").lower(), value) for name, _, value in pairs]


def _decode(algorithm: str, text: str) -> bytes:
    length = _LENGTHS[algorithm]
    value = text.strip(" \t").removeprefix(":").removesuffix(":")
    if len(value) == 2 * length and re.fullmatch("[0-9a-fA-F]+", value):
        return bytes.fromhex(value)
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != length:
        raise InvalidArgument(f"not a {algorithm} digest: {text[:100]!r}")
    return decoded
