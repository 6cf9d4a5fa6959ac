"""Azurite, an Azure Blob service in Node.js, for tests and benchmarks."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.pair import free_ports

PROGRAM = Path(__file__).parents[4] / ".venv" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
"""Where `./dev test` has put it."""
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Known to everybody: Azurite has them built in."""


@dataclass(frozen=True)
class Azurite:
    """A running service."""

    url: str
    connection_string: str
    connection_string_file: Path
    key_file: Path


@contextmanager
def running_azurite(directory: Path) -> Iterator[Azurite]:
    """Run it for a time, with its files in `directory`; tests are left out where it is not installed."""
    if not PROGRAM.exists():
        pytest.skip("no Azurite is installed: ./dev test does that if there is npm and Node.js 20 or later")
    port = free_ports(1)[0]
    command = ["node", str(PROGRAM), "--blobPort", str(port), "--location", str(directory / "data"), "--silent"]
    with (directory / "azurite.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--skipApiVersionCheck", "--disableTelemetry"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}/{ACCOUNT}", directory / "azurite.log")
        yield describe(f"http://127.0.0.1:{port}/{ACCOUNT}", directory)
    finally:
        process.terminate()
        process.wait(20)


def describe(url: str, directory: Path) -> Azurite:
    """Write down how to reach the account at `url`."""
    text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url};"
    connection, key = directory / "connection-string", directory / "account-key"
    connection.write_text(text + "\n")
    key.write_text(KEY + "\n")
    return Azurite(url, text, connection, key)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return  # who asks without a signature is told so
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Azurite does not answer:\n{log.read_text()}")
