"""Modes and times of nodes that the space has: sent a moment later, what belongs together in one request.

Whoever unpacks an archive sets mode and time of each directory one after the other, and waits for both.
"""

from __future__ import annotations

import asyncio
import logging
import stat
import time
from typing import TYPE_CHECKING, Final

from pyvospace.model.faults import Fault
from pyvospace.model.vocabulary import NodeType

if TYPE_CHECKING:
    from pyvospace.fuse.remote import Remote
    from pyvospace.fuse.tree import Inode

log = logging.getLogger(__name__)

_REST: Final = 0.3
"""Seconds after which something is sent."""
_AT_ONCE: Final = 4
_TYPES: Final = {stat.S_IFDIR: NodeType.CONTAINER, stat.S_IFLNK: NodeType.LINK, stat.S_IFREG: NodeType.DATA}


class Descriptions:
    """What is to be said of inodes, by number.

    Parameters
    ----------
    rest
        Whether it may wait; else whoever sets something waits until the space has it.
    """

    def __init__(self, remote: Remote, *, rest: bool) -> None:
        self._remote = remote
        self._rest = rest
        self._pending: dict[Inode, dict[str, int]] = {}
        self._sending: asyncio.Task[None] | None = None

    async def describe(self, inode: Inode, **told: int) -> None:
        """Keep ``mtime_ns`` or ``mode`` with a node.

        Raises
        ------
        Fault
            The space refuses it. It says so at once only if the caller may not write the node.
        """
        if not self._rest or not inode.writable:
            await self._remote.describe(inode.path, _TYPES[inode.kind], **told)
            return
        self._pending.setdefault(inode, {}).update(told)
        inode.describing = True
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_soon())

    async def settle(self) -> None:
        """Wait until the space knows all of it."""
        while self._pending or self._sending is not None:
            if self._sending is not None:
                await asyncio.wait([self._sending])
            await self._send_all()

    async def _send_soon(self) -> None:
        try:
            while self._pending:
                await asyncio.sleep(_REST)
                await self._send_all()
        finally:
            self._sending = None

    async def _send_all(self) -> None:
        """Send what there is; of one inode nothing is under way twice."""
        pending, self._pending = list(self._pending.items()), {}
        for start in range(0, len(pending), _AT_ONCE):
            await asyncio.gather(*(self._send(inode, told) for inode, told in pending[start : start + _AT_ONCE]))

    async def _send(self, inode: Inode, told: dict[str, int]) -> None:
        try:
            if not inode.gone:
                await self._remote.describe(inode.path, _TYPES[inode.kind], **told)
        except Fault as fault:
            log.warning("mode and time of /%s are not kept: %s", "/".join(inode.path), fault)
            inode.fresh_until = 0.0
        else:
            inode.since = time.monotonic()
        finally:
            inode.describing = inode in self._pending
