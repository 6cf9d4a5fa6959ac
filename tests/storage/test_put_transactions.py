"""Put transactions as OpenCADC's byte servers have them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from multidict import CIMultiDict

from pyvospace.model.vocabulary import Direction
from tests.support.agents import Agent, Answer
from tests.support.resumable import CutPair

FIRST, SECOND = b"a" * 1000, b"b" * (3 << 20)


def digest(data: bytes) -> str:
    return f"md5={base64.b64encode(hashlib.md5(data).digest()).decode()}"


@pytest.fixture
async def alice(cut_pair: CutPair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, cut_pair, cut_pair.token)


@pytest.fixture
async def endpoint(alice: Agent, cut_pair: CutPair, request: pytest.FixtureRequest) -> str:
    path = f"{cut_pair.home}/{request.node.name}"
    return (await alice.negotiate(path, Direction.PUSH_TO_VOSPACE))[1]


class Transaction:
    def __init__(self, alice: Agent, endpoint: str, started: Answer) -> None:
        self._alice = alice
        self._endpoint = endpoint
        self.id = started.assert_status(202).headers["x-put-txn-id"]

    @classmethod
    def known(cls, alice: Agent, endpoint: str, name: str) -> Transaction:
        return cls(alice, endpoint, Answer(202, CIMultiDict({"x-put-txn-id": name}), b""))

    async def ask(self, method: str, op: str = "", body: bytes | None = None, **more: str) -> Answer:
        headers = {"x-put-txn-id": self.id, **({"x-put-txn-op": op} if op else {}), **more}
        return await self._alice.send(method, self._endpoint, body, headers={"Content-Type": "a/b", **headers})


async def start(alice: Agent, endpoint: str, body: bytes = b"", **more: str) -> Answer:
    headers = {
        "x-put-txn-op": "start",
        "Content-Type": "text/x-first",
        **{k.replace("_", "-"): v for k, v in more.items()},
    }
    return await alice.send("PUT", endpoint, body, headers=headers)


@pytest.mark.clause("T11")
async def test_all_steps(alice: Agent, cut_pair: CutPair, endpoint: str) -> None:
    started = await start(alice, endpoint, x_total_length=str(len(FIRST + SECOND)))
    assert started.headers["Digest"] == digest(b"")
    assert int(started.headers["x-put-segment-minbytes"]) <= len(FIRST) < int(started.headers["x-put-segment-maxbytes"])
    transaction = Transaction(alice, endpoint, started)
    assert (await transaction.ask("PUT", body=FIRST)).assert_status(202).headers["Digest"] == digest(FIRST)
    (await transaction.ask("PUT", body=SECOND + b"c")).assert_fault(413, "RequestEntityTooLarge")
    answer = await transaction.ask("PUT", body=SECOND)
    assert answer.assert_status(202).headers["Digest"] == digest(FIRST + SECOND)
    for method, status in (("HEAD", 200), ("POST", 204)):
        told = (await transaction.ask(method)).assert_status(status)
        assert told.headers["Digest"] == digest(FIRST + SECOND)
    reverted = (await transaction.ask("POST", "revert")).assert_status(202)
    assert reverted.headers["Digest"] == digest(FIRST)
    asked = await transaction.ask("HEAD")
    assert asked.headers["Content-Length"] == str(len(FIRST))
    (await transaction.ask("PUT", "commit", b"")).assert_fault(412, "PreconditionFailed")
    (await transaction.ask("PUT", body=SECOND)).assert_status(202)
    (await alice.get(f"{cut_pair.home}/test_all_steps")).assert_fault(404, "NodeNotFound")
    for _ in range(2):  # the answer may have been lost
        committed = (await transaction.ask("PUT", "commit", b"")).assert_status(201)
        assert committed.headers["Digest"] == digest(FIRST + SECOND)
    assert await alice.pull(f"{cut_pair.home}/test_all_steps") == FIRST + SECOND


@pytest.mark.clause("T11")
async def test_one_segment_is_not_copied(alice: Agent, cut_pair: CutPair, endpoint: str) -> None:
    path = f"{cut_pair.home}/test_one_segment_is_not_copied"
    started = await start(alice, endpoint, SECOND)
    assert started.headers["Digest"] == digest(SECOND)
    before = {one: one.stat().st_ino for one in (cut_pair.data / "storage" / "data").rglob("*") if one.is_file()}
    committed = await Transaction(alice, endpoint, started).ask("PUT", "commit", b"")
    assert committed.assert_status(201).headers["Digest"] == digest(SECOND)
    after = {one: one.stat().st_ino for one in (cut_pair.data / "storage" / "data").rglob("*") if one.is_file()}
    assert set(after) <= set(before)
    assert await alice.pull(path) == SECOND
    _, reading = await alice.negotiate(path, Direction.PULL_FROM_VOSPACE)
    assert (await alice.send("HEAD", reading)).headers["Content-Type"] == "text/x-first"


async def test_digests_after_other_bytes_came_by_another_process(
    alice: Agent, cut_pair: CutPair, endpoint: str
) -> None:
    transaction = Transaction(alice, endpoint, await start(alice, endpoint, FIRST))
    async with AsyncExitStack() as stack:
        for _ in range(8):  # connections fall on one process or the other
            session = await stack.enter_async_context(aiohttp.ClientSession())
            other = Transaction.known(Agent(session, cut_pair, cut_pair.token), endpoint, transaction.id)
            await transaction.ask("PUT", body=b"x")
            await transaction.ask("POST", "revert")
            await other.ask("PUT", body=b"y")
            answer = await transaction.ask("PUT", body=b"z")
            assert answer.assert_status(202).headers["Digest"] == digest(FIRST + b"yz")
            await transaction.ask("POST", "revert")
            await transaction.ask("POST", "revert")


@pytest.mark.clause("T11")
async def test_an_aborted_one_leaves_nothing(alice: Agent, cut_pair: CutPair, endpoint: str) -> None:
    path = f"{cut_pair.home}/test_an_aborted_one_leaves_nothing"
    await alice.push(path, b"old")
    transaction = Transaction(alice, endpoint, await start(alice, endpoint, FIRST))
    (await transaction.ask("POST", "abort")).assert_status(204)
    (await transaction.ask("PUT", "commit", b"")).assert_fault(404, "NotFound")
    assert await alice.pull(path) == b"old"


@pytest.mark.clause("T11")
async def test_what_makes_no_sense(alice: Agent, endpoint: str) -> None:
    transaction = Transaction(alice, endpoint, await start(alice, endpoint, FIRST))
    for method, op, body in (
        ("PUT", "start", b""),
        ("PUT", "commit", b"x"),
        ("PUT", "revert", b""),
        ("POST", "start", None),
        ("POST", "commit", None),
        ("POST", "other", None),
    ):
        (await transaction.ask(method, op, body)).assert_fault(400, "InvalidArgument")
    (await alice.send("PUT", endpoint, b"", headers={"x-put-txn-op": "commit"})).assert_fault(400, "InvalidArgument")
    (await alice.send("POST", endpoint)).assert_fault(405, "MethodNotAllowed")
    wrong = {"x-put-txn-op": "start", "Digest": digest(b"other")}
    (await alice.send("PUT", endpoint, FIRST, headers=wrong)).assert_fault(412, "checksum mismatch")
    (await start(alice, endpoint, x_total_length="-1")).assert_fault(400, "InvalidArgument")
    (await start(alice, endpoint, x_total_length="9" * 18)).assert_status(507)
    assert (await transaction.ask("HEAD")).headers["Content-Length"] == str(len(FIRST))
