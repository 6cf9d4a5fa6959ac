"""pullToVoSpace and pushFromVoSpace between the pair and servers of somebody else (sections 6.4.2 and 6.4.4)."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import aiohttp
import pytest
from aiohttp import web

from pyvospace.db.pool import Database
from pyvospace.model.crash import VARIABLE
from pyvospace.model.vocabulary import ANY_VIEW, CORE, HTTP_GET, HTTP_PUT, HTTPS_GET, TYPE
from pyvospace.structures.fits import HEADERS, Fits
from pyvospace.supervisor.data import STORAGE_ROLE
from pyvospace.wire.xml import VOSPACE, V
from tests.structures.test_fits import FILE
from tests.support.agents import Agent, U, endpoints_of, properties_of, type_of, uri_of
from tests.support.pair import Pair, running_pair
from tests.support.postgres import PostgresServer
from tests.support.remote import LOOPBACK, remote
from tests.support.tree_check import damages

DATA = bytes(range(256)) * 50_000
PULL, PUSH = "pullToVoSpace", "pushFromVoSpace"
ENVIRONMENT = {
    "PYVOSPACE_OUTGOING__ALLOW": LOOPBACK,
    "PYVOSPACE_OUTGOING__PORTS": "1-65535",
    "PYVOSPACE_JOBS__LEASE": "2",
    "PYVOSPACE_STORAGE__SWEEP_GRACE": "0.1",
    "PYVOSPACE_STORAGE__SWEEP_INTERVAL": "0.3",
    "PYVOSPACE_STORAGE__OBSOLETE_GRACE": "0.1",
}


@pytest.fixture(scope="module")
def own_pair(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        folder = tmp_path_factory.mktemp("third-party")
        with running_pair(dsn, folder, storage_dsn=storage_dsn, environment=ENVIRONMENT) as running:
            yield running


@pytest.fixture(scope="module")
def bea_token(own_pair: Pair) -> str:
    return own_pair.add_user("bea")


@pytest.fixture
async def alice(own_pair: Pair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, own_pair, own_pair.token)


@pytest.fixture
async def catalogue(own_pair: Pair) -> AsyncIterator[Database]:
    connected = await Database.connect(own_pair.dsn, own_pair.database)
    yield connected
    await connected.close()


@pytest.fixture
def path(own_pair: Pair) -> str:
    return f"{own_pair.home}/{uuid.uuid4().hex}"


class Far:
    """A file elsewhere that stops in the middle until it is told to go on."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()
        self.got = b""
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "PUT":
            self.begun.set()
            await self.go_on.wait()
            self.got = await request.read()
            return web.Response(status=201)
        response = web.StreamResponse(headers={"Content-Length": str(len(DATA)), "Content-Type": "image/fits"})
        await response.prepare(request)
        try:
            await response.write(DATA[: len(DATA) // 2])
            self.begun.set()
            await self.go_on.wait()
            await response.write(DATA[len(DATA) // 2 :])
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        return response


@asynccontextmanager
async def far_side() -> AsyncIterator[Far]:
    far = Far()
    async with remote(far.answer) as server:
        far.url = f"http://127.0.0.1:{server.port}/file"
        yield far
        far.go_on.set()


def document(target: str, direction: str, endpoints: Sequence[str], protocol: str, view: str = "") -> str:
    written = "".join(f'<protocol uri="{protocol}"><endpoint>{escape(one)}</endpoint></protocol>' for one in endpoints)
    seen = f'<view uri="{view}"/>' if view else ""
    return (
        f'<transfer xmlns="{VOSPACE}" version="2.1"><target>{escape(target)}</target><direction>{direction}</direction>'
        f"{seen}{written}</transfer>"
    )


async def make(
    agent: Agent, path: str, direction: str, *endpoints: str, protocol: str | None = None, view: str = ""
) -> str:
    """Make a job; give its URL."""
    given = protocol or (HTTP_GET if direction == PULL else HTTP_PUT)
    text = document(uri_of(path), direction, endpoints, given, view)
    job = (await agent.send("POST", "/transfers", text)).assert_status(303).location
    assert await agent.phase(job) == "PENDING"
    return job


async def run(agent: Agent, path: str, direction: str, *endpoints: str, **parts: str) -> str:
    """Make a job and run it."""
    job = await make(agent, path, direction, *endpoints, **parts)
    await post(agent, f"{job}/phase", "PHASE=RUN")
    return job


async def post(agent: Agent, url: str, words: str) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    (await agent.send("POST", url, words, headers=form)).assert_status(303)


async def ended(agent: Agent, job: str) -> str:
    """Wait for the end of a job; give its phase."""
    for _ in range(60):
        root = (await agent.send("GET", f"{job}?WAIT=1")).assert_status(200).xml
        phase = root.findtext(U + "phase") or ""
        if phase not in {"QUEUED", "EXECUTING"}:
            return phase
    raise AssertionError("it never ends")


async def completed(agent: Agent, job: str) -> None:
    assert await ended(agent, job) == "COMPLETED", (await agent.send("GET", job)).text


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came true")


def files(pair: Pair) -> list[Path]:
    root = pair.data / "storage"
    return [path for folder in ("staging", "data") for path in (root / folder).rglob("*") if path.is_file()]


async def test_pull_makes_the_node_and_is_seen_on_the_way(alice: Agent, path: str) -> None:
    async with far_side() as far:
        url = far.url.replace("//", "//me:geheim@") + "?a=b&c"
        job = await run(alice, path, PULL, url)
        await asyncio.wait_for(far.begun.wait(), 30)
        (await alice.get(path)).assert_fault(404, "NodeNotFound")
        refused = await alice.negotiate(path, "pushToVoSpace")
        (await alice.send("PUT", refused[1], b"other")).assert_fault(409, "NodeBusy")
        far.go_on.set()
        await completed(alice, job)
    assert await alice.pull(path) == DATA
    properties = properties_of(await alice.node(path))
    assert (properties[CORE + "length"], properties[TYPE]) == (str(len(DATA)), "image/fits")
    root = (await alice.send("GET", job)).xml
    kept = root.find(f"{U}jobInfo/{V}transfer")
    assert kept is not None
    assert endpoints_of(kept) == [far.url + "?a=b&c"], "as it was, without the password"
    href = "{http://www.w3.org/1999/xlink}href"
    assert {one.get("id"): one.get(href) for one in root.iterfind(f"{U}results/{U}result")}["dataNode"] == uri_of(path)


async def test_pull_replaces_bytes_and_the_node_is_busy_meanwhile(alice: Agent, path: str) -> None:
    await alice.push(path, b"old bytes")
    await alice.post(path, properties={CORE + "title": "old"})
    async with far_side() as far:
        job = await run(alice, path, PULL, far.url, protocol=HTTP_PUT, view=ANY_VIEW)
        await asyncio.wait_for(far.begun.wait(), 30)
        assert (await alice.node(path)).get("busy") == "true"
        assert await alice.pull(path) == b"old bytes"
        far.go_on.set()
        await completed(alice, job)
    node = await alice.node(path)
    assert node.get("busy") != "true"
    assert CORE + "title" not in properties_of(node)
    assert await alice.pull(path) == DATA


async def test_pull_in_a_view_that_says_what_it_is(alice: Agent, path: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=FILE if request.path == "/good" else DATA)

    async with remote(answer) as server:
        bad, good = (f"http://127.0.0.1:{server.port}/{name}" for name in ("bad", "good"))
        job = await run(alice, path, PULL, bad, view=Fits.import_view)
        assert await ended(alice, job) == "ERROR"
        (await alice.get(path)).assert_fault(404, "NodeNotFound")
        await completed(alice, await run(alice, path, PULL, bad, good, view=Fits.import_view))
        node = await alice.node(path)
        assert type_of(node) == "StructuredDataNode"
        assert HEADERS.uri in {one.get("uri") for one in node.iterfind(f"{V}provides/{V}view")}
        await completed(alice, await run(alice, path, PULL, bad))
        node = await alice.node(path)
        assert HEADERS.uri not in {one.get("uri") for one in node.iterfind(f"{V}provides/{V}view")}


async def test_pull_to_auto_null_and_through_a_link(alice: Agent, path: str) -> None:
    await alice.make(path, "ContainerNode")
    await alice.make(f"{path}/real")
    await alice.make(f"{path}/link", "LinkNode", target=uri_of(f"{path}/real"))
    async with far_side() as far:
        far.go_on.set()
        for name in (".auto", ".null", "link"):
            await completed(alice, await run(alice, f"{path}/{name}", PULL, far.url))
    children = [
        (one.get("uri") or "").rpartition("/")[2] for one in (await alice.node(path)).iterfind(f"{V}nodes/{V}node")
    ]
    assert len(children) == 3
    for name in set(children) - {"link"}:
        assert await alice.pull(f"{path}/{name}") == DATA


async def test_jobs_that_cannot_be(alice: Agent, bea_token: str, path: str) -> None:
    bea = Agent(alice.session, alice.pair, bea_token)
    await alice.make(path, "ContainerNode")
    url = "http://127.0.0.1:9/x"
    new = f"{path}/a"
    for agent, where, direction, endpoints, parts, fault in (
        (alice, f"{new}/b", PULL, [url], {}, "ContainerNotFound"),
        (alice, new, PUSH, [url], {}, "NodeNotFound"),
        (bea, new, PULL, [url], {}, "PermissionDenied"),
        (alice, path, PUSH, [url], {}, "InvalidArgument"),
        (alice, new, PULL, [url], {"view": CORE + "nonsense"}, "ViewNotSupported"),
        (alice, new, PULL, [url], {"protocol": CORE + "ftpget"}, "ProtocolNotSupported"),
        (alice, new, PULL, [url], {"protocol": HTTPS_GET}, "ProtocolNotSupported"),
        (alice, new, PULL, [], {}, "ProtocolNotSupported"),
        (alice, new, PULL, ["file:///etc/passwd"], {}, "InvalidArgument"),
        (alice, new, PULL, [url], {}, "TransferFailed"),
        (alice, new, PULL, ["http://169.254.169.254/latest"], {}, "TransferFailed"),
        (alice, new, PULL, ["http://[::1]/x"], {}, "TransferFailed"),
    ):
        job = await run(agent, where, direction, *endpoints, **parts)
        assert (await ended(agent, job), await agent.error(job)) == ("ERROR", fault)
    (await alice.get(f"{path}/a")).assert_fault(404, "NodeNotFound")
    answer = await alice.send("POST", "/synctrans", document(uri_of(path), PULL, [url], HTTP_GET))
    assert await alice.error(answer.assert_status(303).location.split("/results")[0]) == "OperationNotSupported"
    stranger = Agent(alice.session, alice.pair, None)
    job = (await stranger.send("POST", "/transfers", document(uri_of(path), PULL, [url], HTTP_GET))).location
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    (await stranger.send("POST", f"{job}/phase", "PHASE=RUN", headers=form)).assert_fault(401, "NotAuthenticated")


@pytest.mark.parametrize("how", ["PHASE=ABORT", "EXECUTIONDURATION=1&PHASE=RUN", "ACTION=DELETE"])
async def test_what_ends_a_job_stops_it_at_once(alice: Agent, path: str, how: str) -> None:
    async with far_side() as far:
        job = await make(alice, path, PULL, far.url)
        await post(alice, job, how if "RUN" in how else "PHASE=RUN")
        if "RUN" not in how:
            await asyncio.wait_for(far.begun.wait(), 30)
            await post(alice, job, how)
        if "DELETE" not in how:
            assert await ended(alice, job) == "ABORTED"
        if far.begun.is_set():
            await asyncio.wait_for(far.left.wait(), 30)
    (await alice.get(path)).assert_fault(404, "NodeNotFound")
    await until(lambda: not [one for one in files(alice.pair) if one.parent.name == "staging"])
    await alice.push(path, b"free again")


async def test_a_right_withdrawn_on_the_way_keeps_the_bytes_out(alice: Agent, bea_token: str, path: str) -> None:
    bea = Agent(alice.session, alice.pair, bea_token)
    group = "ivo://localhost/space/gms?helpers"
    database = await Database.connect(alice.pair.dsn, alice.pair.database)
    await database.fetchrow("insert into groups (name) values ('helpers')")
    await database.fetchrow(
        "insert into members select g.id, u.id from groups g, users u where g.name = 'helpers' and u.name = 'alice'"
    )
    await database.close()
    shared = f"/home/bea/{uuid.uuid4().hex}"
    (await bea.post("/home/bea", "ContainerNode", properties={CORE + "ispublic": "true"})).assert_status(200)
    rights = {CORE + "ispublic": "true", CORE + "groupwrite": group}
    await bea.make(shared, "ContainerNode", properties=rights)
    async with far_side() as far:
        job = await run(alice, f"{shared}/a", PULL, far.url)
        await asyncio.wait_for(far.begun.wait(), 30)
        (await bea.post(shared, "ContainerNode", properties={CORE + "groupwrite": None})).assert_status(200)
        far.go_on.set()
        assert (await ended(alice, job), await alice.error(job)) == ("ERROR", "PermissionDenied")
    (await bea.get(f"{shared}/a")).assert_fault(404, "NodeNotFound")


async def test_a_limited_token_is_good_for_its_place_and_as_long_as_it_is_there(alice: Agent, path: str) -> None:
    """The storage server that carries the job out asks for its token again when the bytes are there."""
    asked = json.dumps({"name": "test", "paths": [path], "rights": ["write"]})
    answer = await alice.send("POST", "/profile/tokens", asked, headers={"Content-Type": "application/json"})
    made = json.loads(answer.assert_status(201).body)
    limited = Agent(alice.session, alice.pair, made["token"])
    async with far_side() as far:
        elsewhere = await run(limited, f"{path}-2", PULL, far.url)
        assert (await ended(limited, elsewhere), await alice.error(elsewhere)) == ("ERROR", "PermissionDenied")
        job = await run(limited, path, PULL, far.url)
        await far.begun.wait()
        (await alice.send("DELETE", f"/profile/tokens/{made['id']}")).assert_status(204)
        far.go_on.set()
        assert (await ended(alice, job), await alice.error(job)) == ("ERROR", "PermissionDenied")
    for one in (path, f"{path}-2"):
        (await alice.send("GET", f"/files{one}")).assert_fault(404, "NodeNotFound")


async def test_push_sends_the_bytes_of_a_node(alice: Agent, path: str) -> None:
    await alice.push(path, DATA)
    async with far_side() as far:
        far.go_on.set()
        await completed(alice, await run(alice, path, PUSH, "http://127.0.0.1:9/", far.url))
        assert far.got == DATA
    _, endpoint = await alice.negotiate(f"{path}-copy", "pushToVoSpace")
    await completed(alice, await run(alice, path, PUSH, endpoint))
    assert await alice.pull(f"{path}-copy") == DATA


async def restart(pair: Pair, **environment: str) -> None:
    """Start the storage server anew, in other circumstances."""
    pair.environment = {**ENVIRONMENT, **environment}
    await asyncio.to_thread(pair.start, "storage")


async def assert_nothing_is_left(pair: Pair, catalogue: Database) -> None:
    assert await damages(catalogue) == []
    rows = await catalogue.fetch("select location from nodes where location is not null")
    located = {Path(row["location"]).name for row in rows}
    await until(lambda: {one.name for one in files(pair)} == located)


async def test_kill_of_the_storage_server_in_the_middle(alice: Agent, catalogue: Database, path: str) -> None:
    pair = alice.pair
    await alice.push(f"{path}-source", DATA)
    async with far_side() as far, far_side() as target:
        pull, push = await run(alice, path, PULL, far.url), await run(alice, f"{path}-source", PUSH, target.url)
        await asyncio.wait_for(asyncio.gather(far.begun.wait(), target.begun.wait()), 30)
        await asyncio.to_thread(pair.kill, "storage")
        far.go_on.set()
        target.go_on.set()
        (await alice.get(path)).assert_fault(404, "NodeNotFound")
        await restart(pair)
        await completed(alice, pull)
        await completed(alice, push)
        assert target.got == DATA
    assert await alice.pull(path) == DATA
    await assert_nothing_is_left(pair, catalogue)


@pytest.mark.parametrize("point", ["job-claimed", "before-commit", "after-commit-before-answer"])
async def test_death_at_a_point(alice: Agent, catalogue: Database, path: str, point: str) -> None:
    pair = alice.pair
    await asyncio.to_thread(pair.kill, "storage")
    await restart(pair, **{VARIABLE: point})
    async with far_side() as far:
        far.go_on.set()
        job = await run(alice, path, PULL, far.url)
        assert await asyncio.to_thread(pair.processes["storage"].wait, 30) == -signal.SIGKILL, "by itself"
        await restart(pair)
        await completed(alice, job)
    assert await alice.pull(path) == DATA
    await assert_nothing_is_left(pair, catalogue)


async def test_passwords_are_forgotten_with_the_end_of_the_job(alice: Agent, catalogue: Database, path: str) -> None:
    async with far_side() as far:
        job = await run(alice, path, PULL, far.url.replace("//", "//me:geheim@"))
        await asyncio.wait_for(far.begun.wait(), 30)
        assert await catalogue.fetch("select from jobs where request::text like '%geheim%'")
        assert "geheim" not in (await alice.send("GET", job)).text
        far.go_on.set()
        await completed(alice, job)
    assert not await catalogue.fetch("select from jobs where request::text like '%geheim%'")
    for server in ("metadata", "storage"):
        assert "geheim" not in alice.pair.log(server)
