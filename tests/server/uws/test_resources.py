"""Lists of jobs, jobs and their parts, and what their owners change (R-UWS-001 to R-UWS-093)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.instants import read_instant, write_instant
from pyvospace.wire.xml import XSI_NIL
from tests.server.uws.conftest import ARCHIVE, LONGEST, WAITING, document, id_of, listed, number_of, pending, text
from tests.support.agents import Agent, U
from tests.support.jobs import FORM, HREF, transfer
from tests.support.pair import Pair

LONG = 2500
READ_ONLY = ("results", "parameters", "error", "quote", "owner")


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
    answer = (await owner.send("GET", f"/transfers?{query}")).assert_fault(400, "InvalidArgument")
    assert query.partition("=")[0].lower() in answer.text.lower()


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
    answer = (await owner.send("POST", job, asked, headers=FORM)).assert_fault(400, "InvalidArgument")
    assert asked.partition("=")[0].lower() in answer.text.lower()
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
