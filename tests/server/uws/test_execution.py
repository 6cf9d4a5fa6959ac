"""Jobs that execute, driven by clients and by workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from pyvospace.db.pool import Database
from pyvospace.model.instants import read_instant
from pyvospace.model.jobs import Claimed
from pyvospace.model.vocabulary import CORE
from pyvospace.wire.uws import PROGRESS
from tests.server.uws.conftest import document, hold, id_of, number_of, pending, text, worker
from tests.support.agents import Agent, U, endpoints_of, transfer_document
from tests.support.jobs import make_job, transfer


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
        assert 0 < int(found.get("bytesPerSecond") or 0) <= 50
        root = await document(owner, told)
        left = read_instant(root.findtext(U + "quote") or "") - datetime.now(UTC)
        assert left.total_seconds() > 20
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
