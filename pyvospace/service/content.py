"""What the headers say of the bytes of a node: their type, and a name for whoever saves them."""

import re
from typing import Final
from urllib.parse import quote

DEFAULT_TYPE: Final = "application/octet-stream"
_TYPE: Final = re.compile(r"[!-~]+/[ -~]{0,200}")
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


def content_disposition(name: str, content_type: str) -> str:
    """Name the file for whoever saves it: plainly for curl, exactly for those who know RFC 6266."""
    kind = "inline" if content_type.partition(";")[0].strip().lower() in _SHOWN else "attachment"
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
