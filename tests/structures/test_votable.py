"""VOTable: the views of good documents, and what becomes of those that are none or mean harm."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from astropy.io.votable import parse, validate
from astropy.io.votable.tree import Field, Resource, TableElement, VOTableFile
from astropy.table import MaskedColumn, Table

from pyvospace.model.faults import InvalidArgument, InvalidData, ViewNotSupported
from pyvospace.structures import StructuredView
from pyvospace.structures.votable import CSV, METADATA, NAME, SINGLE, TABLE, TSV, VOTable
from tests.structures.memory import Memory

DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<!-- <TABLE> -->
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<DESCRIPTION>Two
  tables</DESCRIPTION>
<RESOURCE name="outer"><COOSYS ID="sky" system="ICRS"/><INFO name="q" value="1 &gt; 0">x</INFO>
<RESOURCE><PARAM name="other" datatype="int" value="3"/><TABLE name="first"><FIELD name="z" datatype="int"/>
</TABLE></RESOURCE>
<TABLE ID="stars" name="bright"><DESCRIPTION>Bright ones</DESCRIPTION>
<PARAM name="p" datatype="float" value="1.5" unit="m"><DESCRIPTION>of all</DESCRIPTION></PARAM>
<FIELD name="name" ID="n1" datatype="char" arraysize="*" ucd="meta.id"><DESCRIPTION>how called</DESCRIPTION>
<VALUES null="x"><MIN value="1"/></VALUES></FIELD>
<FIELD name="ra" datatype="double" unit="deg" ref="sky"/>
<DATA><TABLEDATA><TR><TD>A, "b"</TD><TD>1.5</TD></TR><TR><TD>caf\u00e9
x\ty</TD><TD/></TR></TABLEDATA></DATA></TABLE>
<TABLE name="void"><FIELD name="q" datatype="int"/></TABLE>
</RESOURCE></VOTABLE>""".encode()


def render(data: bytes, view: StructuredView, params: dict[Any, str] | None = None) -> bytes:
    given = {param.uri: value for param, value in (params or {}).items()}
    return b"".join(VOTable().render(view, given, Memory(data)).pieces)


def check(data: bytes, step: int = 7) -> None:
    checking = VOTable().check()
    for place in range(0, len(data), step):
        checking.take(data[place : place + step])
    checking.end()


def test_recognised_by_its_bytes() -> None:
    assert VOTable().recognises(DOCUMENT, None)
    assert VOTable().recognises(b"\xef\xbb\xbf<v:VOTABLE xmlns:v='x'>", None)
    assert not VOTable().recognises(b"<html><VOTABLE>", "application/x-votable+xml")
    assert not VOTable().recognises(b"<?x" * 2700, None)


def test_metadata() -> None:
    told = json.loads(render(DOCUMENT, METADATA))
    assert (told["version"], told["description"]) == ("1.4", "Two tables")
    assert [(one["name"], one["rows"], one["resource"]) for one in told["tables"]] == [
        ("first", 0, ""), ("bright", 2, "outer"), ("void", 0, "outer"),
    ]  # fmt: skip
    stars = told["tables"][1]
    assert stars["description"] == "Bright ones"
    assert stars["serialization"] == "TABLEDATA"
    assert stars["params"] == [{"name": "p", "datatype": "float", "value": "1.5", "unit": "m", "description": "of all"}]
    assert [(one["name"], one.get("unit"), one.get("description")) for one in stars["fields"]] == [
        ("name", None, "how called"), ("ra", "deg", None),
    ]  # fmt: skip
    assert told["infos"] == [{"name": "q", "value": "1 > 0"}]


def test_table_as_text() -> None:
    rows = list(csv.reader(io.StringIO(render(DOCUMENT, CSV, {TABLE: "1"}).decode(), newline="")))
    assert rows == [["name", "ra"], ['A, "b"', "1.5"], ["caf\u00e9\nx\ty", ""]]
    assert render(DOCUMENT, TSV, {NAME: "stars"}).decode() == 'name\tra\nA, "b"\t1.5\ncaf\u00e9 x y\t\n'
    assert render(DOCUMENT, TSV, {NAME: "bright"}) == render(DOCUMENT, TSV, {TABLE: "1"})
    assert render(DOCUMENT, CSV) == b"z\r\n"


@pytest.mark.parametrize(("number", "name", "rows"), [("0", "first", 0), ("1", "bright", 2), ("2", "void", 0)])
def test_table_alone(number: str, name: str, rows: int) -> None:
    found = render(DOCUMENT, SINGLE, {TABLE: number})
    (table,) = parse(io.BytesIO(found)).iter_tables()
    assert (table.name, table.nrows or 0) == (name, rows)
    assert b'<COOSYS ID="sky"' in found
    assert validate(io.BytesIO(found), output=None)


def test_a_large_one_made_by_astropy() -> None:
    document = VOTableFile()
    resource = Resource()
    document.resources.append(resource)
    table = TableElement(document, ID="big")
    resource.tables.append(table)
    table.fields.extend([Field(document, name="a", datatype="int"), Field(document, name="b", datatype="double")])
    table.create_arrays(50_000)
    table.array["a"] = range(50_000)
    table.array["b"] = 0.25
    out = io.BytesIO()
    document.to_xml(out)
    lines = render(out.getvalue(), CSV).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (50_001, b"a,b", b"49999,0.25")
    assert json.loads(render(out.getvalue(), METADATA))["tables"][0]["rows"] == 50_000
    assert next(iter(parse(io.BytesIO(render(out.getvalue(), SINGLE))).iter_tables())).nrows == 50_000
    check(out.getvalue(), 1 << 20)


@pytest.mark.parametrize("view", [CSV, TSV, SINGLE])
@pytest.mark.parametrize("params", [{TABLE: "3"}, {NAME: "none"}, {TABLE: "1", NAME: "stars"}])
def test_no_such_table(view: StructuredView, params: dict[Any, str]) -> None:
    with pytest.raises(InvalidArgument):
        render(DOCUMENT, view, params)


@pytest.mark.parametrize("serialization", ["binary", "binary2"])
def test_binary_tables_are_written_like_others(serialization: str) -> None:
    rows = 5000
    table = Table()
    table["int"] = np.arange(rows, dtype="i4")
    table["flag"] = np.arange(rows) % 2 == 0
    table["name"] = [f"star <{number}> & \u00e9" for number in range(rows)]
    table["flux"] = np.linspace(0, 1, rows, dtype="f4")
    table["pair"] = np.arange(2 * rows, dtype="i2").reshape(rows, 2)
    lists = [np.ma.array(np.arange(n % 4, dtype="f8"), mask=np.zeros(n % 4, dtype=bool)) for n in range(rows)]
    table["list"] = np.array(lists, dtype=object)
    mask = (np.arange(rows) % 3 == 0) & (serialization == "binary2")  # the other has no nulls
    table["long"] = MaskedColumn(np.arange(rows, dtype="i8"), mask=mask)
    written, document = {}, b""
    for one in ("tabledata", serialization):
        out = io.BytesIO()
        table.write(out, format="votable", tabledata_format=one)
        document = out.getvalue()
        written[one] = render(document, CSV)
    plain = list(csv.reader(io.StringIO(written["tabledata"].decode())))
    binary = list(csv.reader(io.StringIO(written[serialization].decode())))
    assert len(binary) == rows + 1
    for number, (expected, found) in enumerate(zip(plain, binary, strict=True)):
        if number % 3 == 1:  # null: empty, or the number that stands for it
            del expected[-1], found[-1]
        assert found == expected
    assert render(document, SINGLE).count(b"<BINARY") == 1


STREAM = (
    b'<VOTABLE><RESOURCE><TABLE><FIELD name="a" datatype="%s" arraysize="%s"/><DATA><BINARY>'
    b'<STREAM encoding="base64">%s</STREAM></BINARY></DATA></TABLE></RESOURCE></VOTABLE>'
)


@pytest.mark.parametrize(
    ("datatype", "arraysize", "data"),
    [
        (b"int", b"1", b"AAA"),  # no whole group of base64
        (b"int", b"1", b"AAAA"),  # no whole row
        (b"char", b"*", b"f////w=="),  # a length of 2 GiB
        (b"int", b"*", b"AP///w==" + b"AAAA" * 1_000_000),
        (b"int", b"99999999x99999999", b"AAAA"),
        (b"int", b"x", b"AAAA"),
        (b"boolean", b"0x*", b"f////w=="),  # as many cells of no bytes
        (b"bit", b"\xd9\xa0x*", b"f////w=="),  # the same, in other digits
        (b"int", b"1x" * 30 + b"99999999", b"AAAA"),
        (b"quark", b"1", b"AAAA"),
    ],
)
def test_hostile_streams(datatype: bytes, arraysize: bytes, data: bytes) -> None:
    with pytest.raises(InvalidData):
        render(STREAM % (datatype, arraysize, data), CSV)


@pytest.mark.parametrize(
    "document",
    [
        STREAM.replace(b'encoding="base64"', b'href="file:///etc/passwd"') % (b"int", b"1", b""),
        STREAM.replace(b"BINARY>", b"FITS>") % (b"int", b"1", b""),
    ],
)
def test_streams_that_are_not_read(document: bytes) -> None:
    with pytest.raises(ViewNotSupported):
        render(document, CSV)


def test_without_astropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyvospace.structures.votable_binary.find_spec", lambda _: None)
    monkeypatch.setattr("pyvospace.structures.votable.find_spec", lambda _: None)
    assert "astropy is not installed" in (VOTable().missing() or "")
    with pytest.raises(ViewNotSupported):
        render(STREAM % (b"int", b"1", b"AAAAAA=="), CSV)


HOSTILE = [
    b"",
    DOCUMENT[:-3],
    b"<html/>",
    b"<VOTABLE><VOTABLE/></VOTABLE>",
    b'<!DOCTYPE VOTABLE [<!ENTITY a "b">]><VOTABLE/>',
    b'<!DOCTYPE VOTABLE SYSTEM "file:///etc/passwd"><VOTABLE/>',
    b"<VOTABLE>&a;</VOTABLE>",
    b"<VOTABLE>" + b"<RESOURCE>" * 100,
    b'<VOTABLE a="' + b"x" * 3_000_000,
    DOCUMENT.replace(b"UTF-8", b"klingon"),
    DOCUMENT.replace(b"UTF-8", b"koi8-r"),
    DOCUMENT.decode().encode("utf-16"),
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_documents(data: bytes) -> None:
    for step in (1000, 1 << 20):
        with pytest.raises(InvalidData):
            check(data, step)
    for view in (METADATA, SINGLE, CSV):
        with pytest.raises(InvalidData):
            render(data, view, {TABLE: "9"} if view is not METADATA else {})


def test_metadata_are_bounded() -> None:
    data = b"<VOTABLE><RESOURCE>" + b"<INFO/>" * 100_000 + b"</RESOURCE></VOTABLE>"
    for view in (METADATA, SINGLE):
        with pytest.raises(InvalidData, match="more than"):
            render(data, view)


def test_cut_anywhere_is_a_fault() -> None:
    for place in range(len(DOCUMENT) - 1):
        for view in (METADATA, CSV, SINGLE):
            with suppress(InvalidData, InvalidArgument):
                render(DOCUMENT[:place], view, {TABLE: "1"} if view is not METADATA else {})
