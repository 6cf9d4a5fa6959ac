"""``/recalls``: bring the bytes of a node, or of all below a container, back from cold storages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pyvospace.db import placement
from pyvospace.model.faults import ServiceBusy
from pyvospace.model.vocabulary import Phase
from pyvospace.server.operations.paths import follow
from pyvospace.server.policy import Right
from pyvospace.uws import jobs

if TYPE_CHECKING:
    from pyvospace.model.jobs import Claimed
    from pyvospace.model.stored import StoredNode
    from pyvospace.server.context import Context

_FOLDERS: Final = 500
"""Containers that are looked at in one transaction."""
_LOOK_EVERY: Final = 1.0
_NUMBER: Final = "final:{}"


async def run(context: Context, claimed: Claimed) -> None:
    """Ask for the bytes that the owner of the job may read, and wait until they are there.

    A worker that takes over asks once more, which changes nothing.
    """
    path = context.own_path(claimed.request["parameters"]["target"])
    found = await follow(context, path, last=True)
    context.policy.require_scope(Right.READ, found.names)
    node = context.policy.require(Right.READ, found)
    progress = claimed.progress
    progress.files_done = progress.bytes_done = 0
    progress.files_total, progress.bytes_total = await _ask(context, node)
    while (left := await placement.recalls_left(context.database, node.id)).nodes:
        progress.files_done = max(0, progress.files_total - left.nodes)
        progress.bytes_done = max(0, progress.bytes_total - left.bytes)
        await asyncio.sleep(_LOOK_EVERY)
    progress.files_done, progress.bytes_done = progress.files_total, progress.bytes_total
    results = [("successcount", _NUMBER.format(progress.files_total))]
    await jobs.end(context.database, claimed, Phase.COMPLETED, results=results)


async def _ask(context: Context, node: StoredNode) -> tuple[int, int]:
    """Have bytes brought back; give the number of nodes and of bytes.

    Raises
    ------
    ServiceBusy
        There is nowhere to bring them.
    """
    days = context.service.settings.placement.recall_days
    if not node.is_container:
        coming = await placement.recall(context.database, node.id, days=days)
        if coming is False:
            raise ServiceBusy("no storage that is not cold has room for these bytes now")
        return (1, node.size or 0) if coming else (0, 0)
    nodes, size, last = 0, 0, None
    while True:
        page = await placement.recall_page(
            context.database, context.caller, node.id, behind=last, limit=_FOLDERS, days=days
        )
        nodes, size, last = nodes + page.nodes, size + page.bytes, page.last
        if last is None:
            return nodes, size
