"""The document of one node, straight from what the catalogue keeps: the hottest of all answers.

It is, byte for byte, what `pyvospace.wire.nodes.render_node` writes of what `pyvospace.server.describe.describe` tells;
only the objects in between are left out, and what many nodes have in common is written once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.model.vocabulary import Detail, NodeType
from pyvospace.server import views
from pyvospace.server.describe import capabilities
from pyvospace.server.properties import facts
from pyvospace.wire.nodes import render_offers, render_told

if TYPE_CHECKING:
    from pyvospace.model.stored import StoredNode
    from pyvospace.model.uris import NodeUri


def tell(node: StoredNode, uri: NodeUri, detail: Detail, *, base: str) -> bytes:
    """Write the document of a node, without children.

    Parameters
    ----------
    base
        URL of the service.
    """
    told = facts(node, with_rights=detail is Detail.MAX) if detail is not Detail.MIN else ()
    offers = "" if detail in _WITHOUT_OFFERS else _offers(node, uri, base)
    return render_told(node.type, str(uri), told, offers, busy=node.busy, target=node.target)


_WITHOUT_OFFERS = (Detail.MIN, Detail.PROPERTIES)


def _offers(node: StoredNode, uri: NodeUri, base: str) -> str:
    key = node.type, node.size is None, node.structure
    known = _VIEWS.get(key)
    if known is None:
        known = _VIEWS[key] = render_offers(views.accepts(node), views.provides(node), ())
    return known + render_offers((), (), capabilities(node, uri, base))


_VIEWS: Final[dict[tuple[NodeType, bool, str | None], str]] = {}
"""Views by what they depend on; there are as many as types that are installed."""
