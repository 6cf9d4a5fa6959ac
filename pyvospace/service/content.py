"""What the headers say of the bytes of a node: their type, facts of the file, and a name for whoever saves them."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from pyvospace.model.claims import Facts
from pyvospace.model.entries import MODE_HEADER, MTIME_HEADER, write_file_time, write_mode
from pyvospace.model.faults import InvalidArgument

DEFAULT_TYPE: Final = "application/octet-stream"
_TYPE: Final = re.compile(r"[!-~]+/[ -~]{0,200}")
_LONGEST_TYPE: Final = 255
_SECONDS: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,20}))?")
_MODE: Final = re.compile("[0-7]{1,4}")
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


def facts_of(headers: Mapping[str, str]) -> Facts:
    """Read what the sender of bytes says of his file in the headers of a request.

    Raises
    ------
    InvalidArgument
        A time or a mode that is none.
    """
    return file_facts(headers.get("Content-Type"), headers.get(MTIME_HEADER), headers.get(MODE_HEADER))


def file_facts(kind: str | None, seconds: str | None, mode: str | None) -> Facts:
    """Read the same where it stands elsewhere: media type, seconds since 1970, octal permissions.

    Raises
    ------
    InvalidArgument
        As `facts_of`.
    """
    return Facts(
        content_type=storable_type(kind),
        changed=None if seconds is None else _file_time(seconds),
        mode=None if mode is None else _file_mode(mode),
    )


def _file_time(text: str) -> str:
    found = _SECONDS.fullmatch(text)
    if found is None:
        raise InvalidArgument(f"{MTIME_HEADER}: {text[:40]!r} is no number of seconds since 1970")
    sign, whole, below = found.groups()
    nanoseconds = int(whole) * 10**9 + int(f"{below or '0':0<9}"[:9])
    try:
        return write_file_time(-nanoseconds if sign else nanoseconds)
    except OverflowError:
        raise InvalidArgument(f"{MTIME_HEADER}: {text[:40]!r} is in no year from 1 to 9999") from None


def _file_mode(text: str) -> str:
    if _MODE.fullmatch(text) is None:
        raise InvalidArgument(f"{MODE_HEADER}: {text[:40]!r} is no mode of a file, like 644")
    return write_mode(int(text, 8))


def content_disposition(name: str, content_type: str) -> str:
    """Name the file for whoever saves it: plainly for curl, exactly for those who know RFC 6266."""
    kind = "inline" if content_type.partition(";")[0].strip().lower() in _SHOWN else "attachment"
    plain = re.sub(r'[^ -~]|["\\%]', "_", name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
