"""The documents of single nodes, which are written without the objects that listings and clients read."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pyvospace.model.stored import StoredNode
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import Detail, NodeType
from pyvospace.server.describe import describe
from pyvospace.server.telling import tell
from pyvospace.wire.nodes import render_node
from tests.support.strategies import names, node_uris, property_uris, texts

instants = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 (they have)
numbers = st.integers(0, 1 << 60)
groups = st.lists(st.sampled_from(["ivo://x/g?a", "ivo://x/g?b&c", "ivo://x/g?<d>"]), max_size=2).map(tuple)
stored_nodes = st.builds(
    StoredNode,
    id=numbers,
    parent_id=st.none() | numbers,
    name=names,
    type=st.sampled_from(list(NodeType)),
    owner_id=numbers,
    owner=st.text(max_size=5),
    public=st.booleans(),
    group_read=groups,
    group_write=groups,
    inherit=st.booleans(),
    locked=st.booleans(),
    immutable=st.booleans(),
    properties=st.dictionaries(property_uris, texts | st.text(), max_size=4),
    target=st.none() | texts,
    size=st.none() | numbers,
    md5=st.none() | st.binary(min_size=16, max_size=16),
    created=instants,
    changed=instants,
    modified=st.none() | instants,
    storage_url=st.none(),
    storage=st.none(),
    readable=st.booleans(),
    writable=st.booleans(),
    busy=st.booleans(),
    available=st.none() | numbers,
    used=st.none() | numbers,
    quota=st.none() | numbers,
    quota_state=st.none() | st.integers(0, 100),
    structure=st.none() | st.sampled_from(["fits", "votable", "unknown"]),
    integrity=st.sampled_from(["", "good 2026-11-21T00:00:00.000Z"]),
    tier=st.sampled_from(["", "nearline"]),
)


@given(stored_nodes, node_uris, st.sampled_from(list(Detail)))
def test_what_is_told_is_what_is_described(node: StoredNode, uri: NodeUri, detail: Detail) -> None:
    base = "https://example.org/vo?a&b"
    assert tell(node, uri, detail, base=base) == render_node(describe(node, uri, detail, base=base))
