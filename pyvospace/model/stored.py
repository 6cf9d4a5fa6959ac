"""Nodes as the catalogue keeps them, and what is known of them for one caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pyvospace.model.vocabulary import NodeType, SortKey

ROOT_ID = 1
"""Id of the root container."""


@dataclass(frozen=True, slots=True)
class StoredNode:
    """A row of the catalogue, with the rights of the caller it was read for."""

    id: int
    parent_id: int | None
    name: str
    type: NodeType
    owner_id: int
    owner: str
    public: bool
    group_read: tuple[str, ...]
    group_write: tuple[str, ...]
    inherit: bool
    locked: bool
    immutable: bool
    """Its bytes, children, target and place stay; so do those of all that is below it."""
    properties: Mapping[str, str]
    """What clients set, by the URI of the property."""
    target: str | None
    size: int | None
    """Bytes; None: none have come yet."""
    md5: bytes | None
    created: datetime
    changed: datetime
    modified: datetime | None
    storage_url: str | None
    storage: str | None
    """UUID of the storage that has the bytes."""
    readable: bool
    writable: bool
    busy: bool
    available: int | None = None
    """Of a container: bytes that the caller may still bring there, as storages and quotas tell. None: unknown."""
    used: int | None = None
    """Of a container: bytes of all that is below it."""
    quota: int | None = None
    """Of a container: bytes that there may be below it; None: it has no quota of its own."""
    quota_state: int | None = None
    """Of its quota: per cent, of those at which the operator wants to be told, that are used. None or 0: less."""
    structure: str | None = None
    """Of a StructuredDataNode that was resolved: name of the type that its bytes are of; None: of none we know."""
    integrity: str = ""
    """Whether its bytes are damaged, or when they were last known to be good. Empty: not known, or not asked for."""
    tier: str = ""
    """Of bytes at home in a cold storage that were resolved: online, recalling or nearline."""
    sha256: bytes | None = None
    """Of a node that was resolved."""

    @property
    def is_container(self) -> bool:
        """Say whether it can have children."""
        return self.type is NodeType.CONTAINER


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may do what with a node, and what nobody may: of a container of which no more is known."""

    owner_id: int
    public: bool
    group_read: tuple[str, ...]
    group_write: tuple[str, ...]
    locked: bool
    immutable: bool


@dataclass(frozen=True, slots=True)
class Resolution:
    """How far a path leads, for one caller."""

    names: tuple[str, ...]
    """The path that was asked for."""
    depth: int
    """Number of names that lead to `last`; all of them if the node is there."""
    last: StoredNode
    """The deepest node on the way."""
    way_readable: bool
    """The caller may read every container above `last`."""
    parent: Rights | None
    """Of the container of `last`; None: it is the root."""
    epoch: int
    limited: bool = False
    """There are quotas in the space."""

    @property
    def node(self) -> StoredNode | None:
        """The node itself; None if it is not there."""
        return self.last if self.depth == len(self.names) else None

    @property
    def container(self) -> StoredNode | None:
        """The container of a node that is not there; None if that is missing too."""
        return self.last if self.depth == len(self.names) - 1 and self.last.is_container else None


@dataclass(frozen=True, slots=True)
class Page:
    """Which children of a container are wanted, in which order."""

    start: str = ""
    """Name of the first, if it is there; empty: from the beginning."""
    limit: int | None = None
    """How many at the most; None: all."""
    sort: SortKey = SortKey.NAME
    """Those of the same length or date come in the order of their names."""
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many bytes there may be in a container."""

    bytes: int | None
    """None: any number."""
    nodes: int | None = None
    """How many nodes; None: what is said of them stays."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What setNode changes; None and empty: nothing."""

    removed: tuple[str, ...] = ()
    """URIs of properties to take away."""
    properties: Mapping[str, str] = field(default_factory=dict)
    public: bool | None = None
    group_read: tuple[str, ...] | None = None
    group_write: tuple[str, ...] | None = None
    inherit: bool | None = None
    locked: bool | None = None
    immutable: bool | None = None
    """For a container and all that is below it."""
    target: str | None = None
    quota: Allowance | None = None
    """Of a container."""
    owner: str | None = None
    """Name of the user to whom it is to belong."""

    @property
    def of_rights(self) -> bool:
        """Say whether they change who may do what, which takes the owner."""
        rights = (self.public, self.group_read, self.group_write, self.inherit, self.immutable, self.owner)
        return any(value is not None for value in rights)
