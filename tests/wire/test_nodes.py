"""Node documents: what is written is what is read, and what clients send is understood."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvospace.model.faults import Fault, InvalidArgument, InvalidData, InvalidURI, TypeNotSupported
from pyvospace.model.nodes import Node, Param, Property, View
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import ANY_VIEW, CORE, DEFAULT_VIEW, NodeType
from pyvospace.wire import nodes as wire
from pyvospace.wire import xml
from pyvospace.wire.xml import Limits
from tests.support.documents import assert_valid
from tests.support.strategies import AUTHORITY, containers, node_uris, texts
from tests.support.strategies import nodes as any_nodes

SPACES = 'xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
URI = NodeUri(AUTHORITY, ("survey", "a.fits"))


def document(inner: str = "", *, kind: str = ' xsi:type="vos:DataNode"', uri: str = f' uri="{URI}"') -> bytes:
    return f"<vos:node {SPACES}{kind}{uri}>{inner}</vos:node>".encode()


def with_property(content: str) -> bytes:
    return document(f"<vos:properties>{content}</vos:properties>")


# What is written


@given(any_nodes)
def test_answer_round_trip(node: Node) -> None:
    assert wire.read_node(wire.render_node(node)) == node


@given(any_nodes)
def test_request_round_trip(node: Node) -> None:
    body = wire.render_node(node)
    assert wire.parse_node(body) == node
    assert wire.parse_node(body, expected=node.uri) == node


@given(containers)
def test_listing_round_trip(node: Node) -> None:
    body = wire.render_node(node)
    assert wire.read_node(body) == node
    pieces = wire.node_head(node) + b"".join(wire.render_children([one]) for one in node.nodes) + wire.node_tail()
    assert wire.read_node(pieces) == node


@given(containers, st.integers(1, 400))
def test_listing_in_chunks(node: Node, size: int) -> None:
    body = wire.node_head(node) + wire.render_children(node.nodes) + wire.node_tail()
    reader = wire.NodeReader()
    children = [one for at in range(0, len(body), size) for one in reader.feed(body[at : at + size])]
    assert tuple(children) == node.nodes
    assert reader.close().properties == node.properties


@settings(max_examples=25)
@given(containers)
def test_listings_are_valid(node: Node) -> None:
    odd = [Property("urn:plain", one.value, one.read_only) for one in node.properties[:1]]
    plain = [Node(one.uri, one.type, tuple(odd), busy=one.busy, target=one.target) for one in node.nodes]
    assert_valid(wire.render_node(Node(node.uri, node.type, tuple(odd), nodes=tuple(plain))))


def test_document_of_a_data_node() -> None:
    node = Node(
        URI,
        NodeType.DATA,
        (Property(CORE + "title", "a < b & c"), Property(CORE + "length", "0", read_only=True)),
        (View(ANY_VIEW),),
        (View(DEFAULT_VIEW, original=False, params=(Param("urn:p", "1"),)),),
    )
    body = wire.render_node(node)
    assert body.decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<vos:node {SPACES} version="2.1" xsi:type="vos:DataNode" uri="vos://{AUTHORITY}/survey/a.fits" busy="false">'
        f'<vos:properties><vos:property uri="{CORE}title">a &lt; b &amp; c</vos:property>'
        f'<vos:property uri="{CORE}length" readOnly="true">0</vos:property></vos:properties>'
        f'<vos:accepts><vos:view uri="{ANY_VIEW}"/></vos:accepts>'
        f'<vos:provides><vos:view uri="{DEFAULT_VIEW}" original="false"><vos:param uri="urn:p">1</vos:param></vos:view>'
        "</vos:provides></vos:node>\n"
    )
    assert_valid(body)


@pytest.mark.parametrize("kind", NodeType)
def test_every_type_is_valid(kind: NodeType) -> None:
    root = assert_valid(wire.render_node(Node(URI, kind)))
    assert root.get(xml.XSI_TYPE) == f"vos:{kind}"
    assert (root.get("busy") == "false") == kind.holds_bytes
    parent = Node(URI.parent, NodeType.CONTAINER, nodes=(Node(URI, kind),))
    child = assert_valid(wire.render_node(parent))[0][0]
    assert child.get("version") is None


def test_root_has_no_slash_and_its_children_one() -> None:
    root = NodeUri(AUTHORITY)
    body = wire.render_node(Node(root, NodeType.CONTAINER, nodes=(Node(root.child("a b"), NodeType.DATA),)))
    assert f'uri="vos://{AUTHORITY}"'.encode() in body
    assert f'uri="vos://{AUTHORITY}/a%20b"'.encode() in body
    assert_valid(body)


def test_children_of_several_containers() -> None:
    found = [Node(NodeUri(AUTHORITY, path), NodeType.DATA) for path in (("a", "x"), ("b", "x"), ("c",), ("a", "y"))]
    body = wire.node_head(Node(NodeUri(AUTHORITY), NodeType.CONTAINER)) + wire.render_children(found) + wire.node_tail()
    assert [str(one.uri) for one in wire.read_node(body).nodes] == [str(one.uri) for one in found]


@given(st.text(st.characters()))
def test_values_that_xml_cannot_hold_do_no_harm(value: str) -> None:
    wire.read_node(wire.render_node(Node(URI, NodeType.DATA, (Property(value or "x", value),))))


def test_link_without_target() -> None:
    """vosfs refuses a listing in which a target is empty; a document of its own may have one."""
    link = Node(URI, NodeType.LINK)
    assert assert_valid(wire.render_node(link)).findtext(f"{xml.V}target") == ""
    listing = wire.render_node(Node(URI.parent, NodeType.CONTAINER, nodes=(link,)))
    assert_valid(listing)
    assert wire.read_node(listing).nodes[0].target == str(URI)


# What is read


def test_no_type_is_node() -> None:
    assert wire.parse_node(document(kind="")).type is NodeType.NODE


@pytest.mark.parametrize(
    "kind", ["vos:Nonsense", "DataNode", "other:DataNode", "xsi:DataNode", "vos:", ":", "xs:string", "vos:datanode"]
)
def test_unknown_types(kind: str) -> None:
    with pytest.raises(TypeNotSupported, match=kind):
        wire.parse_node(document("<vos:rubbish/>" if kind == "vos:" else "", kind=f' xsi:type="{kind}"'))


def test_prefix_is_resolved_by_namespace() -> None:
    space = "http://www.ivoa.net/xml/VOSpace/v2.0"
    xsi = "http://www.w3.org/2001/XMLSchema-instance"
    for body in (
        f'<v:node xmlns:v="{space}" xmlns:i="{xsi}" i:type="v:LinkNode" uri="{URI}"/>',
        f'<node xmlns="{space}" xmlns:i="{xsi}" i:type="LinkNode" uri="{URI}"/>',
        f'<node xmlns="{space}" xmlns:vos="urn:n" xmlns:i="{xsi}" xmlns:q="{space}" i:type=" q:LinkNode" uri="{URI}"/>',
        f'<node xmlns="{space}" xmlns:vos="urn:x" xmlns:i="{xsi}" uri="{URI}"><properties xmlns:vos="urn:y"/></node>',
    ):
        node = wire.parse_node(body.encode())
        assert node.type is (NodeType.NODE if "properties" in body else NodeType.LINK)


def test_prefix_of_another_namespace_is_no_type() -> None:
    body = document().replace(b"xmlns:vos=", b'xmlns:v="urn:v" xmlns:vos=').replace(b'"vos:DataNode"', b'"v:DataNode"')
    with pytest.raises(TypeNotSupported, match="v:DataNode"):
        wire.parse_node(body)


@pytest.mark.parametrize("uri", ["", ' uri=""'])
def test_missing_uri(uri: str) -> None:
    with pytest.raises(InvalidURI):
        wire.parse_node(document(uri=uri))


@pytest.mark.parametrize(
    "uri", ["http://example.org/a", "vos:/x", "vos://", "vos://example.org~vospace/a//b", f"vos://{AUTHORITY}/../etc"]
)
def test_uri_of_no_node(uri: str) -> None:
    with pytest.raises(InvalidURI):
        wire.parse_node(document(uri=f' uri="{uri}"'))


def test_uri_of_another_node() -> None:
    for other in ("vos://example.org~vospace/survey/b.fits", "vos://elsewhere~vospace/survey/a.fits", "%zz"):
        with pytest.raises(InvalidURI, match="the URL"):
            wire.parse_node(document(uri=f' uri="{other}"'), expected=URI)


@given(node_uris)
def test_uri_may_be_encoded_or_raw(uri: NodeUri) -> None:
    """N5: vos writes names as they are, vosfs and Java encode them; the path of the URL decides."""
    encoded = wire.render_node(Node(uri, NodeType.DATA))
    assert wire.parse_node(encoded, expected=uri).uri == uri
    raw = ET.Element("{http://www.ivoa.net/xml/VOSpace/v2.0}node", uri="/".join([f"vos://{AUTHORITY}", *uri.path]))
    if "\ufffe" in raw.get("uri", "") or "\uffff" in raw.get("uri", ""):
        return
    assert wire.parse_node(ET.tostring(raw), expected=uri).uri == uri


def test_both_separators_and_capitals_of_the_authority() -> None:
    body = document(uri=' uri="VOS://Example.org!vospace/survey/a.fits"')
    assert wire.parse_node(body, expected=URI).uri == URI


def test_property_that_is_deleted_and_one_that_is_empty() -> None:
    node = wire.parse_node(
        with_property(
            '<vos:property uri="urn:a" xsi:nil="true"/><vos:property uri="urn:b"></vos:property>'
            '<vos:property uri="urn:c" xsi:nil="false" readOnly="1"> c </vos:property>'
        )
    )
    assert node.properties == (Property("urn:a", None), Property("urn:b", ""), Property("urn:c", " c ", read_only=True))
    assert node.value("urn:c") == " c "
    assert node.value("urn:d") is None


def test_property_uri_that_is_none() -> None:
    """N16: ``vtag NODE quality=good``."""
    assert wire.parse_node(with_property('<vos:property uri="quality">good</vos:property>')).value("quality") == "good"


@pytest.mark.parametrize(
    "inner",
    [
        '<vos:properties><vos:property uri="urn:a"/><vos:property uri="urn:a">1</vos:property></vos:properties>',
        '<vos:properties><vos:property uri="">1</vos:property></vos:properties>',
        "<vos:properties><vos:property>1</vos:property></vos:properties>",
        '<vos:properties><vos:property uri="urn:a" readOnly="perhaps">1</vos:property></vos:properties>',
        '<vos:properties><vos:property uri="urn:a" xsi:nil="true">1</vos:property></vos:properties>',
        '<vos:properties><vos:property uri="urn:a" xsi:nil="maybe"/></vos:properties>',
        '<vos:properties><vos:property uri="urn:a"><vos:view uri="urn:v"/></vos:property></vos:properties>',
        '<vos:properties xsi:type="vos:DataNode"/>',
        "<vos:properties>text</vos:properties>",
        "text",
        "<vos:accepts/><vos:properties/>",
        "<vos:provides/><vos:accepts/>",
        "<vos:properties/><vos:properties/>",
        "<vos:target>vos://x/y</vos:target>",
        "<vos:nodes/>",
        "<vos:accepts><vos:view/></vos:accepts>",
        "<vos:accepts><vos:protocol uri='urn:p'/></vos:accepts>",
        "<vos:transfer/>",
        "<vos:rubbish/>",
        "<properties/>",
        "<properties xmlns='urn:x'/>",
    ],
)
def test_structure_is_checked(inner: str) -> None:
    with pytest.raises(InvalidArgument):
        wire.parse_node(document(inner))


def test_attributes_are_checked() -> None:
    assert wire.parse_node(document(uri=f' uri="{URI}" busy="true" version="2.0"')).busy
    assert wire.parse_node(document(uri=f' uri="{URI}" xml:lang="en" xsi:schemaLocation="a b"')).uri == URI
    for extra in (' busy="sometimes"', ' rubbish="1"', ' readOnly="true"'):
        with pytest.raises(InvalidArgument):
            wire.parse_node(document(uri=f' uri="{URI}"{extra}'))


def test_children_are_not_read() -> None:
    """They are neither created nor changed by a document, so that nothing in them matters."""
    children = (
        '<vos:nodes><vos:node xsi:type="vos:Odd" uri="%%"><vos:rubbish a="b">x</vos:rubbish></vos:node></vos:nodes>'
    )
    node = wire.parse_node(document(children, kind=' xsi:type="vos:ContainerNode"'))
    assert node.nodes == ()
    with pytest.raises(InvalidArgument):
        wire.parse_node(document(f"{children}<vos:properties/>", kind=' xsi:type="vos:ContainerNode"'))


def test_views_are_read() -> None:
    views = (
        '<vos:view uri="urn:a" original="false"><vos:param uri="urn:p">1</vos:param></vos:view><vos:view uri="urn:b"/>'
    )
    node = wire.parse_node(document(f"<vos:accepts>{views}</vos:accepts><vos:provides>{views}</vos:provides>"))
    assert node.accepts == (View("urn:a", original=False, params=(Param("urn:p", "1"),)), View("urn:b"))
    assert node.provides == node.accepts


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("vos://x~y/a b/é#1", "vos://x~y/a%20b/%C3%A9#1"),
        (" \n vos://x~y/a%20b \n", "vos://x~y/a%20b"),
        ("vos://x~y/100%", "vos://x~y/100%25"),
        ("https://example.org/a?b=c&amp;d=%C3%A9#e", "https://example.org/a?b=c&d=%C3%A9#e"),
        ("", None),
    ],
)
def test_targets_are_encoded(written: str, read: str | None) -> None:
    node = wire.parse_node(document(f"<vos:target>{written}</vos:target>", kind=' xsi:type="vos:LinkNode"'))
    assert node.target == read
    assert_valid(wire.render_node(node))


def test_another_document() -> None:
    with pytest.raises(InvalidArgument, match="transfer"):
        wire.parse_node(f"<vos:transfer {SPACES}/>".encode())
    with pytest.raises(InvalidArgument):
        wire.parse_node(document().replace(b"VOSpace/v2.0", b"VOSpace/v3.0"))


# What clients read


def test_answers_may_hold_what_we_do_not_know() -> None:
    body = (
        f'<vos:node {SPACES} xmlns:n="urn:n" xsi:type="n:Odd" uri="{URI.parent}" n:a="b" c="d"><n:x/>'
        '<vos:properties><vos:property uri="urn:a" xsi:nil="true">x</vos:property><n:y/></vos:properties>'
        f'<vos:capabilities><vos:odd/></vos:capabilities><vos:nodes><n:z/><vos:node xsi:type="vos:Odd" uri="{URI}">'
        "<vos:nodes><vos:node/></vos:nodes></vos:node></vos:nodes></vos:node>"
    ).encode()
    node = wire.read_node(body)
    assert node == Node(URI.parent, NodeType.NODE, (Property("urn:a", None),), nodes=(Node(URI, NodeType.NODE),))


@pytest.mark.parametrize("body", [b"", b"<a/>", b"<html><body>", b"NodeNotFound vos://x", b"<!DOCTYPE a><a/>"])
def test_answers_that_are_none(body: bytes) -> None:
    with pytest.raises(InvalidData):
        wire.read_node(body)
    with pytest.raises(InvalidData):
        read_in_chunks(body, 3)


def read_in_chunks(body: bytes, size: int) -> list[Node]:
    reader = wire.NodeReader()
    found = [one for at in range(0, len(body), size) for one in reader.feed(body[at : at + size])]
    reader.close()
    return found


def test_answer_with_entities_is_refused() -> None:
    body = b'<!DOCTYPE a [<!ENTITY b "c">]>' + document("&b;")
    with pytest.raises(InvalidData, match="document type"):
        wire.read_node(body)
    with pytest.raises(InvalidData, match="document type"):
        read_in_chunks(body, len(body))


def test_children_as_they_arrive() -> None:
    children = [Node(URI.parent.child(f"{number}"), NodeType.DATA) for number in range(1000)]
    body = wire.node_head(Node(URI.parent, NodeType.CONTAINER)) + wire.render_children(children) + wire.node_tail()
    assert read_in_chunks(body, 100) == children
    with pytest.raises(InvalidData, match="broke off"):
        read_in_chunks(body[:-9], 100)


def test_reader_keeps_no_children() -> None:
    children = [Node(URI.parent.child(f"{number}"), NodeType.DATA) for number in range(2000)]
    reader = wire.NodeReader()
    reader.feed(wire.node_head(Node(URI.parent, NodeType.CONTAINER)))
    for one in children:
        reader.feed(wire.render_children([one]))
    assert reader._root is not None
    assert sum(1 for _ in reader._root.iter()) < 10
    reader.feed(wire.node_tail())
    assert reader.close().uri == URI.parent


def test_reader_refuses_a_node_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml, "ANSWER_BYTES", 1000)
    reader = wire.NodeReader()
    reader.feed(b"<a>" + b"<b/>" * 200)
    with pytest.raises(InvalidData, match="too large"):
        reader.feed(b"<b/>" * 200)
    with pytest.raises(InvalidData, match="too large"):
        wire.read_node(b" " * 1001)


# Limits


def test_limits() -> None:
    many = "".join(f'<vos:property uri="urn:{number}"/>' for number in range(4))
    assert len(wire.parse_node(with_property(many), limits=Limits(properties=4)).properties) == 4
    with pytest.raises(InvalidArgument, match="more than 3 properties"):
        wire.parse_node(with_property(many), limits=Limits(properties=3))
    long = '<vos:property uri="urn:a">éé</vos:property>'
    assert wire.parse_node(with_property(long), limits=Limits(property_bytes=64)).value("urn:a") == "éé"
    with pytest.raises(InvalidArgument, match="longer than"):
        wire.parse_node(with_property(long.replace("éé", "é" * 33)), limits=Limits(property_bytes=64))
    with pytest.raises(InvalidArgument, match="longer than"):
        wire.parse_node(with_property(long.replace("urn:a", "urn:" + "a" * 61)), limits=Limits(property_bytes=64))
    with pytest.raises(InvalidArgument, match="longer than"):
        wire.parse_node(with_property(long.replace("éé", " " * 65)), limits=Limits(property_bytes=64))
    target = document(f"<vos:target>{'a' * 65}</vos:target>", kind=' xsi:type="vos:LinkNode"')
    with pytest.raises(InvalidArgument, match="longer than"):
        wire.parse_node(target, limits=Limits(uri_bytes=64))
    spread = document(" " * 65 + "<vos:properties>" + " " * 65 + "</vos:properties>")
    assert wire.parse_node(spread, limits=Limits(property_bytes=64)).properties == ()
    with pytest.raises(InvalidArgument, match="elements"):
        wire.parse_node(with_property(many), limits=Limits(elements=5))


@given(texts)
def test_faults_fit_into_one_answer(value: str) -> None:
    element = ET.Element("{http://www.ivoa.net/xml/VOSpace/v2.0}node", {"uri": value * 100, "busy": value * 100})
    ET.SubElement(element, "x").text = value * 100
    with pytest.raises(Fault) as caught:
        wire.parse_node(ET.tostring(element))
    assert len(str(caught.value)) < 2000
