"""Pushes that replace only what the caller knows, with answers that are lost."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from pyvospace.client import Condition, Space
from pyvospace.model.faults import OperationNotSupported, PreconditionFailed
from pyvospace.model.nodes import Node
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import FILE_MODE, FILE_TIME, NodeType
from pyvospace.wire.nodes import read_node
from tests.client.double import ROOT, Double, answers, hang_up, hangs_up
from tests.client.test_upload import pieces

NANOSECONDS = 1_700_000_000_123_456_789


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def ours(double: Double) -> Double:
    double.extended = True
    return double


async def test_two_requests_and_what_they_say(ours: Double) -> None:
    async with ours.space() as space:
        stored = await space.push(b"new", "vos:x", condition=Condition.new(), mtime=NANOSECONDS, mode=0o100640)
        [put] = ours.storage.seen
        assert put.headers["If-None-Match"] == "*"
        assert put.headers["X-OC-Mtime"] == "1700000000.123456789"
        assert put.headers["X-Pyvospace-Mode"] == "0640"
        assert stored.etag == sha256(b"new")
        when = datetime.fromtimestamp(1.5, UTC)
        await space.push(pieces(b"newer"), "vos:x", condition=Condition.matching(sha256(b"new")), mtime=when)
    put = ours.storage.seen[1]
    assert (put.headers["If-Match"], put.headers["X-OC-Mtime"]) == (f'"{sha256(b"new")}"', "1.5")
    assert ours.content == b"newer"
    assert [(one.method, one.path) for one in ours.service.seen[2:]] == [("PUT", "/files/x")] * 2
    assert all(not one.body and one.headers["Content-Length"] == "0" for one in ours.service.seen[2:])
    assert all("Authorization" not in one.headers for one in ours.storage.seen)


async def test_a_condition_that_does_not_hold_is_not_tried_again(ours: Double) -> None:
    ours.content = b"theirs"
    async with ours.space() as space:
        for condition in (Condition.new(), Condition.matching(sha256(b"mine"))):
            with pytest.raises(PreconditionFailed):
                await space.push(b"mine", "vos:x", condition=condition)
        with pytest.raises(PreconditionFailed):
            await space.push(b"theirs", "vos:x", condition=Condition.new())
    assert ours.content == b"theirs"
    assert [one.method for one in ours.storage.seen] == ["PUT"] * 3


async def test_own_bytes_are_not_taken_for_those_of_others(ours: Double, tmp_path: Path) -> None:
    async def store_and_lose(request: web.Request) -> web.StreamResponse:
        response = await ours.deliver(request)
        hang_up(request)
        return response

    async with ours.space() as space:
        ours.storage.plan = [store_and_lose, answers(503)]  # HEAD
        await space.push(b"mine", "vos:x", condition=Condition.new())
    assert [one.method for one in ours.storage.seen] == ["PUT", "HEAD", "PUT", "HEAD"]
    assert ours.content == b"mine"


async def test_bytes_of_others_are_not_taken_for_own(ours: Double) -> None:
    async def somebody_else(request: web.Request) -> web.StreamResponse:
        ours.content = b"theirs"
        return await hangs_up(request)

    async with ours.space() as space:
        ours.storage.plan = [somebody_else]
        with pytest.raises(PreconditionFailed):
            await space.push(b"mine", "vos:x", condition=Condition.new())
    assert ours.content == b"theirs"


async def test_a_service_without_conditions_is_asked_before(double: Double) -> None:
    double.nodes["there"] = Node(ROOT.child("there"), NodeType.DATA)
    async with double.space() as space:
        await space.push(b"new", "vos:x", condition=Condition.new())
        with pytest.raises(PreconditionFailed):
            await space.push(b"new", "vos:there", condition=Condition.new())
        with pytest.raises(OperationNotSupported):
            await space.push(b"new", "vos:there", condition=Condition.matching(sha256(b"")))
    assert len(double.storage.of("PUT")) == 1


async def test_a_service_that_takes_no_times_with_bytes_keeps_them_as_properties(double: Double) -> None:
    double.nodes["x"] = Node(ROOT.child("x"), NodeType.DATA)
    async with double.space() as space:
        await space.push(b"new", "vos:x")
        await space.push(b"new", "vos:x", mtime=NANOSECONDS, mode=0o755)
    [post] = [one for one in double.service.of("POST") if one.path == "/nodes/x"]
    node = read_node(post.body)
    assert node.value(FILE_TIME) == "2023-11-14T22:13:20.123456789Z"
    assert node.value(FILE_MODE) == "0755"


async def test_a_real_pair(space: Space, folder: NodeUri) -> None:
    uri = folder.child("x")
    first = await space.push(b"first", uri, condition=Condition.new(), mtime=NANOSECONDS, mode=0o640)
    entry = await space.entry(uri)
    assert (entry.etag, entry.mtime_ns, entry.mode) == (first.etag, NANOSECONDS, 0o640)
    with pytest.raises(PreconditionFailed):
        await space.push(b"second", uri, condition=Condition.new())
    await space.push(b"second", uri, condition=Condition.matching(first.etag or ""))
    with pytest.raises(PreconditionFailed):
        await space.push(b"third", uri, condition=Condition.matching(first.etag or ""))
    assert b"".join([piece async for piece in space.read(uri)]) == b"second"
