"""Entries on the wire: JSON, a line each, the node itself before its children (an extension of our own)."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pyvospace.model.entries import Entry, Room, read_file_time, read_mode
from pyvospace.model.faults import InvalidData, InvalidURI
from pyvospace.model.uris import check_name
from pyvospace.model.vocabulary import FILE_MODE, FILE_TIME, NodeType

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES: Final = {
    "container": NodeType.CONTAINER,
    "data": NodeType.DATA,
    "structured": NodeType.STRUCTURED,
    "link": NodeType.LINK,
}
_SHA256: Final = re.compile("[0-9a-f]{64}")
_LONGEST: Final = 1 << 20
"""Most bytes of a line."""


def render_entry(told: Mapping[str, object]) -> bytes:
    """Write one line of these members, without those that tell nothing."""
    members = {name: value for name, value in told.items() if value is not None and value is not False}
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class EntryReader:
    """Reads entries as they arrive, in memory that does not grow with their number."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[Entry]:
        """Take more bytes and give the entries that are complete now.

        Raises
        ------
        InvalidData
            They are something else.
        """
        *lines, self._begun = (self._begun + data).split(b"\n")
        if len(self._begun) > _LONGEST:
            raise InvalidData("the service answers with something else than entries")
        return _entries(b"[" + b",".join(lines) + b"]")  # at once: to begin costs as much as a line

    def close(self) -> None:
        """Say that this was all.

        Raises
        ------
        InvalidData
            The last line has no end.
        """
        if self._begun:
            raise InvalidData("the entries break off")


def _entries(document: bytes) -> list[Entry]:
    try:
        return [_entry(told) for told in json.loads(document)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidURI):
        raise InvalidData(f"the service answers with something else than entries: {document[1:200]!r}") from None


def _entry(told: dict[str, Any]) -> Entry:
    get = told.get
    props = get("props")
    changed = mtime = _instant(told["ctime"])
    below, mode = 0, None if not props else read_mode(props.get(FILE_MODE))
    if props and (at_home := read_file_time(props.get(FILE_TIME))) is not None:
        mtime, below = at_home
    elif told["mtime"] != told["ctime"]:
        mtime = _instant(told["mtime"])
    return Entry(
        name=check_name(told["name"]) if told["name"] else "",
        type=_TYPES[told["type"]],
        mtime=mtime,
        below_microsecond=below,
        changed=changed,
        length=_size(get("length")),
        etag=_etag(get("etag")),
        md5=_text(get("md5")),
        owner=_text(get("owner")) or "",
        public=get("public") is True,
        readable=get("readable") is True,
        writable=get("writable") is True,
        locked=get("locked") is True,
        busy=get("busy") is True,
        target=_text(get("target")),
        mode=mode,
        content_type=_text(get("content_type")),
        quota=_room(get("quota")),
    )


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(value)


def _size(value: Any) -> int | None:
    """Take a number of bytes that can be one."""
    if value is None or (type(value) is int and value >= 0):
        return value
    raise ValueError(value)


def _etag(text: str | None) -> str | None:
    """Take an entity tag; it may become the name of a file somewhere."""
    if text is None or _SHA256.fullmatch(text):
        return text
    raise ValueError(text)


def _room(told: dict[str, Any] | None) -> Room | None:
    if told is None:
        return None
    return Room(used=_size(told["used"]) or 0, limit=_size(told.get("limit")), available=_size(told.get("available")))
