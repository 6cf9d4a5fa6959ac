"""VOTable: what it says of its tables, and single tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from pyvospace.model.faults import InvalidArgument
from pyvospace.model.vocabulary import OWN
from pyvospace.structures.interface import Bytes, Check, Rendering, StructuredType, StructuredView, ViewParam
from pyvospace.structures.votable_metadata import Metadata
from pyvospace.structures.votable_reader import Scanner
from pyvospace.structures.votable_tables import Cut, Rows, Selector, separated

TABLE: Final = ViewParam(
    OWN + "table", "Number of the table in the file; 0 is the first, and the default.", "[0-9]{1,6}"
)
NAME: Final = ViewParam(OWN + "table-name", "ID or name of the table, in place of its number.")
METADATA: Final = StructuredView(
    OWN + "votable-metadata",
    "application/json",
    "Fields, parameters and infos of all tables, without the data.",
    ".metadata.json",
)
CSV: Final = StructuredView(
    OWN + "votable-csv",
    "text/csv; charset=utf-8; header=present",
    "One table as comma-separated values, behind a line with the names of its fields.",
    ".csv",
    (TABLE, NAME),
)
TSV: Final = StructuredView(
    OWN + "votable-tsv",
    "text/tab-separated-values; charset=utf-8",
    "The same between tabs; white space in a cell becomes a space.",
    ".tsv",
    (TABLE, NAME),
)
SINGLE: Final = StructuredView(
    OWN + "votable-table",
    "application/x-votable+xml",
    "One table as a VOTable, with the coordinate systems, parameters and infos around it.",
    ".table.vot",
    (TABLE, NAME),
)
_ROOT: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?.*?\?>\s*+|<!--.*?-->\s*+)*+<(?:\w{1,40}:)?VOTABLE[\s>]", re.DOTALL
)


class VOTable(StructuredType):
    """VOTable, version 1.0 to 1.5."""

    name = "votable"
    description = "VOTables"
    import_view = OWN + "votable"
    content_types = ("application/x-votable+xml", "text/x-votable+xml")
    views = (METADATA, CSV, TSV, SINGLE)

    def recognises(self, head: bytes, content_type: str | None) -> bool:
        """Look for the root element, behind comments."""
        del content_type
        return _ROOT.match(head) is not None

    def missing(self) -> str | None:
        """Ask for astropy."""
        if find_spec("astropy") is None:
            return "astropy is not installed (pip install pyvospace[fits]): tables in BINARY are not written as text"
        return None

    def check(self) -> Check:
        """Begin to read a document."""
        return _WellFormed()

    def render(self, view: StructuredView, params: Mapping[str, str], source: Bytes) -> Rendering:
        """Begin to compute a view."""
        if view is METADATA:
            return Rendering(Metadata().read(source))
        number, name = params.get(TABLE.uri), params.get(NAME.uri)
        if number is not None and name is not None:
            raise InvalidArgument(f"{TABLE.uri}: give the number or the name, not both")
        selector = Selector(int(number or 0), name)
        if view is SINGLE:
            return Rendering(Cut(selector, source).read())
        return Rendering(Rows(selector, separated("," if view is CSV else "\t")).read(source))


class _WellFormed(Check):
    """Reads a document to its end."""

    def __init__(self) -> None:
        self._scanner = Scanner(start=lambda _, __: None)

    def take(self, piece: bytes) -> None:
        """Read on."""
        self._scanner.feed(piece)

    def end(self) -> None:
        """See that the root element has ended."""
        self._scanner.feed(b"", last=True)
