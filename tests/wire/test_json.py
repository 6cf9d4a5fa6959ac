"""Documents as JSON: nothing of the XML is lost, in whatever pieces it comes."""

import json
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.jobs import Job
from pyvospace.model.nodes import Node
from pyvospace.model.transfers import Transfer
from pyvospace.model.vosi import Capability
from pyvospace.wire import nodes, service, transfers, uws, vosi
from pyvospace.wire.json import Converter, convert
from pyvospace.wire.xml import UWS, VOSPACE, XSI
from tests.support import strategies

PREFIXES = {VOSPACE: "vos:", UWS: "uws:", XSI: "xsi:", "http://www.w3.org/1999/xlink": "xlink:"}


def qualified(name: str) -> str:
    space, _, local = name.rpartition("}")
    return PREFIXES[space[1:]] + local if space else local


def flat(element: ET.Element, path: str = "") -> list[tuple[str, str]]:
    """Give all attributes and texts of a document with the way to them."""
    path = f"{path}/{qualified(element.tag)}"
    found = [(f"{path}/@{qualified(name)}", value) for name, value in element.attrib.items()]
    if not len(element) and element.text:
        found.append((f"{path}/$", element.text))
    return found + [one for child in element for one in flat(child, path)]


def flat_json(value: object, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, list):
        return [one for item in value for one in flat_json(item, path)]
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if not name.startswith("@xmlns")}
        return [one for name, inner in kept.items() for one in flat_json(inner, f"{path}/{name}")]
    assert isinstance(value, str)
    return [(path, value)]


def assert_same(document: bytes) -> None:
    assert flat_json(json.loads(convert(document))) == flat(ET.fromstring(document))


@given(strategies.nodes | strategies.containers)
def test_nodes(node: Node) -> None:
    assert_same(nodes.render_node(node))


@given(strategies.transfers)
def test_transfers(transfer: Transfer) -> None:
    assert_same(transfers.render_transfer(transfer))


@given(strategies.jobs)
def test_jobs(job: Job) -> None:
    assert_same(uws.render_job(job))


@given(strategies.containers, st.integers(1, 300))
def test_pieces_of_any_size(node: Node, size: int) -> None:
    body, converter = nodes.render_node(node), Converter()
    pieces = [converter.feed(body[at : at + size]) for at in range(0, len(body), size)]
    assert b"".join(pieces) == convert(body)


def test_what_may_be_several_is_an_array() -> None:
    told = json.loads(convert(nodes.search_head() + nodes.search_tail()))
    assert told["vos:searchDetails"]["vos:nodes"] == {"vos:node": []}
    told = json.loads(convert(uws.render_results(())))
    assert told["uws:results"]["uws:result"] == []
    told = json.loads(convert(service.render_properties(["urn:x:1"], (), ["urn:x:2", "urn:x:3"])))["vos:properties"]
    assert told["vos:accepts"] == {"vos:property": [{"@uri": "urn:x:1"}]}
    assert told["vos:contains"] == {"vos:property": [{"@uri": "urn:x:2"}, {"@uri": "urn:x:3"}]}
    assert told["@xmlns:vos"] == VOSPACE


def test_documents_of_vosi() -> None:
    interfaces = [Capability("ivo://x/y#z", "http://localhost/nodes", "base", ("ivo://ivoa.net/sso#token",))]
    told = json.loads(convert(vosi.render_capabilities(interfaces)))
    (capability,) = next(iter(told.values()))["capability"]
    assert capability["@standardID"] == "ivo://x/y#z"
    assert [one["accessURL"][0]["$"] for one in capability["interface"]] == ["http://localhost/nodes"] * 2
