"""A hundred clients that list, push, pull, overwrite and delete for ten minutes: no error, no growth.

    python -m benchmarks.soak [--clients N] [--minutes M] [--workers N]

It prints the memory and the open files of each process each half minute, and ends with status 1 if a request failed
or a process kept growing after the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import time
from pathlib import Path

import psutil

from benchmarks.http import Connection, request
from benchmarks.measures import Setting, container, negotiate
from benchmarks.systems import Space, scratch, space

_GROWTH = 1.25
"""A process may be so much larger at the end than after the first third."""
_SIZES = (0, 1, 1000, 20_000, 200_000, 2_000_000)


class Client:
    """One client, working on files of its own."""

    def __init__(self, setting: Setting, folder: str, number: int) -> None:
        self._setting = setting
        self._folder = f"{folder}/client {number}".replace(" ", "%20")
        self._files: dict[str, bytes] = {}
        self._random = random.Random(number)
        self._meta = Connection("127.0.0.1", setting.space.port)
        self._storage = Connection("127.0.0.1", setting.space.storage_port)
        self.done = 0
        self.failures: list[str] = []

    async def run(self, until: float) -> None:
        """Work until that moment of the monotonic clock."""
        await self._ask(self._meta, self._put_container(), 201)
        while time.monotonic() < until:
            work = self._random.choice((self._push, self._push, self._pull, self._pull, self._list, self._delete))
            try:
                await work()
                self.done += 1
            except (OSError, RuntimeError, asyncio.IncompleteReadError) as error:
                self.failures.append(f"{work.__name__}: {error!r}")
                self._meta.close()
                self._storage.close()

    def _put_container(self) -> bytes:
        document = self._setting.node(self._folder, "ContainerNode")
        return request("PUT", f"/nodes{self._folder}", token=self._setting.space.token, body=document)

    async def _ask(self, connection: Connection, message: bytes, expected: int) -> bytes:
        answer = await connection.ask(message)
        if answer.status != expected:
            raise RuntimeError(f"{answer.status} instead of {expected}: {answer.body[:200]!r}")
        return answer.body

    async def _push(self) -> None:
        name = f"{self._folder}/{self._random.randrange(20)}"
        content = os.urandom(self._random.choice(_SIZES))
        endpoint = await negotiate(self._setting, self._meta, name, "pushToVoSpace", "httpput")
        await self._ask(self._storage, request("PUT", endpoint, body=content, kind="application/fits"), 201)
        self._files[name] = content

    async def _pull(self) -> None:
        if not self._files:
            return
        name = self._random.choice(list(self._files))
        endpoint = await negotiate(self._setting, self._meta, name, "pullFromVoSpace", "httpget")
        if await self._ask(self._storage, request("GET", endpoint), 200) != self._files[name]:
            raise RuntimeError(f"other bytes came back from {name}")

    async def _list(self) -> None:
        body = await self._ask(
            self._meta, request("GET", f"/nodes{self._folder}", token=self._setting.space.token), 200
        )
        if body.count(b"DataNode") != len(self._files):
            raise RuntimeError("the listing is not what was stored")

    async def _delete(self) -> None:
        if not self._files:
            return
        name = self._random.choice(list(self._files))
        await self._ask(self._meta, request("DELETE", f"/nodes{name}", token=self._setting.space.token), 204)
        del self._files[name]


def _sizes(ours: Space) -> dict[str, tuple[float, int]]:
    """Give resident size in MB and open files of the largest process of each part."""
    found = {}
    for name, processes in ours.processes().items():
        if name == "postgres":
            continue
        sizes = []
        for one in processes:
            with contextlib.suppress(psutil.Error):
                sizes.append((one.memory_info().rss / 1e6, one.num_fds()))
        found[name] = max(sizes, default=(0.0, 0))
    return found


async def _watch(ours: Space, until: float, history: list[dict[str, tuple[float, int]]]) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(min(30.0, max(1.0, (until - time.monotonic()) / 3)))
        history.append(_sizes(ours))
        print(
            "  ".join(f"{name} {size:.0f} MB {files} files" for name, (size, files) in history[-1].items()), flush=True
        )


async def _soak(setting: Setting, clients: int, minutes: float) -> int:
    until = time.monotonic() + 60 * minutes
    folder = await container(setting)
    crowd = [Client(setting, folder, number) for number in range(clients)]
    history: list[dict[str, tuple[float, int]]] = []
    await asyncio.gather(_watch(setting.space, until, history), *(client.run(until) for client in crowd))
    failures = [failure for client in crowd for failure in client.failures]
    print(f"{sum(client.done for client in crowd)} operations, {len(failures)} failures")
    for failure in failures[:20]:
        print(failure)
    early, late = history[len(history) // 3], history[-1]
    grown = [name for name in late if late[name][0] > _GROWTH * early[name][0]]
    if grown:
        print(f"still growing: {', '.join(grown)}")
    return 1 if failures or grown else 0


def main() -> int:
    """Run and judge."""
    parser = argparse.ArgumentParser(description="Many clients for a long time: no error, no growth.")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with scratch(options.folder) as folder, space(folder, workers=options.workers) as ours:
        setting = Setting(
            space=ours, bare=0, nginx=None, folder=folder, seconds=0, rounds=0, concurrency=options.clients, large=0
        )
        return asyncio.run(_soak(setting, options.clients, options.minutes))


if __name__ == "__main__":
    sys.exit(main())
