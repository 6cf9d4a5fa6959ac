"""Storage servers as fixtures."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from pyvospace.config import Settings
from tests.storage.serving import Server, make_settings, serving


@pytest.fixture
def storage_settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path)


@pytest.fixture
async def storage_server(storage_settings: Settings) -> AsyncIterator[Server]:
    async with serving(storage_settings) as server:
        yield server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["plain", "tls"])
async def any_storage_server(
    request: pytest.FixtureRequest, storage_settings: Settings, authority: trustme.CA
) -> AsyncIterator[Server]:
    async with serving(storage_settings, authority=authority if request.param == "tls" else None) as server:
        yield server


@pytest.fixture(scope="session")
def big() -> bytes:
    """Some MiB that no buffer size divides."""
    return os.urandom(7 * (1 << 20) + 12345)
