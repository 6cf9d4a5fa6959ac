"""What the headers say of the bytes of a node: their type, and a name for whoever saves them."""

import re
from typing import Final
from urllib.parse import quote

DEFAULT_TYPE: Final = "application/octet-stream"
_TYPE: Final = re.compile(r"[!-~]+/[ -~]{0,200}")
_LONGEST_TYPE: Final = 255
_SHOWN: Final = frozenset(
    {
        "application/fits",
        "application/json",
        "image/fits",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/plain",
    }
)
"""Types that a browser may show; none of them can hold a script."""


def content_type(stored: str | None) -> str:
    """Give the stored type verbatim if it can stand in a header."""
    return stored if stored is not None and _TYPE.fullmatch(stored) else DEFAULT_TYPE


def storable_type(text: str | None) -> str | None:
    """Give the type as the sender of bytes named it, unless it could never be sent back."""
    return text if text and text.isascii() and text.isprintable() and len(text) <= _LONGEST_TYPE else None


def content_disposition(name: str, content_type: str) -> str:
    """Name the file for whoever saves it: plainly for curl, exactly for those who know RFC 6266."""
    kind = "inline" if content_type.partition(";")[0].strip().lower() in _SHOWN else "attachment"
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
