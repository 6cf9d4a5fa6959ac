"""FITS: the views of good files, and what becomes of damaged ones."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from pyvospace.model.faults import InvalidArgument, InvalidData, ViewNotSupported
from pyvospace.structures import StructuredView
from pyvospace.structures.fits import EXTNAME, EXTVER, HEADERS, HEADERS_JSON, NUMBER, SINGLE, Fits
from pyvospace.structures.interface import HEAD
from tests.structures.memory import Memory

BLOCK = 2880


def example() -> bytes:
    """Make a file with an image, a named image twice, a binary table with a heap, and an ASCII table."""
    primary = fits.PrimaryHDU(np.arange(12, dtype="i4").reshape(3, 4))
    primary.header["OBJECT"] = "M 31's"
    primary.header["LONG"] = "x" * 200
    primary.header["HIERARCH ESO FOO BAR"] = 1.5
    primary.header["COMPLEX"] = 1 + 2j
    primary.header["EMPTY"] = None
    primary.header["HISTORY"] = "made for a test"
    heap = fits.Column("v", "PJ()", array=np.array([np.arange(3), np.arange(5)], dtype=object))
    hdus = [
        primary,
        fits.ImageHDU(np.ones((5, 5)), name="SCI", ver=1),
        fits.ImageHDU(np.zeros((5, 5)), name="SCI", ver=2),
        fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2]), heap], name="EVENTS"),
        fits.TableHDU.from_columns([fits.Column("a", "I5", array=[1, 2])]),
    ]
    out = io.BytesIO()
    fits.HDUList(hdus).writeto(out)
    return out.getvalue()


FILE = example()


def render(data: bytes, view: StructuredView, params: Mapping[str, str] | None = None) -> bytes:
    rendering = Fits().render(view, params or {}, Memory(data))
    found = b"".join(rendering.pieces)
    assert rendering.size in {None, len(found)}
    return found


def check(data: bytes, step: int = 777) -> None:
    checking = Fits().check()
    for place in range(0, len(data), step):
        checking.take(data[place : place + step])
    checking.end()


def header(*cards: str) -> bytes:
    text = "".join(card.ljust(80) for card in (*cards, "END")).encode()
    return text.ljust(-(-len(text) // BLOCK) * BLOCK)


def test_recognised_by_its_bytes() -> None:
    assert Fits().recognises(FILE[:HEAD], None)
    assert not Fits().recognises(b"SIMPLE  =", "application/fits")
    assert not Fits().recognises(FILE[BLOCK : BLOCK + HEAD], "application/fits")


def test_headers_as_text() -> None:
    lines = render(FILE, HEADERS).decode().splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# HDU 0", "# HDU 1: SCI, 1", "# HDU 2: SCI, 2", "# HDU 3: EVENTS, 1", "# HDU 4",
    ]  # fmt: skip
    with fits.open(io.BytesIO(FILE)) as hdus:
        for hdu in hdus:
            cards = str(hdu.header.tostring(sep="\n", padding=False)).splitlines()
            assert {card.rstrip() for card in cards} <= set(lines)


def test_headers_as_json() -> None:
    told = json.loads(render(FILE, HEADERS_JSON))
    assert [(one["type"], one["name"], one["version"]) for one in told] == [
        ("PRIMARY", "", 1), ("IMAGE", "SCI", 1), ("IMAGE", "SCI", 2), ("BINTABLE", "EVENTS", 1), ("TABLE", "", 1),
    ]  # fmt: skip
    values: dict[str, Any] = {keyword: value for keyword, value, _ in told[0]["header"]}
    assert values["OBJECT"] == "M 31's"
    assert values["LONG"] == "x" * 200
    assert values["ESO FOO BAR"] == pytest.approx(1.5)
    assert values["COMPLEX"] == "(1+2j)"
    assert values["EMPTY"] is None
    assert (values["SIMPLE"], values["NAXIS1"]) == (True, 4)
    data = FILE[told[1]["data_offset"] :][: told[1]["data_size"]]
    assert np.array_equal(np.frombuffer(data, ">f8"), np.ones(25))


@pytest.mark.parametrize(
    ("params", "number"),
    [
        ({}, 0),
        ({NUMBER: "3"}, 3),
        ({NUMBER: "4"}, 4),
        ({EXTNAME: "sci"}, 1),
        ({EXTNAME: "SCI", EXTVER: "2"}, 2),
    ],
)
def test_single_hdu(params: dict[Any, str], number: int) -> None:
    found = render(FILE, SINGLE, {param.uri: value for param, value in params.items()})
    with fits.open(io.BytesIO(FILE)) as hdus, fits.open(io.BytesIO(found)) as alone:
        assert len(alone) == (2 if number else 1)
        assert alone[-1].header == hdus[number].header
        assert np.array_equal(alone[-1].data, hdus[number].data)
        alone.verify("exception")


@pytest.mark.parametrize(
    "params",
    [{NUMBER: "5"}, {EXTNAME: "SKY"}, {EXTNAME: "SCI", EXTVER: "3"}, {NUMBER: "1", EXTNAME: "SCI"}, {EXTVER: "1"}],
)
def test_no_such_hdu(params: dict[Any, str]) -> None:
    with pytest.raises(InvalidArgument):
        render(FILE, SINGLE, {param.uri: value for param, value in params.items()})


def test_check() -> None:
    check(FILE)
    check(FILE, 1 << 20)
    check(FILE + b"special records" * 1000)
    check(header("SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = 3000") + b"x" * 3000)


@pytest.mark.parametrize("cut", [1, 80, BLOCK, BLOCK + 20, 2 * BLOCK + 80, 4 * BLOCK - 2700])
def test_check_finds_what_is_cut(cut: int) -> None:
    with pytest.raises(InvalidData):
        check(FILE[:cut])


HOSTILE = {
    "no end": header("SIMPLE  =                    T")[:-BLOCK] + b"SIMPLE  =                    T".ljust(80) * 60_000,
    "negative": header("SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = -5"),
    "no axes": header("SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 5"),
    "bits": header("SIMPLE  =                    T", "BITPIX  = 7", "NAXIS   = 0"),
    "axes": header("SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 999999999999999999"),
    "no primary": header("XTENSION= 'IMAGE   '", "BITPIX  = 8", "NAXIS   = 0"),
    "huge": header(
        "SIMPLE  =                    T", "BITPIX  = -64", "NAXIS   = 999",
        *(f"NAXIS{axis:<3}= 999999999999999999" for axis in range(1, 1000)),
    ),
    "many": (
        header("SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 0")
        + header("XTENSION= 'IMAGE   '", "BITPIX  = 8", "NAXIS   = 0") * 10_001
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name: str) -> None:
    with pytest.raises(InvalidData):
        check(HOSTILE[name])
    with pytest.raises((InvalidData, InvalidArgument)):
        render(HOSTILE[name], SINGLE, {NUMBER.uri: "9999"})


def test_size_of_thousands_of_digits_is_a_fault() -> None:
    with pytest.raises(InvalidData, match="make no sense"):
        render(HOSTILE["huge"], HEADERS_JSON)


def test_damage_at_random_is_a_fault() -> None:
    dice = random.Random(1)
    for _ in range(200):
        damaged = bytearray(FILE)
        for _ in range(20):
            damaged[dice.randrange(3 * BLOCK)] = dice.randrange(256)
        for view in (HEADERS, HEADERS_JSON, SINGLE):
            with suppress(InvalidData, InvalidArgument):
                render(bytes(damaged), view, {NUMBER.uri: "1"} if view is SINGLE else {})
    with pytest.raises(InvalidData):
        render(FILE[: 4 * BLOCK - 2700], SINGLE, {NUMBER.uri: "1"})


def test_padding_that_is_missing_is_added() -> None:
    whole = header("SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = 3000") + b"x" * 3000
    assert render(whole, SINGLE) == whole.ljust(3 * BLOCK, b"\0")


def test_without_astropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvospace.structures.fits.find_spec", lambda _: None)
    assert "astropy is not installed" in (Fits().missing() or "")
    with pytest.raises(ViewNotSupported):
        render(FILE, HEADERS_JSON)
    assert render(FILE, HEADERS).startswith(b"# HDU 0\nSIMPLE")
