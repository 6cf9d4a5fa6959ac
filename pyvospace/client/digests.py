"""Digests of bytes on their way, and the headers that tell what they should be."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from pyvospace.model.faults import ChecksumMismatch

_BESIDE = 64 << 10
"""From so many bytes on, threads cost less than they save."""


@dataclass(frozen=True, slots=True)
class Digests:
    """What is known of the digests of some bytes; None: unknown."""

    md5: bytes | None = None
    sha256: bytes | None = None

    def __bool__(self) -> bool:
        """Say whether anything is known."""
        return self.md5 is not None or self.sha256 is not None

    def headers(self) -> dict[str, str]:
        """Give the headers that announce them."""
        told = {}
        if self.md5 is not None:
            told["Digest"] = f"md5={base64.b64encode(self.md5).decode()}"
        if self.sha256 is not None:
            told["Repr-Digest"] = f"sha-256=:{base64.b64encode(self.sha256).decode()}:"
        return told

    def agree(self, other: Digests) -> bool:
        """Say whether one is known here and there, and none is different."""
        pairs = [(self.md5, other.md5), (self.sha256, other.sha256)]
        known = [mine == others for mine, others in pairs if mine is not None and others is not None]
        return bool(known) and all(known)

    def filled(self, other: Digests) -> Digests:
        """Add what is known elsewhere of the same bytes."""
        return Digests(self.md5 or other.md5, self.sha256 or other.sha256)

    def require(self, found: Digests, what: object) -> None:
        """Compare with the digests of the bytes that came; what is unknown here or there is not compared.

        Raises
        ------
        ChecksumMismatch
            They differ.
        """
        for name, told, actual in (("MD5", self.md5, found.md5), ("SHA-256", self.sha256, found.sha256)):
            if told is not None and actual is not None and told != actual:
                raise ChecksumMismatch(f"{what}: {name} is {actual.hex()} here and {told.hex()} at the service")


def told_digests(headers: Mapping[str, str]) -> Digests:
    """Read the digests of the whole file from an answer.

    What is missing, unknown or no digest counts as unknown: a service need not tell any.
    """
    told: dict[str, bytes] = {}
    for header, length in (("Digest", 16), ("Repr-Digest", 32)):
        for item in headers.get(header, "").split(","):
            name, _, value = item.partition("=")
            decoded = _decode(value.strip().removeprefix(":").removesuffix(":"))
            if len(decoded) == length:
                told[name.strip().lower()] = decoded
    return Digests(told.get("md5"), told.get("sha-256"))


def _decode(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


class Digester:
    """Both digests of one stream, computed in threads so that the network never waits for them.

    Parameters
    ----------
    md5
        Whether MD5 is wanted. It takes longer than all else that is done with bytes here, and tells nothing that a
        service which knows SHA-256 does not tell by that.
    """

    def __init__(self, *, md5: bool = True) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._sha256 = hashlib.sha256(usedforsecurity=False)
        self.size = 0
        """Bytes so far."""

    def copy(self) -> Digester:
        """Give the same, to be gone on with."""
        other = Digester(md5=False)
        other._md5 = None if self._md5 is None else self._md5.copy()
        other._sha256, other.size = self._sha256.copy(), self.size
        return other

    def add(self, data: bytes | memoryview) -> None:
        """Add the next bytes, in the caller's thread."""
        self.size += len(data)
        for one in self._wanted():
            one.update(data)

    def _wanted(self) -> list[hashlib._Hash]:
        return [self._sha256] if self._md5 is None else [self._md5, self._sha256]

    async def update(self, data: bytes) -> None:
        """Add the next bytes, in threads if there are many."""
        if len(data) < _BESIDE:
            self.add(data)
            return
        self.size += len(data)
        await asyncio.gather(*(asyncio.to_thread(one.update, data) for one in self._wanted()))

    def digests(self) -> Digests:
        """Tell the digests of all that was added."""
        return Digests(None if self._md5 is None else self._md5.digest(), self._sha256.digest())
