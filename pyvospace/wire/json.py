"""The same documents as JSON, for whoever asks (known from OpenCADC): made of the XML, so that none is written twice.

An element becomes a member; its attributes become members whose names begin with ``@``, its text the member ``$`` (a
convention called BadgerFish). What can stand in a document several times is always an array, values are always strings.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from lxml import etree

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_LISTS: Final = frozenset(
    {
        "properties/property", "nodes/node", "accepts/view", "provides/view", "accepts/protocol", "provides/protocol",
        "accepts/property", "provides/property", "contains/property", "capabilities/capability", "view/param",
        "capability/param", "protocol/param", "protocol/securityMethod", "transfer/protocol", "transfer/param",
        "jobs/jobref", "results/result", "parameters/parameter", "capability/interface", "interface/accessURL",
        "interface/securityMethod", "availability/note",
    }
)  # fmt: skip
"""What can be there several times: parent and child."""
_EMPTY: Final = {"nodes": "node", "jobs": "jobref", "results": "result", "parameters": "parameter"}
"""Elements that are there without children too: the array that is empty then."""


def convert(document: bytes) -> bytes:
    """Write a document of ours, which is XML, as JSON."""
    return Converter().feed(document)


@dataclass(slots=True)
class _Open:
    """An element whose members are written as they come."""

    local: str
    array: str = ""
    """Name of the array that is open in it."""
    empty: bool = True


class Converter:
    """Writes a document as it arrives, in memory that does not grow with its length."""

    def __init__(self) -> None:
        self._parser = etree.XMLPullParser(
            events=("start", "end"), no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
        )
        self._open: list[_Open] = []
        self._depth = 0

    def feed(self, data: bytes) -> bytes:
        """Take more of the XML, and give the JSON that it makes."""
        self._parser.feed(data)
        return "".join(
            [
                self._start(cast("Element", element)) if event == "start" else self._end(cast("Element", element))
                for event, element in self._parser.read_events()
            ]
        ).encode()

    def _start(self, element: Element) -> str:
        self._depth += 1
        local = etree.QName(element).localname
        # The root, and the list in it that may be long.
        if self._depth == 1:
            written = f"{{{_quoted(_name(element))}:{{"
        elif self._depth == 2 and local in _EMPTY:  # noqa: PLR2004
            written = f"{self._member(_name(element))}{{"
        else:
            return ""
        spaces = {_prefixed("@xmlns", prefix): uri for prefix, uri in element.nsmap.items()} if self._depth == 1 else {}
        attributes = spaces | _attributes(element)
        self._open.append(_Open(local, empty=not attributes))
        return written + ",".join([f"{_quoted(name)}:{_quoted(value)}" for name, value in attributes.items()])

    def _end(self, element: Element) -> str:
        depth, self._depth = self._depth, self._depth - 1
        if depth == len(self._open):
            return self._close(element)
        if depth > len(self._open) + 1:
            return ""
        local = etree.QName(element).localname
        written = self._member(_name(element), listed=f"{self._open[-1].local}/{local}" in _LISTS)
        written += json.dumps(_value(element), ensure_ascii=False, separators=(",", ":"))
        parent = cast("Element", element.getparent())
        while (before := element.getprevious()) is not None:
            parent.remove(before)
        return written

    def _member(self, name: str, *, listed: bool = False) -> str:
        """Write what stands before the value of a member of the innermost open element."""
        inside = self._open[-1]
        if listed and inside.array == name:
            return ",\n"
        written = "]" if inside.array else ""
        written += "" if inside.empty else ",\n"
        inside.array, inside.empty = name if listed else "", False
        return f"{written}{_quoted(name)}:{'[' if listed else ''}"

    def _close(self, element: Element) -> str:
        inside = self._open[-1]
        item = _EMPTY.get(inside.local)
        written = self._member(_prefixed(element.prefix, item), listed=True) if item and not inside.array else ""
        self._open.pop()
        return written + ("]" if inside.array else "") + ("}" if self._open else "}}\n")


def _value(element: Element) -> dict[str, Any]:
    told: dict[str, Any] = dict(_attributes(element))
    local = etree.QName(element).localname
    for child in element:
        name = _name(child)
        if f"{local}/{etree.QName(child).localname}" in _LISTS:
            told.setdefault(name, []).append(_value(child))
        else:
            told[name] = _value(child)
    if local in _EMPTY:
        told.setdefault(_prefixed(element.prefix, _EMPTY[local]), [])
    elif not len(element) and element.text:
        told["$"] = element.text
    return told


def _attributes(element: Element) -> dict[str, str]:
    prefixes = {uri: prefix for prefix, uri in element.nsmap.items()}
    found = [(etree.QName(name), str(value)) for name, value in element.attrib.items()]
    return {
        f"@{_prefixed(prefixes[name.namespace] if name.namespace else None, name.localname)}": value
        for name, value in found
    }


def _name(element: Element) -> str:
    return _prefixed(element.prefix, etree.QName(element).localname)


def _prefixed(prefix: str | None, local: str | None) -> str:
    return ":".join(filter(None, (prefix, local)))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
