"""UWS 1.1 over HTTP: lists, parts, changes and waiting (R-UWS-001 to R-UWS-093)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import psutil
import pytest

from pyvospace.config.settings import JobSettings
from pyvospace.db.listening import Listener
from pyvospace.db.pool import Database
from pyvospace.model.instants import read_instant, write_instant
from pyvospace.model.jobs import Claimed
from pyvospace.model.vocabulary import CORE
from pyvospace.uws.jobs import MetadataQueue
from pyvospace.uws.runner import Runner
from pyvospace.wire.uws import PROGRESS
from pyvospace.wire.xml import XSI_NIL
from tests.support.agents import Agent, U, endpoints_of, transfer_document
from tests.support.jobs import FORM, HREF, make_job, transfer
from tests.support.pair import Pair
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

WAITING, LONGEST, ARCHIVE, POOL = 12, 1000, 3600, 4
PATIENCE = 45.0
"""Less than what a request with WAIT may take that nobody wakes."""
CROWD = 1000
LONG = 2500
CUT = """select pg_terminate_backend(pid) from pg_stat_activity
          where application_name like '%listening' and datname = current_database()"""
READ_ONLY = ("results", "parameters", "error", "quote", "owner")


@pytest.fixture(scope="module")
def quiet(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A metadata server that works on no job itself, and keeps those past their destruction."""
    environment = {
        "PYVOSPACE_JOBS__AT_ONCE": "0",
        "PYVOSPACE_JOBS__ARCHIVE": str(ARCHIVE),
        "PYVOSPACE_JOBS__LONGEST": str(LONGEST),
        "PYVOSPACE_JOBS__DESTRUCTION": "500",
        "PYVOSPACE_JOBS__WAITING": str(WAITING),
        "PYVOSPACE_DATABASE__POOL_SIZE": str(POOL),
    }
    with postgres_server.clone() as name:
        pair = Pair(postgres_server.dsn(name), tmp_path_factory.mktemp("quiet"), environment=environment)
        try:
            pair.start("metadata")
            yield pair
        finally:
            pair.stop()


@contextlib.contextmanager
def beside(quiet: Pair, folder: pytest.TempPathFactory, **settings: str) -> Iterator[Pair]:
    """Run another process of the same service."""
    pair = Pair(quiet.dsn, folder.mktemp("beside"), environment={**quiet.environment, **settings})
    try:
        pair.start("metadata")
        yield pair
    finally:
        pair.stop()


@pytest.fixture(scope="module")
def hasty(quiet: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Another process, which lets nobody wait for longer than a second."""
    with beside(quiet, tmp_path_factory, PYVOSPACE_JOBS__WAIT="1") as pair:
        yield pair


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened


@pytest.fixture
def token(quiet: Pair) -> str:
    return quiet.add_user(f"u{uuid.uuid4().hex}")


@pytest.fixture
def owner(quiet: Pair, session: aiohttp.ClientSession, token: str) -> Agent:
    """Somebody without any job."""
    return Agent(session, quiet, token)


@pytest.fixture
def guest(quiet: Pair, session: aiohttp.ClientSession) -> Agent:
    return Agent(session, quiet, None)


@pytest.fixture
async def catalogue(quiet: Pair) -> AsyncIterator[Database]:
    connected = await Database.connect(quiet.dsn, quiet.database)
    yield connected
    await connected.close()


async def pending(agent: Agent, query: str = "") -> str:
    """Make a job that would copy something."""
    return await make_job(agent, f"transfers{query}", transfer("/a", "/b", keep=True))


def id_of(job: str) -> str:
    return job.rsplit("/", 1)[1]


async def listed(agent: Agent, query: str = "", list_: str = "transfers") -> list[str]:
    """Give the ids that a list shows."""
    return [one.get("id") or "" for one in (await agent.send("GET", f"/{list_}{query}")).assert_status(200).xml]


async def text(agent: Agent, job: str, part: str) -> str:
    return (await agent.send("GET", f"{job}/{part}")).assert_status(200).text


def number_of(root: Element, part: str) -> int:
    """Give how many results or parameters a job has."""
    return len(root.findall(f"{U}{part}/*"))


async def document(agent: Agent, job: str) -> Element:
    return (await agent.send("GET", job)).assert_status(200).xml


# ------------------------------------------------------------------------------------------------------------- lists


async def test_list_and_its_filters(owner: Agent, catalogue: Database) -> None:
    assert await listed(owner) == []
    jobs = [await pending(owner, "?RUNID=night%201%26") for _ in range(4)]
    ids = [id_of(job) for job in jobs]
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for hour, name in enumerate(ids):
        moment = begin + timedelta(hours=hour)
        await catalogue.fetchrow("update jobs set created = $2 where id = $1", name, moment)
    await owner.send("POST", f"{jobs[1]}/phase?PHASE=ABORT")
    await owner.send("POST", f"{jobs[2]}/phase?PHASE=RUN")
    after = quote(write_instant(begin + timedelta(minutes=30)))
    for query, expected in (
        ("", [0, 1, 2, 3]),
        ("?PHASE=PENDING", [0, 3]),
        ("?PHASE=PENDING&PHASE=ABORTED", [0, 1, 3]),
        ("?phase=pending&Phase=QUEUED", [0, 2, 3]),
        ("?PHASE=COMPLETED", []),
        ("?PHASE=ARCHIVED", []),
        (f"?AFTER={after}", [1, 2, 3]),
        (f"?AFTER={quote(write_instant(begin))}", [1, 2, 3]),
        ("?LAST=2", [3, 2]),
        ("?last=100", [3, 2, 1, 0]),
        ("?LAST=1&PHASE=ABORTED", [1]),
        (f"?AFTER={after}&LAST=2&PHASE=PENDING&PHASE=ABORTED", [3, 1]),
    ):
        assert await listed(owner, query) == [ids[number] for number in expected], query
    root = (await owner.send("GET", "/transfers?PHASE=QUEUED")).xml
    assert root.get("version") == "1.1"
    (reference,) = root
    assert reference.get(HREF) == jobs[2]
    told = {one.tag.removeprefix(U): one.text for one in reference}
    user = await text(owner, jobs[2], "owner")
    assert told == {
        "phase": "QUEUED",
        "runId": "night 1&",
        "ownerId": user,
        "creationTime": "2026-01-01T02:00:00.000Z",
    }


@pytest.mark.parametrize(
    "query",
    ["PHASE=RUNNING", "PHASE=", "LAST=0", "LAST=-1", "LAST=x", "LAST=", "LAST=1&LAST=2", "LAST=" + "9" * 30,
     "AFTER=yesterday", "AFTER=", "AFTER=2026-13-01T00:00:00Z", "AFTER=2026-01-01T00:00:00Z&AFTER=x", "PHASE=%00"],
)  # fmt: skip
async def test_filters_that_are_none(owner: Agent, query: str) -> None:
    (await owner.send("GET", f"/transfers?{query}")).assert_fault(400, "InvalidArgument")


async def test_long_list(owner: Agent, catalogue: Database) -> None:
    """It is streamed by pages of the database; none is missing, none comes twice, also where times are equal."""
    await catalogue.fetchrow(
        """insert into jobs (id, owner_id, phase, kind, request, destruction, created)
           select lpad(to_hex(u.id * 10000 + i), 40, '0'), u.id, 'COMPLETED', 'copy', '{}', now() + interval '1 h',
                  timestamptz '2026-01-01Z' + make_interval(secs => i / 100)
             from users u, generate_series(1, $2) i where u.name = $1""",
        await text(owner, await pending(owner), "owner"),
        LONG,
    )
    found = await listed(owner, "?PHASE=COMPLETED")
    assert (len(found), found) == (LONG, sorted(found))
    assert await listed(owner, "?PHASE=COMPLETED&LAST=1500") == found[:-1501:-1]
    assert len(await listed(owner)) == LONG + 1
    assert (await owner.send("GET", "/transfers")).headers["Transfer-Encoding"] == "chunked"
    assert (await owner.send("HEAD", "/transfers")).assert_status(200).body == b""


async def test_lists_are_of_their_owners(owner: Agent, guest: Agent, quiet: Pair) -> None:
    job = await pending(owner)
    other = Agent(owner.session, quiet, quiet.token)
    assert id_of(job) not in await listed(other)
    for list_ in ("transfers", "async-delete", "async-setprops"):
        (await guest.send("GET", f"/{list_}")).assert_fault(401, "NotAuthenticated")
    assert await listed(owner, list_="async-delete") == []
    (await owner.send("GET", f"/async-delete/{id_of(job)}")).assert_fault(404, "NotFound")
    for method, path in (
        ("GET", ""),
        ("GET", "/phase"),
        ("DELETE", ""),
        ("POST", "/phase?PHASE=RUN"),
        ("GET", "?WAIT=5"),
    ):
        (await other.send(method, job + path)).assert_fault(403, "PermissionDenied")
        (await guest.send(method, job + path)).assert_fault(401, "NotAuthenticated")
        (await other.send(method, f"/transfers/{'0' * 40}{path}")).assert_fault(404, "NotFound")
    assert await owner.phase(job) == "PENDING"


async def test_anonymous_job(guest: Agent, owner: Agent) -> None:
    """Its id is the key; it is in nobody's list."""
    job = await pending(guest)
    assert len(id_of(job)) == 40
    nobody = (await document(guest, job)).find(U + "ownerId")
    assert nobody is not None
    assert nobody.get(XSI_NIL) == "true"
    assert id_of(job) not in await listed(owner)
    (await guest.send("DELETE", job)).assert_status(303)


# -------------------------------------------------------------------------------------------------- a job and its parts


async def test_new_job(owner: Agent) -> None:
    job = await pending(owner, "?RUNID=my%20run")
    root = await document(owner, job)
    assert root.get("version") == "1.1"
    assert [root.findtext(U + name) for name in ("phase", "executionDuration", "runId")] == ["PENDING", "0", "my run"]
    for name in ("quote", "startTime", "endTime"):
        found = root.find(U + name)
        assert found is not None
        assert found.get(XSI_NIL) == "true"
    assert root.find(f"{U}jobInfo/{{*}}transfer") is not None
    assert number_of(root, "results") == number_of(root, "parameters") == 0
    created, gone = (read_instant(root.findtext(U + name) or "") for name in ("creationTime", "destruction"))
    assert 499 < (gone - created).total_seconds() < 501
    assert await text(owner, job, "destruction") == root.findtext(U + "destruction")
    assert [await text(owner, job, part) for part in ("phase", "executionduration", "quote")] == ["PENDING", "0", ""]
    for part, tag in (("results", "results"), ("parameters", "parameters")):
        assert (await owner.send("GET", f"{job}/{part}")).assert_status(200).xml.tag == U + tag
    (await owner.send("GET", f"{job}/error")).assert_fault(404, "NotFound")
    (await owner.send("GET", f"{job}/results/transferDetails")).assert_fault(404, "NotFound")


async def test_parts_that_nobody_changes(owner: Agent) -> None:
    job = await pending(owner)
    for part in READ_ONLY:
        (await owner.send("POST", f"{job}/{part}?{part.upper()}=x")).assert_status(405)
    for part in (*READ_ONLY, "phase", "destruction", "executionduration"):
        (await owner.send("DELETE", f"{job}/{part}")).assert_status(405)
        (await owner.send("GET", f"{job}/{part}/x")).assert_status(404)
    (await owner.send("PUT", job)).assert_status(405)
    (await owner.send("GET", f"{job}/phase?PHASE=RUN")).assert_status(200)
    assert await owner.phase(job) == "PENDING"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/phase?PHASE={}", None), ("/phase", "PHASE={}"), ("", "phase={}"), ("?Phase={}", None), ("?x=y", "z=&PHASE={}")],
)
async def test_ways_to_run_and_to_abort(owner: Agent, path: str, body: str | None) -> None:
    job = await pending(owner)
    for word, phase in (("RUN", "QUEUED"), ("ABORT", "ABORTED"), ("abort", "ABORTED")):
        given = body.format(word) if body else None
        answer = await owner.send("POST", job + path.format(word), given, headers=FORM if body else None)
        assert answer.assert_status(303).location == job
        assert await owner.phase(job) == phase
    given = body.format("RUN") if body else None
    answer = await owner.send("POST", job + path.format("RUN"), given, headers=FORM if body else None)
    answer.assert_fault(403, "PermissionDenied")
    root = await document(owner, job)
    assert root.findtext(f"{U}errorSummary/{U}message") == "aborted by its owner"
    assert read_instant(root.findtext(U + "endTime") or "") >= read_instant(root.findtext(U + "creationTime") or "")


@pytest.mark.parametrize("asked", ["PHASE=SUSPEND", "PHASE=", "PHASE=QUEUED", "PHASE=RUN&PHASE=ABORT", "", "X=Y"])
async def test_phases_that_nobody_can_ask_for(owner: Agent, asked: str) -> None:
    job = await pending(owner)
    for path in ("", "/phase"):
        (await owner.send("POST", job + path, asked, headers=FORM)).assert_fault(400, "InvalidArgument")
    (await owner.send("POST", f"{job}/phase", b"\xff", headers=FORM)).assert_fault(400, "InvalidArgument")
    assert await owner.phase(job) == "PENDING"


async def test_made_and_run_at_once(owner: Agent) -> None:
    job = await pending(owner, "?PHASE=RUN&EXECUTIONDURATION=60&DESTRUCTION=2100-01-01T00:00:00Z")
    assert await owner.phase(job) == "QUEUED"
    assert await text(owner, job, "executionduration") == "60"
    root = await document(owner, job)
    created, gone = (read_instant(root.findtext(U + name) or "") for name in ("creationTime", "destruction"))
    assert (gone - created).total_seconds() == LONGEST
    before = await listed(owner)
    for query in ("PHASE=ABORT", "PHASE=x", "RUNID=%01", "EXECUTIONDURATION=-1", "DESTRUCTION=never&PHASE=RUN"):
        body = transfer("/a", "/b", keep=True)
        (await owner.send("POST", f"/transfers?{query}", body)).assert_fault(400, "InvalidArgument")
    for body in ("", "<x/>", "<transfer"):
        assert (await owner.send("POST", "/transfers", body)).status == 400
    assert await listed(owner) == before


async def test_run_by_many_at_once(owner: Agent) -> None:
    job = await pending(owner)
    answers = await asyncio.gather(*(owner.send("POST", f"{job}/phase?PHASE=RUN") for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [303] + [403] * 9


@pytest.mark.parametrize("how", ["DELETE", "ACTION=DELETE", "action=delete"])
async def test_deleting(owner: Agent, how: str) -> None:
    job = await pending(owner, "?PHASE=RUN")
    answer = await (owner.send("DELETE", job) if how == "DELETE" else owner.send("POST", job, how, headers=FORM))
    assert answer.assert_status(303).location == f"{owner.pair.url}/transfers"
    for path in ("", "/phase", "?WAIT=10"):
        (await owner.send("GET", job + path)).assert_fault(404, "NotFound")
    (await owner.send("DELETE", job)).assert_fault(404, "NotFound")
    (await owner.send("POST", f"{job}/phase?PHASE=ABORT")).assert_fault(404, "NotFound")
    assert id_of(job) not in await listed(owner)
    other = await pending(owner)
    (await owner.send("POST", other, "ACTION=EXPLODE", headers=FORM)).assert_fault(400, "InvalidArgument")


async def test_changes(owner: Agent) -> None:
    job = await pending(owner)
    moment = datetime.now(UTC) + timedelta(seconds=100)
    for part, value, expected in (
        ("destruction", write_instant(moment), write_instant(moment)),
        ("destruction", write_instant(moment).replace("Z", "+00:00"), write_instant(moment)),
        ("executionduration", "3600", "3600"),
        ("executionduration", "0", "0"),
    ):
        answer = await owner.send("POST", f"{job}/{part}", f"{part}={quote(value)}", headers=FORM)
        assert answer.assert_status(303).location == job
        assert await text(owner, job, part) == expected
    changed = f"EXECUTIONDURATION=7&runid=a%20b&DESTRUCTION={quote(write_instant(moment))}&PHASE=RUN"
    (await owner.send("POST", job, changed, headers=FORM)).assert_status(303)
    root = await document(owner, job)
    assert [root.findtext(U + name) for name in ("phase", "executionDuration", "runId")] == ["QUEUED", "7", "a b"]
    (await owner.send("POST", job, "RUNID=c", headers=FORM)).assert_fault(403, "PermissionDenied")
    await owner.send("POST", f"{job}/phase?PHASE=ABORT")
    (await owner.send("POST", f"{job}/executionduration?EXECUTIONDURATION=9")).assert_fault(403, "PermissionDenied")
    (await owner.send("POST", f"{job}/destruction?DESTRUCTION={quote(write_instant(moment))}")).assert_status(303)


@pytest.mark.parametrize(
    "asked",
    ["DESTRUCTION=", "DESTRUCTION=x", "DESTRUCTION=2026-02-30T00:00:00Z", "DESTRUCTION=10000-01-01T00:00:00Z",
     "EXECUTIONDURATION=", "EXECUTIONDURATION=-1", "EXECUTIONDURATION=1.5", "EXECUTIONDURATION=%D9%A1",
     "EXECUTIONDURATION=9999999999", "RUNID=%0a", "RUNID=" + "x" * 256, "RUNID=%EF%BF%BF", "RUNID=a&RUNID=b"],
)  # fmt: skip
async def test_changes_that_are_none(owner: Agent, asked: str) -> None:
    job = await pending(owner)
    before = (await owner.send("GET", job)).body
    (await owner.send("POST", job, asked, headers=FORM)).assert_fault(400, "InvalidArgument")
    part = asked.partition("=")[0].lower()
    if part != "runid":
        (await owner.send("POST", f"{job}/{part}", asked, headers=FORM)).assert_fault(400, "InvalidArgument")
    assert (await owner.send("GET", job)).body == before


async def test_destruction_and_archive(owner: Agent, catalogue: Database) -> None:
    """Past its destruction a job is ARCHIVED, if the operator keeps such: without results, and for good."""
    job = await pending(owner)
    name = id_of(job)
    await catalogue.fetchrow("""update jobs set results = '[["r", "x:y"]]', phase = 'QUEUED' where id = $1""", name)
    past = quote(write_instant(datetime.now(UTC) - timedelta(days=1)))
    (await owner.send("POST", f"{job}/destruction?DESTRUCTION={past}")).assert_status(303)
    assert await owner.phase(job) == "ARCHIVED"
    root = await document(owner, job)
    assert root.findtext(U + "phase") == "ARCHIVED"
    assert root.findtext(U + "endTime")
    assert number_of(root, "results") == 0
    assert name not in await listed(owner)
    assert name in await listed(owner, "?PHASE=ARCHIVED")
    assert name not in await listed(owner, "?PHASE=QUEUED")
    for path in ("/phase?PHASE=RUN", "/destruction?DESTRUCTION=2100-01-01T00:00:00Z"):
        (await owner.send("POST", job + path)).assert_fault(403, "PermissionDenied")
    await catalogue.fetchrow(
        "update jobs set destruction = now() - make_interval(secs => $2) where id = $1", name, ARCHIVE
    )
    (await owner.send("GET", job)).assert_fault(404, "NotFound")
    assert name not in await listed(owner, "?PHASE=ARCHIVED")


async def test_too_many_jobs_that_wait(owner: Agent) -> None:
    jobs = [await pending(owner) for _ in range(WAITING)]
    answer = await owner.send("POST", "/transfers?PHASE=RUN", transfer("/a", "/b", keep=True))
    answer.assert_fault(403, "PermissionDenied")
    assert len(await listed(owner)) == WAITING
    await owner.send("POST", f"{jobs[0]}/phase?PHASE=ABORT")
    await pending(owner)


# ---------------------------------------------------------------------------------------------------- jobs that execute


async def test_transfers_that_the_client_drives(alice: Agent, folder: str) -> None:
    """PENDING until it is run, then EXECUTING with endpoints until the bytes have moved."""
    await alice.push(f"{folder}/a", b"before")
    for path, direction, protocol in (
        (f"{folder}/a", "pullFromVoSpace", "httpsget"),
        (f"{folder}/b", "pushToVoSpace", "httpsput"),
    ):
        job = await make_job(alice, "transfers", transfer_document(path, direction, [CORE + protocol]))
        (await alice.send("GET", f"{job}/results/transferDetails")).assert_fault(404, "NotFound")
        (await alice.send("POST", f"{job}/phase?PHASE=RUN")).assert_status(303)
        assert await alice.phase(job) == "EXECUTING"
        (endpoint,) = endpoints_of((await alice.send("GET", f"{job}/results/transferDetails")).xml)
        waiting = asyncio.create_task(hold(alice, job))
        if direction == "pullFromVoSpace":
            assert (await alice.send("GET", endpoint)).body == b"before"
        else:
            (await alice.send("PUT", endpoint, b"after")).assert_status(201)
        assert await waiting == "COMPLETED"
    assert await alice.pull(f"{folder}/b") == b"after"
    refused = await make_job(
        alice, "transfers?PHASE=RUN", transfer_document("/home/no", "pushToVoSpace", [CORE + "httpsput"])
    )
    assert (await alice.phase(refused), await alice.error(refused)) == ("ERROR", "PermissionDenied")


async def test_transfer_that_a_worker_does(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"bytes")
    job = await make_job(alice, "transfers?PHASE=RUN", transfer(f"{folder}/a", f"{folder}/b", keep=True))
    while (phase := await hold(alice, job, "WAIT=20")) in {"QUEUED", "EXECUTING"}:
        pass
    assert phase == "COMPLETED"
    root = await document(alice, job)
    times = [
        read_instant(root.findtext(U + name) or "") for name in ("creationTime", "startTime", "endTime", "destruction")
    ]
    assert times == sorted(times)
    assert number_of(root, "results") == len((await alice.send("GET", f"{job}/results")).xml) == 1
    assert await alice.pull(f"{folder}/b") == b"bytes"
    (await alice.send("POST", f"{job}/phase?PHASE=ABORT")).assert_status(303)
    (await alice.send("POST", f"{job}/phase?PHASE=RUN")).assert_fault(403, "PermissionDenied")
    assert number_of(await document(alice, job), "results") == 1
    assert await alice.phase(job) == "COMPLETED"


@contextlib.asynccontextmanager
async def worker(catalogue: Database, began: asyncio.Queue[Claimed]) -> AsyncIterator[asyncio.Queue[str]]:
    """Be a worker whose jobs last until they are stopped; give the ids of those that were."""
    await catalogue.fetchrow("delete from jobs where phase = 'QUEUED'")  # of other tests
    stopped: asyncio.Queue[str] = asyncio.Queue()

    async def work(claimed: Claimed) -> None:
        began.put_nowait(claimed)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.put_nowait(claimed.id)

    listener = Listener(catalogue)
    runner = Runner(MetadataQueue(catalogue, JobSettings(lease=4)), {"copy": work}, at_once=50, listener=listener)
    tasks = [asyncio.create_task(listener.run()), asyncio.create_task(runner.run())]
    try:
        async with asyncio.timeout(PATIENCE):
            yield stopped
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_executing_job(owner: Agent, catalogue: Database) -> None:
    """Progress and quote are told while it executes; whatever ends it, its worker stops at once."""
    began: asyncio.Queue[Claimed] = asyncio.Queue()
    async with worker(catalogue, began) as stopped:
        told, deleted = await pending(owner, "?PHASE=RUN"), await pending(owner, "?PHASE=RUN")
        jobs = {claimed.id: claimed for claimed in [await began.get(), await began.get()]}
        progress = jobs[id_of(told)].progress
        progress.bytes_done, progress.bytes_total, progress.files_done, progress.files_total = 500, 2000, 1, 4
        await catalogue.fetchrow("update jobs set started = started - interval '10 s' where id = $1", id_of(told))
        while (found := (await document(owner, told)).find(f"{U}jobInfo/{{{PROGRESS}}}progress")) is None:
            await asyncio.sleep(0.05)
        expected = {"bytesDone": "500", "bytesTotal": "2000", "filesDone": "1", "filesTotal": "4"}
        assert expected.items() <= dict(found.items()).items()
        assert 30 < int(found.get("bytesPerSecond") or 0) <= 50
        root = await document(owner, told)
        left = read_instant(root.findtext(U + "quote") or "") - datetime.now(UTC)
        assert 25 < left.total_seconds() < 100
        read_instant(await text(owner, told, "quote"))
        assert (root.findtext(U + "phase"), number_of(root, "results")) == ("EXECUTING", 0)
        read_instant(root.findtext(U + "startTime") or "")
        (await owner.send("POST", f"{told}/phase?PHASE=ABORT")).assert_status(303)
        assert await stopped.get() == id_of(told)
        assert await owner.phase(told) == "ABORTED"
        assert await text(owner, told, "quote") == ""
        (await owner.send("DELETE", deleted)).assert_status(303)
        assert await stopped.get() == id_of(deleted)


async def test_job_past_its_duration_is_aborted(owner: Agent, catalogue: Database) -> None:
    async with worker(catalogue, asyncio.Queue()) as stopped:
        job = await pending(owner, "?PHASE=RUN&EXECUTIONDURATION=1")
        assert await stopped.get() == id_of(job)
        root = (await owner.send("GET", f"{job}?WAIT=30")).assert_status(200).xml
        assert root.findtext(U + "phase") == "ABORTED"
        assert "executionDuration" in (root.findtext(f"{U}errorSummary/{U}message") or "")
        (await owner.send("GET", f"{job}/error")).assert_fault(404, "NotFound")


# ------------------------------------------------------------------------------------------------------------- waiting


async def watched(catalogue: Database, *jobs: str) -> None:
    """Wait until somebody waits for all of these jobs."""
    ids = [id_of(job) for job in jobs]
    count = "select count(*) from jobs where watched > now() and id = any ($1)"
    while await catalogue.fetchval(count, ids) < len(ids):
        await asyncio.sleep(0.01)


async def hold(agent: Agent, job: str, query: str = "WAIT=-1") -> str:
    """Wait for another phase; give it."""
    return (await agent.send("GET", f"{job}?{query}")).assert_status(200).xml.findtext(U + "phase") or ""


async def test_waiting(owner: Agent, catalogue: Database) -> None:
    job = await pending(owner)
    async with asyncio.timeout(PATIENCE):
        for query in ("WAIT=0", "WAIT=1", "WAIT=-1&PHASE=QUEUED", "wait=60&phase=executing"):
            assert await hold(owner, job, query) == "PENDING"
        for query, word, phase in (
            ("WAIT=-1", "RUN", "QUEUED"),
            ("WAIT=60&PHASE=QUEUED", "ABORT", "ABORTED"),
        ):
            waiting = asyncio.create_task(hold(owner, job, query))
            await watched(catalogue, job)
            (await owner.send("POST", f"{job}/phase?PHASE={word}")).assert_status(303)
            assert await waiting == phase
        for query in ("WAIT=-1", "WAIT=60", "WAIT=999999999&PHASE=ABORTED"):
            assert await hold(owner, job, query) == "ABORTED"


async def test_waiting_has_a_limit(hasty: Pair, session: aiohttp.ClientSession, token: str) -> None:
    agent = Agent(session, hasty, token)
    job = await pending(agent)
    async with asyncio.timeout(PATIENCE):
        for query in ("WAIT=-1", "WAIT=3600", "WAIT=999999999"):
            assert await hold(agent, job, query) == "PENDING"


@pytest.mark.parametrize("query", ["WAIT=x", "WAIT=", "WAIT=1.5", "WAIT=--1", "WAIT=1&WAIT=2", "WAIT=1&PHASE=RUNNING"])
async def test_waits_that_are_none(owner: Agent, query: str) -> None:
    (await owner.send("GET", f"{await pending(owner)}?{query}")).assert_fault(400, "InvalidArgument")


async def test_waiting_while_users_change(owner: Agent, quiet: Pair, catalogue: Database) -> None:
    """Who waits is not asked again who he is: he would miss what he waits for."""
    job = await pending(owner)
    waiting = asyncio.create_task(hold(owner, job))
    await watched(catalogue, job)
    await asyncio.to_thread(quiet.add_user, f"u{uuid.uuid4().hex}")
    async with asyncio.timeout(PATIENCE):
        (await owner.send("POST", f"{job}/phase?PHASE=RUN")).assert_status(303)
        assert await waiting == "QUEUED"


async def test_waiting_for_a_job_that_goes(owner: Agent, catalogue: Database) -> None:
    job = await pending(owner)
    waiting = asyncio.create_task(owner.send("GET", f"{job}?WAIT=-1"))
    await watched(catalogue, job)
    async with asyncio.timeout(PATIENCE):
        (await owner.send("DELETE", job)).assert_status(303)
        (await waiting).assert_fault(404, "NotFound")


async def test_a_thousand_wait(owner: Agent, quiet: Pair, hasty: Pair, catalogue: Database) -> None:
    """They hold no connection to the database, are in nobody's way, and are woken by what another process does."""
    jobs = [await pending(owner) for _ in range(WAITING)]
    chosen = [number % WAITING for number in range(CROWD)]
    waiting = [asyncio.create_task(hold(owner, jobs[number], "WAIT=-1&PHASE=PENDING")) for number in chosen]
    server = psutil.Process(quiet.processes["metadata"].pid)
    elsewhere = Agent(owner.session, hasty, owner.token)
    async with asyncio.timeout(PATIENCE):
        while len(server.net_connections("tcp")) < CROWD:
            await asyncio.sleep(0.1)
        await watched(catalogue, *jobs)
        connections = """select count(*) from pg_stat_activity
                          where datname = current_database() and application_name = 'pyvospace metadata'"""
        assert await catalogue.fetchval(connections) <= 2 * POOL
        for number, job in enumerate(jobs):
            word = ("RUN", "ABORT")[number % 2]
            (await elsewhere.send("POST", f"/transfers/{id_of(job)}/phase?PHASE={word}")).assert_status(303)
        phases = await asyncio.gather(*waiting)
    assert phases == [("QUEUED", "ABORTED")[number % 2] for number in chosen]


async def test_listener_that_is_cut_off(owner: Agent, catalogue: Database) -> None:
    """Who waits hears of what happened meanwhile, and who works finds it."""
    job = await pending(owner)
    waiting = asyncio.create_task(hold(owner, job))
    await watched(catalogue, job)
    await catalogue.fetch(CUT)
    began: asyncio.Queue[Claimed] = asyncio.Queue()
    async with asyncio.timeout(PATIENCE):
        await owner.send("POST", f"{job}/phase?PHASE=ABORT")
        assert await waiting == "ABORTED"
        async with worker(catalogue, began) as stopped:
            job = await pending(owner, "?PHASE=RUN")
            assert (await began.get()).id == id_of(job)
            await catalogue.fetch(CUT)
            await owner.send("POST", f"{job}/phase?PHASE=ABORT")
            assert await stopped.get() == id_of(job)


@pytest.fixture
def ending(quiet: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Another process, for a test that ends it."""
    with beside(quiet, tmp_path_factory) as pair:
        yield pair


async def test_process_that_ends_answers_those_who_wait(ending: Pair, owner: Agent, catalogue: Database) -> None:
    agent = Agent(owner.session, ending, owner.token)
    job = await pending(agent)
    waiting = asyncio.create_task(hold(agent, job))
    await watched(catalogue, job)
    ending.processes["metadata"].send_signal(signal.SIGTERM)
    assert await waiting == "PENDING"
