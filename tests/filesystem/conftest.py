"""File systems of fsspec on a real pair."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from pyvospace.filesystem import VOSpaceFileSystem
from tests.support.pair import Pair


@pytest.fixture(scope="session")
def fs(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VOSpaceFileSystem]:
    """One of alice, which finds all it needs in its options."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOSPACE_CLIENT_CONFIG", str(tmp_path_factory.mktemp("fsspec") / "client.toml"))
        made = VOSpaceFileSystem(endpoint_url=pair.url, token=pair.token, skip_instance_cache=True)  # type: ignore[call-arg]  # taken by its metaclass
        yield made
        made.close()


@pytest.fixture
def top(fs: VOSpaceFileSystem, pair: Pair) -> str:
    """Path of a container of the test's own."""
    path = f"{pair.home}/{uuid4().hex}"
    fs.mkdir(path)
    return path
