"""Transfer documents."""

import pytest
from hypothesis import given, settings

from pyvospace.model.faults import InvalidArgument, InvalidData, RequestEntityTooLarge
from pyvospace.model.nodes import Param, View
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.vocabulary import CORE, DEFAULT_VIEW, HTTP_PUT, HTTPS_PUT, PACKAGE_VIEW, SSO_TOKEN, Direction
from pyvospace.wire import transfers as wire
from pyvospace.wire.xml import Limits
from tests.support.documents import assert_valid
from tests.support.strategies import transfers

SPACE = 'xmlns="http://www.ivoa.net/xml/VOSpace/v2.0"'
TARGET = "<target>vos://x~y/a</target>"
DIRECTION = "<direction>pullFromVoSpace</direction>"


def document(inner: str) -> bytes:
    return f'<transfer {SPACE} version="2.1">{inner}</transfer>'.encode()


@given(transfers)
def test_round_trip(transfer: Transfer) -> None:
    body = wire.render_transfer(transfer)
    assert wire.read_transfer(body) == transfer
    assert wire.parse_transfer(body) == transfer


@settings(max_examples=25)
@given(transfers)
def test_answers_are_valid(transfer: Transfer) -> None:
    assert_valid(wire.render_transfer(transfer))


def test_document() -> None:
    transfer = Transfer(
        "vos://x~y/a b",
        Direction.PUSH_TO_VOSPACE,
        View(DEFAULT_VIEW),
        (
            Protocol(HTTPS_PUT, "https://h/files/t/a?b&c", (Param("urn:p", "1"),), (SSO_TOKEN,)),
            Protocol(HTTP_PUT),
        ),
        keep_bytes=True,
        params=(Param(CORE + "length", "10"),),
        version="2.1",
    )
    body = wire.render_transfer(transfer)
    assert body.decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<vos:transfer xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" version="2.1">'
        "<vos:target>vos://x~y/a%20b</vos:target><vos:direction>pushToVoSpace</vos:direction>"
        f'<vos:view uri="{DEFAULT_VIEW}"/><vos:protocol uri="{HTTPS_PUT}">'
        '<vos:endpoint>https://h/files/t/a?b&amp;c</vos:endpoint><vos:param uri="urn:p">1</vos:param>'
        f'<vos:securityMethod uri="{SSO_TOKEN}"/></vos:protocol><vos:protocol uri="{HTTP_PUT}"/>'
        f'<vos:keepBytes>true</vos:keepBytes><vos:param uri="{CORE}length">10</vos:param></vos:transfer>\n'
    )
    assert_valid(body)


def test_client_of_vospace_20_gets_no_version() -> None:
    transfer = wire.parse_transfer(f"<transfer {SPACE}>{TARGET}{DIRECTION}</transfer>".encode())
    assert transfer == Transfer("vos://x~y/a", Direction.PULL_FROM_VOSPACE)
    assert assert_valid(wire.render_transfer(transfer)).get("version") is None


def test_raw_uris_are_kept_and_come_out_encoded() -> None:
    transfer = wire.parse_transfer(document("<target>\n vos://x~y/é 1%\n</target><direction>vos://x~y/b c</direction>"))
    assert (transfer.target, transfer.direction) == ("vos://x~y/é 1%", "vos://x~y/b c")
    body = wire.render_transfer(transfer)
    assert b"vos://x~y/%C3%A9%201%25" in body
    assert b"vos://x~y/b%20c" in body
    assert_valid(body)


@pytest.mark.parametrize(
    "method", ["<securityMethod>\n</securityMethod>", "<securityMethod/>", '<securityMethod uri=""/>', ""]
)
def test_security_method_without_name_is_none(method: str) -> None:
    transfer = wire.parse_transfer(document(f'{TARGET}{DIRECTION}<protocol uri="urn:p">{method}</protocol>'))
    assert transfer.protocols == (Protocol("urn:p"),)


def test_security_methods_in_both_spellings() -> None:
    methods = '<securityMethod uri="urn:a"/><securityMethod standardID="urn:b"/>'
    transfer = wire.parse_transfer(document(f'{TARGET}{DIRECTION}<protocol uri="urn:p">{methods}</protocol>'))
    assert transfer.protocols[0].security_methods == ("urn:a", "urn:b")


def test_parameters() -> None:
    transfer = wire.parse_transfer(document(f'{TARGET}{DIRECTION}<param uri="urn:a"> 1 </param><param uri="urn:b"/>'))
    assert transfer.param("urn:a") == " 1 "
    assert transfer.param("urn:b") == ""
    assert transfer.param("urn:c") is None


@pytest.mark.parametrize(
    "inner",
    [
        "",
        TARGET,
        DIRECTION,
        DIRECTION + TARGET,
        TARGET + TARGET + DIRECTION,
        TARGET + DIRECTION + DIRECTION,
        TARGET + DIRECTION + "<keepBytes>maybe</keepBytes>",
        TARGET + DIRECTION + "<keepBytes/>",
        TARGET + DIRECTION + "<keepBytes>true</keepBytes><protocol uri='urn:p'/>",
        TARGET + DIRECTION + "<protocol/>",
        TARGET + DIRECTION + "<protocol uri='urn:p'><securityMethod uri='urn:m'/><endpoint>urn:e</endpoint></protocol>",
        TARGET + DIRECTION + "<protocol uri='urn:p'/>" * 101,
        TARGET + DIRECTION + "<node uri='vos://x~y/a'/>",
        TARGET + DIRECTION + "text",
        "<target><param uri='urn:p'/></target>" + DIRECTION,
    ],
)
def test_structure_is_checked(inner: str) -> None:
    with pytest.raises(InvalidArgument):
        wire.parse_transfer(document(inner))


def test_another_document() -> None:
    with pytest.raises(InvalidArgument, match="node"):
        wire.parse_transfer(f'<node {SPACE} uri="vos://x~y/a"/>'.encode())
    with pytest.raises(InvalidData):
        wire.read_transfer(f'<node {SPACE} uri="vos://x~y/a"/>'.encode())


def test_too_large() -> None:
    with pytest.raises(RequestEntityTooLarge):
        wire.parse_transfer(document(TARGET + DIRECTION), Limits(document_bytes=50))


def test_answer_of_a_failed_transfer() -> None:
    """It names no protocol; a service of another make may leave out the direction too."""
    assert wire.read_transfer(document(TARGET)) == Transfer("vos://x~y/a", "", version="2.1")


def test_only_a_package_has_several_targets() -> None:
    package = f'<view uri="{PACKAGE_VIEW}"/>'
    several = "<target>vos://x~y/b</target>" * 3
    read = wire.parse_transfer(document(TARGET + several + DIRECTION + package))
    assert read.targets == ("vos://x~y/a", *["vos://x~y/b"] * 3)
    assert_valid(wire.render_transfer(read))
    assert [one.value for one in wire.read_transfer(wire.render_transfer(read)).params] == ["vos://x~y/b"] * 3
    for refused in (
        TARGET + several + DIRECTION,
        TARGET + several + DIRECTION + f'<view uri="{DEFAULT_VIEW}"/>',
        TARGET + several + "<direction>pushToVoSpace</direction>" + package,
        TARGET * 1001 + DIRECTION + package,
        DIRECTION + package,
    ):
        with pytest.raises(InvalidArgument):
            wire.parse_transfer(document(refused))
