"""The job pool, over a catalogue in memory: what servers of other protocols may rely on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyvospace.model.audit import Action
from pyvospace.model.callers import Origin
from pyvospace.model.faults import (
    ChecksumMismatch,
    InvalidData,
    NodeBusy,
    PermissionDenied,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceBusy,
)
from pyvospace.model.ranges import ByteRange
from pyvospace.storage.backend import Download, DownloadJob, StreamBytes
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.intake import Intake
from pyvospace.storage.jobpool import Announced, Endpoint, JobPool
from pyvospace.storage.ongoing import Ongoing
from pyvospace.storage.room import Room
from pyvospace.storage.testing.doubles import MemoryCatalogue
from pyvospace.storage.threads import Workers
from tests.storage.serving import OpenVerifier

if TYPE_CHECKING:
    from pyvospace.service.audit import Entry

PEER = Origin("127.0.0.1", "a word")
BIG = os.urandom(9_000_001)


@dataclass
class Streaming:
    """A backend that has no files to hand out; counts what was asked for."""

    data: bytes
    asked: int = 0

    async def download(self, _job: DownloadJob, byte_range: ByteRange | None) -> Download:
        self.asked += 1
        part = self.data if byte_range is None else self.data[byte_range.start : byte_range.stop]

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(part), 1 << 20):
                yield part[start : start + (1 << 20)]

        return StreamBytes(pieces())


@dataclass
class Notes:
    """What the audit log is told."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)


@dataclass
class Bench:
    """A pool and what is around it."""

    catalogue: MemoryCatalogue
    pool: JobPool
    ongoing: Ongoing
    notes: Notes
    path: Path

    async def endpoint(self, token: str = "put-1") -> Endpoint:
        return await self.pool.open(token, PEER)

    def staged(self) -> list[Path]:
        return [file for file in self.path.rglob("*") if file.is_file() and "staging" in file.parts]


@asynccontextmanager
async def a_bench(path: Path, *, idle: float = 30.0, limit: int | None = None) -> AsyncIterator[Bench]:
    backend, catalogue, workers, ongoing, notes = PosixBackend(path), MemoryCatalogue(), Workers(), Ongoing(), Notes()
    await backend.start()
    pool = JobPool(
        catalogue=catalogue,
        backend=backend,
        verifier=OpenVerifier(),
        workers=workers,
        intake=Intake(catalogue, backend, Room(backend, 0.0), limit=limit),
        ongoing=ongoing,
        idle=idle,
        drain=30.0,
        audit=notes,  # type: ignore[arg-type]
    )
    yield Bench(catalogue, pool, ongoing, notes, path)
    await ongoing.end()
    workers.close()
    await backend.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with a_bench(tmp_path) as made:
        yield made


async def store(bench: Bench, data: bytes, **more: object) -> None:
    async with (await bench.endpoint()).upload(**more) as upload:  # type: ignore[arg-type]
        for start in range(0, len(data), 1 << 18):
            await upload.write(data[start : start + (1 << 18)])
        await upload.commit()


async def fetch(bench: Bench) -> bytes:
    async with (await bench.endpoint("get-1")).download() as download:
        return b"".join([piece async for piece in download.pieces()])


async def test_upload_and_download(bench: Bench) -> None:
    for data in (b"", b"abc", BIG):
        await store(bench, data, content_type="image/fits")
        bench.catalogue.node(1).waiting_job = "job"
        async with (await bench.endpoint("get-1")).download() as download:
            assert (download.size, download.content_type, download.name) == (len(data), "image/fits", "data.fits")
            assert await download.read(len(data), 5) == b""
            assert await download.read(1, 1) == data[1:2]
            part = ByteRange(0, min(2, len(data)))
            assert b"".join([piece async for piece in download.pieces(part)]) == data[:2]
        assert await fetch(bench) == data
    assert bench.catalogue.deliveries
    assert bench.staged() == []
    assert {(entry.action, entry.outcome) for entry in bench.notes.entries} == {(Action.READ_BYTES, "done")}


async def test_streams_are_read_in_windows(bench: Bench) -> None:
    await store(bench, BIG)
    streaming = Streaming(BIG)
    bench.pool.backend = streaming  # type: ignore[assignment]
    async with (await bench.endpoint("get-1")).download() as download:
        blocks = [await download.read(start, 40_000) for start in range(0, len(BIG), 40_000)]
        assert b"".join(blocks) == BIG
        last, first = await asyncio.gather(download.read(8_999_990, 100), download.read(0, 10))
        assert (last, first) == (BIG[8_999_990:], BIG[:10])
    assert streaming.asked < 10


async def test_what_is_not_committed_leaves_nothing(bench: Bench) -> None:
    await store(bench, b"old")
    async with (await bench.endpoint()).upload() as upload:
        await upload.write(BIG)
    with suppress(ConnectionError):
        async with (await bench.endpoint()).upload() as upload:
            await upload.write(BIG[:100])
            raise ConnectionError
    with pytest.raises(InvalidData):
        await store(bench, b"short", size=6)
    with pytest.raises(ChecksumMismatch):
        await store(bench, b"new", announced=Announced(md5=bytes(16)))
    assert await fetch(bench) == b"old"
    assert bench.staged() == []
    assert len(bench.catalogue.released) == 4
    await store(bench, b"new")
    assert await fetch(bench) == b"new"


async def test_faults_come_to_who_writes(tmp_path: Path) -> None:
    async with a_bench(tmp_path, limit=1 << 20, idle=0.2) as bench:
        with pytest.raises(RequestEntityTooLarge):
            await store(bench, BIG)
        with pytest.raises(RequestEntityTooLarge):
            await store(bench, b"", size=1 << 21)
        async with (await bench.endpoint()).upload() as upload:
            await upload.write(b"x")
            await asyncio.sleep(0.4)
            with pytest.raises(RequestTimeout):
                await upload.write(b"y")
        async with (await bench.endpoint()).upload():
            with pytest.raises(NodeBusy):
                await store(bench, b"")
        with pytest.raises(PermissionDenied):
            (await bench.endpoint("get-1")).upload()
        with pytest.raises(PermissionDenied):
            await bench.pool.log_in("pigeon", "1", PEER)
        assert {entry.outcome for entry in bench.notes.entries} == {"RequestEntityTooLarge", "PermissionDenied"}
        assert bench.staged() == []


async def test_what_is_under_way_may_end(bench: Bench) -> None:
    await bench.pool.drain()
    async with (await bench.endpoint()).upload() as upload:
        await upload.write(b"the last ")
        waiting = asyncio.create_task(bench.pool.drain())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await upload.write(b"bytes")
        await upload.commit()
    await waiting
    assert await fetch(bench) == b"the last bytes"


async def test_end_of_the_server(bench: Bench) -> None:
    async with (await bench.endpoint()).upload() as upload:
        await upload.write(BIG)
        await asyncio.sleep(0.05)  # until it has begun
        await bench.ongoing.end()
        with pytest.raises(ServiceBusy):
            await upload.commit()
    assert bench.staged() == []
    assert bench.catalogue.nodes[1].stored is None


async def test_nobody_is_served_while_the_service_is_offline(bench: Bench) -> None:
    def closed() -> None:
        raise ServiceBusy("until tomorrow")

    bench.pool._standing = closed  # as the state of the service says
    with pytest.raises(ServiceBusy):
        await bench.endpoint()
