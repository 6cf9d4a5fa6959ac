"""Entries: what a file system wants to know of a node and of its children (an extension of our own)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING

from pyvospace.db import entries
from pyvospace.model.entries import Room
from pyvospace.server.operations.paths import follow
from pyvospace.server.policy import Right

if TYPE_CHECKING:
    from pyvospace.model.stored import Resolution, StoredNode
    from pyvospace.server.context import Context


async def get(context: Context, path: tuple[str, ...]) -> tuple[StoredNode, Room | None]:
    """Give a node, as getNode does, and of a container how much may still come, if the caller may bring something.

    Raises
    ------
    NodeNotFound, PermissionDenied
        As getNode.
    """
    found = await follow(context, path, last=False, reading=True)
    node = context.policy.require(Right.SEE, found)
    return node, await _room(context, found, node)


async def _room(context: Context, found: Resolution, node: StoredNode) -> Room | None:
    """Tell it to those to whom documents tell it: what is below a container is no business of others."""
    if not (node.is_container and node.writable) or node.available is None:
        return None
    quota = await entries.tightest(context.reader, context.caller, node) if found.limited else None
    return replace(quota or Room(used=node.used or 0), available=node.available)


def children(context: Context, container: StoredNode, *, after: str, limit: int | None) -> AsyncGenerator[bytes]:
    """Give the children of a container that was got, as text, piece by piece."""
    return entries.children(
        context.reader,
        context.caller,
        container,
        after=after,
        limit=limit,
        leaves_seen=context.service.opencadc,
        writes=context.policy.changes,
    )
