"""The S3 backend against real stores: the contract, and what is special about it.

Ceph has to pass the whole contract in every run, Swift and moto what differs between stores; with
PYVOSPACE_ALL_ENGINES=1 all have to pass all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import botocore.loaders
import pytest

from pyvospace.storage.backend import BackendConfig
from pyvospace.storage.backends.s3 import S3Backend
from pyvospace.storage.testing.contract import BackendContract
from pyvospace.storage.testing.rig import Rig
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
