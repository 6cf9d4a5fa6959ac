"""A store on the disk with its catalogue in a real database, without servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pyvospace.config.settings import DatabaseSettings
from pyvospace.db.integrity import StoreRecords
from pyvospace.db.pool import Database
from pyvospace.db.storage import StorageCatalogue
from pyvospace.model.claims import Facts
from pyvospace.model.vocabulary import NodeType
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.checking import Remedy, StoreCheck
from pyvospace.storage.jobs import ClaimedUpload, carry_out
from pyvospace.storage.scrub import Scrubber
from pyvospace.storage.sweep import Sweeper
from pyvospace.storage.testing.doubles import ScriptedBody
from pyvospace.storage.threads import Workers
from tests.db.world import Storage, World, push


@dataclass
class Store:
    """Bytes and their names."""

    world: World
    storage: Storage
    backend: PosixBackend
    records: StoreRecords
    workers: Workers
    root: Path

    async def put(self, name: str, data: bytes) -> str:
        """Store bytes as a server does; give their location."""
        if (await self.world.resolve(name)).node is None:
            await self.world.add(name, NodeType.DATA)
        claims = await push(self.world, name, await self.world.caller("owner"))
        catalogue = self.storage.catalogue
        claim = await catalogue.claim_upload(claims, size=len(data))
        body = ScriptedBody([data] if data else [], self.workers, size=len(data))
        await carry_out(ClaimedUpload(claim, catalogue, body, Facts()), self.backend, body, catalogue)
        return str(
            await self.world.database.fetchval(
                "select location from nodes where id = $1", (await self.world.node(name)).id
            )
        )

    def file(self, location: str) -> Path:
        """Where the bytes of a location are."""
        return self.root / "data" / location

    async def check(self, remedy: Remedy = Remedy.NONE, *, grace: float = 0) -> list[tuple[str, str]]:
        """Compare; give kinds and subjects."""
        check = StoreCheck(self.backend, self.records, grace=grace, overdue=600, remedy=remedy, pause=0.05)
        return [(one.kind, one.subject) async for one in check.run()]

    def scrubber(self, *, rate: float = 1e9, interval: float = 0) -> Scrubber:
        """Make a scrubber of one process."""
        return Scrubber(self.backend, self.records, self.workers.quick, rate=rate, interval=interval)

    def sweeper(self, *, grace: float = 0) -> Sweeper:
        """Make a sweeper of one process."""
        return Sweeper(self.backend, self.storage.catalogue, interval=3600, grace=grace, obsolete_grace=0)

    async def damages(self) -> dict[str, str]:
        """Give the kinds of all damages by their locations."""
        rows = await self.world.database.fetch("select location, kind from damages")
        return {row["location"]: row["kind"] for row in rows}


@asynccontextmanager
async def store(database: Database, storage_dsn: str, root: Path) -> AsyncIterator[Store]:
    """Open one for the time of a test."""
    world = await World.make(database)
    backend = PosixBackend(root)
    workers = Workers(threads=4)
    async with AsyncExitStack() as stack:
        stack.callback(workers.close)
        stack.push_async_callback(backend.close)
        connected = await Database.connect(storage_dsn, DatabaseSettings(check_durability=False), name="storage")
        stack.push_async_callback(connected.close)
        catalogue = StorageCatalogue(connected, upload_wait=10.0, repeat_window=60.0)
        storage = Storage(catalogue, connected, await backend.start())
        await storage.announce()
        yield Store(world, storage, backend, StoreRecords(storage.database, storage.id), workers, root)
