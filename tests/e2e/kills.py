"""Kill metadata server, storage server and database at random moments while clients work, and count what is lost.

The promise: what was acknowledged is there, what was not is there whole or not at all, and what is left over is swept.
Each client knows, for each of its nodes, what the node may hold: the last content that was acknowledged, and whatever
was sent since without a clear answer.

    python -m tests.e2e.kills --minutes 10
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import aiohttp
import asyncpg

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE, QUOTA
from pyvospace.wire.xml import V
from tests.e2e.durable import DurablePostgres, durable_postgres
from tests.support.agents import Agent, Answer, properties_of
from tests.support.pair import Pair
from tests.support.tree_check import damages

CLIENTS = 6
NODES = 4
"""Names of each client."""
_VICTIMS = (
    ("metadata",),
    ("storage",),
    ("storage",),
    ("database",),
    ("storage", "database"),
    ("metadata", "storage", "database"),
)
_SIZES = (0, 10, 4000, 70_000, 3_000_000)
_PATIENCE = 60.0
_GONE = (aiohttp.ClientError, ConnectionError, TimeoutError)

_CALM = {
    # Longer than a commit takes here; much shorter than in real life.
    "PYVOSPACE_STORAGE__SWEEP_GRACE": "10",
    "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "2",
    "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "3",
}
_AT_ONCE = {
    "PYVOSPACE_STORAGE__SWEEP_GRACE": "0.1",
    "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "0.5",
    "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "0.1",
}


class LostError(AssertionError):
    """The promise was broken."""


@dataclass
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    """What should not be: answers of status 500."""

    def __str__(self) -> str:
        """Write it on a few lines."""
        faults = "".join(f"\n{number} x {fault}" for fault, number in self.faults.items())
        return f"killed {dict(self.kills)}\nanswers {dict(sorted(self.answers.items()))}{faults}"


class Node:
    """A name, and what it may hold: contents, or None for no node."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.possible: set[bytes | None] = {None}

    def settle(self, content: bytes | None) -> None:
        """Take over what was acknowledged."""
        self.possible = {content}

    def check(self, found: bytes | None) -> None:
        """Compare with what was read; from here on it is that."""
        if found not in self.possible:
            told = ["no node" if one is None else f"{len(one)} bytes" for one in self.possible]
            what = "no node" if found is None else f"{len(found)} other bytes"
            raise LostError(f"{self.path}: {what} instead of {' or '.join(told)}")
        self.settle(found)


class Client:
    """Uploads, overwrites, deletes and reads nodes of its own, whatever happens."""

    def __init__(self, agent: Agent, folder: str, seed: int, tally: Tally) -> None:
        self._agent = agent
        self._random = random.Random(seed)
        self._tally = tally
        self.nodes = [Node(f"{folder}/{seed}-{number}") for number in range(NODES)]

    async def work(self, end: float) -> None:
        """Go on until the time is over."""
        while time.monotonic() < end:
            node = self._random.choice(self.nodes)
            choice = self._random.random()
            try:
                if choice < 0.6:
                    await self._upload(node)
                elif choice < 0.75:
                    await self._delete(node)
                else:
                    await self.read(node)
            except _GONE as error:
                self._tally.answers[f"{type(error).__name__}"] += 1
                await asyncio.sleep(0.02)

    async def _upload(self, node: Node) -> None:
        content = self._random.randbytes(self._random.choice(_SIZES))
        agreed = await self._ask("PUT", f"/files{node.path}", b"")
        if agreed.status != HTTPStatus.TEMPORARY_REDIRECT:
            return
        for _ in range(3):  # as clients do: the same bytes to the same endpoint
            before = set(node.possible)
            node.possible.add(content)
            try:
                answer = await self._ask("PUT", agreed.location, content)
            except _GONE:
                await asyncio.sleep(0.2)
                continue
            if answer.status == HTTPStatus.CREATED:
                node.settle(content)
                return
            if answer.status < 500:
                node.possible = before
                return

    async def _delete(self, node: Node) -> None:
        before = set(node.possible)
        node.possible.add(None)
        answer = await self._ask("DELETE", f"/nodes{node.path}")
        if answer.status == HTTPStatus.NO_CONTENT:
            node.settle(None)
        elif answer.status == HTTPStatus.NOT_FOUND:
            node.possible = before
            node.check(None)
        elif answer.status < 500:
            node.possible = before

    async def read(self, node: Node) -> bool:
        """Read a node and compare; False: nobody could say."""
        answer = await self._ask("GET", f"/files{node.path}")
        if answer.status == HTTPStatus.NOT_FOUND:
            node.check(None)
            return True
        if answer.status != HTTPStatus.SEE_OTHER:
            return False
        answer = await self._ask("GET", answer.location)
        if answer.status != HTTPStatus.OK:
            return False
        digest = base64.b64encode(hashlib.md5(answer.body).digest()).decode()
        if answer.headers["Digest"] != f"md5={digest}":
            raise LostError(f"{node.path}: the bytes are not those of the digest")
        node.check(answer.body)
        return True

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        answer = await self._agent.send(method, path, body, checked=False)
        self._tally.answers[f"{method} {answer.status}"] += 1
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self._tally.faults[f"{method} {answer.text.strip()}"] += 1
        if answer.status >= 500:
            await asyncio.sleep(0.05)
        return answer


async def campaign(postgres: DurablePostgres, data: Path, seconds: float, seed: int) -> Tally:
    """Work, kill, restart, and check.

    Raises
    ------
    LostError
        A promise was broken.
    """
    tally, chance = Tally(), random.Random(seed)
    pair = await asyncio.to_thread(Pair, postgres.dsn, data, storage_dsn=postgres.storage_dsn, environment=_CALM)
    try:
        await asyncio.to_thread(pair.start)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE)) as session:
            agent = Agent(session, pair, pair.token)
            folder = await agent.make(f"{pair.home}/campaign", "ContainerNode")
            # Large enough for everybody; what is reserved and counted under it must be right all the same.
            admin = Agent(session, pair, pair.admin_token)
            (await admin.post(folder, "ContainerNode", properties={QUOTA: str(10**12)})).assert_status(200)
            clients = [Client(agent, folder, seed * CLIENTS + number, tally) for number in range(CLIENTS)]
            end = time.monotonic() + seconds
            async with asyncio.TaskGroup() as group:
                group.create_task(_strike_until(end, pair, postgres, chance, tally))
                for client in clients:
                    group.create_task(client.work(end))
            await _read_everything(clients)
            await _compare(postgres, data)
            await _sweep(pair, postgres, data)
            await _read_everything(clients)
            await _compare_listing(agent, folder, clients)
        await _look_for_damage(pair)
    finally:
        await asyncio.to_thread(pair.stop)
    return tally


async def _strike_until(end: float, pair: Pair, postgres: DurablePostgres, chance: random.Random, tally: Tally) -> None:
    while time.monotonic() < end:
        await asyncio.sleep(chance.uniform(0.05, 1.0))
        victims = chance.choice(_VICTIMS)
        tally.kills.update(victims)
        await asyncio.to_thread(_strike, pair, postgres, victims)


def _strike(pair: Pair, postgres: DurablePostgres, victims: tuple[str, ...]) -> None:
    servers = [name for name in victims if name != "database"]
    for name in servers:
        pair.kill(name)
    if "database" in victims:
        postgres.kill()
        postgres.wait()
    if servers:
        pair.start(*servers)
    for name, process in pair.processes.items():
        if process.poll() is not None:
            raise LostError(f"the {name} server ended by itself:\n{pair.log(name)[-3000:]}")


async def _read_everything(clients: list[Client]) -> None:
    end = time.monotonic() + _PATIENCE
    for client in clients:
        for node in client.nodes:
            while not await client.read(node):
                if time.monotonic() > end:
                    raise LostError(f"{node.path} cannot be read")
                await asyncio.sleep(0.1)


async def _known(postgres: DurablePostgres) -> dict[str, tuple[int, bytes]]:
    """Give size and MD5 of what the catalogue names, by location."""
    connection = await asyncpg.connect(postgres.dsn)
    try:
        rows = await connection.fetch("select location, size, md5 from nodes where location is not null")
        bare = await connection.fetchval("select count(*) from nodes where type = 'DataNode' and location is null")
        if bare:
            raise LostError(f"{bare} nodes have no bytes, and were made by bytes alone")
        return {row["location"]: (row["size"], row["md5"]) for row in rows}
    finally:
        await connection.close()


def _stored(data: Path) -> set[str]:
    """Give the locations of all files."""
    root = data / "storage" / "data"
    return {path.relative_to(root).as_posix() for path in root.glob("*/*")}


async def _compare(postgres: DurablePostgres, data: Path) -> None:
    """Compare every node with its file."""
    for location, (size, md5) in (await _known(postgres)).items():
        path = data / "storage" / "data" / location
        if not path.exists():
            raise LostError(f"a node names {location}, which is not there")
        content = await asyncio.to_thread(path.read_bytes)
        if len(content) != size or hashlib.md5(content).digest() != md5:
            raise LostError(f"{location} is not what the catalogue says")


async def _sweep(pair: Pair, postgres: DurablePostgres, data: Path) -> None:
    """Let the storage server sweep without grace, and find nothing left over."""
    await asyncio.to_thread(pair.kill, "storage")
    pair.environment = _AT_ONCE
    await asyncio.to_thread(pair.start, "storage")
    end = time.monotonic() + _PATIENCE
    while left := await _left_over(postgres, data):
        if time.monotonic() > end:
            raise LostError(f"left over: {left}")
        await asyncio.sleep(0.2)
    await _compare(postgres, data)


async def _left_over(postgres: DurablePostgres, data: Path) -> str:
    staged = [path.name for path in (data / "storage" / "staging").iterdir()]
    unknown = _stored(data) - (await _known(postgres)).keys()
    return f"{len(staged)} staged, {len(unknown)} unknown" if staged or unknown else ""


async def _look_for_damage(pair: Pair) -> None:
    """Look at the tree, and for defects that servers found in themselves."""
    database = await Database.connect(pair.dsn, pair.database)
    try:
        if found := await damages(database):
            raise LostError("\n".join(found))
    finally:
        await database.close()
    for name in ("metadata", "storage"):
        _, defect, rest = pair.log(name).partition("defect while")
        if defect:
            raise LostError(f"the {name} server met a defect{rest[:3000]}")


async def _compare_listing(agent: Agent, folder: str, clients: list[Client]) -> None:
    """Compare the listing with what was read."""
    root = await agent.node(folder)
    listed = {
        (child.get("uri") or "").rsplit("/", 1)[-1]: int(properties_of(child)[CORE + "length"])
        for child in root.iterfind(f"{V}nodes/{V}node")
    }
    expected = {
        node.path.rsplit("/", 1)[-1]: len(content)
        for client in clients
        for node in client.nodes
        for content in node.possible
        if content is not None
    }
    if listed != expected:
        raise LostError(f"listed {listed}, expected {expected}")


def run(seconds: float, seed: int) -> Tally:
    """Run a campaign on a database of its own."""
    with durable_postgres() as postgres, tempfile.TemporaryDirectory(prefix="pyvospace-kills-") as data:
        return asyncio.run(campaign(postgres, Path(data), seconds, seed))


def main() -> None:
    """Run campaigns until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    seed = options.seed if options.seed is not None else random.randrange(1 << 16)
    while (left := end - time.monotonic()) > 0:
        sys.stdout.write(f"seed {seed}\n{run(min(left, 120.0), seed)}\n")
        sys.stdout.flush()
        seed += 1


if __name__ == "__main__":
    main()
