"""The storage server dies at a named point of an upload, as if by a power cut: old bytes or new, never half (I2, I3).

Each point once for a new node and once for one that has bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from pyvospace.db.pool import Database
from pyvospace.model.crash import UPLOAD_POINTS, VARIABLE
from pyvospace.model.vocabulary import CORE
from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import Agent, properties_of
from tests.support.jobs import copy
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.tree_check import damages

BEFORE_COMMIT = ("after-tmp", "after-fsync", "after-rename", "after-dirsync", "before-commit")
AFTER_COMMIT = ("after-commit-before-answer",)
OLD, NEW = b"old bytes", b"new bytes" * 100_000
QUICK_SWEEP = {
    "PYVOSPACE_STORAGE__SWEEP_GRACE": "0.1",
    "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "0.3",
    "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "0.1",
}


@pytest.fixture(scope="module")
def fragile_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        folder = tmp_path_factory.mktemp("fragile")
        with running_pair(dsn, folder, storage_dsn=storage_dsn) as running:
            yield running


@pytest.fixture
async def alice(fragile_pair: Pair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, fragile_pair, fragile_pair.token)


@pytest.fixture
async def catalogue(fragile_pair: Pair) -> AsyncIterator[Database]:
    connected = await Database.connect(fragile_pair.dsn, fragile_pair.database)
    yield connected
    await connected.close()


async def restart(pair: Pair, environment: dict[str, str]) -> None:
    """Start the storage server anew, in other circumstances."""
    if pair.processes["storage"].poll() is None:
        await asyncio.to_thread(pair.kill, "storage")
    pair.environment = environment
    await asyncio.to_thread(pair.start, "storage")


def files(pair: Pair) -> set[str]:
    """Give the names of all files of bytes, staged ones too."""
    root = pair.data / "storage"
    return {path.name for folder in ("staging", "data") for path in (root / folder).rglob("*") if path.is_file()}


async def named(catalogue: Database) -> set[str]:
    """Give the names of the files that nodes have."""
    rows = await catalogue.fetch("select location from nodes where location is not null")
    return {Path(row["location"]).name for row in rows}


def test_every_point_of_an_upload_is_here() -> None:
    assert {*BEFORE_COMMIT, *AFTER_COMMIT} == UPLOAD_POINTS


@pytest.fixture(scope="module")
def prepared(fragile_pair: Pair) -> dict[str, str]:
    """Path of a node with old bytes for each point."""
    paths = {point: f"{fragile_pair.home}/{uuid.uuid4().hex}" for point in (*BEFORE_COMMIT, *AFTER_COMMIT)}

    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            for path in paths.values():
                await Agent(session, fragile_pair, fragile_pair.token).push(path, OLD)

    asyncio.run(work())
    return paths


async def die(pair: Pair, alice: Agent, point: str, path: str) -> tuple[str, str]:
    """Let the server die at this point of an upload; give job and endpoint."""
    await restart(pair, {VARIABLE: point})
    job, endpoint = await alice.negotiate(path, "pushToVoSpace")
    with pytest.raises(aiohttp.ClientError):
        await alice.send("PUT", endpoint, NEW)
    assert await asyncio.to_thread(pair.processes["storage"].wait, 30) == -signal.SIGKILL, "by itself"
    return job, endpoint


@pytest.mark.parametrize("point", [*BEFORE_COMMIT, *AFTER_COMMIT])
async def test_death_in_an_upload(alice: Agent, catalogue: Database, prepared: dict[str, str], point: str) -> None:
    pair, committed = alice.pair, point in AFTER_COMMIT
    existing, fresh = prepared[point], f"{alice.pair.home}/{uuid.uuid4().hex}"
    jobs = {path: await die(pair, alice, point, path) for path in (existing, fresh)}
    await restart(pair, QUICK_SWEEP)

    for job, _ in jobs.values():
        assert await alice.phase(job) == ("COMPLETED" if committed else "EXECUTING")
    assert await alice.pull(existing) == (NEW if committed else OLD)
    if committed:
        assert await alice.pull(fresh) == NEW
    else:
        (await alice.get(fresh)).assert_fault(404, "NodeNotFound")
    while files(pair) != await named(catalogue):  # the sweep comes by itself
        await asyncio.sleep(0.05)

    for path, (job, endpoint) in jobs.items():
        # The client tries again at the same address.
        (await alice.send("PUT", endpoint, NEW)).assert_status(201)
        assert await alice.pull(path) == NEW
        told = properties_of(await alice.node(path))
        assert (told[CORE + "length"], told[CORE + "MD5"]) == (str(len(NEW)), hashlib.md5(NEW).hexdigest())
        assert await alice.phase(job) == "COMPLETED"
    assert await damages(catalogue) == []


@pytest.mark.parametrize("point", ["before-commit", "after-commit-before-answer"])
async def test_death_in_uploads_that_go_together(alice: Agent, catalogue: Database, point: str) -> None:
    pair, new = alice.pair, b"new bytes"
    await restart(pair, {})
    paths = [f"{pair.home}/{uuid.uuid4().hex}" for _ in range(8)]
    for path in paths[::2]:
        await alice.push(path, OLD)
    await restart(pair, {VARIABLE: point})
    jobs = [await alice.negotiate(path, "pushToVoSpace") for path in paths]
    await asyncio.gather(*(alice.send("PUT", endpoint, new) for _, endpoint in jobs), return_exceptions=True)
    assert await asyncio.to_thread(pair.processes["storage"].wait, 30) == -signal.SIGKILL, "by itself"
    await restart(pair, QUICK_SWEEP)

    for number, (path, (job, endpoint)) in enumerate(zip(paths, jobs, strict=True)):
        if await alice.phase(job) == "COMPLETED":
            assert await alice.pull(path) == new
        elif number % 2:
            (await alice.get(path)).assert_fault(404, "NodeNotFound")
        else:
            assert await alice.pull(path) == OLD
        (await alice.send("PUT", endpoint, new)).assert_status(201)
        assert await alice.pull(path) == new
    while files(pair) != await named(catalogue):
        await asyncio.sleep(0.05)
    assert await damages(catalogue) == []


async def test_death_in_a_sweep(alice: Agent, catalogue: Database) -> None:
    """Between the row of what is obsolete and its file: the file is unknown from then on, and is swept as such."""
    pair = alice.pair
    await restart(pair, {})
    path = f"{pair.home}/{uuid.uuid4().hex}"
    await alice.push(path, OLD)
    await alice.push(path, NEW)
    with contextlib.suppress(AssertionError):  # it may be dead before anybody has asked it
        await restart(pair, QUICK_SWEEP | {VARIABLE: "gc-row-deleted"})
    assert await asyncio.to_thread(pair.processes["storage"].wait, 30) == -signal.SIGKILL
    assert not await catalogue.fetch("select from obsolete")
    assert len(files(pair)) > len(await named(catalogue))
    await restart(pair, QUICK_SWEEP)
    while files(pair) != await named(catalogue):
        await asyncio.sleep(0.05)
    assert await alice.pull(path) == NEW


async def test_sweeps_leave_what_a_copy_names(alice: Agent, catalogue: Database) -> None:
    """Bytes go with the last of their names, on the disk too (I23)."""
    pair = alice.pair
    await restart(pair, QUICK_SWEEP)
    path, copied = (f"{pair.home}/{uuid.uuid4().hex}" for _ in range(2))
    await alice.push(path, OLD)
    (await copy(alice, path, copied)).assert_moved(copied)
    await alice.delete(path)
    while await catalogue.fetch("select from obsolete"):
        await asyncio.sleep(0.05)
    assert files(pair) == await named(catalogue)
    assert await alice.pull(copied) == OLD
    await alice.push(copied, NEW)
    while files(pair) != await named(catalogue):
        await asyncio.sleep(0.05)
    assert await alice.pull(copied) == NEW
