"""Moves that are done at once, and in the place of what is there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest
from aiohttp import web

from pyvospace.client import Space
from pyvospace.model.faults import DuplicateNode, InvalidArgument, NodeNotFound, OperationNotSupported
from pyvospace.model.jobs import Job, Result
from pyvospace.model.nodes import Node
from pyvospace.model.transfers import Transfer
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import REPLACE, NodeType, Phase
from pyvospace.wire.transfers import parse_transfer
from pyvospace.wire.uws import render_job
from tests.client.double import ROOT, Double, answers, hang_up

NOW: Final = datetime.now(UTC)


class Moving:
    """A service that moves."""

    def __init__(self, double: Double) -> None:
        self.double = double
        self.usual = double._serve
        self.asked: list[Transfer] = []
        double.nodes["x"] = Node(ROOT.child("x"), NodeType.DATA)
        double.service.usual = self.serve

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/synctrans":
            self.asked.append(parse_transfer(await request.read()))
            moved = self.double.nodes.pop("x", None)
            if moved is not None:
                self.double.nodes["y"] = moved
            job = "gone" if moved is None else "moved"
            raise web.HTTPSeeOther(f"/transfers/{job}/results/transferDetails")
        if request.path == "/transfers/gone/error":
            return web.Response(text="NodeNotFound")
        if request.path.startswith("/transfers/"):
            return web.Response(body=self.job(request.path), content_type="text/xml")
        return await self.usual(request)

    def job(self, path: str) -> bytes:
        failed = Job("1", Phase.ERROR, None, NOW, fault="NodeNotFound", message=f"Node Not Found: {ROOT}/x")
        done = Job("1", Phase.COMPLETED, None, NOW, results=(Result("destination", href=f"{ROOT}/y"),))
        return render_job(failed if path.endswith("gone") else done)


@pytest.fixture
def moving(double: Double) -> Moving:
    return Moving(double)


async def test_two_requests_at_a_service_of_ours(double: Double, moving: Moving) -> None:
    double.extended = True
    async with double.space() as space:
        assert await space.move("vos:x", "vos:y", replace=True) == ROOT.child("y")
        with pytest.raises(NodeNotFound):
            await space.move("vos:x", "vos:z")
    assert [one.param(REPLACE) for one in moving.asked] == ["true", None]
    assert [one.path for one in double.service.seen[2:4]] == ["/synctrans", "/transfers/moved"]


async def test_a_move_whose_answer_is_lost_is_found_out(double: Double, moving: Moving) -> None:
    async def lose(request: web.Request) -> web.StreamResponse:
        try:
            return await moving.serve(request)
        finally:
            hang_up(request)

    double.extended = True
    async with double.space(authority=ROOT.authority) as space:
        await space._resources()
        double.service.plan = [lose]
        assert await space.move("vos:x", "vos:y", replace=True) == ROOT.child("y")
        double.service.plan = [answers(503)]
        with pytest.raises(NodeNotFound):
            await space.move("vos:x", "vos:nowhere")


async def test_another_service_deletes_before_it_moves(double: Double) -> None:
    box, full = (Node(ROOT.child(name), NodeType.CONTAINER) for name in ("box", "full"))
    file = Node(ROOT.child("x"), NodeType.DATA)
    double.nodes |= {"x": file, "box": box, "full": replace(full, nodes=(replace(file, uri=full.uri.child("f")),))}
    async with double.space() as space:
        for source, destination, fault in (
            ("x", "box", DuplicateNode),
            ("box", "x", DuplicateNode),
            ("box", "full", InvalidArgument),
            ("missing", "x", NodeNotFound),
        ):
            with pytest.raises(fault):
                await space.move(f"vos:{source}", f"vos:{destination}", replace=True)
        assert set(double.nodes) == {"", "x", "box", "full"}
        with pytest.raises(OperationNotSupported):  # this one has no jobs
            await space.move("vos:full", "vos:box", replace=True)
    assert "box" not in double.nodes


async def test_a_real_pair(space: Space, folder: NodeUri) -> None:
    old, new = folder.child("old"), folder.child("new")
    await space.push(b"old", old)
    await space.push(b"new", new)
    with pytest.raises(DuplicateNode):
        await space.move(new, old)
    assert await space.move(new, old, replace=True) == old
    assert b"".join([piece async for piece in space.read(old)]) == b"new"
    await space.ensure_container(folder.child("box"))
    assert await space.move(old, folder.child("box")) == folder.child("box").child("old")
    with pytest.raises(NodeNotFound):
        await space.move(old, new, replace=True)
    heard: list[Phase] = []
    await space.move(folder.child("box"), new, watch=lambda job: heard.append(job.phase))
    assert heard[-1] is Phase.COMPLETED
