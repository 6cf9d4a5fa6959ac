"""Documents as vos, cadcutils and vosfs write and read them: the clients themselves make them here."""

import re
from types import SimpleNamespace
from unittest import mock
from xml.etree import ElementTree as ET

import cadcutils.net.netutils
import pytest
import vos.vos
import vosfs.capabilities
import vosfs.negotiate
import vosfs.nodes
from hypothesis import given
from vosfs.xmlio import safe_parse

from pyvospace.model.nodes import Node, Property
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import CORE, HTTPS_GET, HTTPS_PUT, SSO_TOKEN, Direction, NodeType
from pyvospace.wire import nodes as wire
from pyvospace.wire import transfers as transfers_wire
from tests.support.strategies import AUTHORITY, containers, names, node_uris, nodes
from tests.support.strategies import transfers as any_transfers

PRIVATE = "vos://cadc.nrc.ca~vospace/CADC/std/Auth#token-1.0"
"""Security method that vos asks for first."""


def written_by_vos(node: vos.vos.Node) -> bytes:
    """Serialise without the prefix that vosfs enters in a table of the whole process: vos would write it twice."""
    table = ET._namespace_map  # type: ignore[attr-defined]
    with mock.patch.dict(table):
        table.pop(vosfs.nodes.VOSPACE_NS, None)
        return str(node).encode()


@given(names)
def test_documents_of_vos(name: str) -> None:
    if re.search("[\ufffe\uffff]", name):
        return
    raw = f"vos://{AUTHORITY}/home/{name}"
    uri = NodeUri(AUTHORITY, ("home", name))
    for kind in ("vos:DataNode", "vos:ContainerNode", "vos:LinkNode"):
        sent = vos.vos.Node(raw, node_type=kind, properties={"quality": "good", "groupread": None, "title": "a <b>"})
        if kind == "vos:LinkNode":
            ET.SubElement(sent.node, "target").text = raw
        node = wire.parse_node(written_by_vos(sent), expected=uri)
        assert f"vos:{node.type}" == kind
        assert node.value(CORE + "title") == "a <b>"
        assert Property(CORE + "groupread", None) in node.properties


@given(nodes)
def test_what_vos_gives_back(node: Node) -> None:
    """A whole document, with prefixes of its own: vlock and vcp of an unchanged file send it (N15)."""
    body = wire.render_node(node)
    if b"&#13;" not in body:  # ElementTree writes it as a line end
        assert wire.parse_node(written_by_vos(vos.vos.Node(body)), expected=node.uri) == node


def test_what_vtag_sends() -> None:
    node = Node(NodeUri(AUTHORITY, ("a",)), NodeType.DATA, (Property(CORE + "title", "t"), Property("quality", "1")))
    seen = vos.vos.Node(wire.render_node(node))
    seen.change_prop("title", None)
    seen.change_prop("colour", "blue")
    sent = wire.parse_node(written_by_vos(seen))
    assert sent.properties == (Property(CORE + "title", None), Property("quality", "1"), Property("colour", "blue"))


@given(node_uris)
def test_documents_of_vosfs(uri: NodeUri) -> None:
    sent = vosfs.nodes.build_container_document(str(uri))
    assert wire.parse_node(sent, expected=uri) == Node(uri, NodeType.CONTAINER)


@given(containers)
def test_listings_that_vosfs_reads(node: Node) -> None:
    children = tuple(one for one in node.nodes if one.type is not NodeType.NODE)
    body = wire.render_node(Node(node.uri, NodeType.CONTAINER, nodes=children))
    assert len(vosfs.nodes._children_of(safe_parse(body))) == len(children)


class _Session:
    """Keeps what cadcutils sends and answers 400."""

    auth = None

    def post(self, _url: str, *, data: bytes, **_options: object) -> SimpleNamespace:
        self.sent = data
        return SimpleNamespace(status_code=400, content=b"", text="", url="", headers={})


def sent_by_vos(direction: str, view: str | None, methods: list[str]) -> Transfer:
    session = _Session()
    made = cadcutils.net.netutils.Transfer(session)
    with pytest.raises(OSError, match="400"):
        made.transfer("https://example.org/sync", "vos://x~y/a b/é", direction, view, None, security_methods=methods)
    return transfers_wire.parse_transfer(session.sent)


def test_transfers_of_vos() -> None:
    pull = sent_by_vos("pullFromVoSpace", "defaultview", [PRIVATE])
    assert pull.target == "vos://x~y/a b/é"
    assert pull.direction == Direction.PULL_FROM_VOSPACE
    assert pull.protocols == (Protocol(HTTPS_GET, security_methods=(PRIVATE,)), Protocol(HTTPS_GET))
    move = sent_by_vos("vos://x~y/c d", "move", [])
    assert (move.direction, move.keep_bytes, move.version) == ("vos://x~y/c d", False, "2.1")


def test_transfers_of_vosfs() -> None:
    sent = vosfs.nodes.build_transfer_document("vos://x~y/a", direction="pushToVoSpace", protocols=[HTTPS_PUT])
    assert transfers_wire.parse_transfer(sent) == Transfer(
        "vos://x~y/a", Direction.PUSH_TO_VOSPACE, protocols=(Protocol(HTTPS_PUT),), version="2.1"
    )
    sent = vosfs.nodes.build_move_document("vos://x~y/a", "vos://x~y/b")
    assert transfers_wire.parse_transfer(sent) == Transfer(
        "vos://x~y/a", "vos://x~y/b", keep_bytes=False, version="2.1"
    )


@given(any_transfers)
def test_details_that_vosfs_reads(transfer: Transfer) -> None:
    ends = [one for one in transfer.protocols if one.endpoint is not None]
    if ends:
        found = vosfs.negotiate.parse_transfer_details(transfers_wire.render_transfer(transfer))
        assert [one.url for one in found] == [one.endpoint for one in ends]


def test_security_method_of_vosfs() -> None:
    """It reads and writes ``standardID`` where the standard has ``uri`` (T2)."""
    body = transfers_wire.render_transfer(Transfer("vos://x~y/a", "pullFromVoSpace", protocols=(
        Protocol(HTTPS_GET, security_methods=(SSO_TOKEN,)),
    )))  # fmt: skip
    assert transfers_wire.parse_transfer(body.replace(b"securityMethod uri=", b"securityMethod standardID=")) == (
        transfers_wire.parse_transfer(body)
    )
