"""What can go wrong, each with a beginning and an end."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from pathlib import Path
from typing import ClassVar, Final

from tests.campaign.installation import Installation
from tests.campaign.worlds import LostError

_BUSY: Final = 5.0
"""Seconds in which a moment comes when nobody writes."""
_ROUNDS: Final = 20
_TOGETHER: Final = 0.25
_FREE: Final = 64 << 10
_FREEZE: Final = """
i=0
while [ $i -lt "$3" ] && [ -e "$4" ] && fsfreeze -f "$1"; do
    sleep "$2"; fsfreeze -u "$1"; sleep 0.03; i=$((i + 1))
done
"""


class Fault:
    """Something that is wrong from `begin` to `end`."""

    name: ClassVar[str]
    needs_sandbox: ClassVar[bool] = False
    longest: ClassVar[float] = 3.0
    """Seconds."""

    def __init__(self, place: Installation, chance: random.Random) -> None:
        self.place = place
        self.chance = chance

    async def begin(self) -> None:
        """Let it go wrong."""
        raise NotImplementedError

    async def end(self) -> None:
        """Put it right."""


class Kill(Fault):
    """A server dies as in a power cut, and is started again at the end."""

    longest = 1.0
    victims: ClassVar[tuple[str, ...]]

    async def begin(self) -> None:
        for name in self.victims:
            process = self.place.site.processes[name]
            if process.poll() is not None:
                raise LostError(f"{name} ended by itself:\n{self.place.site.log(name)[-3000:]}")
            await asyncio.to_thread(self.place.site.kill, name)

    async def end(self) -> None:
        await asyncio.to_thread(self.place.site.start, *self.victims)


class KillMetadata(Kill):
    """The metadata server."""

    name = "kill-metadata"
    victims = ("metadata",)


class KillStorage(Kill):
    """The storage server with files."""

    name = "kill-storage"
    victims = ("storage",)


class KillSecond(Kill):
    """The storage server with objects."""

    name = "kill-second"
    victims = ("second",)


class KillAll(Kill):
    """All three servers."""

    name = "kill-all"
    victims = ("metadata", "storage", "second")


class KillDatabase(Fault):
    """PostgreSQL; its supervisor starts it at once."""

    name = "kill-database"
    longest = 0.5

    async def begin(self) -> None:
        await asyncio.to_thread(self.place.postgres.kill)

    async def end(self) -> None:
        await asyncio.to_thread(self.place.postgres.wait)


class OnDisk(Fault):
    """Something about the disk in the sandbox."""

    needs_sandbox = True

    async def run(self, *words: str) -> bool:
        """Run a program in the sandbox."""
        assert self.place.box is not None
        return await asyncio.to_thread(self.place.box.run, *words)

    @property
    def disk(self) -> str:
        """Where it is mounted."""
        assert self.place.box is not None
        return str(self.place.box.disk)


class DiskFull(OnDisk):
    """A file takes the room that is left, or nearly all of it."""

    name = "disk-full"

    async def begin(self) -> None:
        assert self.place.box is not None
        left = self.chance.choice((0, _FREE, 1 << 20))
        room = max(self.place.box.free() - left, 1 << 16)
        await self.run("fallocate", "-l", str(room), f"{self.disk}/ballast")

    async def end(self) -> None:
        await self.run("rm", "-f", f"{self.disk}/ballast")


class DiskReadOnly(OnDisk):
    """It takes no more writes. While somebody writes, the kernel refuses that, so we ask again and again."""

    name = "disk-read-only"

    async def begin(self) -> None:
        end = time.monotonic() + _BUSY
        while not await self.run("mount", "-o", "remount,ro", self.disk):
            if time.monotonic() > end:
                return
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        if not await self.run("mount", "-o", "remount,rw", self.disk):
            raise RuntimeError("the disk stays read-only")


class DiskSlow(OnDisk):
    """Every write waits: the file system is frozen, and thawed for a moment, and frozen again.

    A process of its own does it: were we to die meanwhile, whoever waits could not even be killed.
    """

    name = "disk-slow"

    async def begin(self) -> None:
        assert self.place.box is not None
        pause = self.chance.choice(("0.1", "0.3", "1"))
        await asyncio.to_thread(self._mark.touch)
        words = ("sh", "-c", _FREEZE, "sh", self.disk, pause, str(_ROUNDS), str(self._mark))
        self._process = subprocess.Popen(self.place.box.command(*words), stdin=subprocess.DEVNULL)

    async def end(self) -> None:
        await asyncio.to_thread(self._mark.unlink)
        await asyncio.to_thread(self._process.wait)

    @property
    def _mark(self) -> Path:
        assert self.place.box is not None
        return self.place.box.disk.with_name("slow")


class NetworkCut(Fault):
    """No packet passes between the sandbox and PostgreSQL; nobody is told."""

    name = "network-cut"
    needs_sandbox = True
    longest = 8.0
    _ways: ClassVar = (("INPUT", "-i"), ("OUTPUT", "-o"))

    async def begin(self) -> None:
        # Both ways, or one of them.
        self._cut = self.chance.choice((self._ways, self._ways[:1], self._ways[1:]))
        await self._change("-I")

    async def end(self) -> None:
        await self._change("-D")

    async def _change(self, action: str) -> None:
        assert self.place.box is not None
        for chain, side in self._cut:
            rule = ("iptables", "-w", action, chain, side, "wire", "-j", "DROP")
            if not await asyncio.to_thread(self.place.box.run, *rule):
                raise RuntimeError(f"iptables {action} failed")


class DatabaseSilent(Fault):
    """Connections to PostgreSQL stay, and nothing comes."""

    name = "database-silent"
    longest = 8.0

    async def begin(self) -> None:
        self.place.relay.block()

    async def end(self) -> None:
        self.place.relay.unblock()


class DatabaseReset(Fault):
    """All connections to PostgreSQL are cut, while it goes on."""

    name = "database-reset"
    longest = 0.2

    async def begin(self) -> None:
        self.place.relay.reset()


class DatabaseSlow(Fault):
    """Every piece of every answer of PostgreSQL takes its time."""

    name = "database-slow"

    async def begin(self) -> None:
        self.place.relay.delay = self.chance.choice((0.01, 0.1))

    async def end(self) -> None:
        self.place.relay.delay = 0.0


class StoreTrouble(Fault):
    """The S3 store says 503, cuts answers, shortens bodies, loses answers to what it has done, or is slow."""

    name = "s3"
    longest = 5.0
    _kinds: ClassVar = ("", "", "busy", "busy", "lost", "slow")
    _of_bodies: ClassVar = (*_kinds, "cut", "short")
    _requests: ClassVar = ("put", "read", "begin", "part", "complete", "abort", "HEAD", "GET", "DELETE", "POST")

    async def begin(self) -> None:
        self.place.flaky.faults = {
            request: self.chance.choices(
                self._of_bodies if request in {"read", "GET"} else self._kinds, k=self.chance.randrange(1, 60)
            )
            for request in self._requests
        }

    async def end(self) -> None:
        self.place.flaky.faults = {}
        self.place.flaky.asked.clear()


FAULTS: Final[tuple[type[Fault], ...]] = (
    KillMetadata,
    KillStorage,
    KillSecond,
    KillAll,
    KillDatabase,
    DiskFull,
    DiskReadOnly,
    DiskSlow,
    NetworkCut,
    DatabaseSilent,
    DatabaseReset,
    DatabaseSlow,
    StoreTrouble,
)


def named(names: str) -> tuple[type[Fault], ...]:
    """Find faults by their names, or by the beginnings of these: ``kill`` is all kills."""
    wanted = names.split(",")
    found = tuple(one for one in FAULTS if any(one.name.startswith(word) for word in wanted))
    if any(not [one for one in FAULTS if one.name.startswith(word)] for word in wanted):
        raise ValueError(f"there are {', '.join(one.name for one in FAULTS)}")
    return found


class Striker:
    """Lets faults happen one after the other, in an order that is a lot's, each at least once if there is time."""

    def __init__(self, place: Installation, kinds: tuple[type[Fault], ...], chance: random.Random) -> None:
        self._kinds = [one for one in kinds if place.box is not None or not one.needs_sandbox]
        self._place = place
        self._chance = chance
        self._due: list[type[Fault]] = []
        self.struck: dict[str, int] = {}

    async def work(self, end: float, pause: float) -> None:
        """Go on until the time is over; then nothing is wrong any more."""
        while time.monotonic() < end:
            await asyncio.sleep(self._chance.uniform(0.1, 1.0) * pause)
            await self._strike(self._choose(), 4 * pause)

    def _choose(self) -> list[type[Fault]]:
        """Take the next fault, and sometimes another one that may come while it is there."""
        first = self._next()
        others = [one for one in self._kinds if one is not first and not issubclass(one, OnDisk)]
        if issubclass(first, Kill) or not others or self._chance.random() > _TOGETHER:
            return [first]
        return [first, self._chance.choice(others)]

    async def _strike(self, kinds: list[type[Fault]], longest: float) -> None:
        begun: list[Fault] = []
        try:
            for kind in kinds:
                fault = kind(self._place, self._chance)
                await fault.begin()
                begun.append(fault)
                self.struck[kind.name] = self.struck.get(kind.name, 0) + 1
                await asyncio.sleep(min(self._chance.uniform(0.1, 1.0) * kind.longest, longest))
        finally:
            # A server that was killed meanwhile starts when the rest is well again.
            for fault in begun:
                await fault.end()

    def _next(self) -> type[Fault]:
        if not self._due:
            self._due = self._chance.sample(self._kinds, len(self._kinds))
        return self._due.pop()
