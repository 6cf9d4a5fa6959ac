"""Node documents (VOSpace 2.1, section 3.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, cast

from lxml import etree

from pyvospace.model.faults import InvalidArgument, InvalidData, InvalidURI
from pyvospace.model.nodes import Capability, Node, Param, Property, View
from pyvospace.model.uris import NodeUri, encode_path, encode_uri, same_node
from pyvospace.model.vocabulary import NodeType
from pyvospace.wire import xml
from pyvospace.wire.markup import DECLARATION, SHORT, attribute, identifier, text
from pyvospace.wire.xml import REQUEST, Limits, V

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lxml.etree import _Element as Element

_ROOT = f' xmlns:vos="{xml.VOSPACE}" xmlns:xsi="{xml.XSI}"'
_NAMES = f'{_ROOT} version="2.1"'
_BUSY = ' busy="true"'
_FREE = ' busy="false"'
_READ_ONLY = ' readOnly="true"'
_TAIL = "</vos:nodes>\n</vos:node>\n"
_NODE = V + "node"
_NODES = V + "nodes"
_TARGET = V + "target"
_PROPERTIES = V + "properties"
_PROPERTY = V + "property"
_ACCEPTS = V + "accepts"
_PROVIDES = V + "provides"
_VIEW = V + "view"
_CAPABILITIES = V + "capabilities"
_CAPABILITY = V + "capability"
_TRUE = frozenset({"true", "1"})


def node_head(node: Node) -> bytes:
    """Write a container up to and including ``<vos:nodes>``; its children follow, then `node_tail`."""
    return f"{DECLARATION}{_root(node)}{_details(node)}<vos:nodes>".encode()


def render_children(nodes: Iterable[Node]) -> bytes:
    """Write any number of the children of a container; what is below them is left out.

    A link whose target is not told points to itself: vosfs refuses a whole listing for a single empty target.
    """
    pieces = []
    container: tuple[str, ...] | None = None
    prefix = ""
    for node in nodes:
        names = node.uri.path
        if names[:-1] != container:
            container = names[:-1]
            prefix = f"{NodeUri(node.uri.authority, container)}/"
        uri = prefix + encode_path(names[-1:])
        start = _start(node.type, uri, busy=node.busy)
        pieces.append(f"\n{start}{_details(node)}{_end(node.type, node.target or uri)}")
    return "".join(pieces).encode()


def node_tail() -> bytes:
    """Write the end of a container."""
    return _TAIL.encode()


def search_head() -> bytes:
    """Write the beginning of what a search has found; nodes of any containers follow, then `search_tail`."""
    return f"{DECLARATION}<vos:searchDetails{_ROOT}><vos:nodes>".encode()


def search_tail() -> bytes:
    """Write the end of what a search has found."""
    return b"</vos:nodes>\n</vos:searchDetails>\n"


def render_node(node: Node) -> bytes:
    """Write a whole document, children included."""
    if node.type is NodeType.CONTAINER and node.nodes:
        return node_head(node) + render_children(node.nodes) + node_tail()
    return f"{DECLARATION}{_root(node)}{_details(node)}{_end(node.type, node.target or '')}\n".encode()


def _root(node: Node) -> str:
    return _start(node.type, str(node.uri), busy=node.busy, names=_NAMES)


def render_told(
    kind: NodeType, uri: str, told: Iterable[tuple[str, str, bool]], offers: str, *, busy: bool, target: str | None
) -> bytes:
    """Write a whole document without children, as `render_node`, without the objects that it is made of.

    Parameters
    ----------
    told
        Its properties: URI, value, whether it is read-only.
    offers
        What `render_offers` has written.
    """
    properties = "".join(
        [f"{_opening(name, read_only)}{text(value)}</vos:property>" for name, value, read_only in told]
    )
    if properties:
        properties = f"<vos:properties>{properties}</vos:properties>"
    start = _start(kind, uri, busy=busy, names=_NAMES)
    return f"{DECLARATION}{start}{properties}{offers}{_end(kind, target or '')}\n".encode()


def render_offers(accepts: Iterable[View], provides: Iterable[View], capabilities: Iterable[Capability]) -> str:
    """Write the views and the other interfaces of a node, as part of a document."""
    parts = (
        ("accepts", "".join([render_view(one) for one in accepts])),
        ("provides", "".join([render_view(one) for one in provides])),
        ("capabilities", "".join([_capability(one) for one in capabilities])),
    )
    return "".join([f"<vos:{name}>{part}</vos:{name}>" for name, part in parts if part])


def _start(kind: NodeType, uri: str, *, busy: bool, names: str = "") -> str:
    state = (_BUSY if busy else _FREE) if kind.holds_bytes else ""
    return f'<vos:node{names} xsi:type="vos:{kind}" uri="{uri}"{state}>'


def _details(node: Node) -> str:
    """Write what stands before ``nodes`` or ``target``."""
    properties = "".join([_property(one) for one in node.properties])
    if properties:
        properties = f"<vos:properties>{properties}</vos:properties>"
    return properties + render_offers(node.accepts, node.provides, node.capabilities)


def _capability(one: Capability) -> str:
    endpoint = f"<vos:endpoint>{text(one.endpoint)}</vos:endpoint>" if one.endpoint is not None else ""
    return f'<vos:capability uri="{identifier(one.uri)}">{endpoint}{render_params(one.params)}</vos:capability>'


def _property(one: Property) -> str:
    if one.value is None:
        return f'{_opening(one.uri, one.read_only)[:-1]} xsi:nil="true"/>'
    return f"{_opening(one.uri, one.read_only)}{text(one.value)}</vos:property>"


def _opening(uri: str, read_only: bool) -> str:  # noqa: FBT001 (as it comes with a property)
    return _kept_opening(uri, read_only) if len(uri) < SHORT else _write_opening(uri, read_only)


def _write_opening(uri: str, read_only: bool) -> str:  # noqa: FBT001 (as above)
    return f'<vos:property uri="{attribute(uri)}"{_READ_ONLY if read_only else ""}>'


_kept_opening = lru_cache(maxsize=1024)(_write_opening)


def _end(kind: NodeType, target: str) -> str:
    if kind is NodeType.CONTAINER:
        return "<vos:nodes/></vos:node>"
    if kind is NodeType.LINK:
        return f"<vos:target>{text(target)}</vos:target></vos:node>"
    return "</vos:node>"


def render_view(view: View) -> str:
    """Write a view, as part of a document."""
    original = "" if view.original else ' original="false"'
    if not view.params:
        return f'<vos:view uri="{identifier(view.uri)}"{original}/>'
    return f'<vos:view uri="{identifier(view.uri)}"{original}>{render_params(view.params)}</vos:view>'


def render_params(params: Iterable[Param]) -> str:
    """Write parameters, as part of a document."""
    return "".join([f'<vos:param uri="{attribute(one.uri)}">{text(one.value)}</vos:param>' for one in params])


def parse_node(body: bytes, *, expected: NodeUri | None = None, limits: Limits = REQUEST) -> Node:
    """Read the document of createNode or setNode; children in it are left out.

    Parameters
    ----------
    expected
        The node that the URL names. The document must name the same, and what the URL says is taken, since the
        document may be encoded or raw. None: the document decides.

    Raises
    ------
    InvalidURI
        There is no ``uri``, it is none of a node, or not the expected one.
    TypeNotSupported
        ``xsi:type`` is none of the six types.
    InvalidArgument
        It is no valid node document, or a property stands in it twice.
    RequestEntityTooLarge
        It has too many bytes.
    """
    root = xml.read_request(body, limits)
    if root.tag != _NODE:
        raise InvalidArgument(f"the document is a {etree.QName(root).localname}, not a node")
    named = root.get("uri")
    if not named:
        raise InvalidURI("the node has no uri")
    xml.check(root)
    if expected is not None and not same_node(named, expected):
        raise InvalidURI(f"the document names {named[:300]}, the URL {expected}")
    node = _node(root, expected or NodeUri.parse(named))
    uris = {one.uri for one in node.properties}
    if len(uris) != len(node.properties):
        raise InvalidArgument("a property stands in the document twice")
    return node


def read_node(body: bytes) -> Node:
    """Read a node document that a service sent, children included; what is unknown in it is passed over.

    Raises
    ------
    InvalidData
        It is no node document.
    InvalidURI
        It names something that cannot be a node.
    """
    root = xml.read_answer(body, _NODE)
    nodes = root.find(_NODES)
    children = () if nodes is None else tuple(_answered(child) for child in nodes.iterfind(_NODE))
    return _answered(root, children)


def read_found(body: bytes) -> tuple[Node, ...]:
    """Read what a search has found.

    Raises
    ------
    InvalidData, InvalidURI
        As `read_node`.
    """
    root = xml.read_answer(body, V + "searchDetails")
    return tuple(_answered(one) for one in root.iterfind(f"{_NODES}/{_NODE}"))


class NodeReader:
    """Reads a container as it arrives, in memory that does not grow with its children."""

    def __init__(self) -> None:
        self._parser = xml.pull_parser(_NODE)
        self._depth = 0
        self._root: Element | None = None
        self._pending = 0

    def feed(self, data: bytes) -> list[Node]:
        """Take more of the document and give the children that are complete now.

        Raises
        ------
        InvalidData, InvalidURI
            As `read_node`.
        """
        self._pending += len(data)
        if self._pending > xml.ANSWER_BYTES:
            raise InvalidData("a node in the answer is too large")
        try:
            self._parser.feed(data)
            events = list(self._parser.read_events())
        except etree.XMLSyntaxError as error:
            raise InvalidData(f"the answer is no XML: {str(error)[:200]}") from None
        return [node for event, element in events for node in self._event(str(event), cast("Element", element))]

    def _event(self, event: str, element: Element) -> Iterable[Node]:
        if self._root is None:
            xml.refuse_doctype(element)
            self._root = element
        if event == "start":
            self._depth += 1
            return
        self._depth -= 1
        if self._depth == 1:
            self._pending = 0
            yield _answered(element)
            # Only what is before this child is dropped: the parser may still be writing behind it.
            parent = cast("Element", element.getparent())
            while (before := element.getprevious()) is not None:
                parent.remove(before)

    def close(self) -> Node:
        """Give the container itself, without children, at the end of the document.

        Raises
        ------
        InvalidData
            The document is not complete, or no node.
        """
        try:
            root = self._parser.close()
        except etree.XMLSyntaxError as error:
            raise InvalidData(f"the answer broke off: {str(error)[:200]}") from None
        if root.tag != _NODE:
            raise InvalidData(f"the answer is {str(root.tag)[:200]}, no node")
        return _answered(root)


def _answered(element: Element, nodes: tuple[Node, ...] = ()) -> Node:
    return _node(element, NodeUri.parse(element.get("uri") or ""), nodes)


def _node(element: Element, uri: NodeUri, nodes: tuple[Node, ...] = ()) -> Node:
    parts: dict[str, list[Element]] = {}
    for part in element:  # once, where a search for each would go through all
        parts.setdefault(part.tag, []).append(part)
    targets = parts.get(_TARGET)
    target = encode_uri((targets[0].text or "").strip()) if targets else ""
    return Node(
        uri=uri,
        type=_type(element),
        properties=tuple([_read_property(one) for one in _below(parts, _PROPERTIES, _PROPERTY)]),
        accepts=tuple([read_view(one) for one in _below(parts, _ACCEPTS, _VIEW)]),
        provides=tuple([read_view(one) for one in _below(parts, _PROVIDES, _VIEW)]),
        capabilities=tuple([_read_capability(one) for one in _below(parts, _CAPABILITIES, _CAPABILITY)]),
        busy=is_true(element.get("busy")),
        target=target or None,
        nodes=nodes,
    )


def _below(parts: Mapping[str, list[Element]], part: str, tag: str) -> list[Element]:
    return [one for found in parts.get(part, ()) for one in found if one.tag == tag]


def _type(element: Element) -> NodeType:
    """Give the type of a node; an unknown one, which only an answer can have, counts as Node."""
    value = (element.get(xml.XSI_TYPE) or "").strip()
    prefix, _, local = value.rpartition(":")
    if local in xml.NODE_TYPES and element.nsmap.get(prefix or None) == xml.VOSPACE:
        return xml.NODE_TYPES[local]
    return NodeType.NODE


def is_true(value: str | None) -> bool:
    """Read a boolean of XML Schema; None and nonsense are false."""
    return value is not None and value.strip() in _TRUE


def _read_property(element: Element) -> Property:
    value = None if is_true(element.get(xml.XSI_NIL)) else element.text or ""
    return Property(element.get("uri") or "", value, read_only=is_true(element.get("readOnly")))


def _read_capability(element: Element) -> Capability:
    endpoint = (element.findtext(V + "endpoint") or "").strip()
    return Capability(element.get("uri") or "", endpoint or None, read_params(element))


def read_view(element: Element) -> View:
    """Read a view, as part of a document."""
    original = is_true(element.get("original", "true"))
    return View(element.get("uri") or "", original=original, params=read_params(element))


def read_params(element: Element) -> tuple[Param, ...]:
    """Read the parameters directly below an element."""
    return tuple(Param(one.get("uri") or "", one.text or "") for one in element.iterfind(V + "param"))
