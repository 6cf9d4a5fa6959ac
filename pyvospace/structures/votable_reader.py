"""Reading VOTable as a stream (VOTable 1.5): with expat, in bounded memory, without document types and entities.

`lxml` would keep what it reads; here what was understood is handed on and forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final
from xml.parsers import expat

from pyvospace.model.faults import InvalidData
from pyvospace.structures.interface import Bytes

CHUNK: Final = 256 << 10
_MOST_TOKEN: Final = 1 << 20
"""Bytes of one tag: expat keeps what it has not seen the end of."""
_USUAL_TAG: Final = 4096
_DEEPEST: Final = 64
_ENCODINGS: Final = {"utf-8", "us-ascii", "iso-8859-1"}
_TAG: Final = re.compile(rb"<(?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+>")

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]
Text = Callable[[str], None]


class Scanner:
    """Tells of elements by their local names as the bytes come.

    Parameters
    ----------
    start, end, text
        Called for each element and each piece of text; `end` after the element has left `path`.
    """

    def __init__(self, *, start: Start, end: End | None = None, text: Text | None = None) -> None:
        self.path: list[str] = []
        """Local names of the elements that are open, the one that begins included."""
        self.seen = False
        """Something was read up to its end."""
        self._start = start
        self._end = end
        self._fed = 0
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._close
        parser.CharacterDataHandler = text
        parser.StartDoctypeDeclHandler = self._refuse
        parser.XmlDeclHandler = self._declare

    @property
    def place(self) -> int:
        """Where in the file the tag stands that is told of."""
        return self._parser.CurrentByteIndex

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """Read on.

        Raises
        ------
        InvalidData
            It is no VOTable, or one that we do not dare to read.
        """
        if not self._fed and chunk[:2] in {b"\xff\xfe", b"\xfe\xff", b"<\0", b"\0<"}:
            raise InvalidData("a VOTable in UTF-16 is not read")
        self._fed += len(chunk)
        try:
            self._parser.Parse(chunk, last)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise InvalidData(f"no well-formed XML, line {error.lineno}: {reason}") from None
        except ValueError:  # an encoding that Python does not know
            raise InvalidData("the encoding of the VOTable is not read") from None
        if self._fed - max(self.place, 0) > _MOST_TOKEN + len(chunk):
            raise InvalidData(f"a tag of more than {_MOST_TOKEN} bytes")

    def scan(self, source: Bytes) -> Iterator[None]:
        """Read a file; each step is a small one."""
        for start in range(0, source.size, CHUNK):
            self.feed(source.read(start, CHUNK))
            yield
        self.feed(b"", last=True)

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if (local == "VOTABLE") is bool(self.path):
            raise InvalidData(f"{local[:80]!r} in a place where no VOTable has it")
        if len(self.path) == _DEEPEST:
            raise InvalidData(f"elements are more than {_DEEPEST} deep")
        self.path.append(local)
        self._start(local, attributes)

    def _close(self, _: str) -> None:
        local = self.path.pop()
        if self._end is not None:
            self._end(local)

    def _refuse(self, *_: object) -> None:
        raise InvalidData("a VOTable with a document type declaration is not read")

    def _declare(self, _: str, encoding: str | None, __: int) -> None:
        if encoding is not None and encoding.lower() not in _ENCODINGS:
            raise InvalidData(f"a VOTable in {encoding[:40]!r} is not read")


def tag_at(source: Bytes, place: int) -> bytes:
    """Give the whole tag that begins at `place`."""
    for size in (_USUAL_TAG, _MOST_TOKEN):
        found = _TAG.match(source.read(place, size))
        if found is not None:
            return found[0]
    raise InvalidData(f"no tag at byte {place}")
