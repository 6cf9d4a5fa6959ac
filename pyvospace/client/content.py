"""What an answer with bytes says of the file that they are of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp

from pyvospace.client.digests import Digests, told_digests
from pyvospace.model.faults import TransferFailed

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


@dataclass(frozen=True, slots=True)
class Content:
    """What the service says of the whole file."""

    total: int | None
    """Bytes; None: it does not say."""
    etag: str | None
    """Strong entity tag, with its quotes."""
    digests: Digests
    content_type: str | None = None
    in_ranges: bool = False
    """Whether the service gives parts of it."""

    @property
    def version(self) -> str | None:
        """Name this version of the bytes, the same in each answer; None: it cannot be told."""
        if self.etag is not None:
            return self.etag
        known = self.digests.sha256 or self.digests.md5
        return None if known is None else known.hex()

    @property
    def recognisable(self) -> bool:
        """Whether a later answer can be known to be of the same bytes."""
        return self.version is not None

    def same(self, other: Content) -> bool:
        """Say whether two answers are of the same bytes."""
        return (self.total, self.etag, self.digests) == (other.total, other.etag, other.digests)


def described(response: aiohttp.ClientResponse) -> tuple[Content, int]:
    """Read what an answer says of the whole file, and the position of its first byte."""
    first, total = 0, response.content_length
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None:
            raise TransferFailed("the service does not say which range it sends")
        first, total = int(found[1]), int(found[3])
    elif response.status == HTTPStatus.NO_CONTENT:
        total = 0
    etag = response.headers.get("ETag", "")
    content = Content(
        total=total,
        etag=etag if etag.startswith('"') else None,
        digests=told_digests(response.headers),
        content_type=response.headers.get("Content-Type"),
        in_ranges=response.headers.get("Accept-Ranges") == "bytes",
    )
    return content, first
