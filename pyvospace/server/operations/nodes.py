"""createNode, getNode, setNode and deleteNode (VOSpace 2.1, sections 6.2 and 6.3)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from pyvospace.db import identities, listings, nodes
from pyvospace.model.faults import DuplicateNode, InvalidArgument, InvalidURI, ServiceBusy
from pyvospace.model.uris import AUTO, NULL
from pyvospace.model.vocabulary import CREATOR, NodeType
from pyvospace.server.operations import homes
from pyvospace.server.operations.paths import approach, follow
from pyvospace.server.policy import Right
from pyvospace.server.properties import changes_of

if TYPE_CHECKING:
    from pyvospace.model.nodes import Node
    from pyvospace.model.stored import Changes, Page, Resolution, StoredNode
    from pyvospace.model.vocabulary import Detail
    from pyvospace.server.context import Context

_ATTEMPTS = 10
"""Starts of an operation that others keep overtaking."""


async def create(context: Context, path: tuple[str, ...], document: Node) -> tuple[tuple[str, ...], StoredNode]:
    """Create a node (section 6.2.1); give its path, which differs for ``.auto``.

    Raises
    ------
    DuplicateNode, ContainerNotFound, LinkFound, PermissionDenied, NodeLocked, InvalidURI, InvalidArgument
    """
    context.policy.require_writable()
    if path[-1:] == (AUTO,):
        path = (*path[:-1], secrets.token_hex(10))
    if path[-1:] == (NULL,):
        raise InvalidURI(".null is the bit bucket and cannot be created")
    kind = NodeType.DATA if document.type is NodeType.NODE else document.type
    target = _target_of(document)
    changes = changes_of(
        document.properties, None, lenient=context.service.opencadc, admin=context.caller.admin, target=target
    )
    _check_quota(kind, changes)
    owner = await _check_owner(context, path, changes)
    place = path
    for _ in range(_ATTEMPTS):
        context.policy.require_scope(Right.CREATE, place)
        if changes.of_rights:
            context.policy.require_scope(Right.OWN, place)
        # One statement if all is well; what is wrong, if it is not, the second look tells.
        try:
            maker, allowed = homes.maker(context, place, kind, changes)
            made = place and await nodes.insert(context.database, maker, place, kind=kind, changes=allowed, owner=owner)
        except DuplicateNode:
            raise DuplicateNode(context.uri(place)) from None
        if made:
            context.policy.settled()
            return path, made
        context.policy.require(Right.CREATE, found := await approach(context, path))
        place = found.names
    raise ServiceBusy("others keep changing the container; try again")


def _target_of(document: Node) -> str | None:
    if document.type is not NodeType.LINK:
        return None
    target = (document.target or "").strip()
    scheme, colon, rest = target.partition(":")
    if not colon or not rest or not scheme.isascii() or not scheme.replace("+", "").replace("-", "").isalnum():
        raise InvalidArgument(f"target: {target[:300]!r} is no URI")
    return target


async def get(context: Context, path: tuple[str, ...]) -> StoredNode:
    """Give a node; a link comes as the link that it is (section 6.3.1)."""
    return context.policy.require(Right.SEE, await follow(context, path, last=False, reading=True))


def children(context: Context, container: StoredNode, page: Page, detail: Detail) -> AsyncGenerator[bytes]:
    """Give the children of a container that was got, piece by piece, in the shorthand of listings."""
    return listings.children(
        context.reader,
        context.caller,
        container,
        page,
        detail,
        at_once=context.service.settings.limits.page,
        leaves_seen=context.service.opencadc,
    )


async def set_properties(context: Context, path: tuple[str, ...], document: Node) -> StoredNode:
    """Set the properties of a node, and the target of a link (section 6.3.2); nothing or all.

    Raises
    ------
    NodeNotFound, PermissionDenied, InvalidArgument
    """
    for _ in range(_ATTEMPTS):
        node, changes = await check_properties(context, path, document)
        changed = await nodes.update(context.database, context.caller, node, changes)
        if changed is not None:
            return changed
    raise ServiceBusy("others keep changing the node; try again")


async def check_properties(context: Context, path: tuple[str, ...], document: Node) -> tuple[StoredNode, Changes]:
    """Give what `set_properties` changes of which node; the faults are the same."""
    node = context.policy.require(Right.SET, found := await follow(context, path, last=False))
    _check_type(document, node)
    target = _target_of(document) if node.type is NodeType.LINK and document.target else None
    changes = changes_of(
        document.properties, node, lenient=context.service.opencadc, admin=context.caller.admin, target=target
    )
    _check_quota(node.type, changes)
    _check_rights(context, found, changes)
    await _check_owner(context, found.names, changes)
    _check_number(context, node, changes)
    return node, changes


def _check_rights(context: Context, found: Resolution, changes: Changes) -> None:
    """Require what the changes need beyond the right to set properties."""
    for right, needed in (
        (Right.OWN, changes.of_rights),
        (Right.UNMARK, changes.immutable is False),
        (Right.AIM, changes.target is not None),
    ):
        if needed:
            context.policy.require(right, found)


def _check_quota(kind: NodeType, changes: Changes) -> None:
    if changes.quota is not None and kind is not NodeType.CONTAINER:
        raise InvalidArgument(f"a {kind} has no quota: set one at a container")


async def _check_owner(context: Context, path: tuple[str, ...], changes: Changes) -> int | None:
    """Require that a new owner is somebody; give his id. None: there is to be no other owner."""
    if changes.owner is None:
        return None
    context.policy.require_scope(Right.ADMINISTER, path)
    found = await identities.by_name(context.database, changes.owner)
    if found is None:
        raise InvalidArgument(f"{CREATOR}: there is no user {changes.owner[:80]!r}, or he is disabled")
    return found[0].id


def _check_type(document: Node, node: StoredNode) -> None:
    same = document.type is node.type or (document.type.holds_bytes and node.type.holds_bytes)
    if not same and document.type is not NodeType.NODE:
        raise InvalidArgument(f"the type of a node cannot be changed from {node.type} to {document.type}")


def _check_number(context: Context, node: StoredNode, changes: Changes) -> None:
    limit = context.service.settings.limits.properties
    names = set(node.properties).difference(changes.removed).union(changes.properties)
    if len(names) > limit:
        raise InvalidArgument(f"a node has {limit} properties at the most")


async def delete(context: Context, path: tuple[str, ...], *, only_empty: bool = False) -> None:
    """Delete a node with all that is below it, or nothing (section 6.2.4).

    Parameters
    ----------
    only_empty
        Not a container with something in it, as OpenCADC has it always.

    Raises
    ------
    NodeNotFound, ContainerNotFound, LinkFound, PermissionDenied, NodeLocked
    InvalidArgument
        A container with something in it, if that is not wanted.
    """
    for _ in range(_ATTEMPTS):
        node = context.policy.require(Right.DELETE, await approach(context, path))
        if await nodes.delete(
            context.database, context.caller, node, only_empty=only_empty or context.service.opencadc
        ):
            return
    raise ServiceBusy(f"others keep changing {context.uri(path)}; try again")
