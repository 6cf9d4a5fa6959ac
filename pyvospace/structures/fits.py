"""FITS: headers as text and as JSON, and single HDUs as files of their own."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final

from pyvospace.model.faults import InvalidArgument, InvalidData, ViewNotSupported
from pyvospace.model.vocabulary import OWN
from pyvospace.structures.fits_blocks import BLOCK, CARD, FitsCheck, Hdu, padded, readable, walk
from pyvospace.structures.interface import Bytes, Check, Rendering, StructuredType, StructuredView, ViewParam

HEADERS: Final = StructuredView(
    OWN + "fits-headers",
    "text/plain",
    "The headers of all HDUs, one card a line.",
    ".headers.txt",
)
HEADERS_JSON: Final = StructuredView(
    OWN + "fits-headers-json",
    "application/json",
    "The headers of all HDUs with parsed values, and where the parts of the file are.",
    ".headers.json",
)
NUMBER: Final = ViewParam(OWN + "hdu", "Number of the HDU; 0 is the primary one, and the default.", r"[0-9]{1,5}")
EXTNAME: Final = ViewParam(OWN + "extname", "EXTNAME of the HDU, in place of its number; case does not matter.")
EXTVER: Final = ViewParam(OWN + "extver", "EXTVER of the HDU, together with its EXTNAME.", r"-?[0-9]{1,9}")
SINGLE: Final = StructuredView(
    OWN + "fits-hdu",
    "application/fits",
    "One HDU as a FITS file; an extension stands behind an empty primary HDU.",
    ".hdu.fits",
    (NUMBER, EXTNAME, EXTVER),
)
_PIECE: Final = 1 << 20
_EMPTY_PRIMARY: Final = "".join(
    card.ljust(CARD)
    for card in (
        "SIMPLE  =                    T / conforms to the FITS standard",
        "BITPIX  =                    8 / array data type",
        "NAXIS   =                    0 / number of array dimensions",
        "EXTEND  =                    T",
        "END",
    )
).ljust(BLOCK).encode()  # fmt: skip


class Fits(StructuredType):
    """Flexible Image Transport System, version 4.0."""

    name = "fits"
    description = "FITS files"
    import_view = OWN + "fits"
    content_types = ("application/fits", "image/fits")
    views = (HEADERS, HEADERS_JSON, SINGLE)

    def recognises(self, head: bytes, content_type: str | None) -> bool:
        """Look for the first card."""
        del content_type
        return head.startswith(b"SIMPLE  =") and head[10:30].strip() == b"T"

    def check(self) -> Check:
        """Begin to check the structure of a file."""
        return FitsCheck()

    def missing(self) -> str | None:
        """Ask for astropy."""
        if find_spec("astropy") is None:
            return f"astropy is not installed (pip install pyvospace[fits]): the view {HEADERS_JSON.uri} cannot be had"
        return None

    def render(self, view: StructuredView, params: Mapping[str, str], source: Bytes) -> Rendering:
        """Begin to compute a view."""
        if view is HEADERS:
            return Rendering(_headers(source))
        if view is HEADERS_JSON:
            return Rendering(_headers_json(source))
        return _single(source, params)


def _headers(source: Bytes) -> Iterator[bytes]:
    for hdu in walk(source):
        if hdu is None:
            yield b""
            continue
        cards = hdu.header.cards
        title = f"# HDU {hdu.number}" + (f": {hdu.name}, {hdu.version}" if hdu.name else "")
        lines = [title, *(readable(cards[at : at + CARD]).rstrip() for at in range(0, len(cards), CARD))]
        while not lines[-1]:
            lines.pop()
        yield ("\n" * (hdu.number > 0) + "\n".join(lines) + "\n").encode()


def _headers_json(source: Bytes) -> Iterator[bytes]:
    if find_spec("astropy") is None:
        raise ViewNotSupported(f"{HEADERS_JSON.uri}: astropy is not installed on the storage server")
    before = "[\n"
    for hdu in walk(source):
        if hdu is None:
            yield b""
            continue
        yield (before + json.dumps(_describe(hdu, source.size), allow_nan=False)).encode()
        before = ",\n"
    yield b"\n]\n"


def _describe(hdu: Hdu, size: int) -> dict[str, Any]:
    return {
        "hdu": hdu.number,
        "type": hdu.header.texts.get(b"XTENSION", "PRIMARY"),
        "name": hdu.name,
        "version": hdu.version,
        "header_offset": hdu.start,
        "data_offset": hdu.data,
        "data_size": hdu.header.size,
        "complete": hdu.end <= size,
        "header": _parse(hdu.header.cards),
    }


def _parse(cards: bytes) -> list[list[Any]]:
    """Give keyword, value and comment of each card, as astropy reads them."""
    from astropy.io.fits import Card, VerifyError  # noqa: PLC0415 (half a second, and not everybody has it)
    from astropy.utils.exceptions import AstropyWarning  # noqa: PLC0415 (as above)

    # Python remembers each text that it has shown: strangers could fill the log and the memory.
    warnings.simplefilter("ignore", AstropyWarning)
    found = []
    for image in _images(cards):
        card = Card.fromstring(image)
        try:
            found.append([card.keyword, _value(card.value), card.comment])
        except (VerifyError, ValueError, ArithmeticError):  # shown as it stands
            found.append([image[:8].strip(), None, image[8:].strip()])
    return found


def _images(cards: bytes) -> Iterator[str]:
    """Give the cards that say something, each with those that continue it."""
    text = readable(cards)
    image = ""
    for place in range(0, len(text), CARD):
        card = text[place : place + CARD]
        if card.startswith("CONTINUE") and image:
            image += card
            continue
        if image.strip():
            yield image
        if card.rstrip() == "END":
            return
        image = card


def _value(value: Any) -> Any:
    """Give what JSON has a word for: no complex number, no infinity; an undefined value is null."""
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else str(value)
    return str(value) if isinstance(value, complex) else None


def _single(source: Bytes, params: Mapping[str, str]) -> Rendering:
    hdu = _find(source, params)
    if hdu.end > source.size:
        raise InvalidData(f"HDU {hdu.number}: the file ends within the data")
    head = _EMPTY_PRIMARY if hdu.number else b""
    size = len(head) + len(hdu.header.cards) + padded(hdu.header.size)
    return Rendering(_copy(source, hdu, head), size, f".hdu{hdu.number}.fits")


def _find(source: Bytes, params: Mapping[str, str]) -> Hdu:
    number, name, version = (params.get(one.uri) for one in (NUMBER, EXTNAME, EXTVER))
    if number is not None and (name or version):
        raise InvalidArgument(f"{NUMBER.uri}: give the number or the name, not both")
    if version is not None and name is None:
        raise InvalidArgument(f"{EXTVER.uri}: needs {EXTNAME.uri}")
    for hdu in walk(source):
        if hdu is None:
            continue
        if name is None and hdu.number == int(number or 0):
            return hdu
        if (
            name is not None
            and hdu.name.upper() == name.strip().upper()
            and (version is None or hdu.version == int(version))
        ):
            return hdu
    told = f"{NUMBER.uri}: {number}" if name is None else f"{EXTNAME.uri}: {name[:80]} {version or ''}".rstrip()
    raise InvalidArgument(f"{told}: the file has no such HDU")


def _copy(source: Bytes, hdu: Hdu, head: bytes) -> Iterator[bytes]:
    """Give the HDU as it stands; padding that the file lacks at its end is added."""
    yield head + hdu.header.cards
    for place in range(hdu.data, hdu.end, _PIECE):
        yield source.read(place, min(_PIECE, hdu.end - place))
    ascii_table = hdu.header.texts.get(b"XTENSION") == "TABLE"
    yield (b" " if ascii_table else b"\0") * (padded(hdu.header.size) - hdu.header.size)
