"""The clients with `interop = opencadc`: the few answers that differ disturb none of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyvospace.supervisor.data import STORAGE_ROLE
from tests.interop.conftest import make_folder
from tests.interop.machine import Folder, Machine
from tests.support.pair import running_pair
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def opencadc(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The machine of alice, whose space answers as those of OpenCADC."""
    with postgres_server.clone() as name:
        dsn, storage_dsn = postgres_server.dsn(name), postgres_server.dsn(name, STORAGE_ROLE)
        data = tmp_path_factory.mktemp("opencadc")
        with running_pair(dsn, data, storage_dsn=storage_dsn, environment={"PYVOSPACE_INTEROP": "opencadc"}) as pair:
            machine = Machine(data / "alice", pair.url, pair.authority, pair.token)
            machine.connect()
            yield machine


@pytest.fixture
def there(opencadc: Machine) -> Folder:
    """A fresh container in it."""
    return make_folder(opencadc)


def test_vos(opencadc: Machine, there: Folder, fits_file: Path, small_file: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for source in (fits_file, small_file, empty):
        opencadc.vos("vcp", source, there.vos("a"))
        opencadc.vos("vcp", there.vos("a"), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == source.read_bytes()
    opencadc.vos("vmkdir", "-p", there.vos("b", "c"))
    assert "not empty" in opencadc.vos("vrmdir", there.vos("b"), code=255).errors
    opencadc.vos("vrmdir", there.vos("b", "c"), there.vos("b"))
    opencadc.vos("vln", there.vos("a"), there.vos("link"))
    opencadc.vos("vtag", there.vos("a"), "quality=good")
    opencadc.vos("vsync", small_file, there.vos())
    opencadc.vos("vrm", there.vos("link"), there.vos("a"))
    assert opencadc.vos("vls", there.vos()).lines == [small_file.name]


def test_curl(opencadc: Machine, there: Folder, fits_file: Path, tmp_path: Path) -> None:
    for source in (fits_file, Path("/dev/null")):
        opencadc.curl("-T", source, there.file_url("a"))
        opencadc.curl("-o", "back", there.file_url("a"), cwd=tmp_path)
        assert (tmp_path / "back").read_bytes() == source.read_bytes()
        (tmp_path / "back").write_bytes(b"")  # of 204 curl saves nothing
