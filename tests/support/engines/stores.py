"""Real object stores for tests, each started once for a whole test run, whatever number of processes it has."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

_PATIENCE = 120.0

PROGRAMS = {
    "radosgw": ("ceph-mon", "ceph-osd", "ceph-mgr", "radosgw", "radosgw-admin", "monmaptool"),
    "swift": (
        "swift-proxy-server",
        "swift-account-server",
        "swift-container-server",
        "swift-object-server",
        "swift-ring-builder",
        "memcached",
    ),
    "moto": (),
}
"""What an engine consists of."""
PACKAGES = {
    "radosgw": "ceph-mon ceph-osd ceph-mgr radosgw ceph-common",
    "swift": "swift-proxy swift-account swift-container swift-object memcached",
}


@dataclass(frozen=True)
class Engine:
    """A store that runs."""

    endpoint: str
    access_key: str
    secret_key: str
    folder: str
    """Where it keeps what it has."""

    def client(self) -> Any:
        """Make the client of others that a test looks with."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def credentials(self, folder: Path) -> Path:
        """Write a file with the keys."""
        path = folder / "credentials"
        path.write_text(
            f"[default]\naws_access_key_id = {self.access_key}\naws_secret_access_key = {self.secret_key}\n"
        )
        return path


def running(name: str, factory: pytest.TempPathFactory) -> Engine:
    """Start an engine, or join it if another process of the run has; it ends with the run."""
    if any(shutil.which(program) is None for program in PROGRAMS[name]):
        pytest.skip(f"{name} is not installed (apt-get install {PACKAGES[name]})")
    worker = "PYTEST_XDIST_WORKER" in os.environ
    shared = factory.getbasetemp().parent if worker else factory.getbasetemp()
    state = shared / f"engine-{name}.json"
    with (shared / f"engine-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not state.exists():
            _KEEPERS.append(keep(name, state, os.getppid() if worker else os.getpid()))
    return Engine(**json.loads(state.read_text()))


_KEEPERS: list[subprocess.Popen[bytes]] = []
"""Of this process; they end by themselves."""


def keep(name: str, state: Path, owner: int) -> subprocess.Popen[bytes]:
    """Start a keeper of an engine that lives as long as the process `owner`; return when the engine answers."""
    log = state.with_suffix(".log")
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.engines.keeper", name, str(state), str(owner)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=Path(__file__).parents[3],
        )
    until = time.monotonic() + _PATIENCE
    while not state.exists():
        if keeper.poll() is not None or time.monotonic() > until:
            keeper.kill()
            raise RuntimeError(f"{name} did not start: {log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)
    return keeper
