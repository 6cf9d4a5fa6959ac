"""Byte ranges, entity tags and conditions of HTTP (RFC 9110, sections 8.8.3, 13 and 14), without HTTP.

Every function takes time linear in the length of the header, whatever the header holds.
"""

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from itertools import pairwise
from typing import Final

_DIGITS: Final = frozenset("0123456789")
MOST_RANGES: Final = 100
_LONGEST_NUMBER: Final = 19
"""Digits of the largest file: longer numbers lie behind the end of every file."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some bytes of a file: from `start` up to, not including, `stop`; never empty."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes these are."""
        return self.stop - self.start

    def content_range(self, size: int) -> str:
        """Give the value of Content-Range for a file of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


class Unsatisfiable(enum.Enum):
    """The type of `UNSATISFIABLE`."""

    UNSATISFIABLE = enum.auto()


UNSATISFIABLE: Final = Unsatisfiable.UNSATISFIABLE
"""The range is well formed and begins behind the last byte: 416."""


def parse_range(header: str | None, size: int) -> ByteRange | Unsatisfiable | None:
    """Read a Range header for a file of `size` bytes.

    Returns
    -------
    ByteRange
        The one range that the client wants, cut at the end of the file.
    UNSATISFIABLE
        Answer 416 with ``Content-Range: bytes */size``.
    None
        Ignore the header and send everything: there is none, it is malformed, its unit is unknown,
        or it has several ranges (RFC 9110, section 14.2, lets a server ignore it, so many ranges
        never multiply the work).
    """
    if header is None:
        return None
    unit, equals, wanted = header.strip(" \t").partition("=")
    first, dash, last = wanted.strip(" \t").partition("-")
    if unit.lower() != "bytes" or not equals or not dash:
        return None
    if not (_is_number(first) or not first) or not (_is_number(last) or not last):
        return None
    if not first:
        return _suffix(last, size) if last else None
    return _span(_number(first), _number(last) if last else None, size)


def parse_ranges(header: str | None, size: int) -> tuple[ByteRange, ...] | Unsatisfiable | None:
    """Read a Range header that may have several ranges, up to `MOST_RANGES` that do not overlap.

    Returns
    -------
    tuple of ByteRange
        What the client wants, in his order; what begins behind the end is left out.
    UNSATISFIABLE
        Nothing is left: answer 416.
    None
        Ignore the header and send everything, as for `parse_range`; also if ranges overlap or are too many, so that no
        header makes more work than the whole file.
    """
    unit, _, wanted = (header or "").strip(" \t").partition("=")
    if wanted.count(",") >= MOST_RANGES:
        return None
    found = [parse_range(unit + "=" + one.strip(" \t"), size) for one in wanted.split(",")]
    spans = tuple(one for one in found if isinstance(one, ByteRange))
    in_order = sorted(spans, key=lambda one: one.start)
    if None in found or any(first.stop > second.start for first, second in pairwise(in_order)):
        return None
    return spans or UNSATISFIABLE


def _suffix(length: str, size: int) -> ByteRange | Unsatisfiable | None:
    wanted = min(_number(length), size)
    if wanted:
        return ByteRange(size - wanted, size)
    # The last 5 bytes of an empty file are an empty file; the last 0 bytes are never satisfiable.
    return None if _number(length) else UNSATISFIABLE


def _span(first: int, last: int | None, size: int) -> ByteRange | Unsatisfiable | None:
    if last is not None and last < first:
        return None
    if first >= size:
        return UNSATISFIABLE
    return ByteRange(first, size if last is None else min(last + 1, size))


def _is_number(text: str) -> bool:
    return bool(text) and _DIGITS.issuperset(text)


def _number(digits: str) -> int:
    """Read digits; int() takes quadratic time and refuses long ones, so those become a huge number."""
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER


@dataclass(frozen=True, slots=True)
class Version:
    """What conditions compare: one state of the bytes."""

    etag: str
    """Opaque tag without quotes, strong."""
    modified: datetime
    """With time zone; fractions of a second do not count, as HTTP dates have none."""

    @property
    def seconds(self) -> int:
        """Time of the last change in whole seconds since 1970."""
        return int(self.modified.timestamp())


def parse_etags(header: str) -> tuple[tuple[bool, str], ...] | None:
    """Read the list of an If-Match or If-None-Match: (weak, tag) each.

    Returns None if the list is malformed. ``*`` is for the caller.
    """
    tags: list[tuple[bool, str]] = []
    position, end = 0, len(header)
    while position < end:
        if header[position] in " \t,":
            position += 1
            continue
        weak = header.startswith("W/", position)
        opening = position + 2 * weak
        closing = header.find('"', opening + 1)
        if not header.startswith('"', opening) or closing < 0:
            return None
        tags.append((weak, header[opening + 1 : closing]))
        position = closing + 1
        if position < end and header[position] not in " \t,":
            return None
    return tuple(tags)


def parse_date(header: str) -> int | None:
    """Read an HTTP date (any of the three formats) as seconds since 1970; None if it is none."""
    try:
        date = parsedate_to_datetime(header)
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The conditional headers of a request, as they came."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None

    def evaluate(self, version: Version | None, *, reading: bool) -> HTTPStatus | None:
        """Decide in the order of RFC 9110, section 13.2.2.

        Parameters
        ----------
        version
            What is there now; None: no bytes.
        reading
            GET or HEAD, in contrast to a method that changes something.

        Returns
        -------
        HTTPStatus or None
            412 or 304; None: go on.
        """
        if self._fails_before(version):
            return HTTPStatus.PRECONDITION_FAILED
        if not self._is_unchanged(version, reading=reading):
            return None
        return HTTPStatus.NOT_MODIFIED if reading else HTTPStatus.PRECONDITION_FAILED

    def _fails_before(self, version: Version | None) -> bool:
        """Whether If-Match, or without it If-Unmodified-Since, forbids to go on."""
        if self.if_match is not None:
            return not _matches(self.if_match, version, strong=True)
        if self.if_unmodified_since is None or version is None:
            return False
        date = parse_date(self.if_unmodified_since)
        return date is not None and version.seconds > date

    def _is_unchanged(self, version: Version | None, *, reading: bool) -> bool:
        """Whether If-None-Match, or without it If-Modified-Since, says that nothing is new."""
        if self.if_none_match is not None:
            return _matches(self.if_none_match, version, strong=False)
        if self.if_modified_since is None or version is None or not reading:
            return False
        date = parse_date(self.if_modified_since)
        return date is not None and version.seconds <= date

    def allows_range(self, version: Version) -> bool:
        """Decide If-Range: whether the part that the client has is of this version."""
        if self.if_range is None:
            return True
        value = self.if_range.strip(" \t")
        if value.startswith(('"', "W/")):
            return parse_etags(value) == ((False, version.etag),)
        return parse_date(value) == version.seconds


def _matches(header: str, version: Version | None, *, strong: bool) -> bool:
    if header.strip(" \t") == "*":
        return version is not None
    if version is None:
        return False
    tags = parse_etags(header) or ()
    return any(tag == version.etag and not (strong and weak) for weak, tag in tags)
