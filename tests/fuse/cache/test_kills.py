"""Processes that are killed while they write to a real space: nothing that was acknowledged is lost."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from pyvospace.client import Space
from pyvospace.fuse.cache import Cache, Limits
from pyvospace.model.uris import NodeUri
from tests.support.pair import Pair

KILLS = int(os.environ.get("PYVOSPACE_CACHE_KILLS", "2"))


def _write_until_killed(pair: Pair, root: NodeUri, directory: Path, seed: str, seconds: float) -> list[list[str]]:
    program = Path(__file__).with_name("killed_writer.py")
    command = [sys.executable, str(program), pair.url, pair.token, str(root), str(directory), seed]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline()]
        time.sleep(seconds)
        process.kill()
        told += process.stdout.readlines()
    return [line.split() for line in told if line.endswith("\n")]


async def test_nothing_that_was_acknowledged_is_lost(pair: Pair, tmp_path: Path) -> None:
    async with Space(pair.url, token=pair.token) as space:
        root = NodeUri.parse(pair.uri("killed-caches"))
        await space.ensure_container(root)
        wanted: dict[str, set[str]] = {}
        for turn in range(KILLS):
            told = _write_until_killed(pair, root, tmp_path / "mounts", f"{turn}", 0.4 + 0.3 * turn)
            for word, name, digest in told:
                if word == "acknowledged":
                    wanted[name] = {digest}
                elif name in wanted:
                    wanted[name].add(digest)
        assert wanted
        cache = await Cache.open(tmp_path / "mounts", space, root, Limits(write_back=0), user="alice")
        try:
            await cache.settle()
            assert not cache.unsent()
        finally:
            await cache.close()
        found = {}
        async for entry in space.entries(root):
            found[entry.name] = entry.etag
        assert not [name for name in found if "conflict" in name]
        assert {name for name in wanted if found.get(name) not in wanted[name]} == set()
        one = next(iter(wanted))
        data = b"".join([piece async for piece in space.read(root.child(one))])
        assert hashlib.sha256(data).hexdigest() == found[one]
