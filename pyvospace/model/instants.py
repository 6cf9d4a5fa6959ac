"""Instants as documents write them (UWS 1.1, section 2.2.1): one function to write, one to read."""

import re
from datetime import UTC, datetime, timedelta, timezone

from pyvospace.model.faults import InvalidArgument

_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]{1,12}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))?"
)


def write_instant(instant: datetime, *, timespec: str = "milliseconds") -> str:
    """Write ``YYYY-MM-DDThh:mm:ss.sssZ``; a datetime without time zone is taken as UTC."""
    if instant.tzinfo is not UTC and instant.tzinfo is not None:  # those of the database are in UTC
        instant = instant.astimezone(UTC)
    return instant.isoformat(timespec=timespec).removesuffix("+00:00") + "Z"


def read_instant(text: str, *, of: str = "") -> datetime:
    """Read an instant, in UTC; a missing time zone means UTC, digits below the microsecond are dropped.

    Parameters
    ----------
    of
        The parameter that it is the value of, for the words of the fault.

    Raises
    ------
    InvalidArgument
        It is no instant of ISO 8601 with date and time.
    """
    match = _INSTANT.fullmatch(text.strip())
    name = f"{of}: " if of else ""
    if match is None:
        raise InvalidArgument(f"{name}{text[:100]!r} is no instant like 2026-03-01T09:00:00.000Z")
    date, time, fraction, sign, hours, minutes = match.groups()
    try:
        instant = datetime.fromisoformat(f"{date}T{time}.{(fraction or '0')[:6]:0<6}")
        if sign is None:
            return instant.replace(tzinfo=UTC)
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return instant.replace(tzinfo=timezone(offset if sign == "+" else -offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(f"{name}{text[:100]!r} is no instant") from None
