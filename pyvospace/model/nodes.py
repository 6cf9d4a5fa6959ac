"""Nodes as documents say them (VOSpace 2.1, sections 3.1 to 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType


@dataclass(frozen=True, slots=True)
class Property:
    """A property of a node."""

    uri: str
    value: str | None
    """None: ``xsi:nil``, which deletes the property in setNode (section 6.3.2)."""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a view, a protocol or a transfer."""

    uri: str
    value: str


@dataclass(frozen=True, slots=True)
class View:
    """A view of the data of a node (section 3.4)."""

    uri: str
    original: bool = True
    params: tuple[Param, ...] = ()


@dataclass(frozen=True, slots=True)
class Capability:
    """Another interface to a node (section 3.3)."""

    uri: str
    endpoint: str | None = None
    params: tuple[Param, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A node document; what the type has no place for stays empty."""

    uri: NodeUri
    type: NodeType
    properties: tuple[Property, ...] = ()
    accepts: tuple[View, ...] = ()
    provides: tuple[View, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    busy: bool = False
    target: str | None = None
    """Of a LinkNode: any URI, encoded."""
    nodes: tuple[Node, ...] = ()
    """Of a ContainerNode: its direct children."""

    def value(self, uri: str) -> str | None:
        """Give the value of a property, None if the node has it not."""
        return next((one.value for one in self.properties if one.uri == uri), None)
