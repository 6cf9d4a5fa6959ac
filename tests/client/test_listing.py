"""Listings of services that cap them, break them off, or lie."""

from __future__ import annotations

import pytest
from aiohttp import web

from pyvospace.client import ServiceUnreachable
from pyvospace.model.faults import Fault, InvalidData
from pyvospace.model.nodes import Node
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import NodeType
from pyvospace.wire.nodes import render_node
from tests.client.double import ROOT, Double, answers, hang_up

BOX = ROOT.child("box")
MANY = [f"{number:05}" for number in range(2500)]


class Listing:
    """A container that tells at most `cap` children at once."""

    def __init__(self, double: Double, names: list[str], cap: int = 10**6, inclusive: bool = True) -> None:
        self.usual = double._serve
        self.names = names
        self.cap = cap
        self.inclusive = inclusive
        self.cuts: list[int] = []
        """After so many bytes the next answers break off."""
        self.asked: list[str | None] = []
        double.service.usual = self.serve

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path != "/nodes/box":
            return await self.usual(request)
        start = request.query.get("uri")
        self.asked.append(start)
        first = 0
        if start is not None:
            name = NodeUri.parse(start).name
            if name not in self.names:
                return web.Response(status=400, text=f"InvalidURI {start} is no child")
            first = self.names.index(name) + (0 if self.inclusive else 1)
        children = tuple(Node(BOX.child(one), NodeType.DATA) for one in self.names[first : first + self.cap])
        body = render_node(Node(BOX, NodeType.CONTAINER, nodes=children))
        if not self.cuts:
            return web.Response(body=body, content_type="text/xml")
        response = web.StreamResponse()
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: self.cuts.pop(0)])
        hang_up(request)
        return response


async def listed(double: Double) -> list[str]:
    async with double.space() as space:
        return [child.uri.name async for child in space.list("vos:box")]


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize(
    ("number", "cap"), [(0, 1000), (499, 1000), (500, 1000), (2500, 1000), (2000, 1000), (2500, 501)]
)
async def test_caps_hide_nobody(double: Double, number: int, cap: int, inclusive: bool) -> None:
    Listing(double, MANY[:number], cap, inclusive)
    assert await listed(double) == MANY[:number]


async def test_a_short_listing_is_one_request(double: Double) -> None:
    listing = Listing(double, MANY[:499])
    await listed(double)
    assert listing.asked == [None]


async def test_a_listing_that_breaks_off_is_continued(double: Double) -> None:
    listing = Listing(double, MANY)
    listing.cuts = [100_000, 150_000]
    assert await listed(double) == MANY
    assert listing.asked[0] is None
    assert None not in listing.asked[1:]


async def test_a_listing_that_always_breaks_off_fails(double: Double) -> None:
    listing = Listing(double, MANY)
    listing.cuts = [50] * 20
    with pytest.raises(ServiceUnreachable):
        await listed(double)


async def test_the_last_child_may_go_before_the_end(double: Double) -> None:
    listing = Listing(double, MANY[:600])
    usual = listing.serve

    async def serve(request: web.Request) -> web.StreamResponse:
        response = await usual(request)
        if request.path == "/nodes/box" and len(listing.asked) == 1:
            listing.names = MANY[:599]
        return response

    double.service.usual = serve
    assert await listed(double) == MANY[:600]


async def test_a_broken_listing_whose_last_child_went_fails(double: Double) -> None:
    listing = Listing(double, MANY)
    listing.cuts = [100_000]
    usual = listing.serve

    async def serve(request: web.Request) -> web.StreamResponse:
        response = await usual(request)
        listing.names = [] if listing.asked else listing.names
        return response

    double.service.usual = serve
    with pytest.raises(ServiceUnreachable):
        await listed(double)


@pytest.mark.parametrize(
    "uri",
    [
        "vos://double~space/box/..",
        "vos://double~space/box/%2e%2e",
        "vos://double~space/box/a%2Fb",
        "vos://double~space/box/a%00b",
        "vos://double~space",
        "vos://double~space/",
        "file:///etc/passwd",
        "",
    ],
)
async def test_children_that_are_none(double: Double, uri: str) -> None:
    body = render_node(Node(BOX, NodeType.CONTAINER, nodes=(Node(BOX.child("NAME"), NodeType.DATA),)))
    async with double.space() as space:
        await space.authority()
        double.service.plan = [answers(200, body.replace(str(BOX.child("NAME")).encode(), uri.encode()).decode())]
        with pytest.raises(InvalidData):
            [child async for child in space.list("vos:box")]


@pytest.mark.parametrize("body", ["", "<html/>", "<!DOCTYPE x><x/>", "not xml", '<?xml version="1.0"?><a>&b;</a>'])
async def test_what_is_no_listing(double: Double, body: str) -> None:
    async with double.space() as space:
        await space.authority()
        double.service.plan = [answers(200, body)]
        with pytest.raises(Fault):
            [child async for child in space.list("vos:box")]
        double.service.plan = [answers(200, body)]
        with pytest.raises(Fault):
            await space.get_node("vos:box")


async def test_who_stops_in_the_middle_leaves_nothing_open(double: Double) -> None:
    Listing(double, MANY)
    async with double.space(connections=1) as space:
        for _ in range(3):
            children = space.list("vos:box")
            assert (await anext(children)).uri.name == MANY[0]
            await children.aclose()
