"""Judges every document that pyvospace sends: our schemas, the official ones if they are there, a second opinion."""

from __future__ import annotations

import os
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xmlschema
from lxml import etree

from pyvospace.wire.xml import SCHEMAS, UWS, VOSPACE, XLINK, XSI

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

VARIABLE = "PYVOSPACE_OFFICIAL_SCHEMAS"
"""Names the folder with the official schemas (bundle.xsd, bundle-service.xsd)."""
_SECOND_OPINION = 200_000
"""Larger documents are left to lxml: xmlschema is a hundred times slower."""
_SERVICE = {f"{{{VOSPACE}}}{name}" for name in ("protocols", "views", "properties")}


def official() -> Path | None:
    """Give the folder with the official schemas, None if nobody named it."""
    folder = os.environ.get(VARIABLE)
    return Path(folder) if folder else None


def require_official() -> Path:
    """Give the folder with the official schemas, or leave the test out and say why."""
    folder = official()
    if folder is None:
        pytest.skip(f"left out: {VARIABLE} does not name the folder with the official schemas")
    return folder


def assert_valid(body: bytes) -> Element:
    """Fail unless the body of an answer is a document as it should be; give its root element."""
    root = etree.fromstring(body)
    assert body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    assert root.getroottree().docinfo.internalDTD is None
    _assert_habits(root)
    paths = [SCHEMAS / "service.xsd"]
    folder = official()
    if folder is not None:
        paths.append(folder / ("bundle-service.xsd" if root.tag in _SERVICE else "bundle.xsd"))
    for path in paths:
        assert_schema(body, path)
    return root


def assert_schema(body: bytes, path: Path) -> None:
    """Fail unless a document is valid by the schema, in the eyes of lxml and of xmlschema."""
    _lxml(path).assertValid(etree.parse(BytesIO(body)))
    if len(body) < _SECOND_OPINION:
        _xmlschema(path).validate(BytesIO(body))


def _assert_habits(root: Element) -> None:
    """What clients need and no schema can say."""
    if root.tag == f"{{{VOSPACE}}}node":
        assert root.get("version") == "2.1"
        for node in root.iter(f"{{{VOSPACE}}}node"):
            assert (node.get(f"{{{XSI}}}type") or "").startswith("vos:"), "vos compares the prefix"
        assert root.nsmap == {"vos": VOSPACE, "xsi": XSI}
    if etree.QName(root).namespace == UWS:
        assert root.nsmap["uws"] == UWS
        assert root.nsmap["xlink"] == XLINK
    if etree.QName(root).localname == "capabilities":
        assert root.nsmap["xsi"] == XSI
        for capability in root:
            first, *others = capability.findall("interface")
            assert first.find("securityMethod") is None, "the anonymous interface comes first"
            assert all(other.find("securityMethod") is not None for other in others)


@cache
def _lxml(path: Path) -> etree.XMLSchema:
    return etree.XMLSchema(file=str(path))


@cache
def _xmlschema(path: Path) -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(path), allow="local")
