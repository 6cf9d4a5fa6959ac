"""What a service offers, and what was posted to a node."""

import pytest

from pyvospace.model.faults import InvalidArgument, InvalidData
from pyvospace.model.nodes import View
from pyvospace.model.transfers import Protocol
from pyvospace.model.vocabulary import (
    ACCEPTED_PROPERTIES,
    ANY_VIEW,
    BINARY_VIEW,
    HTTP_GET,
    HTTP_PUT,
    PROVIDED_PROPERTIES,
)
from pyvospace.wire import service as wire
from tests.support.documents import assert_valid

SPACE = 'xmlns="http://www.ivoa.net/xml/VOSpace/v2.0"'


def test_protocols() -> None:
    accepts, provides = (Protocol(HTTP_GET),), (Protocol(HTTP_GET), Protocol(HTTP_PUT))
    body = wire.render_protocols(accepts, provides)
    assert_valid(body)
    assert wire.parse_protocols(body) == (accepts, provides)
    assert_valid(wire.render_protocols((), ()))


def test_views() -> None:
    accepts, provides = (View(ANY_VIEW), View(BINARY_VIEW)), (View(BINARY_VIEW),)
    body = wire.render_views(accepts, provides)
    assert_valid(body)
    assert wire.parse_views(body) == (accepts, provides)


def test_properties() -> None:
    accepts, provides = tuple(sorted(ACCEPTED_PROPERTIES)), tuple(sorted(PROVIDED_PROPERTIES))
    body = wire.render_properties(accepts, iter(provides), ["quality", "a & b"])
    assert_valid(body)
    assert wire.parse_properties(body) == {
        "accepts": accepts,
        "provides": provides,
        "contains": ("quality", "a & b"),
    }


@pytest.mark.parametrize("parse", [wire.parse_protocols, wire.parse_views, wire.parse_properties])
def test_other_answers(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(InvalidData):
        parse(f"<node {SPACE}/>".encode())


@pytest.mark.parametrize(
    "inner",
    ["", "<accepts/>", "<provides/>", "<accepts/><provides/>", "<accepts><protocol uri='a'/></accepts>"],
)
def test_requests_for_protocols(inner: str) -> None:
    body = f"<protocols {SPACE}>{inner}</protocols>".encode()
    wire.parse_protocols_request(body)
    assert wire.root_name(body) == "protocols"


@pytest.mark.parametrize("inner", ["<provides/><accepts/>", "<view uri='urn:v'/>", "<odd/>", "text"])
def test_requests_for_protocols_are_checked(inner: str) -> None:
    with pytest.raises(InvalidArgument):
        wire.parse_protocols_request(f"<protocols {SPACE}>{inner}</protocols>".encode())


def test_request_for_protocols_is_another_document() -> None:
    with pytest.raises(InvalidArgument):
        wire.parse_protocols_request(f"<node {SPACE} uri='vos://x~y/a'/>".encode())


@pytest.mark.parametrize("name", ["node", "transfer", "protocols"])
def test_root_name(name: str) -> None:
    for body in (
        f"<?xml version='1.0'?><!-- <protocols/> --><?pi?>\n<{name} {SPACE}>",
        f"<a:{name} {SPACE.replace('xmlns', 'xmlns:a')}/>",
    ):
        assert wire.root_name(body.encode()) == name


@pytest.mark.parametrize(
    "body",
    ["", " ", "x", "<node/>", "<node xmlns='urn:x'/>", f"<odd {SPACE}/>", f"<!DOCTYPE node><node {SPACE}/>", "<"],
)
def test_root_name_of_nonsense(body: str) -> None:
    with pytest.raises(InvalidArgument):
        wire.root_name(body.encode())
