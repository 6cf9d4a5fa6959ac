"""The Azure backend against Azurite: the contract, and what is special about it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock
from uuid import uuid4

import aiohttp
import pytest

from pyvospace.model.claims import StoredFile
from pyvospace.model.faults import InvalidData, ServiceBusy
from pyvospace.storage.app import load_backend
from pyvospace.storage.backend import BackendConfig, ByteRange, Redirect, StreamBytes
from pyvospace.storage.backends import azure_settings
from pyvospace.storage.backends.azure import AzureBackend
from pyvospace.storage.backends.azure_settings import Account
from pyvospace.storage.jobs import ClaimedDownload
from pyvospace.storage.testing.contract import BackendContract
from pyvospace.storage.testing.rig import Rig, read, rigged
from tests.storage.serving import make_settings, serving
from tests.support.engines.azurite import ACCOUNT, KEY, Azurite, running_azurite
from tests.support.engines.azurite.flaky import Flaky, flaky_azurite
from tests.support.pair import free_ports

MIB = 1 << 20


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


def options(azurite: Azurite, **more: str) -> dict[str, str]:
    place = {"container": "space", "prefix": f"{uuid4().hex}/", "block_size": str(MIB)}
    return {"connection_string_file": str(azurite.connection_string_file), **place, **more}


def keyed(azurite: Azurite, url: str, **more: str) -> dict[str, str]:
    """Give options that reach the account at another URL."""
    account = {"account": ACCOUNT, "account_url": url, "account_key_file": str(azurite.key_file)}
    return {name: value for name, value in options(azurite, **more).items() if "connection" not in name} | account


def made(given: dict[str, str]) -> AzureBackend:
    return AzureBackend.configure(BackendConfig(Path("unused"), given))


@asynccontextmanager
async def behind_faults(azurite: Azurite, **more: str) -> AsyncIterator[tuple[Rig, Flaky]]:
    async with flaky_azurite(azurite.url) as flaky, rigged(made(keyed(azurite, flaky.url, **more))) as rig:
        yield rig, flaky


class TestAzureBackend(BackendContract):
    backend_class = AzureBackend
    readers_outlive_deletion = False
    interruptions, deaths = 8, 1  # of 25 and 3
    medium = 2 * MIB + 17

    @contextmanager
    def outage(self, rig: Rig) -> Iterator[None]:
        """Let nobody listen where the store was."""
        backend, nowhere = rig.backend, f"http://127.0.0.1:{free_ports(1)[0]}/{ACCOUNT}"
        assert isinstance(backend, AzureBackend)
        settings = replace(backend._settings, account=Account(url=nowhere, name=ACCOUNT, key=KEY))
        with mock.patch.object(azure_settings, "_TRIES", 0):
            client = azure_settings.connect(settings, backend._stack)
        with mock.patch.object(backend, "_client", client):
            yield

    @pytest.fixture
    def config(self, tmp_path: Path, azurite: Azurite) -> BackendConfig:
        return BackendConfig(tmp_path, options(azurite))


async def test_faults_that_pass(azurite: Azurite, big: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_settings, "_FIRST_WAIT", 0)
    async with behind_faults(azurite) as (rig, flaky):
        # The answer to the commit is lost: the repetition finds the blob there and sees that it is ours.
        flaky.faults = {"block": ["", "busy"], "blocklist": ["lost"]}
        stored = await rig.put(big)
        assert flaky.asked.count("block") == len(big) // MIB + 2
        flaky.faults, flaky.asked = {"read": ["", "cut", "", "busy"]}, []
        assert await read(await rig.open(stored), ByteRange(0, len(big))) == big
        assert flaky.asked.count("read") == len(big) // MIB + 3  # nothing that had come was asked for again


async def test_faults_that_stay(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_settings, "_FIRST_WAIT", 0)
    monkeypatch.setattr(azure_settings, "_TRIES", 1)
    async with behind_faults(azurite) as (rig, flaky):
        before = await rig.put(b"before")
        flaky.faults = {"block": ["busy", "busy"]}
        with pytest.raises(ServiceBusy):
            await rig.put(b"new")
        flaky.faults = {"blocklist": ["busy", "busy"]}
        with pytest.raises(ServiceBusy):
            await rig.put(b"new")
        flaky.faults = {"read": ["busy", "busy"]}
        with pytest.raises(ServiceBusy):
            await rig.open(before)
        flaky.faults = {}
        assert await rig.locations() == [before.location]
        assert await uncommitted(rig) == []


async def uncommitted(rig: Rig) -> list[str]:
    """List blobs of which there are blocks only."""
    assert isinstance(rig.backend, AzureBackend)
    listing = rig.backend._container.list_blobs(
        name_starts_with=f"{rig.backend._settings.prefix}data/", include=["uncommittedblobs"]
    )
    known = await rig.locations()
    return [blob.name async for blob in listing if blob.name.rpartition("/")[2] not in known]


async def test_blocks_of_a_failed_upload_are_discarded(azurite: Azurite) -> None:
    async with rigged(made(options(azurite))) as rig:
        body = rig.body([os.urandom(MIB), os.urandom(MIB), None])
        upload = asyncio.create_task(rig.upload(body))
        await body.stuck.wait()
        while not await uncommitted(rig):
            await asyncio.sleep(0.02)
        assert await rig.locations() == []
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        with pytest.raises(InvalidData):
            await rig.upload(rig.body([os.urandom(3 * MIB), InvalidData("cut")], size=4 * MIB))
        assert await uncommitted(rig) == await rig.locations() == []


async def test_a_damaged_or_changed_blob_is_not_served(azurite: Azurite, big: bytes) -> None:
    async with rigged(made(options(azurite))) as rig:
        assert isinstance(rig.backend, AzureBackend)
        stored, short = await rig.put(big, 1), await rig.put(b"short", 2)
        source = await rig.open(stored)
        assert isinstance(source, StreamBytes)
        first = await anext(source.pieces)
        await rig.backend._data(stored.location).upload_blob(b"other", overwrite=True)
        with pytest.raises(OSError, match="ConditionNotMet"):
            b"".join([piece async for piece in source.pieces])
        assert big.startswith(first)
        await rig.backend._data(short.location).upload_blob(b"shor", overwrite=True)
        with pytest.raises(OSError, match="damaged"):
            await rig.open(short)


async def test_reads_are_verified_on_request(azurite: Azurite) -> None:
    data = os.urandom(2 * MIB + 1)
    async with behind_faults(azurite, verify_reads="true") as (rig, flaky):
        stored = await rig.put(data)
        assert await read(await rig.open(stored), ByteRange(0, stored.size)) == data
        flaky.faults = {"read": ["", "flipped"]}
        with pytest.raises(OSError, match="MD5"):
            await read(await rig.open(stored), ByteRange(0, stored.size))


async def redirected(rig: Rig, stored: StoredFile) -> Redirect:
    job = ClaimedDownload(stored.location, stored.size, "application/fits", "data.fits", redirectable=True)
    source = await rig.backend.download(job, None)
    assert isinstance(source, Redirect)
    return source


async def test_redirect(azurite: Azurite) -> None:
    """The URL reads this one blob and does nothing else."""
    async with rigged(made(options(azurite, redirect="true"))) as rig, aiohttp.ClientSession() as session:
        stored, other = await rig.put(b"0123456789", 1), await rig.put(b"other", 2)
        source = await redirected(rig, stored)
        async with session.get(source.url, headers={"Range": "bytes=2-4"}) as answer:
            assert (answer.status, await answer.read()) == (206, b"234")
            assert answer.headers["Content-Type"] == "application/fits"
            assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''data.fits"
        for method, url in [
            ("PUT", source.url),
            ("DELETE", source.url),
            ("GET", source.url.replace(stored.location, other.location)),
            ("GET", source.url.partition("?")[0]),
        ]:
            async with session.request(method, url, headers={"x-ms-blob-type": "BlockBlob"}) as answer:
                assert answer.status in {403, 404}, (method, url)
        await rig.backend.delete(stored.location)
        assert isinstance(await rig.open(other), StreamBytes)  # the server itself wants to read
        with pytest.raises(FileNotFoundError):
            await redirected(rig, stored)


async def test_through_the_server(azurite: Azurite, tmp_path: Path, big: bytes) -> None:
    settings = make_settings(tmp_path, backend="azure", options=options(azurite))
    async with serving(settings, backend=load_backend(settings)) as server:
        for data in (b"", b"abc", big):
            assert (await server.put(data)).status == 201
            assert (await server.get()).body == data
        assert (await server.get(Range="bytes=2000000-5000000")).body == big[2_000_000:5_000_001]


def test_without_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvospace.storage.backends.azure", None)
    with pytest.raises(ValueError, match="'azure' needs pyvospace"):
        load_backend(make_settings(tmp_path, backend="azure"))


async def test_identity_and_space(azurite: Azurite, tmp_path: Path) -> None:
    """Of many processes that start on a new container at once, all get the same identity."""
    given = options(azurite, container="new", capacity="1000")
    backends = [made(given) for _ in range(6)]
    identities = await asyncio.gather(*(backend.start() for backend in backends))
    assert len(set(identities)) == 1
    rig = Rig(backends[0], None)  # type: ignore[arg-type]
    assert await rig.backend.total_space() == 1000
    while await rig.backend.free_space() is None:
        await asyncio.sleep(0.01)
    assert await rig.backend.free_space() == 1000
    await asyncio.gather(*(backend.close() for backend in backends))
    async with rigged(made(given)) as rig:
        await rig.put(bytes(300))
        await rig.backend.start()
        while await rig.backend.free_space() != 700:
            await asyncio.sleep(0.01)


async def test_secrets_are_not_logged(azurite: Azurite, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    backend = made(options(azurite, redirect="true"))
    async with rigged(backend) as rig:
        stored = await rig.put(b"abc")
        source = await redirected(rig, stored)
        with pytest.raises(FileNotFoundError):
            await rig.open(replace(stored, location="0" * 32))
    signature = source.url.partition("sig=")[2].partition("&")[0]
    for text in (caplog.text, repr(backend._settings)):
        assert KEY not in text
        assert signature not in text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"container": "ab"}, "container"),
        ({"container": "a--b"}, "container"),
        ({"prefix": "../"}, "prefix"),
        ({"prefix": "a"}, "prefix"),
        ({"block_size": "1"}, "block_size"),
        ({"concurrency": "many"}, "concurrency"),
        ({"redirect": "yes"}, "redirect"),
        ({"capacity": "-1"}, "capacity"),
        ({"colour": "blue"}, "colour"),
        ({"connection_string_file": "/nowhere"}, "connection_string_file"),
        ({"connection_string_file": "KEY"}, "connection_string_file"),
        ({"account_url": "https://x.blob.core.windows.net"}, "connection_string_file"),
        ({"connection_string_file": ""}, "account_url"),
        ({"connection_string_file": "", "account_url": "http://127.0.0.1:1/x"}, "account_url"),
        ({"connection_string_file": "", "account_url": "https://x.example"}, "azure-identity"),
    ],
    ids=str,
)
def test_wrong_options(azurite: Azurite, change: dict[str, str], named: str) -> None:
    change = {name: str(azurite.key_file) if value == "KEY" else value for name, value in change.items()}
    with pytest.raises(ValueError, match=f"storage.options.*{named}") as error:
        made(options(azurite, **change))
    assert KEY not in str(error.value)
