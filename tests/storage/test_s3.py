"""The S3 backend against real stores: the contract, and what is special about it.

Ceph has to pass the whole contract in every run, Swift and moto what differs between stores; with
PYVOSPACE_ALL_ENGINES=1 all have to pass all.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import botocore.loaders
import pytest

from pyvospace.model.faults import RequestTimeout, ServiceBusy
from pyvospace.storage.app import load_backend
from pyvospace.storage.backend import BackendConfig, ByteRange, Redirect, StreamBytes
from pyvospace.storage.backends.s3 import S3Backend, budget, identity
from pyvospace.storage.backends.s3.options import Options
from pyvospace.storage.jobs import ClaimedDownload
from pyvospace.storage.testing.contract import BackendContract
from pyvospace.storage.testing.rig import Rig, read, rigged
from tests.storage.serving import make_settings, serving
from tests.support.engines.radosgw import limit as limit_ceph
from tests.support.engines.stores import Engine, running
from tests.support.engines.swift import limit as limit_swift
from tests.support.pair import free_ports

MIB = 1 << 20
BUCKET = f"tests-{uuid4().hex}"
"""Of this process."""
ESSENTIAL = {
    "test_bytes_come_back",
    "test_ranges",
    "test_reopened",
    "test_deletion",
    "test_listing",
    "test_sizes",
    "test_quarantine",
    "test_wrong_digest_of_a_larger_file",
    "test_transaction_that_fails",
    "test_unknown_outcome",
    "test_two_processes",
    "test_full",
    "test_outage",
}
"""What may differ between stores."""


def options(engine: Engine, folder: Path, *, fresh: bool = False, **more: str) -> dict[str, str]:
    """Give the options for a storage of its own; unless it is `fresh` it has been used before."""
    prefix = uuid4().hex
    if not fresh:
        name = json.dumps({"id": str(uuid4())}).encode()
        engine.client().put_object(Bucket=BUCKET, Key=f"{prefix}/pyvospace/storage.json", Body=name)
    place = {"endpoint": engine.endpoint, "bucket": BUCKET, "prefix": prefix}
    small = {"part_size": "5 MiB", "read_size": "1 MiB", "concurrency": "2", "attempts": "2"}
    return {**place, "credentials": str(engine.credentials(folder)), **small, **more}


def made(options: dict[str, str]) -> S3Backend:
    return S3Backend.configure(BackendConfig(Path("unused"), options))


def started(name: str, factory: pytest.TempPathFactory) -> Engine:
    engine = running(name, factory)
    engine.client().create_bucket(Bucket=BUCKET)
    return engine


@pytest.fixture(scope="session", autouse=True)
def models() -> Iterator[None]:
    """Have botocore read its models of the API once and not for each client."""
    loader = botocore.loaders.create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", lambda _=None: loader, raising=False)
        patch.setattr("botocore.loaders.create_loader", lambda _=None: loader)
        yield


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return started("radosgw", tmp_path_factory)


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return started("swift", tmp_path_factory)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return started("moto", tmp_path_factory)


class S3Contract(BackendContract):
    backend_class = S3Backend
    readers_outlive_deletion = False
    crash_points = ("after-rename", "after-dirsync")
    medium = 6 * MIB
    memory = 24 * MIB
    """Three parts of 5 MiB, one of them as it grows, and what the body holds."""
    interruptions = 12
    engine: ClassVar[str]
    whole: ClassVar[bool] = bool(os.environ.get("PYVOSPACE_ALL_ENGINES"))

    @pytest.fixture(autouse=True)
    def chosen(self, request: pytest.FixtureRequest) -> None:
        if not self.whole and request.function.__name__ not in ESSENTIAL:
            pytest.skip(f"not of {self.engine} in every run: PYVOSPACE_ALL_ENGINES=1")

    @pytest.fixture
    def config(self, tmp_path: Path, request: pytest.FixtureRequest) -> BackendConfig:
        self.running = request.getfixturevalue(self.engine)
        return BackendConfig(tmp_path, options(self.running, tmp_path))

    @contextmanager
    def outage(self, rig: Rig) -> Iterator[None]:
        """Let all requests go where nobody listens."""
        (nobody,) = free_ports(1)
        events = client_of(rig).meta.events

        def mislead(request: Any, **_: object) -> None:
            request.url = f"http://127.0.0.1:{nobody}/"

        events.register("before-send.s3", mislead)
        yield
        events.unregister("before-send.s3", mislead)


def client_of(rig: Rig) -> Any:
    assert isinstance(rig.backend, S3Backend)
    return rig.backend._store._client


class TestCeph(S3Contract):
    engine = "radosgw"
    whole = True

    @contextmanager
    def full(self, _: Rig) -> Iterator[None]:
        limit_ceph(self.running, BUCKET, 1)
        yield
        limit_ceph(self.running, BUCKET, None)


class TestSwift(S3Contract):
    engine = "swift"

    @contextmanager
    def full(self, _: Rig) -> Iterator[None]:
        """Parts are kept in a container beside that of the bucket."""
        limit_swift(self.running, f"{BUCKET}+segments", 1)
        yield
        limit_swift(self.running, f"{BUCKET}+segments", None)


class TestMoto(S3Contract):
    engine = "moto"


async def test_several_start_at_once(radosgw: Engine, tmp_path: Path) -> None:
    given = options(radosgw, tmp_path, fresh=True, capacity="1000")
    backends = [made(given) for _ in range(6)]
    identities = await asyncio.gather(*(backend.start() for backend in backends))
    assert len(set(identities)) == 1
    assert await backends[0].total_space() == 1000
    while (free := await backends[0].free_space()) is None:
        await asyncio.sleep(0.01)
    assert free == 1000
    for backend in backends:
        await backend.close()


async def test_several_start_at_once_without_conditional_put(
    swift: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_SETTLED", 1.0)
    given = options(swift, tmp_path, fresh=True)
    early, late = [made(given) for _ in range(4)], made(given)
    identities = await asyncio.gather(*(backend.start() for backend in early))
    # Somebody who saw no identity before the election writes the same one.
    await late._store.open()
    await identity._elect(late._store, b'{"id": "00000000-0000-0000-0000-000000000000"}')
    assert {*identities, await late.start()} == {identities[0]}
    for backend in (*early, late):
        await backend.close()


async def test_redirect(radosgw: Engine, tmp_path: Path) -> None:
    """The URL reads this one object and does nothing else; the server itself still reads."""
    async with rigged(made(options(radosgw, tmp_path, redirect="true"))) as rig:
        stored, other = await rig.put(b"0123456789", 1), await rig.put(b"other", 2)
        job = ClaimedDownload(stored.location, stored.size, "text/html", "a \u00e9.html", redirectable=True)
        source = await rig.backend.download(job, ByteRange(2, 5))
        assert isinstance(source, Redirect)
        assert await asked(source.url, Range="bytes=2-4") == (
            206, b"234", "text/html", "attachment; filename=\"a _.html\"; filename*=UTF-8''a%20%C3%A9.html"
        )  # fmt: skip
        for method, url in [
            ("PUT", source.url),
            ("DELETE", source.url),
            ("GET", source.url.replace(stored.location, other.location)),
            ("GET", source.url.replace("text%2Fhtml", "image%2Fpng")),
            ("GET", source.url.partition("?")[0]),
        ]:
            assert (await asked(url, method))[0] == 403, (method, url)
        assert isinstance(await rig.open(stored), StreamBytes)
        await rig.backend.delete(stored.location)
        with pytest.raises(FileNotFoundError):
            await rig.backend.download(job, None)


async def asked(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, str | None, str | None]:
    def ask() -> tuple[int, bytes, str | None, str | None]:
        try:
            answer = urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers))
        except urllib.error.HTTPError as error:
            with error:
                return error.code, b"", None, None
        with answer:
            return answer.status, answer.read(), answer.headers["Content-Type"], answer.headers["Content-Disposition"]

    return await asyncio.to_thread(ask)


async def test_through_the_server(radosgw: Engine, tmp_path: Path, big: bytes) -> None:
    settings = make_settings(tmp_path, backend="s3", options=options(radosgw, tmp_path))
    async with serving(settings, backend=load_backend(settings)) as server:
        for data in (b"", b"abc", big):
            assert (await server.put(data)).status == 201
            assert (await server.get()).body == data
        assert (await server.get(Range="bytes=2000000-5500000")).body == big[2_000_000:5_500_001]


@pytest.mark.parametrize("checksum", ["md5", "sha256", "crc32"])
async def test_checksums(moto: Engine, tmp_path: Path, big: bytes, checksum: str) -> None:
    async with rigged(made(options(moto, tmp_path, checksum=checksum))) as rig:
        for data in (b"", b"abc", big):
            stored = await rig.put(data)
            assert await read(await rig.open(stored), ByteRange(0, max(stored.size, 1))) == data


async def test_md5_of_ceph(radosgw: Engine, tmp_path: Path, big: bytes) -> None:
    async with rigged(made(options(radosgw, tmp_path, checksum="md5"))) as rig:
        assert (await rig.put(big)).size == len(big)


async def test_uploads_in_parts_that_live_are_left_alone(radosgw: Engine, tmp_path: Path) -> None:
    given = options(radosgw, tmp_path)
    client, key = radosgw.client(), f"{given['prefix']}/data/{uuid4().hex}"
    async with rigged(made(given)) as rig:
        upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        await asyncio.sleep(0.05)
        begun = datetime.now(UTC)
        await asyncio.sleep(0.05)
        client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
        assert await rig.backend.sweep_staging(begun) == 0
        assert await rig.backend.sweep_staging(datetime.now(UTC) + timedelta(seconds=1)) == 1


async def test_no_upload_takes_a_week(
    radosgw: Engine, tmp_path: Path, big: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rigged(made(options(radosgw, tmp_path))) as rig:
        await rig.put(big)
        monkeypatch.setattr("pyvospace.storage.backends.s3.uploading.LONGEST", 0.0)
        with pytest.raises(RequestTimeout, match="days"):
            await rig.put(big, 2)
        assert len(await rig.locations()) == 1
        assert await rig.leftovers() == 0


async def test_probes_of_the_dead_are_swept(moto: Engine, tmp_path: Path) -> None:
    given = options(moto, tmp_path)
    async with rigged(made(given)) as rig:
        place = f"{given['prefix']}/pyvospace/probes/"
        moto.client().put_object(Bucket=BUCKET, Key=place + "x", Body=b"")
        await rig.leftovers()
        assert moto.client().list_objects_v2(Bucket=BUCKET, Prefix=place)["KeyCount"] == 0


async def test_damage_is_not_served(radosgw: Engine, tmp_path: Path, big: bytes) -> None:
    given = options(radosgw, tmp_path)
    async with rigged(made(given)) as rig:
        stored, short = await rig.put(big, 1), await rig.put(b"short", 2)
        source = await rig.open(stored)
        assert isinstance(source, StreamBytes)
        await anext(source.pieces)
        client, place = radosgw.client(), f"{given['prefix']}/data/"
        client.put_object(Bucket=BUCKET, Key=place + stored.location, Body=bytes(len(big)))
        client.put_object(Bucket=BUCKET, Key=place + short.location, Body=b"shor")
        with pytest.raises(OSError, match="412"):
            [piece async for piece in source.pieces]
        with pytest.raises(OSError, match="damaged"):
            await rig.open(short)


async def test_nothing_tells_the_keys(
    radosgw: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    given = options(radosgw, tmp_path)
    async with rigged(made(given)) as rig:
        await rig.put(b"abc")
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = WRONGKEY\naws_secret_access_key = SECRET2\n")
    with pytest.raises(PermissionError, match="403") as refused:
        await made(given).start()
    said = caplog.text + str(refused.value) + "".join(capfd.readouterr())
    for secret in (radosgw.secret_key, "SECRET2", "Signature", "AWS4-HMAC"):
        assert secret not in said


async def test_places_that_are_none(radosgw: Engine, tmp_path: Path) -> None:
    given = options(radosgw, tmp_path)
    with pytest.raises(FileNotFoundError, match="is there such a bucket"):
        await made({**given, "bucket": "there-is-none"}).start()
    for content in ("[default]\naws_access_key_id = x\n", "no file of keys"):
        (tmp_path / "credentials").write_text(content)
        with pytest.raises(PermissionError, match="credentials"):
            await made(given).start()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("colour", "blue"),
        ("bucket", "../x"),
        ("prefix", "a/../b"),
        ("prefix", "/a"),
        ("endpoint", "ftp://x"),
        ("endpoint", "https://user:secret@x"),
        ("addressing", "none"),
        ("ca_file", "relative.pem"),
        ("part_size", "1 MiB"),
        ("part_size", "many"),
        ("memory", "6 MiB"),
        ("concurrency", "0"),
        ("redirect", "yes"),
        ("checksum", "crc64"),
        ("kms_key", "x"),
    ],
)
def test_wrong_options(option: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"storage\.options\.{option}:"):
        made({"bucket": "space", option: value})


def test_options() -> None:
    with pytest.raises(ValueError, match=r"storage\.options\.bucket"):
        made({})
    options = Options.parse({"bucket": "space", "prefix": "a/b", "capacity": "2 TiB", "endpoint": "https://x/"})
    assert (options.prefix, options.capacity, options.endpoint) == ("a/b/", 2 << 40, "https://x")
    assert (options.addressing, Options.parse({"bucket": "space"}).addressing) == ("path", "auto")
    # No more than 10,000 parts, however large the file.
    assert [options.part_size_of(size) for size in (None, 1, 80 << 30, 5 << 40)] == [
        8 << 20,
        8 << 20,
        9 << 20,
        525 << 20,
    ]


async def test_memory_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks first is served first; who waits too long, or goes away, leaves no trace."""
    shared = budget.Budget(10)
    assert await shared.take(100) == 10
    first, second = asyncio.create_task(shared.take(6)), asyncio.create_task(shared.take(1))
    await asyncio.sleep(0)
    assert not shared.try_take(1)
    first.cancel()
    shared.give(1)
    assert await second == 1
    monkeypatch.setattr(budget, "_PATIENCE", 0.01)
    with pytest.raises(ServiceBusy):
        await shared.take(1)
    shared.give(10)
    assert shared.try_take(10)
