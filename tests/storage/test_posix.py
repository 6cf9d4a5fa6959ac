"""The directory of the posix backend: whose it is, and who cannot lead the backend out of it."""

import asyncio
import json
import stat
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from pyvospace.storage.backend import BackendConfig, StorageBackend
from pyvospace.storage.backends.posix import PosixBackend, filesystem_of
from pyvospace.storage.jobs import ClaimedDownload
from pyvospace.storage.testing.contract import BackendContract
from tests.storage.serving import make_settings, serving


class TestPosixBackend(BackendContract):
    backend_class = PosixBackend


async def started(path: Path) -> PosixBackend:
    backend = PosixBackend(path)
    await backend.start()
    return backend


async def test_everything_is_private(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "deep")
    async with serving(settings) as server:
        await server.put(b"x")
    for path in [settings.storage.path, *settings.storage.path.rglob("*")]:
        if path.name != "storage.json":
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_directory_that_others_can_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="chmod go-w"):
        await PosixBackend(tmp_path).start()


async def test_directory_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = SimpleNamespace(mountpoint=str(tmp_path), fstype="nfs4")
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: [SimpleNamespace(mountpoint="/", fstype="ext4"), mounted])
    place = tmp_path / "deep" / "store"
    assert filesystem_of(place) == "nfs4"
    assert filesystem_of(tmp_path.parent) == "ext4"
    with pytest.raises(PermissionError, match="network_filesystem"):
        await PosixBackend.configure(BackendConfig(place)).start()
    permitted = PosixBackend.configure(BackendConfig(place, {"network_filesystem": "true"}))
    await permitted.start()
    await permitted.close()


@pytest.mark.parametrize("name", ["data", "staging"])
async def test_linked_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic|directory"):
        await PosixBackend(tmp_path / "store").start()


async def test_identity_is_made_once(tmp_path: Path) -> None:
    backends = [PosixBackend(tmp_path) for _ in range(8)]
    identities = await asyncio.gather(*(backend.start() for backend in backends))
    assert len(set(identities)) == 1
    again = PosixBackend(tmp_path)
    assert await again.start() == identities[0]
    assert UUID(json.loads((tmp_path / "storage.json").read_text())["id"]) == identities[0]
    assert {path.name for path in tmp_path.iterdir()} == {"storage.json", "data", "staging"}
    for backend in (*backends, again):
        await backend.close()


async def test_damaged_identity(tmp_path: Path) -> None:
    """Better no service than a new identity for old bytes: the sweep would take them for unknown."""
    (tmp_path / "storage.json").write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        await PosixBackend(tmp_path).start()


@pytest.mark.parametrize(
    "location",
    [
        "",
        "x",
        "../../etc/passwd",
        "/etc/passwd",
        "abc/../abc",
        "abc/" + "0" * 31,
        "ABC/" + "0" * 32,
        "abc/" + "0" * 32 + "\n",
    ],
)
async def test_location_that_is_none(tmp_path: Path, location: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(b"secret")
    backend = await started(tmp_path)
    with pytest.raises(FileNotFoundError):
        await backend.download(ClaimedDownload(location, 6, "a/b", "x"), None)
    await backend.delete(location)
    assert (tmp_path / "data" / "x").exists()
    await backend.close()


async def test_linked_folder_is_not_followed(tmp_path: Path) -> None:
    name = "0" * 32
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / name).write_bytes(b"secret")
    backend = await started(tmp_path / "store")
    (tmp_path / "store" / "data" / "abc").symlink_to(outside)
    with pytest.raises(OSError, match=r"symbolic|directory"):
        await backend.download(ClaimedDownload(f"abc/{name}", 6, "a/b", "x"), None)
    with pytest.raises(OSError, match=r"symbolic|directory"):
        await backend.delete(f"abc/{name}")
    assert (outside / name).exists()
    await backend.close()


def test_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"storage\.options\.colour"):
        PosixBackend.configure(BackendConfig(tmp_path, {"colour": "blue"}))


async def test_space(tmp_path: Path) -> None:
    backend = await started(tmp_path)
    total = await backend.total_space()
    assert 0 < await backend.free_space() <= total
    await backend.close()


async def test_check_writes_and_leaves_nothing(tmp_path: Path) -> None:
    backend: StorageBackend = await started(tmp_path)
    await backend.check()
    assert list((tmp_path / "staging").iterdir()) == []
    await backend.close()
