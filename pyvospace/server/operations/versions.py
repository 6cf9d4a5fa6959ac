"""What data nodes held before: list, read, restore, remove. No standard has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvospace.db import versions
from pyvospace.db.integrity import require_good_bytes
from pyvospace.model.claims import EndpointClaims
from pyvospace.model.faults import InvalidArgument, NodeNotFound, ServiceBusy
from pyvospace.server.operations.paths import follow
from pyvospace.server.policy import Right
from pyvospace.uws import jobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from pyvospace.db.pool import Database
    from pyvospace.db.versions import Version
    from pyvospace.model.callers import Caller
    from pyvospace.model.stored import StoredNode
    from pyvospace.server.context import Context

    Change = Callable[[Database, Caller, StoredNode, int], Awaitable[bool]]

_ATTEMPTS: Final = 10
"""Starts of an operation that others keep overtaking."""


async def _node(context: Context, path: tuple[str, ...], right: Right) -> StoredNode:
    node = context.policy.require(right, await follow(context, path, last=True))
    if not node.type.holds_bytes:
        raise InvalidArgument(f"a {node.type} holds no bytes of its own")
    return node


async def of_node(context: Context, path: tuple[str, ...], *, before: int, limit: int) -> Sequence[Version]:
    """List the versions of a node that the caller may read, the newest first."""
    node = await _node(context, path, Right.READ)
    return await versions.versions(context.database, node, before=before, limit=limit)


async def locate(context: Context, path: tuple[str, ...], number: int) -> str:
    """Give an endpoint for the bytes of a version, which is good for a short time.

    Raises
    ------
    InternalFault
        The bytes are damaged everywhere.
    NodeNotFound
        There is no such version.
    ServiceBusy
        No server that has the bytes is there.
    """
    node = await _node(context, path, Right.READ)
    place = await versions.place(context.database, node, number, near="")
    if place is None:
        await require_good_bytes(context.database, node.id, number)
        raise ServiceBusy("no storage server that has these bytes is there")
    claims = EndpointClaims(
        operation="version",
        node_id=node.id,
        job_id=None,
        user_id=context.caller.id or None,
        expires=jobs.endpoint_expiry(context.service.settings.endpoints.files_life),
        token_id=context.caller.token_id,
        version=number,
    )
    return await context.service.signer.endpoint(place.url, place.storage, claims, name=node.name)


async def restore(context: Context, path: tuple[str, ...], number: int) -> None:
    """Let a version be what the node holds; what it holds becomes its newest version.

    Raises
    ------
    NodeNotFound, PermissionDenied, NodeLocked, NodeBusy
    """
    await _change(context, path, number, versions.restore)


async def remove(context: Context, path: tuple[str, ...], number: int) -> None:
    """Remove a version for ever.

    Raises
    ------
    NodeNotFound, PermissionDenied, NodeLocked
    """
    await _change(context, path, number, versions.remove)


async def _change(context: Context, path: tuple[str, ...], number: int, change: Change) -> None:
    for _ in range(_ATTEMPTS):
        node = await _node(context, path, Right.WRITE)
        try:
            if await change(context.database, context.caller, node, number):
                return
        except NodeNotFound as missing:
            raise NodeNotFound(f"{context.uri(path)}: {missing.detail}") from None
    raise ServiceBusy(f"others keep changing {context.uri(path)}; try again")
