"""A large file fetched from another server by the service itself (pullToVoSpace), beside curl on the same machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from pathlib import Path

from benchmarks.measures import Series, Setting, container, write_random
from pyvospace.client import Space

PULLED, CURLED = "pullToVoSpace of a large file", "curl of it, and fsync"


async def elsewhere(setting: Setting) -> list[Series]:
    """Measure both, in turn; nothing without nginx and curl."""
    curl = shutil.which("curl")
    if setting.nginx is None or curl is None:
        return []
    found = {name: Series(name, "MB/s") for name in (PULLED, CURLED)}
    source = setting.folder / "files" / "elsewhere"
    await asyncio.to_thread(write_random, source, setting.large)
    url = f"http://127.0.0.1:{setting.nginx}/files/elsewhere"
    ours = setting.space
    async with Space(f"http://127.0.0.1:{ours.port}", token=ours.token) as space:
        folder = await container(setting)
        for number in range(setting.rounds):
            begun = time.perf_counter()
            await space.pull_to(f"vos://{ours.authority}{folder}/{number}", url)
            found[PULLED].values.append(setting.large / 1e6 / (time.perf_counter() - begun))
            begun = time.perf_counter()
            await asyncio.to_thread(_curl, curl, url, setting.folder / "fetched")
            found[CURLED].values.append(setting.large / 1e6 / (time.perf_counter() - begun))
            (setting.folder / "fetched").unlink()
    source.unlink()
    return list(found.values())


def _curl(curl: str, url: str, target: Path) -> None:
    subprocess.run([curl, "--silent", "--fail", "--output", str(target), url], check=True)
    descriptor = os.open(target, os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)
