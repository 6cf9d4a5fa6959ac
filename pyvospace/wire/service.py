"""What a service offers: protocols, views and properties (VOSpace 2.1, section 6.1); what a posted document is."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.parsers import expat

from pyvospace.model.faults import InvalidArgument
from pyvospace.wire import xml
from pyvospace.wire.markup import DECLARATION, identifier
from pyvospace.wire.nodes import read_view, render_view
from pyvospace.wire.transfers import read_protocol, render_protocol
from pyvospace.wire.xml import REQUEST, Limits, V

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyvospace.model.nodes import View
    from pyvospace.model.transfers import Protocol


class _Found(Exception):
    """Carries the name of the root element out of a parser."""


def root_name(body: bytes, limits: Limits = REQUEST) -> str:
    """Give the local name of the root element of a request: "node", "transfer" or "protocols".

    Raises
    ------
    InvalidArgument
        It is no XML, or of another namespace.
    RequestEntityTooLarge
        It has too many bytes.
    """

    def start(name: str, _attributes: dict[str, str]) -> None:
        raise _Found(name)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    try:
        xml.feed(parser, xml.decode(body, limits))
    except _Found as found:
        return xml.local_name(str(found))
    raise InvalidArgument("the document has no element")


def render_protocols(accepts: Iterable[Protocol], provides: Iterable[Protocol]) -> bytes:
    """Write the protocols of the service, or of one node (section 6.3.1): as a client, as a server."""
    return _render("protocols", accepts=map(render_protocol, accepts), provides=map(render_protocol, provides))


def render_views(accepts: Iterable[View], provides: Iterable[View]) -> bytes:
    """Write the views of the service."""
    return _render("views", accepts=map(render_view, accepts), provides=map(render_view, provides))


def render_properties(accepts: Iterable[str], provides: Iterable[str], contains: Iterable[str]) -> bytes:
    """Write the URIs of the properties that the service understands, that it writes, and that nodes have now."""
    lists = {"accepts": accepts, "provides": provides, "contains": contains}
    return _render("properties", **{name: map(_property, uris) for name, uris in lists.items()})


def _property(uri: str) -> str:
    return f'<vos:property uri="{identifier(uri)}"/>'


def _render(root: str, **lists: Iterable[str]) -> bytes:
    inner = "".join([f"<vos:{name}>{''.join(items)}</vos:{name}>" for name, items in lists.items()])
    return f'{DECLARATION}<vos:{root} xmlns:vos="{xml.VOSPACE}">{inner}</vos:{root}>\n'.encode()


def parse_protocols_request(body: bytes, limits: Limits = REQUEST) -> None:
    """Check the document that asks a node for its protocols; what it lists does not matter.

    Raises
    ------
    InvalidArgument
        It is no valid ``protocols`` document.
    RequestEntityTooLarge
        It has too many bytes.
    """
    root = xml.read_request(body, limits)
    if root.tag != V + "protocols":
        raise InvalidArgument("the document does not ask for protocols")
    xml.check(root)


def parse_protocols(body: bytes) -> tuple[tuple[Protocol, ...], tuple[Protocol, ...]]:
    """Read the protocols that a service accepts and provides; InvalidData if it is no such document."""
    root = xml.read_answer(body, V + "protocols")
    accepts, provides = (
        tuple(read_protocol(one) for one in root.iterfind(f"{V}{name}/{V}protocol")) for name in ("accepts", "provides")
    )
    return accepts, provides


def parse_views(body: bytes) -> tuple[tuple[View, ...], tuple[View, ...]]:
    """Read the views that a service accepts and provides; InvalidData if it is no such document."""
    root = xml.read_answer(body, V + "views")
    accepts, provides = (
        tuple(read_view(one) for one in root.iterfind(f"{V}{name}/{V}view")) for name in ("accepts", "provides")
    )
    return accepts, provides


def parse_properties(body: bytes) -> dict[str, tuple[str, ...]]:
    """Read the URIs below "accepts", "provides" and "contains"; InvalidData if it is no such document."""
    root = xml.read_answer(body, V + "properties")
    return {
        name: tuple(one.get("uri") or "" for one in root.iterfind(f"{V}{name}/{V}property"))
        for name in ("accepts", "provides", "contains")
    }
