"""Rows of a VOTable in BINARY or BINARY2, as their bytes come (VOTable 1.5, section 6): astropy reads the cells."""

from __future__ import annotations

import binascii
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from pyvospace.model.faults import InvalidData, ViewNotSupported

_MOST_ROW: Final = 1 << 20
"""Bytes of one row."""
_ARRAYSIZE: Final = re.compile(r"(?:[0-9]{1,18}x)*(?:[0-9]{1,18}\*?|\*)")
_LENGTHS: Final = re.compile(r"[0-9]+")


class _MoreError(Exception):
    """The row is not complete yet."""


class _Cursor:
    """What astropy reads from."""

    def __init__(self, buffer: bytearray, place: int) -> None:
        self._buffer = buffer
        self.place = place

    def read(self, size: int) -> bytes:
        """Give some bytes."""
        if size < 0 or size > _MOST_ROW:
            raise InvalidData(f"a row of more than {_MOST_ROW} bytes")
        if self.place + size > len(self._buffer):
            raise _MoreError
        self.place += size
        return bytes(self._buffer[self.place - size : self.place])


@dataclass(frozen=True, slots=True)
class _Cell:
    """How the cells of a field are read and written."""

    converter: Any
    rounded: Callable[[Any], Any]


class BinaryRows:
    """Decodes one table.

    Parameters
    ----------
    fields
        Attributes of the FIELD elements.
    flags
        Each row begins with a bit for each cell that is null (BINARY2).
    """

    def __init__(self, fields: Sequence[Mapping[str, str]], *, flags: bool) -> None:
        self._cells = [_cell(field) for field in fields]
        self._flags = flags
        self._text = ""
        self._buffer = bytearray()
        self._needed = 1
        """Bytes without which it is of no use to try again: so long rows are not begun too often."""

    def take(self, text: str) -> Iterator[list[str]]:
        """Give the rows that are complete with some more of the text in base64."""
        self._text += "".join(text.split())
        whole = len(self._text) // 4 * 4
        try:
            self._buffer += binascii.a2b_base64(self._text[:whole])
        except (binascii.Error, ValueError):
            raise InvalidData("the stream of the table is no base64") from None
        self._text = self._text[whole:]
        if len(self._buffer) >= self._needed:
            yield from self._rows()

    def end(self) -> None:
        """See that nothing is missing."""
        if self._text or self._buffer:
            raise InvalidData("the stream of the table ends within a row")

    def _rows(self) -> Iterator[list[str]]:
        place = 0
        self._needed = 1
        while place < len(self._buffer):
            cursor = _Cursor(self._buffer, place)
            try:
                row = self._row(cursor)
            except _MoreError:
                self._needed = 2 * (len(self._buffer) - place)
                if self._needed > 2 * _MOST_ROW:
                    raise InvalidData(f"a row of more than {_MOST_ROW} bytes") from None
                break
            if cursor.place == place:
                raise InvalidData("a table without fields has data")
            place = cursor.place
            yield row
        del self._buffer[:place]

    def _row(self, cursor: _Cursor) -> list[str]:
        flags = cursor.read((len(self._cells) + 7) // 8) if self._flags else b""
        row = []
        for number, cell in enumerate(self._cells):
            is_null = bool(flags and flags[number // 8] & 0x80 >> number % 8)
            try:
                value, mask = cell.converter.binparse(cursor.read)
                row.append("" if is_null else _shown(cell, value, mask))
            except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError):
                raise InvalidData(f"column {number + 1}: a cell cannot be read") from None
        return row


def _cell(field: Mapping[str, str]) -> _Cell:
    """Give what reads the cells of a field."""
    if find_spec("astropy") is None:
        raise ViewNotSupported("astropy, which reads tables in BINARY, is not installed on the storage server")
    from astropy.io.votable.converters import get_converter  # noqa: PLC0415 (slow, and not everybody has it)
    from astropy.io.votable.tree import Field, VOTableFile  # noqa: PLC0415 (as above)
    from astropy.utils.exceptions import AstropyWarning  # noqa: PLC0415 (as above)

    # Python remembers each text that it has shown: strangers could fill the log and the memory.
    warnings.simplefilter("ignore", AstropyWarning)
    datatype, arraysize = field.get("datatype"), field.get("arraysize")
    _check_arraysize((arraysize or "1").strip())
    try:
        converter = get_converter(Field(VOTableFile(), name="x", ID="x", datatype=datatype, arraysize=arraysize))
    except (ValueError, TypeError, LookupError):
        raise InvalidData(f"a field of {str(datatype)[:40]!r}, {str(arraysize)[:40]!r}") from None
    return _Cell(converter, _as_single if datatype == "float" else _as_it_is)


def _check_arraysize(text: str) -> None:
    """Refuse cells that are too large, or have any number of elements without a byte."""
    lengths = [int(one) for one in _LENGTHS.findall(text)] if _ARRAYSIZE.fullmatch(text) else [-1]
    if min(lengths, default=1) < (1 if "x" in text else 0) or math.prod(lengths) > _MOST_ROW:
        raise InvalidData(f"a cell of {text[:40]!r} elements")


def _as_single(value: Any) -> Any:
    """Undo what astropy does to a single float: as a double it has digits that are none."""
    from numpy import float32  # noqa: PLC0415 (as above)

    return float32(value) if isinstance(value, float) else value


def _as_it_is(value: Any) -> Any:
    return value


def _shown(cell: _Cell, value: Any, mask: Any) -> str:
    """Write a cell as TABLEDATA has it, without what XML needs."""
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else value.decode("ascii", "replace")
        return text.rstrip("\0").strip()
    if not hasattr(mask, "__len__") and mask:
        return ""
    return str(cell.converter.output(cell.rounded(value), mask))
