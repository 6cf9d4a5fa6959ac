"""Jobs of a service that does as the standards say, and of others that do a little less."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from pyvospace.client import Counts, JobAborted, JobList, ServiceUnreachable, Space
from pyvospace.client.sync import Space as SyncSpace
from pyvospace.model.faults import Fault, InvalidArgument, NodeNotFound, OperationNotSupported, TransferFailed
from pyvospace.model.jobs import Job, Progress, Result
from pyvospace.model.nodes import Node, Property
from pyvospace.model.searches import Conditions, Glob, Span
from pyvospace.model.uris import NodeUri
from pyvospace.model.vocabulary import (
    CORE,
    PACKAGE_VIEW,
    STANDARD_ASYNC_DELETE,
    STANDARD_ASYNC_SETPROPS,
    STANDARD_NODES,
    STANDARD_SEARCH,
    STANDARD_SYNC,
    STANDARD_TRANSFERS,
    Direction,
    NodeType,
    Phase,
)
from pyvospace.model.vosi import Capability
from pyvospace.wire.nodes import parse_node, render_children, search_head, search_tail
from pyvospace.wire.transfers import parse_transfer
from pyvospace.wire.uws import jobs_head, jobs_tail, render_job, render_references
from pyvospace.wire.vosi import render_capabilities
from tests.client.double import AUTHORITY, ROOT, TOKEN, Double, hangs_up, redirects

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RESOURCES = {
    STANDARD_NODES: "nodes",
    STANDARD_SYNC: "synctrans",
    STANDARD_TRANSFERS: "transfers",
    STANDARD_ASYNC_DELETE: "async-delete",
    STANDARD_ASYNC_SETPROPS: "async-setprops",
    STANDARD_SEARCH: "search",
}


@dataclass
class Work:
    """A service with one job, that it made of whatever was posted."""

    double: Double
    waits: bool = True
    """It knows WAIT."""
    looks: int = 0
    """How often the job still executes when it is looked at."""
    ends: Phase = Phase.COMPLETED
    message: str | None = None
    error: str | None = None
    results: tuple[Result, ...] = ()
    phase: Phase = Phase.PENDING
    resources: dict[str, str] = field(default_factory=lambda: dict(RESOURCES))
    posted: list[bytes] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    """What was posted to ``/phase``."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        path, base = request.path, self.double.service.url()
        if path == "/capabilities":
            told = [Capability(name, f"{base}/{one}", "full") for name, one in self.resources.items()]
            return web.Response(body=render_capabilities(told), content_type="text/xml")
        if path.endswith("/phase"):
            return self.change((await request.text()).removeprefix("PHASE="))
        if path.endswith("/error"):
            return web.Response(status=200 if self.error else 404, text=self.error or "")
        if path.endswith("/1"):
            return await self.look(request)
        if request.method == "POST":
            self.posted.append(await request.read())
            raise web.HTTPSeeOther(f"{base}{path}/1")
        return await self.double._serve(request)

    def change(self, phase: str) -> web.Response:
        self.phases.append(phase)
        if phase == "RUN" and self.phase is not Phase.PENDING:
            return web.Response(status=403, text="PermissionDenied it cannot be run")
        self.phase = Phase.EXECUTING if phase == "RUN" else Phase.ABORTED
        raise web.HTTPSeeOther(f"{self.double.service.url()}/transfers/1")

    async def look(self, request: web.Request) -> web.Response:
        if self.phase is Phase.EXECUTING and "WAIT" in request.query:
            if self.looks == 0:
                self.phase = self.ends
            elif self.waits:
                await asyncio.sleep(0.02)
            self.looks = max(self.looks - 1, 0)
        job = Job("1", self.phase, None, NOW, results=self.results, message=self.message, progress=Progress(5, 10))
        return web.Response(body=render_job(job), content_type="text/xml")


@pytest.fixture
def work(double: Double) -> Work:
    made = Work(double)
    double.service.usual = made.serve
    return made


A, B = ROOT.child("a"), ROOT.child("b")


async def test_move_and_copy(double: Double, work: Work) -> None:
    work.results = (Result("destination", f"vos://{AUTHORITY}/b/a"),)
    async with double.space() as space:
        assert await space.move(A, B) == B.child("a")
        work.phase, work.results = Phase.PENDING, ()
        assert await space.copy(A, B) == B
    moved, copied = (parse_transfer(body) for body in work.posted)
    assert (moved.target, moved.direction, moved.keep_bytes) == (str(A), str(B), False)
    assert copied.keep_bytes is True
    assert work.phases == ["RUN", "RUN"]


async def test_third_parties(double: Double, work: Work) -> None:
    async with double.space() as space:
        await space.pull_to(A, "https://there/x", "http://there/x")
        work.phase = Phase.PENDING
        await space.push_from(A, "https://there/y")
    pull, push = (parse_transfer(body) for body in work.posted)
    assert pull.direction == Direction.PULL_TO_VOSPACE
    assert [(one.uri, one.endpoint) for one in pull.protocols] == [
        (CORE + "httpsget", "https://there/x"),
        (CORE + "httpget", "http://there/x"),
    ]
    assert push.direction == Direction.PUSH_FROM_VOSPACE
    assert [(one.uri, one.endpoint) for one in push.protocols] == [(CORE + "httpsput", "https://there/y")]


async def test_who_watches_hears_how_far_it_is(double: Double, work: Work) -> None:
    work.looks = 2
    seen: list[tuple[Phase, Progress | None]] = []
    async with double.space() as space:
        await space.move(A, B, watch=lambda job: seen.append((job.phase, job.progress)))
    assert seen[0] == (Phase.EXECUTING, Progress(5, 10))
    assert seen[-1][0] is Phase.COMPLETED
    asked = [one.query for one in double.service.seen if "WAIT" in one.query]
    assert asked[0] == "WAIT=1&PHASE=EXECUTING"


async def test_a_service_that_cannot_wait_is_left_in_peace(double: Double, work: Work) -> None:
    work.waits, work.looks = False, 3
    async with double.space() as space:
        await asyncio.wait_for(space.move(A, B), 30)
    assert len([one for one in double.service.seen if "WAIT" in one.query]) == 4


async def test_a_lost_answer_runs_nothing_twice(double: Double, work: Work) -> None:
    async def run_and_hang_up(request: web.Request) -> web.StreamResponse:
        with pytest.raises(web.HTTPSeeOther):
            work.change("RUN")
        return await hangs_up(request)

    async with double.space(authority=AUTHORITY) as space:
        url = await space.create_job(JobList.TRANSFERS, b"", "text/xml")
        double.service.plan = [run_and_hang_up]
        assert (await space.complete(url)).phase is Phase.COMPLETED
    assert work.phases == ["RUN", "RUN"]


@pytest.mark.parametrize(
    ("error", "message", "fault", "detail"),
    [
        ("NodeNotFound", "Node Not Found: vos://x", NodeNotFound, "vos://x"),
        ("InvalidArgument: not into itself", "InvalidArgument", InvalidArgument, ""),
        ("Cannot move container node", "Cannot move container node", TransferFailed, "Cannot move container node"),
        (None, "something", TransferFailed, "something"),
    ],
)
async def test_why_a_job_failed(
    double: Double, work: Work, error: str | None, message: str, fault: type[Fault], detail: str
) -> None:
    work.ends, work.error, work.message = Phase.ERROR, error, message
    async with double.space() as space:
        with pytest.raises(fault) as caught:
            await space.move(A, B)
    assert caught.value.detail == detail


async def test_whoever_stops_waiting_aborts(double: Double, work: Work) -> None:
    work.looks = 1000
    async with double.space() as space:
        moving = asyncio.create_task(space.move(A, B))
        while work.phase is not Phase.EXECUTING:
            await asyncio.sleep(0.01)
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
        assert work.phases == ["RUN", "ABORT"]
        with pytest.raises(JobAborted):
            await space.complete(double.service.url("/transfers/1"))


async def test_a_service_that_goes_away_is_told_of_with_the_job(double: Double, work: Work) -> None:
    async with double.space(authority=AUTHORITY) as space:
        url = await space.create_job(JobList.TRANSFERS, b"", "text/xml")
        double.service.plan = [hangs_up] * 4
        with pytest.raises(ServiceUnreachable, match=rf"the job may go on: {url}"):
            await space.complete(url)


COUNTS = (Result("successcount", "final:3"), Result("errorcount", "final:1"))


async def test_trees(double: Double, work: Work) -> None:
    double.nodes["a"] = Node(A, NodeType.CONTAINER)
    async with double.space() as space:
        work.results = COUNTS[:1]
        assert await space.delete_tree(A) == Counts(3, 0)
        work.phase, work.ends, work.results = Phase.PENDING, Phase.ABORTED, COUNTS
        assert await space.set_properties(A, [Property(CORE + "title", "x")]) == Counts(3, 1)
        work.phase, work.results = Phase.PENDING, COUNTS[:1]
        with pytest.raises(JobAborted, match="3 nodes"):
            await space.delete_tree(A)
        work.phase, work.ends, work.error = Phase.PENDING, Phase.ERROR, "NodeNotFound"
        with pytest.raises(NodeNotFound):
            await space.delete_tree(A)
    assert parse_qs(work.posted[0].decode()) == {"target": [str(A)]}
    assert parse_node(work.posted[1]).value(CORE + "title") == "x"


async def test_lists(double: Double, work: Work) -> None:
    async def serve(request: web.Request) -> web.StreamResponse:
        page = render_references([Job("7", Phase.HELD, None, NOW, run_id="mine")], "http://ignored")
        return web.Response(body=jobs_head() + page + jobs_tail(), content_type="text/xml")

    del work.resources[STANDARD_ASYNC_DELETE]
    async with double.space() as space:
        assert await space.job_lists() == (JobList.TRANSFERS, JobList.PROPERTIES)
        double.service.plan = [serve]
        (found,) = await space.jobs(phases=[Phase.HELD, Phase.ERROR], after=NOW, last=3)
        assert found.url == await space.job_url("7") == double.service.url("/transfers/7")
        assert (found.id, found.phase, found.run_id) == ("7", Phase.HELD, "mine")
        with pytest.raises(OperationNotSupported):
            await space.delete_tree(A)
    asked = next(one.query for one in double.service.seen if "LAST" in one.query)
    assert asked == "PHASE=HELD&PHASE=ERROR&AFTER=2026-03-01T00:00:00.000Z&LAST=3"


def found_page(*names: str) -> bytes:
    nodes = [Node(ROOT.child(name), NodeType.DATA) for name in names]
    return search_head() + render_children(nodes) + search_tail()


async def test_search_goes_from_page_to_page(double: Double, work: Work) -> None:
    def page(next_page: str | None, *names: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            link = {"Link": f'<{double.service.url("/search")}?after={next_page}>; rel="next"'} if next_page else {}
            return web.Response(body=found_page(*names), headers=link, content_type="text/xml")

        return handler

    wanted = Conditions(
        name=Glob("*.fits"),
        types=(NodeType.DATA,),
        spans={"size": Span(5, None), "date": Span(None, NOW)},
        properties=(("ivo://o/p#q", Glob("a*")), (CORE + "title", None)),
    )
    async with double.space(authority=AUTHORITY) as space:
        await space.job_lists()
        double.service.plan = [page("2", "a", "b"), page("3"), page(None, "c", "d")]
        assert [one.uri.name async for one in space.search(A, wanted, limit=3)] == ["a", "b", "c"]
    first, second, third = [one.query for one in double.service.seen if one.path == "/search"]
    assert parse_qs(first) == {
        "target": [str(A)],
        "name": ["*.fits"],
        "type": ["DataNode"],
        "minsize": ["5"],
        "maxdate": ["2026-03-01T00:00:00.000Z"],
        "property": ["ivo://o/p#q=a*", CORE + "title"],
        "limit": ["3"],
    }
    assert (second, third) == ("after=2", "after=3")


async def test_where_nobody_searches_the_tree_is_walked_through(space: Space, folder: NodeUri) -> None:
    resources = await space._resources()
    await space.ensure_container(folder.child("a").child("b"), parents=True)
    await space.push(b"12345", folder.child("a").child("b").child("x.fits"))
    await space.push(b"", folder.child("a").child("y.fits"))
    await space.set_node(Node(folder.child("a").child("y.fits"), NodeType.DATA, (Property(CORE + "title", "M 31"),)))
    for wanted, names in (
        (Conditions(name=Glob("*.f[!a]ts")), {"x.fits", "y.fits"}),
        (Conditions(types=(NodeType.CONTAINER,)), {"a", "b"}),
        (Conditions(types=(NodeType.DATA,), spans={"size": Span(5, 5)}), {"x.fits"}),
        (Conditions(spans={"size": Span(None, 4)}), {"y.fits"}),
        (Conditions(owner="alice", properties=((CORE + "title", Glob("M*")),)), {"y.fits"}),
        (Conditions(properties=((CORE + "title", None),)), {"y.fits"}),
        (Conditions(owner="bob"), set()),
        (Conditions(spans={"date": Span(NOW, None), "mtime": Span(None, None)}), {"a", "b", "x.fits", "y.fits"}),
        (Conditions(spans={"ctime": Span(None, NOW)}), set()),
    ):
        searched = [one async for one in space.search(folder, wanted)]
        url = resources.pop(STANDARD_SEARCH)
        walked = [one async for one in space.search(folder, wanted)]
        resources[STANDARD_SEARCH] = url
        assert {one.uri for one in searched} == {one.uri for one in walked}
        assert {one.uri.name for one in walked} == names
    with pytest.raises(NodeNotFound):
        await anext(space.search(folder.child("missing"), Conditions()))


async def test_archives_of_opencadc(double: Double, work: Work) -> None:
    """There containers name no views, and a package is asked for."""
    double.nodes["a"] = Node(A, NodeType.CONTAINER)
    work.resources[PACKAGE_VIEW] = "pkg"
    async with double.space(authority=AUTHORITY) as space:
        await space.job_lists()
        double.content, target = b"packed", io.BytesIO()
        package = redirects("/pkg/1/run", 303)
        double.service.plan = [double._serve, double._serve, package, redirects(double.storage.url("/x"), 303)]
        await space.pull_archive([A, A], target)
    assert target.getvalue() == b"packed"
    fetched = next(one for one in double.service.seen if one.path == "/pkg/1/run")
    assert fetched.headers["Authorization"] == f"Bearer {TOKEN}"
    assert "Authorization" not in double.storage.seen[0].headers
    asked = parse_transfer(next(one.body for one in double.service.seen if one.path == "/synctrans"))
    assert asked.targets == (str(A), str(A))
    view = asked.view
    assert view is not None
    assert (view.uri, [one.value for one in view.params]) == (PACKAGE_VIEW, ["application/x-tar"])


async def test_without_coroutines(double: Double, work: Work) -> None:
    def use() -> None:
        with SyncSpace(double.service.url(), authority=AUTHORITY) as space:
            assert space.move(A, B) == B
            url = space.job_url("1")
            assert space.job(url).phase is space.wait(url).phase is Phase.COMPLETED
            assert space.run(url).phase is Phase.COMPLETED

    await asyncio.to_thread(use)
