"""fsck of many nodes: the catalogue with itself, and with a store on the disk.

    python -m benchmarks.fsck [--nodes N] [--folder DIR]

It fills a database of its own, on a temporary server that flushes what it commits, with a thousand containers and N
empty data nodes, and a folder with a file for each; some are missing, some have no node. Then it compares them as
``pyvospace fsck`` does, and prints time, rows a second and the most memory that this process had. Data nodes of the
benchmark are empty, so that a million of them fit on any disk: nothing of a comparison depends on their size.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from benchmarks import arguments
from pyvospace.config.settings import DatabaseSettings
from pyvospace.db import bootstrap
from pyvospace.db.integrity import StoreRecords, check_catalogue
from pyvospace.db.migrations import migrate
from pyvospace.db.pool import Database
from pyvospace.db.storage import StorageCatalogue
from pyvospace.model.claims import StorageState
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.checking import StoreCheck
from pyvospace.supervisor.data import DATABASE, DataDirectory
from pyvospace.supervisor.postgres import Cluster
from pyvospace.supervisor.processes import Processes

_FOLDERS = 1000
_ODD = 10
"""Files that are missing, and files too many."""
_CONTAINERS = """
    with made as (
        insert into nodes (parent_id, name, type, owner_id) select 1, 'c' || i, 'ContainerNode', 1
          from generate_series(0, $1 - 1) i returning id
    )
    insert into containers (id, path) select id, ('1.' || id)::ltree from made"""
_FILES = """
    insert into nodes (parent_id, name, type, owner_id, size, md5, sha256, storage_id, location, stored_by, modified)
    select c.id, 'f' || i, 'DataNode', 1, 0, decode(repeat('00', 16), 'hex'), decode(repeat('00', 32), 'hex'),
           (select id from storages), lpad(to_hex(i % 4096), 3, '0') || '/' || lpad(to_hex(i), 32, '0'), 1, now()
      from generate_series($1::bigint, $2::bigint) i
      join nodes c on c.parent_id = 1 and c.name = 'c' || i % $3"""


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--folder", type=arguments.folder, help="of files and database; default: the temporary folder")
    given = parser.parse_args()
    asyncio.run(_run(given.nodes, given.folder))


async def _run(nodes: int, folder: Path | None) -> None:
    async with _space(folder) as (database, backend, identity, root):
        await _fill(database, nodes)
        with _Timed("make the files", nodes):
            await asyncio.to_thread(_make_files, root, nodes)
        with _Timed("fsck", nodes):
            print(f"  {len(await check_catalogue(database))} findings")
        with _Timed("fsck --storage", nodes):
            check = StoreCheck(backend, StoreRecords(database, identity), grace=0, overdue=3600)
            kinds = [one.kind async for one in check.run()]
            print(f"  {kinds.count('missing')} missing, {kinds.count('unknown')} unknown, {len(kinds)} findings")


class _Timed:
    """Prints how long something took, and the most memory up to its end."""

    def __init__(self, what: str, rows: int) -> None:
        self._what = what
        self._rows = rows

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._begun
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"{self._what:24} {seconds:8.1f} s {self._rows / seconds:12,.0f} rows/s {memory:6} MiB", flush=True)


async def _fill(database: Database, nodes: int) -> None:
    """Make the nodes in steps, as statements that read whole tables are not what the pool is for."""
    step = 20_000
    await database.fetch(_CONTAINERS, _FOLDERS)
    for start in range(0, nodes, step):
        await database.fetch(_FILES, start, min(start + step, nodes) - 1, _FOLDERS)
    await database.fetch("analyze")


def _make_files(root: Path, nodes: int) -> None:
    """Make all but some of the files, and some more."""
    for folder in range(4096):
        (root / "data" / f"{folder:03x}").mkdir(exist_ok=True)
    for number in range(_ODD, nodes + _ODD):
        (root / "data" / f"{number % 4096:03x}" / f"{number:032x}").touch()


@asynccontextmanager
async def _space(folder: Path | None) -> AsyncIterator[tuple[Database, PosixBackend, UUID, Path]]:
    with tempfile.TemporaryDirectory(prefix="pyvospace-bench-", dir=folder) as name:
        _let_in(Path(name))
        data = DataDirectory(Path(name) / "data")
        with data.owned():
            async with Processes() as processes, Cluster(data, say=lambda _: None).running(processes) as known:
                dsn = known.dsn(DATABASE)
                await migrate(dsn)
                settings = DatabaseSettings()
                database = await Database.connect(dsn, settings)
                await bootstrap.set_up(
                    database, authority="example.org~space", group_prefixes=["ivo://example.org/gms?"]
                )
                backend = PosixBackend(Path(name) / "store")
                identity = await backend.start()
                catalogue = StorageCatalogue(database, upload_wait=10, repeat_window=60)
                await catalogue.announce(StorageState(id=identity, name="store", url="http://store", free=None))
                try:
                    yield database, backend, identity, Path(name) / "store"
                finally:
                    await backend.close()
                    await database.close()


def _let_in(folder: Path) -> None:
    """Let the account of PostgreSQL enter."""
    folder.chmod(0o711)


if __name__ == "__main__":
    main()
