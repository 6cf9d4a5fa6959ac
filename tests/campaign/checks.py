"""What must hold when nothing is wrong any more: catalogue and stores agree, nothing is left over, nothing is stuck."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyvospace.db.pool import Database
from tests.campaign.installation import AT_ONCE, BUCKET, LEASE, SERVERS, Installation
from tests.campaign.worlds import LostError
from tests.support.tree_check import damages

PATIENCE: Final = 90.0
_CHECKS: Final = (("metadata",), ("storage", "--storage"), ("second", "--storage"))
_NAMED: Final = """
    with bytes as (
        select storage_id, location, size, md5 from named_bytes where md5 is not null
    )
    select b.storage_id, b.location, b.size, b.md5 from bytes b
    union
    select r.at_storage, r.at_location, b.size, b.md5
      from replicas r join bytes b using (storage_id, location)"""
_COPIES: Final = """
    select n.id from nodes n
     where n.location is not null and (policy_of(n.parent_id)).replicas > 1
       and not exists (select from replicas r where r.storage_id = n.storage_id and r.location = n.location)"""
_LEASES: Final = "leases of writers"
STUCK: Final[Mapping[str, str]] = {
    "jobs whose worker is silent": """
        select id || ' ' || kind || ' ' || phase || ' ' || coalesce(message, '') from jobs
         where phase = 'QUEUED' or phase = 'EXECUTING' and kind not in ('push', 'pull')""",
    _LEASES: "select attempt from writers where until > now()",
    "copies that are still to be made": "select format('%s: %s', location, message) from replications",
    "nodes without their copies": _COPIES,
    "uploads in parts": "select id from partials where expires < now()",
    "obsolete bytes": "select location from obsolete",
    "damages": "select format('%s %s %s', location, kind, details) from damages",
}
"""Statements that give a row for whatever should not be there for long."""


@dataclass(frozen=True)
class Stored:
    """What a store holds."""

    files: dict[str, bytes]
    """Bytes by location."""
    drafts: list[str]
    """What is not complete."""


class Inspector:
    """Looks at catalogue and stores, beside all servers."""

    def __init__(self, place: Installation, database: Database) -> None:
        self._place = place
        self._database = database

    async def ready(self) -> None:
        """Wait until all servers say that they are."""
        for name in SERVERS:
            await _until(lambda name=name: self._not_ready(name))  # type: ignore[misc]

    async def _not_ready(self, name: str) -> str:
        ready = await asyncio.to_thread(self._place.site.answers, name)
        return "" if ready else f"{name} is not ready:\n{self._place.site.log(name)[-2000:]}"

    async def nobody_writes(self) -> None:
        """Wait until no upload is under way, and all leases of those that died are over."""
        await _until(lambda: self._rows(_LEASES))

    async def restart(self) -> None:
        """Start all servers anew, to sweep without grace. Of what was asked before nothing happens any more."""
        for name in SERVERS:
            await asyncio.to_thread(self._place.site.kill, name)
        self._place.site.environment = AT_ONCE
        await asyncio.to_thread(self._place.site.start)
        await self.ready()

    async def swept(self, *, patient: bool) -> None:
        """Wait until nothing is left over and nothing is stuck; `patient`: the leases of the dead are over too."""
        for what in STUCK:
            if patient or what != _LEASES:
                await _until(lambda what=what: self._rows(what))  # type: ignore[misc]
        await _until(self._left_over)

    async def _rows(self, what: str) -> str:
        rows = await self._database.fetch(STUCK[what])
        return f"{len(rows)} {what}: {[str(row[0]) for row in rows[:5]]}" if rows else ""

    async def compare(self) -> None:
        """Compare all bytes that have a name with what the catalogue says of them."""
        stored = await self._stored()
        for row in await self._database.fetch(_NAMED):
            storage, location = row["storage_id"], row["location"]
            found = stored[storage].files.get(location)
            if found is None:
                raise LostError(f"a name leads to {location} of {storage}, where nothing is")
            if len(found) != row["size"] or hashlib.md5(found).digest() != row["md5"]:
                raise LostError(f"{location} of {storage} is not what the catalogue says")

    async def _left_over(self) -> str:
        named = {(row["storage_id"], row["location"]) for row in await self._database.fetch("table named_bytes")}
        stored = await self._stored()
        unknown = [(one, at) for one, there in stored.items() for at in there.files if (one, at) not in named]
        drafts = [draft for there in stored.values() for draft in there.drafts]
        return f"left over: {unknown[:5]} {drafts[:5]}" if unknown or drafts else ""

    async def _stored(self) -> dict[int, Stored]:
        """Give what each storage holds, by its id."""
        rows = await self._database.fetch("select id, url from storages")
        readers = {self._place.site.storage_url: self._files, self._place.site.second_url: self._objects}
        return {row["id"]: await asyncio.to_thread(readers[row["url"]]) for row in rows}

    def _files(self) -> Stored:
        root = self._place.files
        found = {one.relative_to(root / "data").as_posix(): one.read_bytes() for one in (root / "data").glob("*/*")}
        return Stored(found, [one.name for one in (root / "staging").iterdir()])

    def _objects(self) -> Stored:
        client: Any = self._place.engine.client()
        found = {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for one in page.get("Contents", ()):
                location = one["Key"].partition("data/")[2]
                if location:
                    found[location] = client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read()
        drafts = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        return Stored(found, [one["Key"] for one in drafts])

    async def consult(self) -> None:
        """Have fsck look at the catalogue and at both stores."""
        for name, *options in _CHECKS:
            if told := await asyncio.to_thread(self._place.site.check, name, *options):
                raise LostError(told)

    async def look_for_damage(self) -> None:
        """Look at the tree and its counters, and for defects that servers found in themselves."""
        if found := await damages(self._database):
            raise LostError("\n".join(found))
        for name in SERVERS:
            _, defect, rest = self._place.site.log(name).partition("defect while")
            if defect:
                raise LostError(f"{name} met a defect{rest[:3000]}")


async def _until(wrong: Callable[[], Awaitable[str]]) -> None:
    """Wait until nothing is wrong any more."""
    end = time.monotonic() + PATIENCE + LEASE
    while found := await wrong():
        if time.monotonic() > end:
            raise LostError(found)
        await asyncio.sleep(0.2)
