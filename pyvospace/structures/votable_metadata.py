"""What a VOTable says of its tables: fields, parameters and infos, without the data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from pyvospace.model.faults import InvalidData
from pyvospace.structures.interface import Bytes
from pyvospace.structures.votable_reader import Scanner

_MOST: Final = 16 << 20
"""Characters that are kept."""
_OVERHEAD: Final = 200
"""What an element costs beside its characters."""
_LISTS: Final = {"FIELD": "fields", "PARAM": "params", "INFO": "infos"}
_SERIALIZATIONS: Final = {"TABLEDATA", "BINARY", "BINARY2", "FITS"}


class Metadata:
    """Collects what a document says of itself."""

    def __init__(self) -> None:
        self._document: dict[str, Any] = {"params": [], "infos": [], "tables": []}
        self._table: dict[str, Any] | None = None
        self._resources: list[str] = []
        self._described: list[str] | None = None
        self._targets: list[dict[str, Any]] = []
        self._kept = 0
        self._scanner = Scanner(start=self._start, end=self._end, text=self._text)

    def read(self, source: Bytes) -> Iterator[bytes]:
        """Read a file; what there is to say is the last piece."""
        for _ in self._scanner.scan(source):
            yield b""
        yield (json.dumps(self._document, ensure_ascii=False, indent=1) + "\n").encode()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name in _LISTS:
            holder = self._table if self._table is not None else self._document
            self._targets.append(self._add(holder.setdefault(_LISTS[name], []), attributes))
        elif name == "DESCRIPTION":
            self._described = [] if self._describes() else None
        elif self._table is not None:
            self._inside(self._table, name)
        elif name == "VOTABLE":
            self._document["version"] = attributes.get("version")
            self._targets.append(self._document)
        elif name == "RESOURCE":
            self._resources.append(attributes.get("name", ""))
        elif name == "TABLE":
            self._table = self._add(self._document["tables"], attributes)
            self._table.update(resource=self._resources[-1] if self._resources else "", rows=0, params=[], fields=[])
            self._targets.append(self._table)

    def _inside(self, table: dict[str, Any], name: str) -> None:
        if name == "TR":
            table["rows"] += 1
        elif name in _SERIALIZATIONS:
            table["serialization"] = name
        elif name in {"TABLE", "RESOURCE"}:
            raise InvalidData(f"a {name} in a TABLE")

    def _describes(self) -> bool:
        """Say whether a description is of something that we tell of: not of a group, an option or a resource."""
        return len(self._scanner.path) > 1 and self._scanner.path[-2] in {"VOTABLE", "TABLE", *_LISTS}

    def _add(self, places: list[dict[str, Any]], attributes: dict[str, str]) -> dict[str, Any]:
        self._count(sum(map(len, attributes)) + sum(map(len, attributes.values())) + _OVERHEAD)
        places.append(dict(attributes))
        return places[-1]

    def _text(self, text: str) -> None:
        if self._described is not None:
            self._count(len(text))
            self._described.append(text)

    def _end(self, name: str) -> None:
        if name == "DESCRIPTION" and self._described is not None:
            self._targets[-1]["description"] = " ".join("".join(self._described).split())
            self._described = None
        elif name in _LISTS:
            self._targets.pop()
        elif name == "TABLE":
            self._targets.pop()
            self._table = None
        elif name == "RESOURCE":
            self._resources.pop()

    def _count(self, characters: int) -> None:
        self._kept += characters
        if self._kept > _MOST:
            raise InvalidData(f"the metadata have more than {_MOST} characters")
