"""From what the catalogue keeps to what a document tells (VOSpace 2.1, sections 3.1 and 6.3.1)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from pyvospace.model.instants import write_instant
from pyvospace.model.nodes import Capability, Node, Property
from pyvospace.model.uris import encode_path
from pyvospace.model.vocabulary import (
    DATE,
    FILE_MODE,
    FILE_TIME,
    STANDARD_FILES,
    STANDARD_VOSPACE,
    TYPE,
    Detail,
    NodeType,
)
from pyvospace.server import views
from pyvospace.server.properties import describe_properties

if TYPE_CHECKING:
    from pyvospace.model.entries import Room
    from pyvospace.model.stored import StoredNode
    from pyvospace.model.uris import NodeUri

_NO_DATE = (Property(DATE, "2000-01-01T00:00:00.000Z", read_only=True),)
"""Tells nothing. vos cannot show a listing at all if one child has no date, or that of 1970 (N2 of the clients)."""

_KINDS: Final = {NodeType.CONTAINER: "container", NodeType.LINK: "link", NodeType.STRUCTURED: "structured"}
"""Types of entries, besides data."""
_OF_FILES: Final = (FILE_TIME, FILE_MODE)


def describe(node: StoredNode, uri: NodeUri, detail: Detail, *, base: str) -> Node:
    """Tell of a node what `detail` asks for; children are added while the document is written.

    Parameters
    ----------
    base
        URL of the service.
    """
    if detail is Detail.MIN:
        return _bare(node, uri)
    with_views = detail is not Detail.PROPERTIES
    return Node(
        uri=uri,
        type=node.type,
        properties=describe_properties(node, with_rights=detail is Detail.MAX),
        accepts=views.accepts(node) if with_views else (),
        provides=views.provides(node) if with_views else (),
        capabilities=capabilities(node, uri, base) if with_views else (),
        busy=node.busy,
        target=node.target,
    )


def capabilities(node: StoredNode, uri: NodeUri, base: str) -> tuple[Capability, ...]:
    """Tell how else a node can be reached: its bytes by path, a container by any client of this version."""
    if node.is_container:
        return (Capability(STANDARD_VOSPACE, base),)
    if not node.type.holds_bytes:
        return ()
    return (Capability(STANDARD_FILES, f"{base}/files/{encode_path(uri.path)}"),)


def describe_child(node: StoredNode, uri: NodeUri, detail: Detail, *, seen: bool) -> Node:
    """Tell of a child in a listing; of one that the caller may not see, URI and type only (rulings of A-21)."""
    if not seen:
        told = () if detail is Detail.MIN else _NO_DATE
        return Node(uri=uri, type=node.type, properties=told, target="" if node.type is NodeType.LINK else None)
    if detail is Detail.MIN:
        return _bare(node, uri)
    return Node(
        uri=uri,
        type=node.type,
        properties=describe_properties(node, with_rights=detail is Detail.MAX),
        busy=node.busy,
        target=node.target,
    )


def _bare(node: StoredNode, uri: NodeUri) -> Node:
    return Node(uri=uri, type=node.type, busy=node.busy, target=node.target)


def describe_entry(node: StoredNode, *, writable: bool, room: Room | None) -> dict[str, object]:
    """Give the members of the entry of a node; of its children the database itself writes them (entries.sql)."""
    files = {uri: node.properties[uri] for uri in _OF_FILES if uri in node.properties}
    return {
        "name": node.name,
        "type": _KINDS.get(node.type, "data"),
        "length": (node.size or 0) if node.type.holds_bytes else None,
        "mtime": write_instant(node.modified or node.changed, timespec="microseconds"),
        "ctime": write_instant(node.changed, timespec="microseconds"),
        "owner": node.owner,
        "etag": node.sha256.hex() if node.sha256 else None,
        "md5": node.md5.hex() if node.md5 else None,
        "public": node.public,
        "readable": node.readable,
        "writable": writable,
        "locked": node.locked,
        "busy": node.busy,
        "target": node.target,
        "content_type": node.properties.get(TYPE),
        "props": files or None,
        "quota": asdict(room) if room else None,
    }
