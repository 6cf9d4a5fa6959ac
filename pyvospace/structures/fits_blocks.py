"""Where the parts of a FITS file are (FITS standard 4.0, sections 3 and 4), without understanding them.

Nothing is believed: a header is bounded, sizes are integers of any size that are compared with the file's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyvospace.model.faults import InvalidData
from pyvospace.structures.interface import Bytes, Check

BLOCK: Final = 2880
CARD: Final = 80
MOST_HDUS: Final = 10_000
_MOST_BLOCKS: Final = 1456
"""Of one header: 4 MiB, or 52,000 cards."""
_MOST_READ: Final = 64 << 20
"""Bytes of headers that are read for one view."""
_AT_ONCE: Final = 10 * BLOCK
_WIDTHS: Final = {8, 16, 32, 64, -32, -64}
_MOST_AXES: Final = 999
_LARGEST: Final = 1 << 62
"""Bytes of data; no file has so many."""
_NUMBER: Final = re.compile(rb"([A-Z]+[0-9]{0,3}) *= +([+-]?[0-9]{1,18})(?: |/|$)")
_TEXT: Final = re.compile(rb"([A-Z]+) *= +'((?:[^']|'')*+)'")
_NUMBERS: Final = re.compile(rb"BITPIX|NAXIS[0-9]{0,3}|PCOUNT|GCOUNT|EXTVER")


@dataclass(frozen=True, slots=True)
class Header:
    """The cards of a header, and what they say of the data behind them."""

    cards: bytes
    """Whole blocks, padding included."""
    numbers: dict[bytes, int]
    texts: dict[bytes, str]
    groups: bool

    @property
    def size(self) -> int:
        """Bytes of data, without padding."""
        axes = self.numbers.get(b"NAXIS", 0)
        if not axes:
            return 0
        lengths = [self.numbers[b"NAXIS%d" % axis] for axis in range(1, axes + 1)]
        if self.groups and lengths[0] == 0:
            del lengths[0]
        pixels = self.numbers.get(b"PCOUNT", 0) + math.prod(lengths)
        return abs(self.numbers[b"BITPIX"]) // 8 * self.numbers.get(b"GCOUNT", 1) * pixels


@dataclass(frozen=True, slots=True)
class Hdu:
    """A header and its data, at their place in a file."""

    number: int
    start: int
    header: Header

    @property
    def data(self) -> int:
        """Where the data begin."""
        return self.start + len(self.header.cards)

    @property
    def end(self) -> int:
        """Where the data end, padding left out."""
        return self.data + self.header.size

    @property
    def name(self) -> str:
        """EXTNAME; empty if there is none."""
        return self.header.texts.get(b"EXTNAME", "")

    @property
    def version(self) -> int:
        """EXTVER."""
        return self.header.numbers.get(b"EXTVER", 1)


def padded(size: int) -> int:
    """Give the size in whole blocks."""
    return -(-size // BLOCK) * BLOCK


class HeaderReader:
    """Puts a header together from its blocks."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._blocks: list[bytes] = []

    def __bool__(self) -> bool:
        """Say whether a header has begun."""
        return bool(self._blocks)

    def take(self, block: bytes) -> Header | None:
        """Add a block; give the header if it was the last.

        Raises
        ------
        InvalidData
            It is no header, or of no sense, or without end.
        """
        if not self._blocks:
            begins = block.startswith(b"XTENSION=" if self._number else b"SIMPLE  =")
            if not begins:
                raise InvalidData(f"HDU {self._number}: no FITS header")
        self._blocks.append(block)
        for place in range(0, BLOCK, CARD):
            if block[place : place + CARD].rstrip(b" ") == b"END":
                return self._read()
        if len(self._blocks) == _MOST_BLOCKS:
            raise InvalidData(f"HDU {self._number}: the header is larger than {_MOST_BLOCKS * BLOCK} bytes")
        return None

    def _read(self) -> Header:
        cards = b"".join(self._blocks)
        numbers: dict[bytes, int] = {}
        texts: dict[bytes, str] = {}
        groups = False
        for place in range(0, len(cards), CARD):
            card = cards[place : place + CARD]
            number, text = _NUMBER.match(card), _TEXT.match(card)
            if number and _NUMBERS.fullmatch(number[1]):
                numbers.setdefault(number[1], int(number[2]))
            elif text and text[1] in {b"EXTNAME", b"XTENSION"}:
                texts.setdefault(text[1], readable(text[2].replace(b"''", b"'")).rstrip())
            elif card.startswith(b"GROUPS  =") and card[10:30].strip() == b"T":
                groups = True
        header = Header(cards, numbers, texts, groups)
        self._verify(header)
        return header

    def _verify(self, header: Header) -> None:
        numbers = header.numbers
        axes = numbers.get(b"NAXIS", -1)
        sound = (
            numbers.get(b"BITPIX") in _WIDTHS
            and 0 <= axes <= _MOST_AXES
            and all(numbers.get(b"NAXIS%d" % axis, -1) >= 0 for axis in range(1, axes + 1))
            and numbers.get(b"PCOUNT", 0) >= 0
            and numbers.get(b"GCOUNT", 1) >= 0
            and header.size <= _LARGEST
        )
        if not sound:
            raise InvalidData(f"HDU {self._number}: BITPIX, NAXIS, PCOUNT and GCOUNT make no sense")


def readable(cards: bytes) -> str:
    """Give the characters of cards; what FITS does not allow is shown as a question mark."""
    return re.sub(r"[^ -~]", "?", cards.decode("latin-1"))


def walk(source: Bytes) -> Iterator[Hdu | None]:
    """Go through the HDUs of a file as far as it has them; a None is a pause in a long header.

    What stands behind the last extension and does not begin as one is passed over (special records, section 3.5).
    """
    start = read = 0
    for number in range(MOST_HDUS):
        if number and not source.read(start, BLOCK).startswith(b"XTENSION="):
            return
        reader, header, place = HeaderReader(number), None, start
        while header is None:
            piece = source.read(place, _AT_ONCE)
            blocks = [piece[at : at + BLOCK] for at in range(0, len(piece) - BLOCK + 1, BLOCK)]
            if not blocks:
                raise InvalidData(f"HDU {number}: the file ends within the header")
            header = next(filter(None, map(reader.take, blocks)), None)
            place += len(blocks) * BLOCK
            read += len(blocks) * BLOCK
            if read > _MOST_READ:
                raise InvalidData(f"the headers have more than {_MOST_READ} bytes together")
            yield None
        found = Hdu(number, start, header)
        yield found
        start = found.data + padded(header.size)
    raise InvalidData(f"there are more than {MOST_HDUS} HDUs")


class FitsCheck(Check):
    """Sees that there is a FITS file from its first header to the end of its last data."""

    def __init__(self) -> None:
        self._number = 0
        self._reader = HeaderReader(0)
        self._block = bytearray()
        self._skip = 0
        self._padding = 0
        self._done = False

    def take(self, piece: bytes) -> None:
        """Walk on."""
        place = 0
        while place < len(piece) and not self._done:
            if self._skip:
                step = min(self._skip, len(piece) - place)
                self._skip -= step
            else:
                step = min(BLOCK - len(self._block), len(piece) - place)
                self._block += piece[place : place + step]
                if len(self._block) == BLOCK:
                    self._take_block(bytes(self._block))
                    self._block.clear()
            place += step

    def _take_block(self, block: bytes) -> None:
        if self._number and not self._reader and not block.startswith(b"XTENSION="):
            self._done = True
            return
        header = self._reader.take(block)
        if header is None:
            return
        self._skip = padded(header.size)
        self._padding = self._skip - header.size
        self._number += 1
        self._reader = HeaderReader(self._number)
        if self._number > MOST_HDUS:
            raise InvalidData(f"there are more than {MOST_HDUS} HDUs")

    def end(self) -> None:
        """See that nothing is missing; the padding of the last data may be, as many programs leave it out."""
        if not self._number or self._reader or self._block.startswith(b"XTENSION="):
            raise InvalidData(f"HDU {self._number}: the file ends within the header")
        if self._skip > self._padding:
            raise InvalidData(f"HDU {self._number - 1}: the file ends within the data")
