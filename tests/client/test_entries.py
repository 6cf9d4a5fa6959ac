"""Entries from services that cap them, break them off, lie, or have none."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from aiohttp import web

from pyvospace.client import ServiceUnreachable, Space
from pyvospace.model.faults import InvalidData, NodeNotFound, PermissionDenied
from pyvospace.model.nodes import Node, Property
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import (
    AVAILABLE_SPACE,
    CREATOR,
    DATE,
    FILE_MODE,
    FILE_TIME,
    IS_PUBLIC,
    LENGTH,
    MD5,
    QUOTA,
    READABLE,
    NodeType,
)
from tests.client.double import ROOT, Double, answers, hang_up

MANY = [f"{number:05}" for number in range(5000)]
TIME = "2026-03-01T09:00:00.123456Z"


def line(name: str, **members: object) -> bytes:
    told = {"name": name, "type": "data", "mtime": TIME, "ctime": TIME, "readable": True, **members}
    return json.dumps(told).encode() + b"\n"


class Listing:
    """A container of many, at a service of ours."""

    def __init__(self, double: Double) -> None:
        double.extended = True
        self.usual = double._serve
        self.cuts: list[int] = []
        """After so many bytes the next answers break off."""
        self.asked: list[dict[str, str]] = []
        double.service.usual = self.serve

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/entries/box":
            return await self.usual(request)
        self.asked.append(dict(request.query))
        later = [name for name in MANY if name > request.query.get("after", "")]
        names = later[: int(request.query.get("limit", len(later)))]
        body = line("box", type="container") + b"".join(map(line, names))
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(body[: self.cuts[0]] if self.cuts else body)
        if self.cuts:
            self.cuts.pop(0)
            hang_up(request)
        return response


@pytest.fixture
def listing(double: Double) -> Listing:
    return Listing(double)


async def names(space: Space, **options: object) -> list[str]:
    return [one.name async for one in space.entries("vos:box", **options)]  # type: ignore[arg-type]


async def test_one_request_or_one_for_each_page(double: Double, listing: Listing) -> None:
    async with double.space() as space:
        assert await names(space) == MANY
        assert await names(space, after="00017x") == MANY[18:]
        assert listing.asked == [{}, {"after": "00017x"}]
        assert await names(space, page=2500) == MANY
        assert listing.asked[2:] == [
            {"limit": "2500"},
            {"limit": "2500", "after": "02499"},
            {"limit": "2500", "after": "04999"},
        ]
        assert await names(space, page=3000) == MANY
        assert len(listing.asked) == 7


async def test_a_listing_that_breaks_off_goes_on(double: Double, listing: Listing) -> None:
    listing.cuts = [0, 100, 30_000, 100_000]
    async with double.space() as space:
        assert await names(space) == MANY
        listing.cuts = [10] * 4
        with pytest.raises(ServiceUnreachable):
            await names(space)
    assert [one.get("after") is None for one in listing.asked[:5]] == [True, True, True, False, False]


@pytest.mark.parametrize(
    "body",
    [
        b"[]\n",
        b"{}\n",
        b"\xff\n",
        b"<html>\n",
        b"",
        line("box")[:-1],
        line("box") * 2,
        line("a/b"),
        line(".."),
        line("x", type="file"),
        line("x", length=-1),
        line("x", length="1"),
        line("x", length=True),
        line("x", etag="../../etc/passwd"),
        line("x", etag="A" * 64),
        line("x", mtime="soon"),
        line("x", ctime=None),
        line("x", props=[]) + line("y"),
        line("x", quota={}),
        line("x", owner=7),
        line("x", target=["vos://x"]),
    ],
)
async def test_what_is_no_entry(double: Double, body: bytes) -> None:
    double.extended = True
    async with double.space(authority=ROOT.authority) as space:
        await space._resources()
        double.service.plan = [answers(200, body.decode("latin-1"))]
        with pytest.raises(InvalidData):
            await space.entry("vos:box")


async def test_what_may_not_be_listed(double: Double) -> None:
    double.extended = True
    async with double.space(authority=ROOT.authority) as space:
        await space._resources()
        double.service.plan = [answers(200, line("box", type="container", readable=False).decode())] * 2
        assert not (await space.entry("vos:box")).readable
        with pytest.raises(PermissionDenied, match="cannot be listed"):
            await names(space)
        double.service.plan = [answers(404, "NodeNotFound vos:box")]
        with pytest.raises(NodeNotFound):
            await names(space)


async def test_nodes_of_a_service_that_has_no_entries(double: Double) -> None:
    told = {
        LENGTH: "7", MD5: "0" * 32, DATE: "2026-03-01T09:00:00.000Z", CREATOR: "alice", IS_PUBLIC: "true",
        FILE_TIME: "2026-01-01T00:00:00.000000001Z", FILE_MODE: "0600", READABLE: "false",
    }  # fmt: skip
    file = Node(ROOT.child("f"), NodeType.DATA, tuple(Property(*one) for one in told.items()))
    size = (Property(LENGTH, "7"), Property(QUOTA, "10"), Property(AVAILABLE_SPACE, "3"), Property(DATE, "soon"))
    double.nodes |= {"f": file, "box": Node(ROOT.child("box"), NodeType.CONTAINER, size, nodes=(file,))}
    async with double.space() as space:
        assert not await space.has_entries()
        entry = await space.entry("vos:f")
        assert [one async for one in space.entries("vos:box", after="a")] == [entry]
        assert [one async for one in space.entries("vos:box", after="f")] == []
        box = await space.entry("vos:box")
    assert (entry.length, entry.etag, entry.md5, entry.owner) == (7, None, "0" * 32, "alice")
    assert (entry.public, entry.readable, entry.writable, entry.mode) == (True, False, True, 0o600)
    assert (entry.mtime_ns % 10, entry.changed) == (1, datetime(2026, 3, 1, 9, tzinfo=UTC))
    assert box.quota is not None
    assert (box.length, box.quota.used, box.quota.limit, box.quota.available) == (None, 7, 10, 3)
    assert box.mtime_ns == 0


async def test_a_real_pair(space: Space, folder: NodeUri) -> None:
    await space.push(b"bytes", folder.child("a b"))
    await space.create_node(Node(folder.child("none"), NodeType.DATA))
    await space.ensure_container(folder.child("ünï"))
    await space.link(folder.child("a b"), folder.child("link"))
    assert await space.has_entries()
    found = [one async for one in space.entries(folder)]
    assert [one.name for one in found] == ["a b", "link", "none", "ünï"]
    assert found[0] == await space.entry(folder.child("a b"))
    assert (found[0].length, found[2].etag, found[1].target) == (5, None, str(folder.child("a b")))
    assert [one.name async for one in space.entries(folder, page=1, after="b")] == ["link", "none", "ünï"]
    with pytest.raises(NodeNotFound):
        await space.entry(folder.child("missing"))
    assert (await space.entry(folder)).quota is not None
