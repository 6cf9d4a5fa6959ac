"""Who did what: the audit log, for administrators, and for everybody what he did and what is his."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyvospace.db import audit
from pyvospace.model.faults import NotAuthenticated
from pyvospace.server.operations.paths import resolve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pyvospace.db.audit import Wanted
    from pyvospace.server.context import Context


async def records(context: Context, wanted: Wanted) -> AsyncIterator[list[dict[str, Any]]]:
    """Give rows page by page, as the caller may see them.

    Raises
    ------
    NotAuthenticated
        Nobody is logged in.
    PermissionDenied
        He comes with a token that is limited, and not good for the administration of the whole space.
    """
    caller = context.caller
    if caller.anonymous:
        raise NotAuthenticated("log in to see the audit log")
    if caller.admin:
        context.policy.require_admin()
    else:
        context.policy.require_whole()
    confirmed = await audit.confirm(context.database, wanted)
    context.policy.check_epoch(confirmed.epoch)
    viewer = None if caller.admin else caller.id
    if confirmed.node_id is not None and not await _is_told_of(context, wanted.path or ()):
        confirmed = replace(confirmed, node_id=None)
    async for page in audit.records(context.database, wanted, confirmed, viewer=viewer):
        yield [one.told(context.service.authority, viewer) for one in page]


async def _is_told_of(context: Context, path: tuple[str, ...]) -> bool:
    """Say whether the caller may know what is there: else what it was called before tells that it is there now."""
    found = await resolve(context, path)
    context.policy.check_epoch(found.epoch)
    return found.node is not None and found.way_readable and found.node.readable
