"""Uploads that come in more than one request."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

_ID_BYTES: Final = 20


def partial_id(secret: str) -> str:
    """Give the name that the catalogue has for what a client knows by a secret, whatever bytes he sends as one."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()[:_ID_BYTES].hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPartial:
    """What a client says of an upload before its first byte."""

    size: int | None
    """Bytes in all; None: he does not know yet, or it is put together from others."""
    content_type: str | None = None
    metadata: str = ""
    """As he wrote it; kept for him."""
    part: bool = False
    """It never becomes a node itself: others are put together from it."""
    parts: tuple[str, ...] | None = None
    """Ids of those that it is put together from; None: it has bytes of its own."""
    concat: str = ""
    """The same as the client wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """An upload in parts, as the catalogue knows it."""

    id: str
    job_id: str
    user_id: int | None
    node_id: int | None
    size: int | None
    """Bytes in all; None: the client has not said so yet."""
    received: int
    """Bytes that are there."""
    expires: datetime
    finished: bool
    """They are the node's by now."""
    part: bool
    final: bool
    """It is put together from others."""
    concat: str
    metadata: str
    content_type: str | None
    md5: bytes | None
    """Of all bytes so far; None: not known."""
    sha256: bytes | None

    @property
    def complete(self) -> bool:
        """Whether all bytes are there, and the node does not have them yet."""
        return not self.part and not self.finished and (self.final or self.received == self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one request, or a part of it, is to add to an upload."""

    partial: str
    offset: int
    request: int
    """Where the request began."""
    size: int | None
    """Bytes that it brings; None: it does not say."""
    told: int | None = None
    """Bytes of the whole, if it tells them."""
    hashed: bool = False
    """Whether the digests will be those of all bytes from the first on."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Some bytes of an upload, in a place of their own."""

    location: str
    size: int
