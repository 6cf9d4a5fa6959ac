"""Comma-separated values as structured data: the names of the columns, and some of the rows."""

import json
from collections.abc import Iterator, Mapping

from pyvospace.model.faults import InvalidData
from pyvospace.structures import Bytes, Check, Rendering, StructuredType, StructuredView, ViewParam

VIEWS = "https://example.org/views#"
FIRST = ViewParam(VIEWS + "first", "Number of the first row, from 0 on.", r"[0-9]{1,9}")
COUNT = ViewParam(VIEWS + "count", "How many rows; 10 if it is not given.", r"[0-9]{1,9}")
COLUMNS = StructuredView(VIEWS + "csv-columns", "application/json", "The names of the columns.", ".columns.json")
ROWS = StructuredView(VIEWS + "csv-rows", "text/csv", "Some rows, and the names.", ".rows.csv", (FIRST, COUNT))

CHUNK = 64 << 10
LONGEST = 1 << 20


class CsvTable(StructuredType):
    """A table whose first line names the columns."""

    name = "csv"
    description = "tables of comma-separated values"
    import_view = VIEWS + "csv"
    content_types = ("text/csv",)  # there is nothing in the bytes to know such a file by
    views = (COLUMNS, ROWS)

    def check(self) -> Check:
        """Begin to check a file that is said to be one."""
        return Utf8()

    def render(self, view: StructuredView, params: Mapping[str, str], source: Bytes) -> Rendering:
        """Begin to compute a view."""
        if view is COLUMNS:
            return Rendering(columns(source))
        first, count = int(params.get(FIRST.uri, "0")), int(params.get(COUNT.uri, "10"))
        return Rendering(rows(source, first, count))


def lines(source: Bytes) -> Iterator[bytes | None]:
    """Give line after line; None while one is still incomplete."""
    rest = b""
    for start in range(0, source.size, CHUNK):
        *complete, rest = (rest + source.read(start, CHUNK)).split(b"\n")
        yield from complete
        yield None
        if len(rest) > LONGEST:
            raise InvalidData(f"a line of more than {LONGEST} bytes")
    if rest:
        yield rest


def columns(source: Bytes) -> Iterator[bytes]:
    """Write the names as a list."""
    for line in lines(source):
        if line is not None:
            yield json.dumps(line.decode(errors="replace").strip().split(",")).encode()
            return
        yield b""


def rows(source: Bytes, first: int, count: int) -> Iterator[bytes]:
    """Write the names, and `count` rows."""
    number = -1
    for line in lines(source):
        if line is None:
            yield b""  # a moment to look at the clock
            continue
        if number < 0 or number >= first:
            yield line + b"\n"
        number += 1
        if number >= first + count:
            return


class Utf8(Check):
    """Sees that the bytes are text."""

    def take(self, piece: bytes) -> None:
        """Look for what text never has."""
        if b"\0" in piece:
            raise InvalidData("there is a zero byte: this is no text")
