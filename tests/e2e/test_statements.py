"""How many statements an operation sends to PostgreSQL: free of noise, unlike any clock.

With a bearer token and warm caches; begin and commit count.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from pyvospace.supervisor.data import STORAGE_ROLE
from tests.support.agents import Agent
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.statements import Statement, StatementLog, statement_log

GET_NODE, CREATE_NODE, PULL, PUSH = 2, 5, 10, 14
"""Most statements of each."""


@pytest.fixture(scope="module")
def database_of_pair(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.clone() as name:
        yield name


@pytest.fixture(scope="module")
def quiet_pair(
    postgres_server: PostgresServer, database_of_pair: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """A pair that says nothing by itself: no heartbeat, no sweep."""
    dsn = postgres_server.dsn(database_of_pair)
    storage_dsn = postgres_server.dsn(database_of_pair, STORAGE_ROLE)
    environment = {"PYVOSPACE_STORAGE__HEARTBEAT": "1000", "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "1000"}
    folder = tmp_path_factory.mktemp("statements")
    with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=environment) as running:
        yield running


@pytest.fixture
async def alice(quiet_pair: Pair) -> AsyncIterator[Agent]:
    """Somebody who is known to the servers already, as their keys and statements are."""
    async with aiohttp.ClientSession() as session:
        agent = Agent(session, quiet_pair, quiet_pair.token)
        path = f"{quiet_pair.home}/{uuid.uuid4().hex}"
        for _ in range(3):
            await agent.push(path, b"x")
            await agent.pull(path)
            await agent.node(path)
            await agent.node(quiet_pair.home)
            await agent.make(f"{quiet_pair.home}/{uuid.uuid4().hex}")
        yield agent


@pytest.fixture
def log(postgres_server: PostgresServer, database_of_pair: str, alice: Agent) -> Iterator[StatementLog]:
    with statement_log(postgres_server, database_of_pair) as opened:
        yield opened


_BACKGROUND = (
    "with next as (",
    "with due as (",
    "delete from writers where until",
    "select state, note",
    "select storage_api.note_bytes",
    "select note_requests",
    "select exists (select from usage_changes",
    "select storage_to_keep(",
    "select wake_recalls(",
    "vacuum",
)
"""Beginnings of what processes ask from time to time for nobody: for jobs, for what is over, for the state, for what is
to be copied or recalled; and of what is gathered for the audit log."""
_DRIVER = ("", "WITH RECURSIVE typeinfo_tree(")
"""First lines of what the driver asks about types on a connection that is new."""
_FOLD = "select pg_try_advisory_xact_lock(8411)"
"""Behind BEGIN, where a process begins to take changes of usage into the sums."""


def without_folds(said: list[Statement]) -> list[Statement]:
    """Leave out what processes do to sums from time to time, from BEGIN to COMMIT."""
    left: list[Statement] = []
    folding = ""
    for one in said:
        if one.text.startswith(_FOLD):
            folding = one.application
            begin = max(at for at, other in enumerate(left) if (other.application, other.text) == (folding, "BEGIN;"))
            del left[begin]
        elif one.application == folding:
            folding = "" if one.text.startswith("COMMIT") else folding
        else:
            left.append(one)
    return left


def assert_budget(said: list[Statement], budget: int) -> None:
    """Fail if more was said than the budget allows, or nothing, which would be a log that shows nothing."""
    said = [
        one
        for one in without_folds(said)
        if one.application.startswith("pyvospace")
        and one.text not in _DRIVER
        and not one.text.startswith(_BACKGROUND)
        and "claim_job" not in one.text
        and not one.application.endswith("listening")
    ]
    assert 0 < len(said) <= budget, "\n".join(f"{one.application}: {one.text}" for one in said)


async def test_get_node(log: StatementLog, alice: Agent) -> None:
    path = await alice.make(f"{alice.pair.home}/{uuid.uuid4().hex}")
    log.take()
    await alice.node(path)
    assert_budget(log.take(), GET_NODE)
    await alice.node(alice.pair.home)
    assert_budget(log.take(), GET_NODE)
    await alice.node(alice.pair.home, limit=0)
    assert_budget(log.take(), 1)
    (await alice.get(f"{path}/missing")).assert_fault(404, "NodeNotFound")
    assert_budget(log.take(), GET_NODE)


@pytest.mark.parametrize("kind", ["DataNode", "ContainerNode"])
async def test_create_node(log: StatementLog, alice: Agent, kind: str) -> None:
    await alice.make(f"{alice.pair.home}/{uuid.uuid4().hex}", kind)
    assert_budget(log.take(), CREATE_NODE)


async def test_whole_pull(log: StatementLog, alice: Agent) -> None:
    path = f"{alice.pair.home}/{uuid.uuid4().hex}"
    await alice.push(path, b"bytes")
    log.take()
    _, endpoint = await alice.negotiate(path, "pullFromVoSpace")
    assert (await alice.send("GET", endpoint)).body == b"bytes"
    said = log.take()
    while not any("delivered" in one.text for one in said):  # that it is complete is recorded behind the last byte
        said += log.take()
    assert_budget(said, PULL)


@pytest.mark.parametrize("existing", [False, True])
async def test_whole_push(log: StatementLog, alice: Agent, existing: bool) -> None:
    path = f"{alice.pair.home}/{uuid.uuid4().hex}"
    if existing:
        await alice.push(path, b"old")
    log.take()
    await alice.push(path, b"new")
    assert_budget(log.take(), PUSH)


async def test_bytes_by_path(log: StatementLog, alice: Agent) -> None:
    """Reading by /files needs no job."""
    path = f"{alice.pair.home}/{uuid.uuid4().hex}"
    await alice.push(path, b"bytes")
    log.take()
    answer = (await alice.send("GET", f"/files{path}")).assert_status(303)
    assert (await alice.send("GET", answer.location)).body == b"bytes"
    assert_budget(log.take(), 3)
