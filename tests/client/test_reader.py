"""Single parts of the bytes of a node, from storage servers that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import UTC, datetime

import pytest
from aiohttp import web

from pyvospace.client import ContentChanged, Retry, ServiceUnreachable, Space
from pyvospace.model.entries import Entry
from pyvospace.model.faults import InvalidArgument, PermissionDenied, TransferFailed
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType
from tests.client.double import Double, answers, hangs_up

SIZE = (2 << 20) + 11


@pytest.fixture(autouse=True)
def content(double: Double) -> bytes:
    double.extended = True
    double.content = os.urandom(SIZE)
    return double.content


async def test_one_request_for_each_part(double: Double, content: bytes) -> None:
    async with double.space() as space:
        reader = await space.reader("vos:x")
        assert (reader.size, reader.etag) == (SIZE, hashlib.sha256(content).hexdigest())
        parts = [(0, 10), (SIZE - 5, SIZE + 5), (1 << 20, 2 << 20), (5, 5), (SIZE, SIZE + 1)]
        read = await asyncio.gather(*(reader.read(*part) for part in parts))
    assert read == [content[start:stop] for start, stop in parts]
    assert [one.method for one in double.storage.seen] == ["HEAD", "GET", "GET", "GET"]
    assert [one.path for one in double.service.seen] == ["/capabilities", "/nodes", "/files/x"]


async def test_what_is_known_is_not_asked_for(double: Double, content: bytes) -> None:
    async with double.space() as space:
        known = entry(content)
        assert await (await space.reader("vos:x", known=known)).read(1, 3) == content[1:3]
        assert [one.method for one in double.storage.seen] == ["GET"]
        double.content = b"others"
        with pytest.raises(ContentChanged):
            await (await space.reader("vos:x", known=known)).read(1, 3)


async def test_other_bytes_in_the_middle(double: Double, content: bytes) -> None:
    async def cut_and_change(request: web.Request) -> web.StreamResponse:
        response = await double.cut_after(1 << 20)(request)
        double.content = bytes(SIZE)
        return response

    async with double.space() as space:
        reader = await space.reader("vos:x")
        double.storage.plan = [cut_and_change]
        with pytest.raises(ContentChanged):
            await reader.read(0, SIZE)
        with pytest.raises(ContentChanged):
            await reader.read(0, 1)
    assert all(one.headers["If-Match"] == f'"{reader.etag}"' for one in double.storage.of("GET"))


async def test_other_bytes_from_a_service_that_knows_no_conditions(double: Double, content: bytes) -> None:
    async def careless(request: web.Request) -> web.StreamResponse:
        return web.Response(body=double.content)

    double.extended = False
    double.storage.plan = [careless] * 5
    async with double.space() as space:
        reader = await space.reader("vos:x")
        assert (reader.etag, reader.size) == (None, SIZE)
        assert await reader.read(7, 12) == content[7:12]
        assert await reader.read(1 << 20, (1 << 20) + 1) == content[1 << 20 : (1 << 20) + 1]
        double.content = b"shorter"
        with pytest.raises(ContentChanged):
            await reader.read(0, 1)


async def test_a_part_that_breaks_off_is_continued(double: Double, content: bytes) -> None:
    async with double.space() as space:
        reader = await space.reader("vos:x")
        double.storage.plan = [double.cut_after(1_000_000), double.cut_after(300_000), hangs_up]
        assert await reader.read(1, SIZE) == content[1:]
        starts = [int(one.headers["Range"][6:].partition("-")[0]) for one in double.storage.of("GET")]
        assert starts == [1, 1_000_001, 1_300_001, 1_300_001]
        double.storage.plan = [hangs_up] * 4
        with pytest.raises(ServiceUnreachable):
            await reader.read(0, 1)


async def test_an_endpoint_that_is_over_is_renewed_once_for_all(double: Double, content: bytes) -> None:
    async with double.space() as space:
        reader = await space.reader("vos:x")

        async def over(request: web.Request) -> web.StreamResponse:
            double.endpoint = "/files/another/name"
            return web.Response(status=403, text="PermissionDenied expired")

        double.storage.plan = [over, over, over]
        read = await asyncio.gather(*(reader.read(at, at + 1) for at in range(3)))
        assert b"".join(read) == content[:3]
        assert len([one for one in double.service.seen if one.path == "/files/x"]) == 2
        double.storage.plan = [answers(403, "PermissionDenied not yours")] * 2
        with pytest.raises(PermissionDenied):
            await reader.read(0, 1)


async def test_a_server_that_is_away_is_replaced_by_those_that_are_negotiated(double: Double, content: bytes) -> None:
    async with double.space() as space:
        reader = await space.reader("vos:x", known=entry(content))
        usual, double.endpoint = double.endpoint, "http://localhost:1/files/a-token/name"

        async def come_back(request: web.Request) -> web.StreamResponse:
            double.endpoint = usual
            return await double._serve(request)

        double.service.plan = [double._serve, come_back]
        assert await reader.read(0, 3) == content[:3]
    assert [one.method for one in double.service.seen[2:]] == ["GET", "POST", "GET"]


async def test_an_answer_that_is_none(double: Double) -> None:
    async with double.space(retry=Retry(attempts=1)) as space:
        reader = await space.reader("vos:x")
        double.storage.plan = [answers(206)]
        with pytest.raises(TransferFailed, match="which range"):
            await reader.read(0, 1)
        double.storage.plan = [answers(206, "x" * 5, Content_Range=f"bytes 5-9/{SIZE}", ETag=f'"{reader.etag}"')]
        with pytest.raises(TransferFailed, match="another range"):
            await reader.read(0, 5)


async def test_a_real_pair(space: Space, folder: NodeUri) -> None:
    data = os.urandom(3 << 20)
    stored = await space.push(data, folder.child("x"))
    known = await space.entry(folder.child("x"))
    assert known.etag == stored.etag
    readers = [await space.reader(folder.child("x"), known=one) for one in (None, known)]
    assert await readers[0].read(1 << 20, 2 << 20) == await readers[1].read(1 << 20, 2 << 20) == data[1 << 20 : 2 << 20]
    await space.push(data[::-1], folder.child("x"))
    for reader in readers:
        with pytest.raises(ContentChanged):
            await reader.read(0, 1)
    await space.push(b"", folder.child("empty"))
    assert (await space.reader(folder.child("empty"))).size == 0
    with pytest.raises(InvalidArgument):
        await space.reader(folder)


def entry(content: bytes) -> Entry:
    now = datetime.now(UTC)
    etag = hashlib.sha256(content).hexdigest()
    return Entry(name="x", type=NodeType.DATA, mtime=now, changed=now, length=len(content), etag=etag)
