"""TUS 1.0.0 as its specification has it, and what a space adds: rights, quotas, crashes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvospace.db.pool import Database
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.partials import partial_id
from pyvospace.model.vocabulary import TUS, Direction
from pyvospace.storage.partials import tus_headers
from tests.support.agents import Agent, Answer
from tests.support.resumable import CutPair

if TYPE_CHECKING:
    from pyvospace.db.pool import Connection

V = {"Tus-Resumable": "1.0.0"}
BYTES = os.urandom((3 << 20) + 123)
OFFSET = "application/offset+octet-stream"


@pytest.fixture
async def alice(cut_pair: CutPair) -> AsyncIterator[Agent]:
    async with aiohttp.ClientSession() as session:
        yield Agent(session, cut_pair, cut_pair.token)


class Way:
    """Where uploads for one node begin."""

    def __init__(self, agent: Agent, path: str, job: str, endpoint: str) -> None:
        self.agent, self.path, self.job, self.endpoint = agent, path, job, endpoint

    async def create(self, body: bytes | None = None, **headers: str) -> Answer:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            told["Content-Type"] = OFFSET
        return await self.agent.send("POST", self.endpoint, body, headers=V | told)

    async def begin(self, size: int, **headers: str) -> str:
        return (await self.create(None, Upload_Length=str(size), **headers)).assert_status(201).location

    async def patch(self, upload: str, offset: int, body: bytes, **headers: str) -> Answer:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        told = {**V, "Content-Type": OFFSET, "Upload-Offset": str(offset), **told}
        return await self.agent.send("PATCH", upload, body, headers=told)

    async def head(self, upload: str) -> Answer:
        return await self.agent.send("HEAD", upload, headers=V)

    async def stored(self) -> bytes:
        return await self.agent.pull(self.path)


@pytest.fixture
async def way(alice: Agent, cut_pair: CutPair, request: pytest.FixtureRequest) -> Way:
    path = f"{cut_pair.home}/{request.node.name}"
    return Way(alice, path, *await alice.negotiate(path, Direction.PUSH_TO_VOSPACE, TUS))


async def test_what_is_spoken(way: Way) -> None:
    told = (await way.agent.send("OPTIONS", way.endpoint)).assert_status(204)
    assert told.headers["Tus-Version"] == told.headers["Tus-Resumable"] == "1.0.0"
    assert set(told.headers["Tus-Extension"].split(",")) == {
        "creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "termination",
        "concatenation",
    }  # fmt: skip
    wrong = await way.agent.send("POST", way.endpoint, headers={"Tus-Resumable": "0.2.2", "Upload-Length": "1"})
    assert wrong.assert_fault(412, "PreconditionFailed").headers["Tus-Version"] == "1.0.0"


async def test_from_beginning_to_end(way: Way, cut_pair: CutPair) -> None:
    metadata = "filename Li4vLi4vZXZpbA==,filetype " + base64.b64encode(b"image/fits").decode()
    upload = await way.begin(len(BYTES), Upload_Metadata=metadata)
    assert cut_pair.proxy.url in upload
    head = (await way.head(upload)).assert_status(200).headers
    assert (head["Upload-Offset"], head["Upload-Length"], head["Upload-Metadata"]) == ("0", str(len(BYTES)), metadata)
    assert head["Cache-Control"] == "no-store"
    assert "Upload-Expires" in head
    assert (await way.patch(upload, 0, BYTES[:1000])).assert_status(204).headers["Upload-Offset"] == "1000"
    (await way.patch(upload, 0, BYTES)).assert_fault(409, "OffsetMismatch")
    (await way.patch(upload, 1000, BYTES)).assert_fault(413, "RequestEntityTooLarge")
    (await way.patch(upload, 1000, b"x", Content_Type="text/plain")).assert_fault(415, "UnsupportedMediaType")
    (await way.agent.get(way.path)).assert_fault(404, "NodeNotFound")
    override = {**V, "X-HTTP-Method-Override": "PATCH", "Content-Type": OFFSET, "Upload-Offset": "1000"}
    done = (await way.agent.send("POST", upload, BYTES[1000:], headers=override)).assert_status(204)
    assert done.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(BYTES).digest()).decode()}:"
    assert await way.stored() == BYTES
    assert (await way.head(upload)).headers["Upload-Offset"] == str(len(BYTES))
    assert await way.agent.phase(way.job) == "COMPLETED"
    _, reading = await way.agent.negotiate(way.path, Direction.PULL_FROM_VOSPACE)
    assert (await way.agent.send("HEAD", reading)).headers["Content-Type"] == "image/fits"


async def test_creation_with_upload_and_a_length_that_comes_later(way: Way) -> None:
    begun = (await way.create(BYTES[:10], Upload_Defer_Length="1")).assert_status(201)
    assert begun.headers["Upload-Offset"] == "10"
    assert (await way.head(begun.location)).headers["Upload-Defer-Length"] == "1"
    (await way.patch(begun.location, 10, BYTES[10:20])).assert_status(204)
    (await way.patch(begun.location, 20, b"", Upload_Length="19")).assert_fault(400, "InvalidArgument")
    (await way.patch(begun.location, 20, b"", Upload_Length="20")).assert_status(204)
    assert await way.stored() == BYTES[:20]
    (await way.create(b"", Upload_Length="0")).assert_status(201)
    assert await way.stored() == b""


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256"])
async def test_checksum(way: Way, algorithm: str) -> None:
    upload = await way.begin(len(BYTES))

    def told(data: bytes) -> str:
        return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"

    wrong = await way.patch(upload, 0, BYTES, Upload_Checksum=told(b"other"))
    assert (wrong.status, wrong.headers["Tus-Resumable"]) == (460, "1.0.0")
    assert (await way.head(upload)).headers["Upload-Offset"] == "0"
    (await way.patch(upload, 0, b"x", Upload_Checksum="crc32 AAAA")).assert_fault(400, "InvalidArgument")
    (await way.patch(upload, 0, BYTES, Upload_Checksum=told(BYTES))).assert_status(204)
    assert await way.stored() == BYTES


async def test_concatenation(way: Way) -> None:
    halves = BYTES[: 1 << 20], BYTES[1 << 20 :]
    parts = [await way.begin(len(half), Upload_Concat="partial") for half in halves]
    final = f"final;{' '.join(parts)}"
    (await way.create(Upload_Concat=final)).assert_fault(400, "InvalidArgument")
    await asyncio.gather(*(way.patch(part, 0, half) for part, half in zip(parts, halves, strict=True)))
    assert (await way.head(parts[0])).headers["Upload-Concat"] == "partial"
    (await way.agent.get(way.path)).assert_fault(404, "NodeNotFound")
    (await way.create(Upload_Concat=final, Upload_Length="1")).assert_fault(400, "InvalidArgument")
    whole = (await way.create(Upload_Concat=final)).assert_status(201).location
    assert await way.stored() == BYTES
    assert (await way.head(whole)).headers["Upload-Concat"] == final
    (await way.patch(whole, len(BYTES), b"x")).assert_fault(403, "PermissionDenied")
    (await way.head(parts[0])).assert_status(404)


async def test_termination_and_strangers(way: Way) -> None:
    upload = await way.begin(100)
    for wrong in (upload[:-1] + ("0" if upload[-1] != "0" else "1"), upload.replace("/tus/", "/tus/x")):
        assert (await way.head(wrong)).status in {403, 404, 405}
    (await way.agent.send("GET", way.endpoint.replace("/tus/", "/files/") + "/x")).assert_fault(403, "PermissionDenied")
    (await way.agent.send("DELETE", upload, headers=V)).assert_status(204)
    (await way.head(upload)).assert_status(404)


async def test_dropped_while_another_request_waits(way: Way, cut_pair: CutPair) -> None:
    upload = await way.begin(100)
    name = partial_id(upload.rpartition("/")[2])

    async def work(connection: Connection) -> asyncio.Task[Answer]:
        job = await connection.fetchval("select job_id from partials where id = $1", name)
        await connection.execute("select from jobs where id = $1 for update", job)
        asked = asyncio.create_task(way.head(upload))
        while not await connection.fetchval("select exists (select from pg_locks where not granted)"):
            await asyncio.sleep(0.01)
        await connection.execute("delete from partials where id = $1", name)
        return asked

    database = await Database.connect(cut_pair.dsn, cut_pair.database)
    try:
        asked = await database.transact(work)
    finally:
        await database.close()
    assert (await asked).status == 404


async def test_two_at_once(way: Way) -> None:
    """The second is told to wait; who asks with HEAD how far it is has given the first one up."""
    upload = await way.begin(len(BYTES))
    going = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield BYTES[:1000]
        await going.wait()

    headers = V | {"Content-Type": OFFSET, "Upload-Offset": "0", "Content-Length": str(len(BYTES))}

    async def first() -> None:
        async with way.agent.session.patch(upload, data=slow(), headers=headers):
            pass

    task = asyncio.create_task(first())
    await asyncio.sleep(0.5)
    (await way.patch(upload, 0, BYTES)).assert_fault(423, "UploadBusy")
    task.cancel()
    going.set()
    await asyncio.wait([task])
    offset = 0
    for _ in range(100):
        offset = int((await way.head(upload)).headers["Upload-Offset"])
        answer = await way.patch(upload, offset, BYTES[offset:])
        if answer.status == 204:
            break
        await asyncio.sleep(0.1)
    assert offset == 1000
    assert await way.stored() == BYTES


async def test_a_right_that_is_withdrawn(way: Way) -> None:
    upload = await way.begin(len(BYTES))
    (await way.patch(upload, 0, BYTES[:5])).assert_status(204)
    (
        await way.agent.send(
            "POST", f"{way.job}/phase", "PHASE=ABORT", headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
    ).assert_status(303)
    for answer in (await way.head(upload), await way.patch(upload, 5, BYTES[5:])):
        assert answer.status == 403
    (await way.agent.get(way.path)).assert_fault(404, "NodeNotFound")


async def test_caps(way: Way, cut_pair: CutPair) -> None:
    """Nobody begins more than so many uploads, and quotas count what has come of them."""
    token = await asyncio.to_thread(cut_pair.add_user, "bob")
    bob = Agent(way.agent.session, cut_pair, token)
    mine = Way(bob, "/home/bob/a", *await bob.negotiate("/home/bob/a", Direction.PUSH_TO_VOSPACE, TUS))
    uploads = [await mine.begin(len(BYTES)) for _ in range(40)]
    (await mine.create(Upload_Length="1")).assert_fault(413, "QuotaExceeded")
    for upload in uploads[1:]:
        (await bob.send("DELETE", upload, headers=V)).assert_status(204)
    database = await Database.connect(cut_pair.dsn, cut_pair.database)
    try:
        await database.fetchval(
            "insert into quotas (container_id, bytes) select id, 5000000 from nodes where name = 'bob' returning 1"
        )
        (await mine.patch(uploads[0], 0, BYTES[:-1])).assert_status(204)
        (await mine.create(Upload_Length="3000000")).assert_fault(413, "QuotaExceeded")
        _, put = await bob.negotiate("/home/bob/b", Direction.PUSH_TO_VOSPACE)
        (await bob.send("PUT", put, BYTES)).assert_fault(413, "QuotaExceeded")
        (await mine.patch(uploads[0], len(BYTES) - 1, BYTES[-1:])).assert_status(204)
        assert await mine.stored() == BYTES
        again = Way(bob, "/home/bob/a", *await bob.negotiate("/home/bob/a", Direction.PUSH_TO_VOSPACE, TUS))
        first, second = [await again.begin(len(BYTES)) for _ in range(2)]
        (await again.patch(first, 0, BYTES[:-1])).assert_status(204)
        (await again.patch(second, 0, BYTES[:-1])).assert_fault(413, "QuotaExceeded")
        null = Way(bob, "", *await bob.negotiate("/home/bob/.null", Direction.PUSH_TO_VOSPACE, TUS))
        (await null.patch(await null.begin(len(BYTES)), 0, BYTES)).assert_fault(413, "QuotaExceeded")
        for upload in (first, second):  # as much of the second as there was room for has been kept
            (await bob.send("DELETE", upload, headers=V)).assert_status(204)
        assert (
            await database.fetchval(
                "select count(*) from segments s join partials p on p.id = s.partial_id "
                "join users u on u.id = p.user_id where u.name = 'bob'"
            )
            == 0
        )
    finally:
        await database.close()


async def test_expiry(way: Way, cut_pair: CutPair) -> None:
    upload = await way.begin(len(BYTES))
    (await way.patch(upload, 0, BYTES[:100])).assert_status(204)
    database = await Database.connect(cut_pair.dsn, cut_pair.database)
    storage = await Database.connect(cut_pair.storage_dsn, cut_pair.database)
    try:
        await database.fetchval("update partials set expires = now() where received = 100 returning 1")
        (await way.head(upload)).assert_status(404)
        (await way.patch(upload, 100, BYTES[100:])).assert_fault(404, "NotFound")
        before = await database.fetchval("select count(*) from obsolete")
        place = await database.fetchval("select uuid from storages")
        while await storage.fetchval("select storage_api.drop_expired($1, 10)", place):
            pass
        assert await database.fetchval("select count(*) from obsolete") > before
        assert await database.fetchval("select count(*) from partials where expires <= now()") == 0
    finally:
        await database.close()
        await storage.close()


async def test_kill(way: Way, cut_pair: CutPair) -> None:
    """What was acknowledged, and every full segment, survives."""
    upload = await way.begin(len(BYTES) + 10)
    (await way.patch(upload, 0, BYTES[:10])).assert_status(204)

    async def body() -> AsyncIterator[bytes]:
        yield BYTES[: 5 << 19]
        await asyncio.Event().wait()

    headers = V | {"Content-Type": OFFSET, "Upload-Offset": "10", "Content-Length": str(len(BYTES))}
    sending = asyncio.ensure_future(way.agent.session.patch(upload, data=body(), headers=headers).__aenter__())
    while await received(cut_pair) < 10 + (2 << 20):
        await asyncio.sleep(0.05)
    await asyncio.to_thread(kill, cut_pair)
    with pytest.raises(aiohttp.ClientError):
        await sending
    await asyncio.to_thread(cut_pair.start, "storage")
    assert (await way.head(upload)).headers["Upload-Offset"] == str(10 + (2 << 20))


async def received(pair: CutPair) -> int:
    """Give how many bytes of the latest upload are safe."""
    database = await Database.connect(pair.dsn, pair.database)
    try:
        return int(await database.fetchval("select received from partials order by created desc limit 1"))
    finally:
        await database.close()


def kill(pair: CutPair) -> None:
    """Kill the storage server with its workers, at once."""
    main = psutil.Process(pair.processes["storage"].pid)
    for process in (*main.children(recursive=True), main):
        process.kill()
    pair.kill("storage")


@given(st.sampled_from(("", "final;", "final;http://[")), st.binary())
def test_headers_of_any_form(begun: str, octets: bytes) -> None:
    """Whatever stands in a header is read, or refused as an argument."""
    text = begun + octets.decode(errors="surrogateescape")
    readers: tuple[Callable[[], object], ...] = (
        lambda: tus_headers.metadata(text),
        lambda: tus_headers.checksum(text),
        lambda: tus_headers.concatenation(text),
        lambda: partial_id(text),
        lambda: tus_headers.number({"Upload-Offset": text}, "Upload-Offset"),
        lambda: tus_headers.length({"Upload-Defer-Length": text}, final=False),
    )
    for read in readers:
        with suppress(InvalidArgument):
            read()
