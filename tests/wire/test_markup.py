"""Strings that we write are what a parser reads."""

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from pyvospace.wire.markup import attribute, identifier, text
from tests.support.strategies import texts


@given(texts)
def test_text_round_trip(value: str) -> None:
    assert (etree.fromstring(f"<a>{text(value)}</a>".encode()).text or "") == value


@given(texts)
def test_attribute_round_trip(value: str) -> None:
    assert etree.fromstring(f'<a b="{attribute(value)}"/>'.encode()).get("b") == value
    assert identifier(value) == attribute(value)


@given(st.text(st.characters()))
def test_whatever_comes_the_document_is_well_formed(value: str) -> None:
    body = f'<a b="{attribute(value)}">{text(value)}</a>'.encode()
    root = etree.fromstring(body)
    assert len(root.text or "") == len(root.get("b") or "") == len(value)


def test_what_xml_cannot_hold_is_replaced() -> None:
    assert text("a\x00b\x0b\ud800\ufffe") == "a\ufffdb\ufffd\ufffd\ufffd"
