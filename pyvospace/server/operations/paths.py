"""From a path to a node: resolution, and links on the way (rulings of A-15 and A-25)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvospace.db import nodes
from pyvospace.model.faults import InvalidArgument, InvalidURI, UnreadableLinkTarget
from pyvospace.model.uris import RESERVED, NodeUri
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    from pyvospace.model.stored import Resolution
    from pyvospace.server.context import Context


async def resolve(context: Context, path: tuple[str, ...], *, reading: bool = False) -> Resolution:
    """Walk down a path; links on the way are not followed. With a reserved name in it, it leads nowhere.

    `reading`: nothing is to be changed because of it.
    """
    return await nodes.resolve(context.reader if reading else context.database, context.caller, path)


async def follow(context: Context, path: tuple[str, ...], *, last: bool, reading: bool = False) -> Resolution:
    """Walk down a path and follow the links on the way, the `last` node too if it is one.

    The caller needs to read each link and every container above it, as everywhere.

    Raises
    ------
    UnreadableLinkTarget
        A loop, more than ``limits.link_hops`` links, or a link on the way that leads out of the space.
    InvalidArgument
        The last node is a link that leads out of the space.
    """
    hops = context.service.settings.limits.link_hops
    for _ in range(hops + 1):
        found = await resolve(context, path, reading=reading)
        if found.last.type is not NodeType.LINK or (found.node is not None and not last):
            return found
        context.policy.require_way(found)
        if not found.last.readable:
            raise context.policy.refusal(found, "read")
        path = _target(context, found) + path[found.depth :]
    raise UnreadableLinkTarget(f"{context.uri(path)}: a loop, or more than {hops} links")


async def approach(context: Context, path: tuple[str, ...], *, reading: bool = False) -> Resolution:
    """Walk to where something is made or deleted: links on the way are in the way, but not for OpenCADC (A-15)."""
    if context.service.opencadc:
        return await follow(context, path, last=False, reading=reading)
    return await resolve(context, path, reading=reading)


def _target(context: Context, found: Resolution) -> tuple[str, ...]:
    target = found.last.target or ""
    try:
        uri = NodeUri.parse(target)
    except InvalidURI:
        uri = None
    if uri is not None and uri.authority == context.service.authority:
        if RESERVED.intersection(uri.path):
            raise UnreadableLinkTarget(f"a link leads to {target[:300]}, which never is a node")
        return uri.path
    if found.node is not None:
        raise InvalidArgument(f"the link leads out of this space, to {target[:300]}")
    raise UnreadableLinkTarget(f"a link on the way leads out of this space, to {target[:300]}")
