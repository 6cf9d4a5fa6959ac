"""The Azure backend against Azurite: the contract, and what is special about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pyvospace.storage.backend import BackendConfig
from pyvospace.storage.backends.azure import AzureBackend
from pyvospace.storage.testing.contract import BackendContract
from tests.support.engines.azurite import Azurite, running_azurite

MIB = 1 << 20


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


def options(azurite: Azurite, **more: str) -> dict[str, str]:
    place = {"container": "space", "prefix": f"{uuid4().hex}/", "block_size": str(MIB)}
    return {"connection_string_file": str(azurite.connection_string_file), **place, **more}


class TestAzureBackend(BackendContract):
    backend_class = AzureBackend
    readers_outlive_deletion = False

    @pytest.fixture
    def config(self, tmp_path: Path, azurite: Azurite) -> BackendConfig:
        return BackendConfig(tmp_path, options(azurite))
