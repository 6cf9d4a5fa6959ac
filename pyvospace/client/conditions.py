"""What is said of bytes that are pushed: what must be true so that they are stored, and what they are."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Self

from pyvospace.model.entries import MODE_HEADER, MTIME_HEADER, write_mode, write_seconds


@dataclass(frozen=True, slots=True)
class Condition:
    """What the service looks at when it has all bytes of a push, and nobody else can write any more."""

    etag: str | None
    """SHA-256 in hex of the bytes that are to be there; None: none are to be there."""

    @classmethod
    def matching(cls, etag: str) -> Self:
        """Have only these bytes replaced, as `Entry.etag` names them."""
        return cls(etag)

    @classmethod
    def new(cls) -> Self:
        """Have nothing replaced."""
        return cls(None)

    def headers(self) -> dict[str, str]:
        """Give it as HTTP says it."""
        return {"If-None-Match": "*"} if self.etag is None else {"If-Match": f'"{self.etag}"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is said of the bytes of one push."""

    content_type: str | None = None
    condition: Condition | None = None
    mtime: int | None = None
    """Nanoseconds since 1970."""
    mode: int | None = None

    def headers(self) -> dict[str, str]:
        """Give it as headers of a PUT."""
        told = {} if self.condition is None else self.condition.headers()
        if self.content_type is not None:
            told["Content-Type"] = self.content_type
        if self.mtime is not None:
            told[MTIME_HEADER] = write_seconds(self.mtime)
        if self.mode is not None:
            told[MODE_HEADER] = write_mode(self.mode)
        return told

    def metadata(self) -> str:
        """Give it as TUS says it; empty: there is nothing to say. The condition is an extension of our own."""
        condition = {} if self.condition is None else self.condition.headers()
        told = {
            **{name.lower(): value for name, value in condition.items()},
            "filetype": self.content_type,
            "mtime": None if self.mtime is None else write_seconds(self.mtime),
            "mode": None if self.mode is None else write_mode(self.mode),
        }
        pairs = [(name, value) for name, value in told.items() if value is not None]
        return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in pairs)
