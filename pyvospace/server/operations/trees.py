"""moveNode and copyNode (VOSpace 2.1, sections 6.2.2 and 6.2.3)."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

from pyvospace.db import copies, nodes
from pyvospace.db.errors import Overtaken
from pyvospace.model.faults import (
    ContainerNotFound,
    DuplicateNode,
    InvalidURI,
    NodeNotFound,
    PermissionDenied,
)
from pyvospace.model.stored import ROOT_ID
from pyvospace.model.uris import AUTO, MAX_DEPTH, NULL
from pyvospace.server.operations.paths import follow
from pyvospace.server.policy import Right

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pyvospace.db.pool import Connection
    from pyvospace.model.stored import Resolution, StoredNode
    from pyvospace.model.uris import NodeUri
    from pyvospace.server.context import Context

    End = Callable[[Connection, NodeUri], Awaitable[None]]
    """Ends the job, in the transaction of the change, with where the node is then."""

_ATTEMPTS = 10
"""Starts of an operation that others keep overtaking."""


async def move(context: Context, source: str, destination: str, *, replace: bool = False, end: End) -> None:
    """Move a node with all that is below it, whole or not at all (section 6.2.2); to ``.null``: delete it.

    Parameters
    ----------
    destination
        URI of an existing container, which the node goes into, or of a node that is not there yet.
    replace
        It is the URI of the node itself afterwards: what is there gives way in the same moment.

    Raises
    ------
    InvalidURI
        A URI is none of a node of this space.
    NodeNotFound
        There is no such node, or no container for it.
    DuplicateNode
        There is a node at the destination that is no container; or a container is to replace what is none, or the
        other way round.
    InvalidArgument
        The destination is the node itself or below it; or a container that is to be replaced is not empty.
    PermissionDenied, NodeLocked
    """
    path, goal = context.own_path(source), _named(context.own_path(destination))
    for _ in range(_ATTEMPTS):
        node = await _source(context, path, Right.DELETE)
        if goal[-1:] == (NULL,):
            done: object = await nodes.delete(
                context.database, context.caller, node, then=partial(_end, end, context.uri(goal))
            )
        elif replace:
            done = await _replace(context, node, goal, end=end)
        else:
            container, uri = await find_destination(context, goal, node.name)
            done = await nodes.move(
                context.database, context.caller, node, container, uri.name, then=partial(_end, end, uri)
            )
        if done:
            return
    raise Overtaken(f"others keep changing {context.uri(path)}; try again")


async def _replace(context: Context, node: StoredNode, goal: tuple[str, ...], *, end: End) -> bool:
    """Put a node in the place of what is there, if anything is; False: something has just changed."""
    found = await follow(context, goal, last=False)
    there = found.node and context.policy.require(Right.DELETE, found)
    if there is None:
        container, uri = _free_place(context, found)
    else:
        if there.is_container is not node.is_container:
            raise DuplicateNode(context.uri(found.names))
        above = (await follow(context, found.names[:-1], last=False)).node
        if above is None or above.id != there.parent_id:
            return False
        container, uri = above, context.uri(found.names)
    replaced = there if there is not None and there.id != node.id else None
    then = partial(_end, end, uri)
    try:
        moved = await nodes.move(
            context.database, context.caller, node, container, uri.name, replaced=replaced, then=then
        )
    except DuplicateNode:  # somebody has just put another node there
        return False
    return moved is not None


async def copy(context: Context, source: str, destination: str, *, end: End) -> None:
    """Copy a node with all that is below it, whole or not at all (section 6.2.3).

    The copy belongs to the caller. A container may be copied into itself: the copy is of what was there before.

    Raises
    ------
    InvalidURI, NodeNotFound, DuplicateNode
        As for `move`; InvalidURI for ``.null`` too.
    PermissionDenied, NodeLocked
        The caller may not read everything, or not write there.
    """
    path, goal = context.own_path(source), _named(context.own_path(destination))
    if goal[-1:] == (NULL,):
        raise InvalidURI(".null keeps no copy; to delete a node, move it there, with keepBytes false")
    for _ in range(_ATTEMPTS):
        node = await _source(context, path, Right.READ)
        container, uri = await find_destination(context, goal, node.name)
        if await copies.copy(context.database, context.caller, node, container, uri.name, then=partial(_end, end, uri)):
            return
    raise Overtaken(f"others keep changing {context.uri(path)}; try again")


async def _end(end: End, uri: NodeUri, connection: Connection) -> None:
    await end(connection, uri)


def _named(goal: tuple[str, ...]) -> tuple[str, ...]:
    return (*goal[:-1], secrets.token_hex(10)) if goal[-1:] == (AUTO,) else goal


async def _source(context: Context, path: tuple[str, ...], right: Right) -> StoredNode:
    """Find what is to be moved or copied: a link as the link that it is."""
    found = await follow(context, path, last=False)
    try:
        node = context.policy.require(right, found)
    except ContainerNotFound:
        raise NodeNotFound(context.uri(found.names)) from None
    if node.id == ROOT_ID:
        raise PermissionDenied("the root can be neither moved nor copied")
    return node


async def find_destination(context: Context, goal: tuple[str, ...], name: str) -> tuple[StoredNode, NodeUri]:
    """Find the container that a node of some name goes into, and where it will be."""
    found = await follow(context, goal, last=False)
    if found.node is not None and found.node.is_container:
        context.policy.require_way(found)
        found = await follow(context, (*found.names, name), last=False)
    return _free_place(context, found)


def _free_place(context: Context, found: Resolution) -> tuple[StoredNode, NodeUri]:
    """Give the container in which there is no node of that name yet, and where one will be."""
    try:
        container = context.policy.require(Right.CREATE, found)
    except ContainerNotFound:
        raise NodeNotFound(f"{context.uri(found.names[:-1])}: there is no such container") from None
    if len(found.names) > MAX_DEPTH:
        raise InvalidURI(f"a path of {len(found.names)} names is deeper than {MAX_DEPTH}")
    return container, context.uri(found.names)
