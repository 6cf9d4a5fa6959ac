"""The job of a synchronous transfer (UWS 1.1; R-UWS, R-XFER, J3 to J11, I19, I22)."""

from __future__ import annotations

import asyncio
import re
import uuid

import pytest

from pyvospace.db.pool import Database
from pyvospace.model.vocabulary import CORE
from pyvospace.wire.xml import XSI_NIL, V
from tests.server.conftest import Space
from tests.support.agents import Agent, U, children_of, endpoints_of, uri_of

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"
DETAILS = "/results/transferDetails"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ORDER = (
    "jobId", "ownerId", "phase", "quote", "creationTime", "startTime", "endTime", "executionDuration", "destruction",
    "parameters", "results", "errorSummary", "jobInfo",
)  # fmt: skip
PARTS = ("phase", "results", "parameters", "owner", "quote", "executionduration", "destruction")


async def failed_job(alice: Agent, folder: str) -> str:
    answer = await alice.sync(f"{folder}/missing", PULL, CORE + "httpsget")
    return answer.assert_status(303).location.removesuffix(DETAILS)


async def test_document(alice: Agent, folder: str) -> None:
    job, _ = await alice.negotiate(f"{folder}/a", PUSH)
    root = (await alice.send("GET", job)).assert_status(200).xml
    assert root.get("version") == "1.1"
    found = [one.tag.removeprefix(U) for one in root]
    assert found == [name for name in ORDER if name in found]
    assert {"startTime", "endTime", "executionDuration", "destruction", "parameters", "results", "jobInfo"} <= set(
        found
    )
    assert root.findtext(U + "jobId") == job.rsplit("/", 1)[1]
    assert root.findtext(U + "ownerId") == "alice"
    assert root.findtext(U + "phase") == "EXECUTING"
    for name in ("creationTime", "destruction"):
        assert INSTANT.fullmatch(root.findtext(U + name) or "")
    ended = root.find(U + "endTime")
    assert ended is not None
    assert ended.get(XSI_NIL) == "true"
    transfer = root.find(f"{U}jobInfo/{V}transfer")
    assert transfer is not None
    assert transfer.findtext(V + "target") == uri_of(f"{folder}/a")
    assert endpoints_of(transfer) == [], "an endpoint is a secret, a job document may be shown around"


async def test_results(alice: Agent, folder: str) -> None:
    job, _ = await alice.negotiate(f"{folder}/a", PUSH)
    href = "{http://www.w3.org/1999/xlink}href"
    whole = {
        one.get("id"): one.get(href) for one in (await alice.send("GET", job)).xml.iterfind(f"{U}results/{U}result")
    }
    alone = {one.get("id"): one.get(href) for one in (await alice.send("GET", f"{job}/results")).xml}
    target = uri_of(f"{folder}/a")
    assert whole == alone == {"transferDetails": job + DETAILS, "dataNode": target, "target": target}


async def test_parts(alice: Agent, folder: str) -> None:
    job, _ = await alice.negotiate(f"{folder}/a", PUSH)
    for part in PARTS:
        answer = (await alice.send("GET", f"{job}/{part}")).assert_status(200)
        document = part in {"results", "parameters"}
        assert answer.headers["Content-Type"] == ("text/xml" if document else "text/plain")
        if not document:
            assert answer.text.strip() == answer.text
    assert (await alice.send("GET", f"{job}/owner")).text == "alice"
    assert (await alice.send("GET", f"{job}/quote")).text == ""
    assert INSTANT.fullmatch((await alice.send("GET", f"{job}/destruction")).text)
    (await alice.send("GET", f"{job}/error")).assert_fault(404, "NotFound")
    (await alice.send("GET", f"{job}/nonsense")).assert_fault(404, "NotFound")
    (await alice.send("GET", f"{job}/results/nonsense")).assert_fault(404, "NotFound")


async def test_push_from_agreement_to_completion(alice: Agent, folder: str) -> None:
    job, endpoint = await alice.negotiate(f"{folder}/a", PUSH)
    assert await alice.phase(job) == "EXECUTING"
    (await alice.send("PUT", endpoint, b"x")).assert_status(201)
    assert await alice.phase(job) == "COMPLETED"
    root = (await alice.send("GET", job)).xml
    times = [root.findtext(U + name) or "" for name in ("creationTime", "startTime", "endTime", "destruction")]
    assert times == sorted(times)
    assert len(endpoints_of((await alice.send("GET", job + DETAILS)).xml)) == 1


async def test_pull_completes_with_the_first_whole_delivery(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"0123456789")
    job, endpoint = await alice.negotiate(f"{folder}/a", PULL)
    (await alice.send("HEAD", endpoint)).assert_status(200)
    (await alice.send("GET", endpoint, headers={"Range": "bytes=0-3"})).assert_status(206)
    assert await alice.phase(job) == "EXECUTING"
    (await alice.send("GET", endpoint)).assert_status(200)
    while await alice.phase(job) != "COMPLETED":  # it is recorded behind the last byte
        await asyncio.sleep(0.01)
    # The endpoint stays usable, for ranges and resumption.
    assert (await alice.send("GET", endpoint, headers={"Range": "bytes=4-"})).body == b"456789"


async def test_failed_negotiation(alice: Agent, folder: str) -> None:
    job = await failed_job(alice, folder)
    root = (await alice.send("GET", job)).assert_status(200).xml
    assert root.findtext(U + "phase") == "ERROR"
    summary = root.find(U + "errorSummary")
    assert summary is not None
    assert (summary.get("type"), summary.get("hasDetail")) == ("fatal", "true")
    assert summary.findtext(U + "message") == f"Node Not Found: vos://localhost~space{folder}/missing"
    assert await alice.error(job) == "NodeNotFound", "the bare name: vos compares it"
    assert root.findtext(U + "endTime")
    assert endpoints_of((await alice.send("GET", job + DETAILS)).assert_status(200).xml) == []


async def test_failed_upload_may_be_repeated(alice: Agent, folder: str) -> None:
    await alice.push(f"{folder}/a", b"old")
    job, endpoint = await alice.negotiate(f"{folder}/a", PUSH)
    wrong = {"Digest": "md5=" + "A" * 22 + "=="}
    assert (await alice.send("PUT", endpoint, b"new", headers=wrong)).status == 412
    assert await alice.phase(job) == "EXECUTING"
    assert await alice.pull(f"{folder}/a") == b"old"
    (await alice.send("PUT", endpoint, b"new")).assert_status(201)
    assert await alice.phase(job) == "COMPLETED"


async def test_jobs_are_their_owners_alone(space: Space, folder: str) -> None:
    alice, bea, nobody = space.agent("alice"), space.agent("bea"), space.agent("nobody")
    jobs = [(await alice.negotiate(f"{folder}/a", PUSH))[0], await failed_job(alice, folder)]
    for job in jobs:
        for path in ("", DETAILS, "/error", *(f"/{part}" for part in PARTS)):
            (await bea.send("GET", job + path)).assert_fault(403, "PermissionDenied")
            (await nobody.send("GET", job + path)).assert_fault(401, "NotAuthenticated")
        (await bea.send("POST", f"{job}/phase?PHASE=ABORT")).assert_fault(403, "PermissionDenied")
        (await nobody.send("POST", f"{job}/phase?PHASE=ABORT")).assert_fault(401, "NotAuthenticated")
    assert await alice.phase(jobs[0]) == "EXECUTING"
    (await space.agent("admin").send("GET", jobs[0])).assert_fault(403, "PermissionDenied")


async def test_anonymous_job(space: Space, shared: str) -> None:
    """Whoever knows its id may see it: the id is the only key there is."""
    alice, nobody = space.agent("alice"), space.agent("nobody")
    await alice.push(f"{shared}/a", b"x")
    await alice.post(f"{shared}/a", properties={CORE + "ispublic": "true"})
    job, _ = await nobody.negotiate(f"{shared}/a", PULL)
    owner = (await nobody.send("GET", job)).xml.find(U + "ownerId")
    assert owner is not None
    assert owner.get(XSI_NIL) == "true"
    assert (await nobody.send("GET", f"{job}/owner")).text == ""


@pytest.mark.parametrize("job", ["0" * 40, "f" * 40, "x", "0" * 39, "0" * 41, "A" * 40, "%00", "..", "%27", "0" * 4000])
async def test_unknown_job(alice: Agent, nobody: Agent, job: str) -> None:
    for agent in (alice, nobody):
        for path in ("", "/phase", DETAILS, "/error"):
            (await agent.send("GET", f"/transfers/{job}{path}")).assert_fault(404, "NotFound")


async def test_abort(alice: Agent, folder: str) -> None:
    job, endpoint = await alice.negotiate(f"{folder}/a", PUSH)
    answer = (await alice.send("POST", f"{job}/phase?PHASE=ABORT")).assert_status(303)
    assert answer.location == job
    assert await alice.phase(job) == "ABORTED"
    root = (await alice.send("GET", job)).xml
    assert root.findtext(U + "endTime")
    assert (await alice.send("PUT", endpoint, b"x")).status == 403
    assert endpoints_of((await alice.send("GET", job + DETAILS)).xml) == []
    assert children_of(await alice.node(folder)) == []
    # Once more, and RUN: it stays as it is.
    (await alice.send("POST", f"{job}/phase?PHASE=ABORT")).assert_status(303)
    (await alice.send("POST", f"{job}/phase?PHASE=RUN")).assert_fault(403, "PermissionDenied")
    assert await alice.phase(job) == "ABORTED"


@pytest.mark.parametrize(
    ("url", "body", "headers"),
    [
        ("?PHASE=ABORT", None, {}),
        ("?phase=abort", None, {}),
        ("", "PHASE=ABORT", {"Content-Type": "application/x-www-form-urlencoded"}),
        ("", "phase=ABORT", {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}),
    ],
)
async def test_how_abort_may_be_said(
    alice: Agent, folder: str, url: str, body: str | None, headers: dict[str, str]
) -> None:
    await alice.push(f"{folder}/a", b"x")
    job, endpoint = await alice.negotiate(f"{folder}/a", PULL)
    (await alice.send("POST", f"{job}/phase{url}", body, headers=headers)).assert_status(303)
    assert await alice.phase(job) == "ABORTED"
    assert (await alice.send("GET", endpoint)).status == 403


async def test_completed_job_stays_completed(alice: Agent, folder: str) -> None:
    job, endpoint = await alice.negotiate(f"{folder}/a", PUSH)
    (await alice.send("PUT", endpoint, b"x")).assert_status(201)
    (await alice.send("POST", f"{job}/phase?PHASE=ABORT")).assert_status(303)
    assert await alice.phase(job) == "COMPLETED"
    assert await alice.pull(f"{folder}/a") == b"x"


@pytest.mark.parametrize("phase", ["", "SUSPEND", "COMPLETED", "%00", "RUN&PHASE=ABORT"])
async def test_other_words(alice: Agent, folder: str, phase: str) -> None:
    job, _ = await alice.negotiate(f"{folder}/a", PUSH)
    (await alice.send("POST", f"{job}/phase?PHASE={phase}")).assert_fault(400, "InvalidArgument")
    (await alice.send("POST", f"{job}/phase")).assert_fault(400, "InvalidArgument")
    assert await alice.phase(job) == "EXECUTING"


async def test_get_changes_nothing(alice: Agent, folder: str) -> None:
    job, _ = await alice.negotiate(f"{folder}/a", PUSH)
    (await alice.send("GET", f"{job}/phase?PHASE=ABORT")).assert_status(200)
    assert await alice.phase(job) == "EXECUTING"
    (await alice.send("POST", f"{job}/phase?PHASE=RUN")).assert_fault(403, "PermissionDenied")


async def test_abort_of_an_upload_under_way(alice: Agent, folder: str) -> None:
    job, endpoint = await alice.negotiate(f"{folder}/a", PUSH)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> object:
        yield b"x" * 100_000
        begun.set()
        await go_on.wait()
        yield b"x"

    async def upload() -> int:
        async with alice.session.put(endpoint, data=slowly()) as response:
            return response.status

    uploading = asyncio.create_task(upload())
    await begun.wait()
    while (await alice.send("GET", job)).xml.find(U + "startTime").get(XSI_NIL):  # type: ignore[union-attr]
        await asyncio.sleep(0.01)
    (await alice.send("POST", f"{job}/phase?PHASE=ABORT")).assert_status(303)
    go_on.set()
    assert await uploading == 403
    assert await alice.phase(job) == "ABORTED"
    assert children_of(await alice.node(folder)) == []


async def test_node_is_busy_while_bytes_arrive(alice: Agent, folder: str) -> None:
    path = f"{folder}/a"
    await alice.push(path, b"old")
    _, first = await alice.negotiate(path, PUSH)
    _, second = await alice.negotiate(path, PUSH)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> object:
        yield b"new"
        begun.set()
        await go_on.wait()

    async def upload() -> int:
        async with alice.session.put(first, data=slowly()) as response:
            return response.status

    uploading = asyncio.create_task(upload())
    await begun.wait()
    while (await alice.node(path)).get("busy") != "true":
        await asyncio.sleep(0.01)
    answer = await alice.send("PUT", second, b"other")
    assert (answer.status, answer.fault) == (409, "NodeBusy")
    assert await alice.pull(path) == b"old"
    go_on.set()
    assert await uploading == 201
    assert (await alice.node(path)).get("busy") == "false"
    assert await alice.pull(path) == b"new"


async def test_expiry_and_destruction(alice: Agent, folder: str, catalogue: Database) -> None:
    job, endpoint = await alice.negotiate(f"{folder}/a", PUSH)
    name = job.rsplit("/", 1)[1]
    await catalogue.fetch("update jobs set expires = now() - interval '1 s' where id = $1", name)
    assert (await alice.send("PUT", endpoint, b"x")).status == 403
    assert (await alice.send("HEAD", endpoint)).status == 403
    assert endpoints_of((await alice.send("GET", job + DETAILS)).xml) == []
    await catalogue.fetch("update jobs set destruction = now() - interval '1 s' where id = $1", name)
    (await alice.send("GET", job)).assert_fault(404, "NotFound")


async def test_job_of_a_node_with_an_odd_name(alice: Agent, folder: str) -> None:
    name = f"{uuid.uuid4().hex}%20%26%3C%25%23"
    job, endpoint = await alice.negotiate(f"{folder}/{name}", PUSH)
    (await alice.send("PUT", endpoint, b"x")).assert_status(201)
    assert children_of(await alice.node(folder)) == [name]
    assert (await alice.send("GET", job)).xml.findtext(f".//{V}target") == uri_of(f"{folder}/{name}")
