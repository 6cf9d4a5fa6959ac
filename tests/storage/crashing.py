"""A storage server as a process of its own that can be killed; its catalogue survives in a file.

Usage: python -m tests.storage.crashing DIRECTORY
"""

import asyncio
import json
import os
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pyvospace.model.claims import StoredFile, UploadClaim
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.catalogue import StoreTransaction
from pyvospace.storage.sweep import Sweeper
from pyvospace.storage.testing.doubles import MemoryCatalogue
from tests.storage.serving import make_settings, serving


class FileCatalogue(MemoryCatalogue):
    """Writes what it knows to a file with every commit."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            known = json.loads(path.read_text())
            self.obsolete = known["obsolete"]
            for node_id, stored in known["nodes"].items():
                self.node(int(node_id)).stored = StoredFile(
                    **{**stored, "md5": b64decode(stored["md5"]), "sha256": b64decode(stored["sha256"])}
                )

    @asynccontextmanager
    async def transaction(self, claim: UploadClaim) -> AsyncIterator[StoreTransaction]:
        async with super().transaction(claim) as opened:
            yield opened
        self._save()

    async def take_obsolete(self, *, grace: float, limit: int) -> list[str]:
        taken = await super().take_obsolete(grace=grace, limit=limit)
        self._save()
        return list(taken)

    def _save(self) -> None:
        nodes = {
            node_id: {
                "location": node.stored.location,
                "size": node.stored.size,
                "md5": b64encode(node.stored.md5).decode(),
                "sha256": b64encode(node.stored.sha256).decode(),
                "content_type": node.stored.content_type,
            }
            for node_id, node in self.nodes.items()
            if node.stored
        }
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps({"nodes": nodes, "obsolete": self.obsolete}))
        draft.replace(self._path)


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def main(directory: Path) -> None:
    settings = make_settings(directory, sweep_interval=3600, sweep_grace=3600)
    catalogue = FileCatalogue(directory / "catalogue.json")
    backend = PosixBackend(settings.storage.path)
    async with serving(settings, catalogue=catalogue, backend=backend) as server:
        say(server.port)
        while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if command == "sweep":
                sweeper = Sweeper(backend, catalogue, interval=3600, grace=-1, obsolete_grace=0)
                say(await sweeper.sweep())


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(main(Path(sys.argv[1])))
