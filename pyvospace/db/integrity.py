"""Whether the catalogue is right: what fsck finds and mends in it, and what it says to those who look at stores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from pyvospace.db.errors import translated
from pyvospace.db.statements import QueryFile
from pyvospace.db.usage import Miscount, check_usage, correct_usage
from pyvospace.model.crash import crash_point
from pyvospace.model.integrity import Damage, Finding, Named

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from uuid import UUID

    import asyncpg

    from pyvospace.db.pool import Connection, Database

T = TypeVar("T")

MOST: Final = 1000
"""Findings of one statement that are told; those behind them when these are mended."""
_LONGEST: Final = 3600.0
"""Seconds that a statement may take which reads whole tables."""
_FORGOTTEN_AT_ONCE: Final = 20_000


class _Sql(QueryFile, file="integrity.sql"):
    allow_scans: ClassVar[str]
    lock_trees: ClassVar[str]
    note_repairs: ClassVar[str]
    find_tree: ClassVar[str]
    mend_tree: ClassVar[str]
    find_immutable: ClassVar[str]
    mend_immutable: ClassVar[str]
    find_facts: ClassVar[str]
    find_bytes: ClassVar[str]
    find_versions: ClassVar[str]
    mend_versions: ClassVar[str]
    find_kept: ClassVar[str]
    mend_kept: ClassVar[str]
    find_segments: ClassVar[str]
    mend_segments: ClassVar[str]
    find_replicas: ClassVar[str]
    mend_replicas: ClassVar[str]
    find_copies: ClassVar[str]
    find_jobs: ClassVar[str]
    mend_jobs: ClassVar[str]
    find_leases: ClassVar[str]
    mend_leases: ClassVar[str]
    find_limits: ClassVar[str]
    mend_limits: ClassVar[str]
    find_damages: ClassVar[str]
    mend_damages: ClassVar[str]
    find_storages: ClassVar[str]
    damaged: ClassVar[str]
    refuse_damaged: ClassVar[str]
    fsck_begin: ClassVar[str]
    fsck_end: ClassVar[str]
    fsck_listed: ClassVar[str]
    fsck_missing: ClassVar[str]
    bytes_at: ClassVar[str]
    unknown: ClassVar[str]
    take_unknown: ClassVar[str]
    overdue: ClassVar[str]
    note_obsolete: ClassVar[str]
    take_obsolete: ClassVar[str]
    note_damage: ClassVar[str]
    clear_damage: ClassVar[str]
    known_damages: ClassVar[str]
    note_repair: ClassVar[str]
    claim_scrub: ClassVar[str]
    renew_scrub: ClassVar[str]
    end_scrub: ClassVar[str]


# ------------------------------------------------------------------------------------------------ the catalogue itself


@dataclass(frozen=True, slots=True)
class _Check:
    """A statement that finds damage, and the one that mends it, if that can be done."""

    find: str
    mend: str | None = None


_CHECKS: Final = (
    _Check(_Sql.find_tree, _Sql.mend_tree),
    _Check(_Sql.find_immutable, _Sql.mend_immutable),
    _Check(_Sql.find_facts),
    _Check(_Sql.find_bytes),
    _Check(_Sql.find_versions, _Sql.mend_versions),
    _Check(_Sql.find_kept, _Sql.mend_kept),
    _Check(_Sql.find_segments, _Sql.mend_segments),
    _Check(_Sql.find_replicas, _Sql.mend_replicas),
    _Check(_Sql.find_copies),
    _Check(_Sql.find_jobs, _Sql.mend_jobs),
    _Check(_Sql.find_leases, _Sql.mend_leases),
    _Check(_Sql.find_limits, _Sql.mend_limits),
    _Check(_Sql.find_damages, _Sql.mend_damages),
    _Check(_Sql.find_storages),
)
"""Each of them as of one moment. The tree comes first: sums and policies follow from it."""


async def check_catalogue(database: Database, *, repair: bool = False, pause: float = 1.0) -> list[Finding]:
    """Compare the catalogue with itself.

    Parameters
    ----------
    repair
        Mend what can be mended; each kind in a transaction of its own.
    pause
        Seconds after which a finding is looked at once more: only what is still there is told.
    """
    found: list[Finding] = []
    for check in _CHECKS:
        wrong = await _confirmed(database, check.find, pause)
        if repair and check.mend is not None and wrong:
            wrong = _mended(wrong, await _mend(database, check.mend))
        found += wrong
    return found + await _check_usage(database, repair=repair)


async def require_good_bytes(database: Database, node: int, version: int | None = None) -> None:
    """Fail if the bytes of a node, or of one of its versions, are damaged everywhere.

    Raises
    ------
    InternalFault
        They are: it does not help to come again.
    """
    await database.fetchval(_Sql.refuse_damaged, node, version)


async def known_damages(database: Database) -> int:
    """Count the bytes that are known to be damaged."""
    return int(await database.fetchval(_Sql.damaged))


async def _confirmed(database: Database, statement: str, pause: float) -> list[Finding]:
    first = await _scanning(database, lambda connection: _find(connection, statement))
    if not first:
        return []
    await asyncio.sleep(pause)
    again = {(one.kind, one.subject) for one in await _scanning(database, lambda c: _find(c, statement))}
    return [one for one in first if (one.kind, one.subject) in again]


async def _find(connection: Connection, statement: str) -> list[Finding]:
    rows = await connection.fetch(statement, MOST)
    return [Finding(row["kind"], row["subject"], row["details"]) for row in rows]


async def _mend(database: Database, statement: str) -> set[tuple[str, str]]:
    """Mend one kind of damage and write it down, together; what is damaged is looked up once more."""

    async def work(connection: Connection) -> set[tuple[str, str]]:
        await connection.execute(_Sql.lock_trees)
        done = [(row["kind"], row["subject"]) for row in await connection.fetch(statement)]
        crash_point("repair-mid")
        kinds, subjects = [kind for kind, _ in done], [subject for _, subject in done]
        await connection.execute(_Sql.note_repairs, kinds, subjects)
        return set(done)

    return await _scanning(database, work)


def _mended(found: Sequence[Finding], done: set[tuple[str, str]]) -> list[Finding]:
    return [replace(one, outcome="repaired") if (one.kind, one.subject) in done else one for one in found]


async def _scanning(database: Database, work: Callable[[Connection], Awaitable[T]]) -> T:
    async with database.connection(limit=_LONGEST) as connection:
        with translated():
            async with connection.transaction():
                await connection.execute(_Sql.allow_scans)
                return await work(connection)


async def _check_usage(database: Database, *, repair: bool) -> list[Finding]:
    async def mend(connection: Connection) -> list[Finding]:
        found = [replace(_miscounted(one), outcome="repaired") for one in await correct_usage(connection)]
        await connection.execute(_Sql.note_repairs, [one.kind for one in found], [one.subject for one in found])
        return found

    async def find(connection: Connection) -> list[Finding]:
        return [_miscounted(one) for one in await check_usage(connection)]

    return await _scanning(database, mend if repair else find)


def _miscounted(one: Miscount) -> Finding:
    whose = "container" if one.of_container else "user"
    return Finding(
        "usage",
        f"{whose} {one.id}",
        f"{one.counted.bytes} bytes and {one.counted.nodes} nodes are counted, "
        f"{one.real.bytes} bytes and {one.real.nodes} nodes are there",
    )


# -------------------------------------------------------------------------------------- for those who look at a store


@dataclass(frozen=True, slots=True)
class Listing:
    """What the catalogue says of a location that is in the store."""

    location: str
    unknown: bool
    """Nothing names it. Else its size is wrong."""
    size: int | None
    found: int | None


class StoreRecords:
    """What the catalogue knows of one storage, through the functions that its servers may call."""

    def __init__(self, database: Database, storage: UUID) -> None:
        self._database = database
        self._storage = storage

    async def begin(self) -> int:
        """Begin a comparison; give its number."""
        return int(await self._database.fetchval(_Sql.fsck_begin, self._storage))

    async def end(self, run: int) -> None:
        """Forget what a comparison has seen, and what others had that were given up."""
        while await self._database.fetchval(_Sql.fsck_end, self._storage, run, _FORGOTTEN_AT_ONCE):
            pass

    async def listed(self, run: int, locations: Sequence[str], sizes: Sequence[int | None]) -> list[Listing]:
        """Note what is in the store; give what is wrong with it."""
        rows = await self._database.fetch(_Sql.fsck_listed, self._storage, run, locations, sizes)
        return [Listing(row["location"], row["kind"] == "unknown", row["size"], row["found"]) for row in rows]

    async def missing(self, run: int, after: str, limit: int) -> tuple[list[str], str | None]:
        """Give those of the next `limit` locations that were not seen in the store, and where to go on."""
        rows = await self._database.fetch(_Sql.fsck_missing, self._storage, run, after, limit)
        found = [row["location"] for row in rows if row["location"] is not None]
        return found, next((row["upto"] for row in rows if row["location"] is None), None)

    async def named(self, locations: Sequence[str]) -> dict[str, Named]:
        """Tell what should be at some locations; those without a name are left out."""
        rows = await self._database.fetch(_Sql.bytes_at, self._storage, locations)
        return {row["location"]: _named(row, row["path"]) for row in rows}

    async def unknown(self, locations: Sequence[str]) -> list[str]:
        """Pick the locations that nothing names, and that are on no list of what goes."""
        return [row[0] for row in await self._database.fetch(_Sql.unknown, self._storage, locations)]

    async def take_unknown(self, locations: Sequence[str], margin: float) -> list[str]:
        """Pick those that nothing has named for `margin` seconds since somebody asked for the first time."""
        return [row[0] for row in await self._database.fetch(_Sql.take_unknown, self._storage, locations, margin)]

    async def overdue(self, seconds: float) -> list[str]:
        """Give locations that should have been deleted for so many seconds."""
        return [row[0] for row in await self._database.fetch(_Sql.overdue, self._storage, seconds, MOST)]

    async def take_obsolete(self, grace: float, limit: int) -> list[str]:
        """Take locations off the list of what goes; the caller deletes them."""
        return [row[0] for row in await self._database.fetch(_Sql.take_obsolete, self._storage, grace, limit)]

    async def note_obsolete(self, locations: Sequence[str]) -> None:
        """Let the next sweep take these locations."""
        await self._database.fetchval(_Sql.note_obsolete, self._storage, locations)

    async def note_damage(self, location: str, kind: Damage, details: str) -> bool:
        """Enter that bytes are damaged: they are not served from now on. True: that is news."""
        return bool(await self._database.fetchval(_Sql.note_damage, self._storage, location, kind, details))

    async def clear_damage(self, location: str) -> bool:
        """Enter that bytes are good. True: that is news."""
        return bool(await self._database.fetchval(_Sql.clear_damage, self._storage, location))

    async def damaged(self, after: str) -> list[str]:
        """Give locations behind `after` that are known to be damaged, in their order."""
        return [row[0] for row in await self._database.fetch(_Sql.known_damages, self._storage, after, MOST)]

    async def note_repair(self, location: str, kind: str, done: str) -> None:
        """Write into the audit log what was done."""
        await self._database.fetchval(_Sql.note_repair, self._storage, location, kind, done)

    async def claim_scrub(self, attempt: str, *, interval: float, lease: float, limit: int) -> list[Named]:
        """Take the next locations whose bytes are to be read again; none: there is nothing to do now."""
        rows = await self._database.fetch(_Sql.claim_scrub, self._storage, attempt, interval, lease, limit)
        return [_named(row) for row in rows]

    async def renew_scrub(self, attempt: str, lease: float) -> bool:
        """Say that we are still at it; False: somebody else is."""
        return bool(await self._database.fetchval(_Sql.renew_scrub, self._storage, attempt, lease))

    async def end_scrub(self, attempt: str) -> None:
        """Say that all of it was read."""
        await self._database.fetchval(_Sql.end_scrub, self._storage, attempt)


def _named(row: asyncpg.Record, path: str | None = None) -> Named:
    return Named(row["location"], row["size"], row["md5"], row["sha256"], row["damage"], path)
