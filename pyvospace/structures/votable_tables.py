"""A single table of a VOTable: as text between commas or tabs, or as a VOTable of its own."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pyvospace.model.faults import InvalidArgument, InvalidData, ViewNotSupported
from pyvospace.structures.interface import Bytes
from pyvospace.structures.votable_binary import BinaryRows
from pyvospace.structures.votable_reader import Scanner, tag_at

_MOST_FIELDS: Final = 10_000
_MOST_ROW: Final = 16 << 20
"""Characters of one row."""
_FIELD: Final[tuple[str, ...]] = ("name", "ID", "datatype", "arraysize")
_MOST_PARTS: Final = 1000
_PIECE: Final = 1 << 20
_KEPT: Final = {"COOSYS", "TIMESYS", "DEFINITIONS", "DESCRIPTION", "INFO", "PARAM", "LINK"}
"""What stands beside a table and belongs to it."""

Write = Callable[[list[str]], bytes]


@dataclass(frozen=True, slots=True)
class Selector:
    """Says which table of a file is meant: by number, or by ID or name."""

    number: int
    name: str | None

    def matches(self, number: int, attributes: dict[str, str]) -> bool:
        """Say whether it is this one."""
        if self.name is None:
            return number == self.number
        return self.name in {attributes.get("ID"), attributes.get("name")}

    def missing(self) -> InvalidArgument:
        """Give the fault of a file that has no such table."""
        return InvalidArgument(f"table: the file has no table {self.name if self.name is not None else self.number}")


def separated(separator: str) -> Write:
    """Give what writes a row: comma-separated values as RFC 4180 has them, or plain lines with tabs."""

    def by_commas(cells: list[str]) -> bytes:
        line = io.StringIO()
        csv.writer(line).writerow(cells)
        return line.getvalue().encode()

    def by_tabs(cells: list[str]) -> bytes:
        return ("\t".join(" ".join(cell.split()) for cell in cells) + "\n").encode()

    return by_commas if separator == "," else by_tabs


class Rows:
    """Reads the rows of one table."""

    def __init__(self, selector: Selector, write: Write) -> None:
        self._selector = selector
        self._write = write
        self._tables = 0
        self._inside = False
        self._done = False
        self._fields: list[dict[str, str]] = []
        self._begun = False
        self._binary: BinaryRows | None = None
        self._cells: list[str] = []
        self._cell: list[str] | None = None
        self._size = 0
        self._out: list[bytes] = []
        self._scanner = Scanner(start=self._start, end=self._end, text=self._text)

    def read(self, source: Bytes) -> Iterator[bytes]:
        """Read a file up to the end of the table, and write its rows behind the names of its fields."""
        for _ in self._scanner.scan(source):
            yield b"".join(self._out)
            self._out.clear()
            if self._done:
                return
        if not self._done:
            raise self._selector.missing()
        yield b"".join(self._out)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "TABLE":
            self._inside = not self._done and self._selector.matches(self._tables, attributes)
            self._tables += 1
        elif not self._inside:
            return
        elif name == "FIELD":
            self._add_field(attributes)
        elif name == "TR":
            self._write_fields()
            self._cells, self._size = [], 0
        elif name == "TD":
            self._cell = []
        elif name in {"STREAM", "FITS"}:
            self._begin_stream(attributes)

    def _add_field(self, attributes: dict[str, str]) -> None:
        if self._begun:
            return
        if len(self._fields) == _MOST_FIELDS:
            raise InvalidData(f"a table of more than {_MOST_FIELDS} fields")
        kept: dict[str, str] = {name: attributes[name] for name in _FIELD if name in attributes}
        self._fields.append(kept)
        self._count(sum(map(len, kept.values())))

    def _write_fields(self) -> None:
        if not self._begun:
            names = [one.get("name") or one.get("ID") or f"col{number}" for number, one in enumerate(self._fields, 1)]
            self._out.append(self._write(names))
            self._begun = True

    def _begin_stream(self, attributes: dict[str, str]) -> None:
        serialization = self._scanner.path[-2]
        if serialization not in {"BINARY", "BINARY2"}:
            raise ViewNotSupported("a table in FITS is not written as text")
        if "href" in attributes or attributes.get("encoding") != "base64":
            raise ViewNotSupported("a table whose data are elsewhere, or not in base64, is not written as text")
        self._write_fields()
        self._binary = BinaryRows(self._fields, flags=serialization == "BINARY2")

    def _text(self, text: str) -> None:
        if self._binary is not None:
            self._out.extend(map(self._write, self._binary.take(text)))
        elif self._cell is not None:
            self._count(len(text))
            self._cell.append(text)

    def _count(self, characters: int) -> None:
        self._size += characters
        if self._size > _MOST_ROW:
            raise InvalidData(f"a row of more than {_MOST_ROW} characters")

    def _end(self, name: str) -> None:
        if not self._inside:
            return
        if name == "TD":
            self._count(1)
            self._cells.append("".join(self._cell or ()).strip())
            self._cell = None
        elif name == "TR":
            self._out.append(self._write(self._cells))
        elif name == "STREAM" and self._binary is not None:
            self._binary.end()
            self._binary = None
        elif name == "TABLE":
            self._write_fields()
            self._inside, self._done = False, True


@dataclass(slots=True)
class _Ancestor:
    """An element around the table, and what stands in it before the table."""

    name: str
    place: int
    beside: list[tuple[int, int]]


class Cut:
    """Finds one table of a file together with all that is around it, to copy both as they stand."""

    def __init__(self, selector: Selector, source: Bytes) -> None:
        self._selector = selector
        self._source = source
        self._tables = 0
        self._ancestors: list[_Ancestor] = []
        self._begun: int | None = None
        self._range: tuple[int, int] | None = None
        self._parts = 0
        self._scanner = Scanner(start=self._start, end=self._end)

    def read(self) -> Iterator[bytes]:
        """Find the table; then give it."""
        for _ in self._scanner.scan(self._source):
            yield b""
            if self._range is not None:
                break
        if self._range is None:
            raise self._selector.missing()
        yield from self._write(*self._range)

    def _write(self, start: int, stop: int) -> Iterator[bytes]:
        declaration = self._source.read(0, 200)
        if declaration.startswith(b"<?xml"):
            yield declaration[: declaration.index(b"?>") + 2] + b"\n"
        for one in self._ancestors:
            yield tag_at(self._source, one.place)
            for part in one.beside:
                yield self._source.read(part[0], part[1] - part[0])
        for place in range(start, stop, _PIECE):
            yield self._source.read(place, min(_PIECE, stop - place))
        for one in reversed(self._ancestors):
            tag = tag_at(self._source, one.place)
            yield b"</" + tag[1:].split(None, 1)[0].rstrip(b">") + b">"

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._range is not None or self._begun is not None:
            return
        if name == "TABLE":
            if self._selector.matches(self._tables, attributes):
                self._begun = self._scanner.place
            self._tables += 1
        elif name in {"VOTABLE", "RESOURCE"} and len(self._ancestors) == len(self._scanner.path) - 1:
            self._ancestors.append(_Ancestor(name, self._scanner.place, []))
        elif name in _KEPT and len(self._ancestors) == len(self._scanner.path) - 1:
            self._ancestors[-1].beside.append((self._scanner.place, -1))
            self._parts += 1
            if self._parts > _MOST_PARTS:
                raise InvalidData(f"more than {_MOST_PARTS} elements around the table")

    def _end(self, name: str) -> None:
        if self._range is not None:
            return
        if self._begun is not None:
            if name == "TABLE":
                self._range = self._begun, self._element_end(self._begun)
            return
        depth = len(self._scanner.path)
        if depth < len(self._ancestors):
            self._ancestors.pop()
        elif depth == len(self._ancestors) and name in _KEPT:
            beside = self._ancestors[-1].beside
            beside[-1] = beside[-1][0], self._element_end(beside[-1][0])

    def _element_end(self, start: int) -> int:
        """Tell where the element ends that began at `start` and has just ended; expat is behind an empty one."""
        tag = tag_at(self._source, start)
        if tag.endswith(b"/>"):
            return start + len(tag)
        return self._scanner.place + len(tag_at(self._source, self._scanner.place))
