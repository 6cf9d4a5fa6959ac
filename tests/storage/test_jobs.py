"""Uploads that fail at each step between the last byte and the answer."""

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pyvospace.config import Settings
from pyvospace.model.claims import OutcomeUnknownError
from pyvospace.model.faults import NodeLocked, ServiceBusy
from pyvospace.storage.backend import Body, StorageBackend, UploadJob
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.backends.posix_directory import Staged
from pyvospace.storage.testing.doubles import FailAt, MemoryCatalogue
from tests.storage.serving import Server, make_settings, open_files, serving, staged, stored


@pytest.fixture(params=[3, 3_000_000], ids=["small", "large"])
def data(request: pytest.FixtureRequest, big: bytes) -> bytes:
    return big[: request.param]


@pytest.mark.parametrize("step", ["claim_upload", "transaction", "store", "commit"])
async def test_failure_leaves_the_old_bytes_alone(
    storage_server: Server, storage_settings: Settings, data: bytes, step: str
) -> None:
    assert (await storage_server.put(b"old")).status == 201
    storage_server.catalogue.before = FailAt(step, NodeLocked("data.fits"))
    answer = await storage_server.put(data)
    assert (answer.status, answer.body[:10]) == (423, b"NodeLocked")
    storage_server.catalogue.before = FailAt("never")
    assert (await storage_server.get()).body == b"old"
    assert (len(stored(storage_settings)), staged(storage_settings)) == (1, [])
    assert storage_server.catalogue.node(1).writer is None
    assert (await storage_server.put(data)).status == 201


async def test_unknown_outcome_deletes_nothing(storage_server: Server, storage_settings: Settings, data: bytes) -> None:
    """The commit happened, its answer was lost: the node has the new bytes and the store must have them too."""
    steps = storage_server.catalogue.before = FailAt("committed")
    answer = await storage_server.put(data)
    assert answer.status == 500
    assert b"send them again" in answer.body
    assert "release" not in steps.steps
    storage_server.catalogue.before = FailAt("never")
    assert (await storage_server.get()).body == data
    assert (len(stored(storage_settings)), staged(storage_settings)) == (1, [])


async def test_unknown_outcome_of_what_did_not_happen(
    storage_server: Server, storage_settings: Settings, data: bytes
) -> None:
    storage_server.catalogue.before = FailAt("commit", OutcomeUnknownError())
    assert (await storage_server.put(data)).status == 500
    assert (len(stored(storage_settings)), staged(storage_settings)) == (1, [])


@pytest.mark.parametrize("step", ["commit", "release"])
async def test_failure_while_cleaning_up(storage_server: Server, data: bytes, step: str) -> None:
    """What cannot be cleaned up now is the sweep's; the client hears why his upload failed."""

    def fail(done: str) -> None:
        if done in {"store", step}:
            raise ServiceBusy("the first") if done == "store" else OSError("the second")

    storage_server.catalogue.before = fail
    answer = await storage_server.put(data)
    assert (answer.status, answer.body[:21]) == (503, b"ServiceBusy the first")


async def test_defect_in_the_catalogue(storage_server: Server, data: bytes) -> None:
    storage_server.catalogue.before = FailAt("store", ZeroDivisionError("secret"))
    answer = await storage_server.put(data)
    assert answer.status == 500
    assert b"secret" not in answer.body


async def test_second_writer_is_busy(storage_server: Server) -> None:
    connection = await storage_server.connect()
    await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": "10"}))
    await connection.send(b"12345")
    await asyncio.sleep(0.05)
    assert (await storage_server.put(b"second")).status == 409
    await connection.send(b"67890")
    assert (await connection.answer()).status == 201
    assert (await storage_server.get()).body == b"1234567890"


@pytest.fixture
def short_leases() -> MemoryCatalogue:
    catalogue = MemoryCatalogue()
    catalogue.lease = 0.15
    return catalogue


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_lease_is_renewed_while_bytes_come(tmp_path: Path, short_leases: MemoryCatalogue, size: int) -> None:
    steps = short_leases.before = FailAt("never")
    async with serving(make_settings(tmp_path), catalogue=short_leases) as server:
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(size)}))
        for _ in range(4):
            await connection.send(bytes(size // 4))
            await asyncio.sleep(0.1)
        assert (await connection.answer()).status == 201
        assert steps.steps.count("renew") >= 3


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_lost_lease_ends_the_upload(tmp_path: Path, short_leases: MemoryCatalogue, size: int) -> None:
    settings = make_settings(tmp_path)
    async with serving(settings, catalogue=short_leases) as server:
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(size)}))
        await connection.send(bytes(size // 2))
        await asyncio.sleep(0.05)
        short_leases.steal(1)
        answer = await connection.answer(wait=False)
        assert (answer.status, answer.body[:8]) == (409, b"NodeBusy")
        assert staged(settings) == []


async def test_lease_survives_a_database_that_is_away_for_a_moment(
    tmp_path: Path, short_leases: MemoryCatalogue
) -> None:
    failures = iter([True, False, True, False])

    def flaky(step: str) -> None:
        if step == "renew" and next(failures, False):
            raise ServiceBusy("restarting")

    short_leases.before = flaky
    async with serving(make_settings(tmp_path), catalogue=short_leases) as server:
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": "4"}))
        for _ in range(4):
            await connection.send(b"x")
            await asyncio.sleep(0.06)
        assert (await connection.answer()).status == 201


async def test_lease_that_cannot_be_renewed_in_time_is_lost(tmp_path: Path, short_leases: MemoryCatalogue) -> None:
    short_leases.before = FailAt("renew", ServiceBusy("away"))
    async with serving(make_settings(tmp_path), catalogue=short_leases) as server:
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": "4"}))
        assert (await connection.answer(wait=False)).status == 409


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_stopping_server_leaves_nothing(tmp_path: Path, size: int) -> None:
    settings = make_settings(tmp_path)
    before = open_files()
    catalogue = MemoryCatalogue()
    with contextlib.suppress(asyncio.CancelledError):
        async with serving(settings, catalogue=catalogue, patience=0.1) as server:
            connection = await server.connect()
            await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(size)}))
            await connection.send(bytes(size // 2))
            await asyncio.sleep(0.05)
            server.writers.clear()
    connection.writer.close()
    assert catalogue.released == ["the storage server stopped"]
    assert (staged(settings), stored(settings)) == ([], [])
    await asyncio.sleep(0.05)
    assert open_files() <= before


async def test_stopping_server_ends_its_transactions(tmp_path: Path) -> None:
    """A cancelled commit would have an unknown outcome: the stop waits for it."""
    catalogue = MemoryCatalogue()
    reached = asyncio.Event()
    publish = PosixBackend._publish

    def slow(self: PosixBackend, files: Sequence[tuple[Staged, str]]) -> list[BaseException | None]:
        loop.call_soon_threadsafe(reached.set)
        time.sleep(0.5)
        return publish(self, files)

    loop = asyncio.get_running_loop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PosixBackend, "_publish", slow)
        async with serving(make_settings(tmp_path), catalogue=catalogue, patience=0.1) as server:
            connection = await server.connect()
            await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": "1"}) + b"x")
            await reached.wait()
            server.writers.clear()
    connection.writer.close()
    assert catalogue.node(1).stored is not None
    assert len(stored(make_settings(tmp_path))) == 1


class FullDisk(PosixBackend):
    """The real error of a real device: /dev/full."""

    async def upload(self, job: UploadJob, body: Body) -> None:
        del job
        await body.write_to(lambda: os.open("/dev/full", os.O_WRONLY))


@pytest.fixture
def small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_more_bytes_than_can_be_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody knows how many bytes fit."""
    for question in ("free_space", "total_space"):
        monkeypatch.setattr(PosixBackend, question, getattr(StorageBackend, question))
    async with serving(make_settings(tmp_path)) as server:
        connection = await server.connect()
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": str(2**63)}))
        answer = await connection.answer()
        assert answer.status == 507
        assert answer.body.startswith(b"InsufficientStorage there is no room")


async def test_full_disk(tmp_path: Path, data: bytes) -> None:
    async with serving(make_settings(tmp_path), backend=FullDisk(tmp_path / "store")) as server:
        for _ in range(2):
            answer = await server.put(data)
            assert answer.status == 507
            assert answer.body.startswith(b"InsufficientStorage there is no room")
        assert server.catalogue.released == ["internal error of the storage server"] * 2


async def test_file_size_limit_of_the_system(
    storage_server: Server, storage_settings: Settings, big: bytes, small_files: None
) -> None:
    assert (await storage_server.put(b"old")).status == 201
    assert (await storage_server.put(big)).status == 507
    assert staged(storage_settings) == []
    assert (await storage_server.get()).body == b"old"


class Careless(PosixBackend):
    """A plugin that gets it wrong."""

    fault = ""

    async def upload(self, job: UploadJob, body: Body) -> None:
        if self.fault == "after the commit":
            await super().upload(job, body)
            raise RuntimeError(self.fault)
        if self.fault != "nothing":
            await self._consume(body)
            await self._turn(job)
        if self.fault == "two transactions":
            await self._turn(job)

    async def _consume(self, body: Body) -> None:
        if self.fault == "before the body":
            return
        async for _ in body:
            if self.fault == "part of the body":
                break

    async def _turn(self, job: UploadJob) -> None:
        async with job.transaction() as transaction:
            for _ in range({"no store": 0, "two stores": 2}.get(self.fault, 1)):
                await transaction.store("x")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("nothing", 500),
        ("before the body", 500),
        ("part of the body", 500),
        ("no store", 500),
        ("two stores", 500),
        ("two transactions", 201),
        ("after the commit", 201),
    ],
)
async def test_careless_plugin(tmp_path: Path, big: bytes, fault: str, status: int) -> None:
    backend = Careless(tmp_path / "store")
    backend.fault = fault
    async with serving(make_settings(tmp_path), backend=backend) as server:
        assert (await server.put(big)).status == status
        assert (server.catalogue.node(1).stored is not None) == (status == 201)
        assert server.catalogue.node(1).writer is None


@pytest.mark.parametrize("chunks", [True, False])
async def test_push_into_nothing(storage_server: Server, storage_settings: Settings, data: bytes, chunks: bool) -> None:
    storage_server.catalogue.discard = True
    answer = await storage_server.put(data)
    assert answer.status == 201
    assert "digest" in answer.headers
    assert (stored(storage_settings), staged(storage_settings)) == ([], [])
    assert storage_server.catalogue.node(1).writer is None
