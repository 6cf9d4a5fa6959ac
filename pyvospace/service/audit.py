"""What is told to the audit log besides changes: refusals, logins, reads. They are gathered and written in batches.

A change writes its row itself, in its own transaction. Of the rest nobody waits for the row: what a process that is
killed had gathered in the last moment is lost, and what comes faster than it can be written is counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pyvospace.db import audit
from pyvospace.model.audit import DONE, Action
from pyvospace.model.callers import SERVICE
from pyvospace.model.faults import Fault
from pyvospace.service.logs import masked

if TYPE_CHECKING:
    from pyvospace.config.settings import AuditSettings
    from pyvospace.db.pool import Database
    from pyvospace.model.callers import Caller

log = logging.getLogger(__name__)

REFUSED: Final = frozenset({401, 403, 404, 413, 423, 429})
"""Of the answers, those by which something was refused to somebody; 404 may hide what is there."""
_MOST: Final = 10_000
"""Entries that wait to be written."""
_BATCH: Final = 1000
_GATHERED: Final = 0.1
"""Seconds for which entries gather."""
_AGAIN: Final = 1.0
"""Seconds after which a database that failed is tried again."""
_PRUNED: Final = 3600.0
"""Seconds between two looks for rows that are too old."""
_LONGEST: Final = 1000
"""Characters of a text that a stranger has sent."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something to be noted."""

    caller: Caller
    action: Action
    outcome: str = DONE
    names: tuple[str, ...] | None = None
    """Path of the node; None: it is about none, or `node` says which."""
    node: int | None = None
    tried: str | None = None
    """Name that somebody tried to log in with, of which nothing is kept unless it is a user's."""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> tuple[object, ...]:
        """Give what is the same in entries that become one row."""
        who = self.caller.id, self.caller.credential, self.caller.origin.remote
        return who, self.action, self.outcome, self.names, self.node, self.tried, tuple(self.details.items())

    def pack(self, at: datetime, times: int) -> dict[str, Any]:
        """Give what the database gets: nothing that could hold a secret, all of it short."""
        return {
            "at": at.isoformat(),
            "user_id": self.caller.id,
            "who": [_clean(text) for text in self.caller.who],
            "action": str(self.action),
            "names": None if self.names is None else list(map(_storable, self.names)),
            "shown": None if self.names is None else _clean("/" + "/".join(self.names)),
            "tried": self.tried and _storable(self.tried),
            "node": self.node,
            "outcome": self.outcome,
            "details": {
                **{name: _clean(value) if isinstance(value, str) else value for name, value in self.details.items()},
                **({"times": times} if times > 1 else {}),
            },
        }


def _storable(text: str) -> str:
    """Take out what no database stores, and no node has in its name."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _clean(text: str) -> str:
    return _storable(masked(text))[:_LONGEST]


class AuditWriter:
    """Gathers entries and writes them; those alike that come together become one row, which says how many they are.

    Parameters
    ----------
    write
        Writes entries, as JSON, to the database.
    """

    def __init__(self, write: Callable[[str], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: dict[tuple[object, ...], tuple[datetime, Entry, int]] = {}
        self._dropped = 0
        self._there = asyncio.Event()

    def add(self, entry: Entry) -> None:
        """Take an entry; of too many the oldest are dropped, and counted."""
        kind = entry.kind
        known = self._waiting.get(kind)
        self._waiting[kind] = (known[0], known[1], known[2] + 1) if known else (datetime.now(UTC), entry, 1)
        if len(self._waiting) > _MOST:
            _, _, times = self._waiting.pop(next(iter(self._waiting)))
            self._dropped += times
        self._there.set()

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        flushing: asyncio.Task[bool] | None = None
        try:
            while True:
                await self._there.wait()
                if len(self._waiting) < _BATCH:
                    await asyncio.sleep(_GATHERED)
                flushing = asyncio.create_task(self._flush())
                if not await asyncio.shield(flushing):
                    await asyncio.sleep(_AGAIN)
        finally:
            if flushing is not None:
                await flushing
            while self._waiting or self._dropped:
                if not await self._flush():
                    log.error("%d entries of the audit log are lost", len(self._waiting) + self._dropped)
                    break

    async def _flush(self) -> bool:
        """Write a batch; False: it stays for another attempt."""
        self._there.clear()
        kinds = list(self._waiting)[:_BATCH]
        batch = {kind: self._waiting.pop(kind) for kind in kinds}
        dropped, self._dropped = self._dropped, 0
        entries = [entry.pack(at, times) for at, entry, times in batch.values()]
        if dropped:
            entries.append(Entry(SERVICE, Action.DROP_AUDIT, details={"rows": dropped}).pack(datetime.now(UTC), 1))
        try:
            await self._write(json.dumps(entries))
        except (Fault, OSError) as error:
            log.warning("the audit log was not written: %s", error)
            self._restore(batch, dropped)
            return False
        if self._waiting:
            self._there.set()
        return True

    def _restore(self, batch: dict[tuple[object, ...], tuple[datetime, Entry, int]], dropped: int) -> None:
        newer = self._waiting
        self._waiting = batch
        self._dropped += dropped
        for kind, (at, entry, times) in newer.items():
            known = batch.get(kind)
            batch[kind] = (known[0], known[1], known[2] + times) if known else (at, entry, times)
        while len(self._waiting) > _MOST:
            self._dropped += self._waiting.pop(next(iter(self._waiting)))[2]
        self._there.set()


async def prune_for_ever(database: Database, settings: AuditSettings) -> None:
    """Take away rows that are older than the settings say, again and again."""
    while True:  # also if nothing is to be pruned: a worker ends with the first of its tasks
        try:
            while settings.keep and await audit.prune(database, days=settings.keep):
                pass
        except Fault as fault:
            log.warning("the audit log was not pruned: %s", fault)
        await asyncio.sleep(_PRUNED * (0.5 + secrets.randbelow(1000) / 1000))
