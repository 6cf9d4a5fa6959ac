"""Strategies of hypothesis for what a VOSpace is made of."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from lxml import etree

from pyvospace.model.jobs import Job, Result
from pyvospace.model.nodes import Capability, Node, Param, Property, View
from pyvospace.model.transfers import Protocol, Transfer
from pyvospace.model.uris import MAX_NAME_BYTES, NodeUri
from pyvospace.model.vocabulary import CORE, Direction, NodeType, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

AUTHORITY = "example.org~vospace"


def examples(short: int) -> int:
    """Give how many examples a test tries against a running space; PYVOSPACE_EXAMPLES=10 means ten times as many."""
    return short * int(os.environ.get("PYVOSPACE_EXAMPLES", "1"))


def _fits(name: str) -> bool:
    return len(name.encode()) <= MAX_NAME_BYTES and name not in {".", ".."}


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f", "/"]), min_size=1
).filter(_fits)
"""Every name that a node can have."""
paths = st.lists(names, max_size=6).map(tuple)
node_uris = st.builds(NodeUri, st.just(AUTHORITY), paths)
texts = st.text(st.characters(exclude_categories=["Cs"])).map(
    lambda text: "".join(c for c in text if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff"))
)
"""Every text that XML can hold."""
uris = st.one_of(
    st.sampled_from([CORE + "title", "urn:example:grade", "https://example.org/a?b=c&d=e#f", "ivo://x/y"]),
    st.from_regex(r"urn:[a-z]{1,8}:[A-Za-z0-9()+,.:=@;$_!*'-]{1,30}", fullmatch=True),
)
"""URIs as they should be."""
_ANY_URI = etree.XMLSchema(
    etree.fromstring(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="u" type="xs:anyURI"/></xs:schema>'
    )
)


def _may_be_a_uri(text: str) -> bool:
    element = etree.Element("u")
    element.text = text
    return bool(_ANY_URI.validate(element))


property_uris = st.one_of(uris, texts.filter(bool).filter(_may_be_a_uri))
"""URIs of properties: vos sends some that are none."""
properties = st.lists(
    st.builds(Property, property_uris, st.none() | texts, st.booleans()), max_size=6, unique_by=lambda one: one.uri
).map(tuple)
params = st.lists(st.builds(Param, uris, texts), max_size=3).map(tuple)
views = st.builds(View, uris, st.booleans(), params)
capability_lists = st.lists(st.builds(Capability, uris, st.none() | uris, params), max_size=2).map(tuple)
view_lists = st.lists(views, max_size=3).map(tuple)


@st.composite
def _node(draw: Callable[[st.SearchStrategy[object]], object], places: st.SearchStrategy[NodeUri]) -> Node:
    kind = draw(st.sampled_from(list(NodeType)))
    assert isinstance(kind, NodeType)
    has_views = kind not in {NodeType.NODE, NodeType.LINK}
    given_node = draw(
        st.builds(
            Node,
            uri=places,
            type=st.just(kind),
            properties=properties,
            accepts=view_lists if has_views else st.just(()),
            provides=view_lists if has_views else st.just(()),
            capabilities=capability_lists if has_views else st.just(()),
            busy=st.booleans() if kind.holds_bytes else st.just(False),
            target=(uris | node_uris.map(str)) if kind is NodeType.LINK else st.none(),
        )
    )
    assert isinstance(given_node, Node)
    return given_node


nodes = _node(node_uris)
"""Nodes of every type, without children."""


@st.composite
def _container(draw: Callable[[st.SearchStrategy[object]], object]) -> Node:
    uri = draw(node_uris)
    assert isinstance(uri, NodeUri)
    children = draw(st.lists(_node(names.map(uri.child)), max_size=5).map(tuple))
    found = draw(
        st.builds(
            Node, uri=st.just(uri), type=st.just(NodeType.CONTAINER), properties=properties, nodes=st.just(children)
        )
    )
    assert isinstance(found, Node)
    return found


containers = _container()
"""Containers with children of every type."""
protocols = st.builds(Protocol, uris, st.none() | uris, params, st.lists(uris, max_size=2).map(tuple))
transfers = st.builds(
    Transfer,
    target=node_uris.map(str),
    direction=st.sampled_from(list(Direction)).map(str) | node_uris.map(str),
    view=st.none() | views,
    protocols=st.lists(protocols, max_size=3).map(tuple),
    keep_bytes=st.none() | st.booleans(),
    params=params,
    version=st.sampled_from(["2.1", None]),
)
instants = st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31)).map(  # noqa: DTZ001 - the zone follows
    lambda one: one.replace(tzinfo=UTC, microsecond=one.microsecond // 1000 * 1000)
)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789é&<\"'", min_size=1)
jobs = st.builds(
    Job,
    id=words,
    phase=st.sampled_from(list(Phase)),
    owner=st.none() | words,
    created=instants,
    execution_duration=st.integers(0, 2**31 - 1),
    destruction=st.none() | instants,
    started=st.none() | instants,
    ended=st.none() | instants,
    quote=st.none() | instants,
    run_id=st.none() | texts,
    message=st.none() | texts,
    results=st.lists(st.builds(Result, words, uris), max_size=3, unique_by=lambda one: one.id).map(tuple),
    transfer=st.none() | transfers,
    parameters=st.lists(st.tuples(words, texts), max_size=3).map(tuple),
)
