"""A process that writes files through a cache and says what was acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from pyvospace.client import Space
from pyvospace.fuse.cache import Cache, Limits, sending
from pyvospace.model.uris import NodeUri

sending._QUIET = 0.0  # type: ignore[misc]
"""Files are sent though this program never rests."""


async def main(url: str, token: str, root: str, directory: str, seed: str) -> None:
    async with Space(url, token=token) as space:
        limits = Limits(write_back=0.02, block=64 << 10)
        cache = await Cache.open(Path(directory), space, NodeUri.parse(root), limits, user="alice")
        for turn in range(100_000):
            path = (f"{seed}-{turn % 40}",)
            file = cache.find(path) or cache.file(path, None, mtime_ns=1, mode=None)
            file.retain()
            data = os.urandom(turn * 7919 % 300_000)
            _say("begins", path[0], data)
            await file.truncate(0)
            for offset in range(0, len(data), 128 << 10):
                await file.write(offset, data[offset : offset + (128 << 10)])
                await asyncio.sleep(0)
            await (file.flush() if turn % 3 else file.fsync())
            _say("acknowledged", path[0], data)
            await asyncio.sleep(0.001)


def _say(word: str, name: str, data: bytes) -> None:
    sys.stdout.write(f"{word} {name} {hashlib.sha256(data).hexdigest()}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
