"""Sizes, durations and dates as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from pyvospace.model.faults import InvalidArgument
from pyvospace.model.instants import read_instant

_SIZE: Final = re.compile(r"(\d{1,15})([KMGT]?)(?:i?B)?", re.IGNORECASE)
_STEP: Final = 1024
_POWERS: Final = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_DURATION: Final = re.compile(r"(\d{1,9})(s|min|h|d|w)")
_SECONDS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def read_size(text: str) -> int:
    """Read a number of bytes; ``10M`` are 10 times 1024 times 1024.

    Raises
    ------
    InvalidArgument
        It is none.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise InvalidArgument(f"{text!r} is no size: write 500, 10K, 2G or 10T, without a fraction")
    return int(found[1]) << _POWERS[found[2].lower()]


def write_size(size: int) -> str:
    """Write a number of bytes as people read it: ``1.5G``; below 1024 to the byte."""
    scaled, unit = float(size), ""
    for letter in "KMGTP":
        if scaled < _STEP:
            break
        scaled, unit = scaled / _STEP, letter
    return f"{size}" if not unit else f"{scaled:.1f}{unit}"


def read_duration(text: str) -> timedelta:
    """Read ``30min``, ``12h``, ``7d`` or ``2w``.

    Raises
    ------
    InvalidArgument
        It is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InvalidArgument(f"{text!r} is no duration: write 30min, 12h, 7d or 2w")
    try:
        return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    except OverflowError:
        raise InvalidArgument(f"{text!r} is longer than all time") from None


def read_date(text: str) -> datetime:
    """Read a day, an instant, or a duration, which means so long ago.

    Raises
    ------
    InvalidArgument
        It is none of these.
    """
    if _DURATION.fullmatch(text):
        try:
            return datetime.now(UTC) - read_duration(text)
        except OverflowError:
            raise InvalidArgument(f"{text!r} is longer than all time") from None
    try:
        return read_instant(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)
    except InvalidArgument:
        raise InvalidArgument(f"{text!r} is no date: write 2026-03-01, 2026-03-01T09:00:00Z or 7d (ago)") from None
