"""The NGAS backend against a double of the server: the contract, and what is special about it."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock
from uuid import uuid4

import pytest

from pyvospace.model.faults import InsufficientStorage, InvalidData, NodeBusy, ServiceBusy
from pyvospace.storage.app import load_backend
from pyvospace.storage.backend import BackendConfig, ByteRange
from pyvospace.storage.backends.ngas import NgasBackend
from pyvospace.storage.testing.contract import BackendContract
from pyvospace.storage.testing.doubles import FailAt
from pyvospace.storage.testing.rig import Rig, read, rigged
from tests.storage.serving import make_settings, serving
from tests.support.engines.ngas import Ngas, running_ngas, separate_ngas
from tests.support.pair import free_ports

MIB = 1 << 20


@pytest.fixture
def ngas(tmp_path: Path) -> Iterator[Ngas]:
    with running_ngas(tmp_path / "archive") as running:
        yield running


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with separate_ngas(tmp_path_factory.mktemp("ngas")) as url:
        yield url


def made(ngas: Ngas, tmp_path: Path, **options: str) -> NgasBackend:
    return NgasBackend.configure(BackendConfig(tmp_path / "spool", {"url": ngas.url, **options}))


@asynccontextmanager
async def using(ngas: Ngas, tmp_path: Path, **options: str) -> AsyncIterator[Rig]:
    async with rigged(made(ngas, tmp_path, **options)) as rig:
        yield rig


class TestNgasBackend(BackendContract):
    backend_class = NgasBackend
    readers_outlive_deletion = False
    interruptions, deaths = 8, 1  # of 25 and 3

    @contextmanager
    def outage(self, rig: Rig) -> Iterator[None]:
        """Let nobody listen where the server was."""
        assert isinstance(rig.backend, NgasBackend)
        server = rig.backend._server
        nowhere = replace(server._settings, url=f"http://127.0.0.1:{free_ports(1)[0]}")
        with mock.patch.object(server, "_settings", nowhere):
            yield

    @pytest.fixture
    def config(self, tmp_path: Path, archive: str) -> BackendConfig:
        return BackendConfig(tmp_path / "spool", {"url": archive, "prefix": f"{uuid4().hex}-", "list_digits": "0"})


@pytest.mark.parametrize("ranges", [True, False])
async def test_reading_goes_on_where_it_broke(ngas: Ngas, tmp_path: Path, big: bytes, ranges: bool) -> None:
    """Also with a server that knows no ranges."""
    ngas.ranges = ranges
    async with using(ngas, tmp_path) as rig:
        stored = await rig.put(big)
        ngas.cut_after = [2 * MIB, 3 * MIB, 0, 0, 4 * MIB]
        ngas.asked.clear()
        assert await read(await rig.open(stored), ByteRange(0, len(big))) == big
        assert ngas.asked.count("RETRIEVE") >= 5
        ngas.cut_after = [3 * MIB]
        span = ByteRange(MIB, 5 * MIB + 3)
        assert await read(await rig.open(stored, span), span) == big[span.start : span.stop]
        ngas.cut_after = [0] * 9
        with pytest.raises(ServiceBusy):
            await read(await rig.open(stored), ByteRange(0, len(big)))


async def test_what_is_wrong_never_reaches_the_archive(ngas: Ngas, tmp_path: Path) -> None:
    async with using(ngas, tmp_path) as rig:
        ngas.asked.clear()
        with pytest.raises(InvalidData):
            await rig.upload(rig.body([b"abc"], size=4))
        assert ngas.asked == []


async def test_an_archive_that_is_busy_or_full(ngas: Ngas, tmp_path: Path) -> None:
    async with using(ngas, tmp_path) as rig:
        ngas.busy = 1
        with pytest.raises(ServiceBusy):
            await rig.put(b"abc")
        assert await rig.locations() == []
        ngas.full = True
        with pytest.raises(InsufficientStorage):
            await rig.put(b"abc")
        ngas.full = False
        ngas.state = "OFFLINE"
        for asking in (rig.backend.check(), rig.put(b"abc")):
            with pytest.raises(ServiceBusy):
                await asking
        ngas.state = "ONLINE"
        await rig.backend.check()
        assert (await rig.put(b"abc")).location in await rig.locations()


async def test_an_archive_that_forgets_nothing(ngas: Ngas, tmp_path: Path) -> None:
    """What it may not discard stays, and the listing says so; unless told, that is an error."""
    ngas.removal_allowed = False
    async with using(ngas, tmp_path, discard="false") as rig:
        rig.catalogue.before = FailAt("commit", NodeBusy("lost"))
        with pytest.raises(NodeBusy):
            await rig.put(b"abc")
        rig.catalogue.before = FailAt("never")
        stored = await rig.put(b"abc")
        await rig.backend.delete(stored.location)
        assert len(await rig.locations()) == 2
        assert await read(await rig.open(stored), ByteRange(0, 3)) == b"abc"
    async with using(ngas, tmp_path) as rig:
        with pytest.raises(OSError, match="not accepted"):
            await rig.backend.delete(stored.location)


async def test_several_copies_and_foreign_files(ngas: Ngas, tmp_path: Path) -> None:
    """Copies on other volumes are one location, and go together; what is not ours is not seen."""
    async with using(ngas, tmp_path, list_digits="0") as rig:
        stored, empty = await rig.put(os.urandom(100), 1), await rig.put(b"", 2)
        with ngas.lock:
            row = next(row for row in ngas.rows if row["file_id"].endswith(stored.location))
            copy = {**row, "disk_id": "other", "file_name": "copy"}
            ngas.rows += [copy, {**row, "file_id": "pyvospace-1"}, {**row, "file_id": "another-" + stored.location}]
        ngas.path(copy).write_bytes(b"x")
        found = {one.location: one.size async for one in rig.backend.listing()}
        assert found == {stored.location: 100, empty.location: 0}
        await rig.backend.delete(stored.location)
        assert await rig.locations() == [empty.location]
        free, total = await rig.backend.free_space(), await rig.backend.total_space()
        assert free == 1000 * MIB
        assert total is not None
        assert total > free


async def test_through_the_server(ngas: Ngas, tmp_path: Path, big: bytes) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    options = {"url": ngas.url, "user": "vos", "password_file": str(secret)}
    settings = make_settings(tmp_path, backend="ngas", options=options)
    async with serving(settings, backend=load_backend(settings)) as server:
        for data in (b"", b"abc", big):
            assert (await server.put(data)).status == 201
            assert (await server.get()).body == data
        assert (await server.get(Range="bytes=2000000-5000000")).body == big[2_000_000:5_000_001]
    assert ngas.authorization == {"Basic " + b64encode(b"vos:open sesame").decode()}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("url", "ngas:7777"),
        ("prefix", "a_b"),
        ("command", "DISCARD"),
        ("checksums", "yes"),
        ("list_digits", "9"),
        ("timeout", "0"),
        ("password_file", "/nowhere"),
        ("colour", "blue"),
    ],
)
def test_wrong_options(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"storage.options.{option}"):
        NgasBackend.configure(BackendConfig(tmp_path, {"url": "http://127.0.0.1:7777", option: value}))
