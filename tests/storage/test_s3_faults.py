"""The S3 backend in front of a store that answers late, wrong, in part or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pyvospace.model.faults import InsufficientStorage, ServiceBusy
from pyvospace.storage.backend import ByteRange
from pyvospace.storage.backends.s3 import S3Backend, spans
from pyvospace.storage.testing.rig import Rig, read, rigged
from tests.storage.serving import make_settings, serving
from tests.storage.test_s3 import MIB, made, models, moto, options
from tests.support.engines.flaky_s3 import Flaky, flaky_s3
from tests.support.engines.stores import Engine

__all__ = ["models", "moto"]
"""Fixtures."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "_PAUSE", 0.01)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)


@asynccontextmanager
async def behind_faults(engine: Engine, folder: Path, **more: str) -> AsyncIterator[tuple[Rig, Flaky]]:
    async with flaky_s3(engine.endpoint) as flaky:
        given = options(engine, folder) | {"endpoint": flaky.url, **more}
        async with rigged(made(given)) as rig:
            flaky.asked.clear()
            yield rig, flaky


async def require_nothing_but(rig: Rig, *locations: str) -> None:
    assert await rig.locations() == sorted(locations)
    assert await rig.leftovers() == 0


async def test_faults_that_pass(moto: Engine, tmp_path: Path, big: bytes) -> None:
    async with behind_faults(moto, tmp_path) as (rig, flaky):
        # The answer that an object was made of the parts is lost: asked again, the store knows of no such upload.
        flaky.faults = {"part": ["busy"], "complete": ["lost"], "HEAD": ["busy"]}
        stored = await rig.put(big)
        assert [flaky.names().count(name) for name in ("part", "complete", "abort")] == [3, 2, 0]
        assert await read(await rig.open(stored), ByteRange(0, len(big))) == big
        await require_nothing_but(rig, stored.location)


async def test_a_read_goes_on_where_it_broke(moto: Engine, tmp_path: Path, big: bytes) -> None:
    async with behind_faults(moto, tmp_path, concurrency="1") as (rig, flaky):
        stored = await rig.put(big)
        for fault in ("cut", "short"):
            flaky.faults, flaky.asked = {"read": ["", fault, "busy"]}, []
            assert await read(await rig.open(stored), ByteRange(0, len(big))) == big
            asked = [headers for name, headers in flaky.asked if name == "read"]
            assert [one["Range"] for one in asked[:5]] == [
                f"bytes=0-{MIB - 1}",
                f"bytes={MIB}-{2 * MIB - 1}",
                f"bytes={MIB + MIB // 2}-{2 * MIB - 1}",  # 503
                f"bytes={MIB + MIB // 2}-{2 * MIB - 1}",
                f"bytes={2 * MIB}-{3 * MIB - 1}",
            ]
            # Never of another object than the first bytes.
            assert "If-Match" not in asked[0]
            assert len({one["If-Match"] for one in asked[1:]}) == 1


async def test_faults_that_stay(moto: Engine, tmp_path: Path, big: bytes) -> None:
    async with behind_faults(moto, tmp_path) as (rig, flaky):
        before = await rig.put(big)
        for faults, raised in [
            ({"begin": ["busy"] * 2}, ServiceBusy),
            ({"part": ["busy"] * 4}, ServiceBusy),
            ({"part": ["", "quota"]}, InsufficientStorage),
            ({"complete": ["busy"] * 2}, ServiceBusy),
            ({"complete": ["lost"] * 2, "HEAD": ["busy"] * 2}, ServiceBusy),
        ]:
            flaky.faults = faults
            with pytest.raises(raised):
                await rig.put(big, 2)
            flaky.faults = {}
            await require_nothing_but(rig, before.location)
        flaky.faults = {"put": ["busy"] * 2}
        with pytest.raises(ServiceBusy):
            await rig.put(b"small", 2)
        flaky.faults = {"read": ["cut"] * 2}
        with pytest.raises(ServiceBusy, match="breaks off"):
            await rig.open(before)
        flaky.faults = {"read": ["busy"] * 2}
        with pytest.raises(ServiceBusy):
            await rig.open(before)
        assert await read(await rig.open(before), ByteRange(0, len(big))) == big


async def test_an_upload_that_cannot_be_aborted_is_left_to_the_sweep(moto: Engine, tmp_path: Path, big: bytes) -> None:
    async with behind_faults(moto, tmp_path) as (rig, flaky):
        flaky.faults = {"part": ["quota"], "abort": ["busy"] * 2}
        with pytest.raises(InsufficientStorage):
            await rig.put(big)
        assert await rig.leftovers() == 1
        await require_nothing_but(rig)


@pytest.mark.parametrize("request_name", ["put", "part"])
async def test_a_store_that_keeps_other_bytes(moto: Engine, tmp_path: Path, big: bytes, request_name: str) -> None:
    """It takes them for what was sent, and shows it by its ETag before the commit."""
    async with behind_faults(moto, tmp_path, checksum="md5") as (rig, flaky):
        flaky.faults = {request_name: ["other"]}
        with pytest.raises(OSError, match="checksum"):
            await rig.put(big if request_name == "part" else b"small")
        assert rig.catalogue.node(1).stored is None
        await require_nothing_but(rig)


async def test_a_store_that_forgets(moto: Engine, tmp_path: Path) -> None:
    """What cannot be read as it was written is no place for bytes."""
    async with flaky_s3(moto.endpoint) as flaky:
        backend = made(options(moto, tmp_path) | {"endpoint": flaky.url})
        flaky.faults = {"PUT": ["other"]}
        with pytest.raises(OSError, match="does not show at once"):
            await backend.start()
        await backend.close()


async def test_cancelled_while_the_store_is_slow(moto: Engine, tmp_path: Path) -> None:
    """Parts travel side by side, as many as the options say; what is under way is waited for and then forgotten."""
    async with behind_faults(moto, tmp_path) as (rig, flaky):
        flaky.faults = {"part": ["slow"] * 4}
        body = rig.body([*[bytes(5 * MIB)] * 3, None])
        upload = asyncio.create_task(rig.upload(body))
        while flaky.names().count("part") < 2:
            await asyncio.sleep(0.01)
        upload.cancel()
        with suppress(asyncio.CancelledError):
            await upload
        assert flaky.most_at_once["part"] == 2
        await require_nothing_but(rig)
        assert isinstance(rig.backend, S3Backend)
        assert rig.backend._budget.try_take(512 * MIB)


async def test_clients_hear_what_to_do(moto: Engine, tmp_path: Path, big: bytes) -> None:
    """Come again, there is no room, or a connection that is cut rather than a part of the bytes for all."""
    async with flaky_s3(moto.endpoint) as flaky:
        backend = made(options(moto, tmp_path) | {"endpoint": flaky.url, "concurrency": "1"})
        async with serving(make_settings(tmp_path), backend=backend) as server:
            flaky.faults = {"put": ["busy"] * 2}
            answer = await server.put(b"abc")
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
            flaky.faults = {"put": ["quota"]}
            assert (await server.put(b"abc")).status == 507
            assert (await server.put(big)).status == 201
            flaky.faults = {"read": ["busy"] * 2}
            assert (await server.get()).status == 503
            flaky.faults = {"read": ["", "", "cut", "cut"]}
            with pytest.raises(asyncio.IncompleteReadError) as broken:
                await server.get()
            assert big.startswith(broken.value.partial)


async def test_large_bodies_that_fail(moto: Engine, tmp_path: Path, big: bytes) -> None:
    """They are read from the socket by a thread; what was sent of them is forgotten."""
    backend = made(options(moto, tmp_path))
    async with serving(make_settings(tmp_path), backend=backend) as server:
        assert (await server.put(b"before")).status == 201
        wrong = await server.put(big, Digest="md5=AAAAAAAAAAAAAAAAAAAAAA==")
        assert wrong.status == 412
        cut = await server.connect()
        await cut.send(cut.head("PUT", "/files/put-1/x", {"Content_Length": str(len(big))}) + big[:-1])
        cut.writer.write_eof()
        assert (await cut.answer("PUT")).status == 400
        assert (await server.get()).body == b"before"
        assert len([one async for one in backend.locations()]) == 1
        assert await backend.sweep_staging(datetime.now(UTC) + timedelta(days=1)) == 0
        assert (await server.put(big)).status == 201
