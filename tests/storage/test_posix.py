"""The directory of the posix backend: whose it is, and who cannot lead the backend out of it."""

import asyncio
import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from types import SimpleNamespace
from typing import Any
from unittest import mock
from uuid import UUID

import pytest

from pyvospace.model.claims import StoredFile
from pyvospace.model.faults import InsufficientStorage, ServiceBusy
from pyvospace.storage.backend import BackendConfig, ByteRange, StorageBackend
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.backends.posix_directory import Directory, Staged, filesystem_of, publish_together
from pyvospace.storage.jobs import ClaimedDownload
from pyvospace.storage.testing.contract import FILE_POINTS, BackendContract
from pyvospace.storage.testing.rig import Rig, read, rigged
from tests.storage.serving import make_settings, serving


class TestPosixBackend(BackendContract):
    backend_class = PosixBackend
    pooled = 0
    crash_points = FILE_POINTS

    @contextmanager
    def full(self, rig: Rig) -> Iterator[None]:  # noqa: ARG002
        """The real error of a real device."""

        def stage(*_: object) -> int:
            return os.open("/dev/full", os.O_WRONLY)

        with mock.patch.object(Directory, "stage", stage):
            yield


class TestSeveralDirectories(BackendContract):
    backend_class = PosixBackend
    pooled = 0
    large = 24 << 20

    @pytest.fixture
    def config(self, tmp_path: Path) -> BackendConfig:
        return two_disks(tmp_path)


def two_disks(tmp_path: Path, **options: str) -> BackendConfig:
    """Configure the first directory and two others."""
    for name in ("disk1", "disk2"):
        (tmp_path / name).mkdir(mode=0o700, exist_ok=True)
    directories = f"{tmp_path}/disk1:{tmp_path}/disk2"
    return BackendConfig(tmp_path / "store", {"directories": directories, **options})


def bytes_in(path: Path) -> int:
    return len(list((path / "data").glob("*/*")))


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


async def filled(config: BackendConfig, *names: str) -> dict[str, StoredFile]:
    """Have one file in each of these directories, and the storage stopped."""
    stored: dict[str, StoredFile] = {}
    for node, name in enumerate(names):
        others = [str(config.path.parent / other) for other in ("store", "disk1", "disk2") if other != name]
        drained = BackendConfig(config.path, {**config.options, "draining": ":".join(others)})
        async with rigged(PosixBackend.configure(drained)) as rig:
            stored[name] = await rig.put(name.encode(), node)
    return stored


async def fetched(rig: Rig, stored: StoredFile) -> bytes:
    return await read(await rig.open(stored), ByteRange(0, stored.size))


async def test_draining_directories_take_no_bytes(tmp_path: Path) -> None:
    stored = await filled(two_disks(tmp_path), "store", "disk1", "disk2")
    assert [bytes_in(tmp_path / name) for name in stored] == [1, 1, 1]
    everything = two_disks(tmp_path, draining=f"{tmp_path}/store:{tmp_path}/disk1:{tmp_path}/disk2")
    async with rigged(PosixBackend.configure(everything)) as rig:
        assert [await fetched(rig, one) for one in stored.values()] == [b"store", b"disk1", b"disk2"]
        assert (await rig.backend.free_space(), await rig.backend.total_space()) == (0, 0)
        await rig.backend.check()
        with pytest.raises(ServiceBusy):
            await rig.put(b"new")


async def test_directories_have_names_of_their_own(tmp_path: Path) -> None:
    """They are moved, named in another order, and one is added; the locations of before are still good."""
    stored = await filled(two_disks(tmp_path), "store", "disk1", "disk2")
    (tmp_path / "disk1").rename(tmp_path / "moved")
    (tmp_path / "new").mkdir(mode=0o700)
    options = {"directories": ":".join(str(tmp_path / name) for name in ("new", "disk2", "moved"))}
    async with rigged(PosixBackend.configure(BackendConfig(tmp_path / "store", options))) as rig:
        assert [await fetched(rig, one) for one in stored.values()] == [b"store", b"disk1", b"disk2"]
        assert (tmp_path / "new" / "directory.json").exists()
        assert await rig.locations() == sorted(one.location for one in stored.values())


async def test_missing_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An empty mount point is not taken for a directory without bytes, and nothing is written to it."""
    config = two_disks(tmp_path)
    stored = await filled(config, "store", "disk1", "disk2")
    (tmp_path / "disk1").rename(tmp_path / "elsewhere")
    (tmp_path / "disk1").mkdir(mode=0o700)
    async with rigged(PosixBackend.configure(config)) as rig:
        assert f"the directory {tmp_path}/disk1: not there" in caplog.text
        with pytest.raises(ServiceBusy, match="cannot be read now"):
            await rig.open(stored["disk1"])
        with pytest.raises(ServiceBusy, match="the list lacks"):
            await rig.locations()
        await rig.backend.check()
        await rig.backend.delete(stored["disk1"].location)
        assert [await fetched(rig, stored[name]) for name in ("store", "disk2")] == [b"store", b"disk2"]
        for node in range(10, 30):
            await rig.put(b"x", node)
        assert list((tmp_path / "disk1").iterdir()) == []
        (tmp_path / "disk1").rmdir()
        (tmp_path / "elsewhere").rename(tmp_path / "disk1")
        for directory in rig.backend._others:  # type: ignore[attr-defined]
            directory.avoided_until = 0.0
        assert await fetched(rig, stored["disk1"]) == b"disk1"
        assert len(await rig.locations()) == 23


async def test_directory_that_is_not_named_any_more(tmp_path: Path) -> None:
    stored = await filled(two_disks(tmp_path), "disk1", "disk2")
    async with rigged(PosixBackend(tmp_path / "store", directories=[tmp_path / "disk2"])) as rig:
        with pytest.raises(ServiceBusy):
            await rig.open(stored["disk1"])
        with pytest.raises(ServiceBusy, match="the list lacks"):
            await rig.locations()
    [forgotten] = [path for path in (tmp_path / "store" / "directories").iterdir() if "disk1" in path.read_text()]
    forgotten.unlink()
    async with rigged(PosixBackend(tmp_path / "store", directories=[tmp_path / "disk2"])) as rig:
        with pytest.raises(FileNotFoundError):
            await rig.open(stored["disk1"])
        assert await rig.locations() == [stored["disk2"].location]


async def test_new_directory_while_another_is_missing(tmp_path: Path) -> None:
    """It may be the missing one under another name, not mounted."""
    await filled(two_disks(tmp_path), "disk1")
    (tmp_path / "disk1").rename(tmp_path / "elsewhere")
    (tmp_path / "new").mkdir(mode=0o700)
    backend = PosixBackend(tmp_path / "store", directories=[tmp_path / "disk2", tmp_path / "new"])
    async with rigged(backend):
        assert list((tmp_path / "new").iterdir()) == []


async def test_first_directory_that_is_not_mounted(tmp_path: Path) -> None:
    await filled(two_disks(tmp_path), "store")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="is the disk mounted"):
        await PosixBackend.configure(two_disks(tmp_path)).start()


@pytest.mark.parametrize("whose", ["a storage of its own", "belongs to the storage", "under another name", "is no id"])
async def test_directory_of_somebody_else(tmp_path: Path, whose: str) -> None:
    await filled(two_disks(tmp_path), "store")
    store, directories = tmp_path / "other", [tmp_path / "disk1"]
    if whose == "a storage of its own":
        directories = [tmp_path / "store"]
    elif whose == "under another name":
        store = tmp_path / "store"
        (tmp_path / "linked").symlink_to(tmp_path / "disk1")
        directories = [tmp_path / "disk1", tmp_path / "linked"]
    else:
        await (await started(store)).close()
    if whose == "is no id":
        (tmp_path / "disk1" / "directory.json").write_text('{"id": "../../x"}')
    with pytest.raises((PermissionError, ValueError), match=whose):
        await PosixBackend(store, directories=directories).start()


@pytest.mark.parametrize("when", ["opening", "writing"])
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO])
async def test_failing_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, when: str, number: int
) -> None:
    """It is reported; uploads go on in the others, reads in all."""
    config = two_disks(tmp_path, draining=str(tmp_path / "store"))
    stored = await filled(two_disks(tmp_path), "disk1")
    stage, publish = Directory.stage, Directory.publish
    monkeypatch.setattr(SystemRandom, "expovariate", lambda _, room: room)  # so that there is an order

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Directory, *args: Any) -> Any:
            if self.path.name == "disk1":
                raise OSError(number, "as the test wants it", "x")
            return real(self, *args)

        return call

    monkeypatch.setattr(Directory, "space", lambda self: (self.path.name, 5 if self.path.name == "disk1" else 6, 10))
    name, real = ("stage", stage) if when == "opening" else ("publish", publish)
    async with rigged(PosixBackend.configure(config)) as rig:
        monkeypatch.setattr(Directory, name, failing(real))
        if when == "writing":
            with pytest.raises(ServiceBusy, match="another one will take"):
                await rig.put(b"abc", 10)
        await rig.put(b"abc", 10)
        assert (bytes_in(tmp_path / "disk1"), bytes_in(tmp_path / "disk2")) == (1, 1)
        assert await rig.backend.free_space() == 6
        assert await fetched(rig, stored["disk1"]) == b"disk1"
        assert f"{tmp_path}/disk1" in caplog.text
        assert "takes no bytes" in caplog.text
        monkeypatch.setattr(Directory, name, real)
        await rig.backend.check()  # it is well again
        assert await rig.backend.free_space() == 11
        await rig.put(b"abc", 11)
        assert bytes_in(tmp_path / "disk1") == 2


async def test_disks_are_filled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The more room the more bytes; none where they do not fit."""
    room = {"store": 10, "disk1": 3000, "disk2": 9000}
    monkeypatch.setattr(Directory, "space", lambda self: (self.path.name, room[self.path.name], 10_000))
    backend = PosixBackend.configure(two_disks(tmp_path))
    async with rigged(backend) as rig:
        assert (await backend.free_space(), await backend.total_space()) == (12_010, 30_000)
        first = [backend._by_room(100)[0].path.name for _ in range(2000)]
        assert 0.15 < first.count("disk1") / len(first) < 0.35
        assert "store" not in first
        with pytest.raises(InsufficientStorage):
            await rig.upload(rig.body([b"x"], size=9001))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"directories": "disk1"}, r"options\.directories: disk1 does not begin with /"),
        ({"directories": "/a:/b:/a"}, r"options\.directories: name every directory once"),
        ({"directories": "/store"}, r"options\.directories: .* storage\.path not at all"),
        ({"directories": "/a", "draining": "/b"}, r"options\.draining: /b is none of the directories"),
    ],
)
def test_wrong_directories(options: dict[str, str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        PosixBackend.configure(BackendConfig(Path("/store"), options))


async def test_what_comes_together_is_published_by_one_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what cannot be published fails alone."""
    directory = Directory(tmp_path)
    directory.open(remote=False)
    flushed, fsync = [], os.fsync

    def flush(fd: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{fd}").readlink())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", flush)
    files = []
    for number, folder in enumerate(("abc", "abc", "def", "abc")):
        staged = Staged(f"{number:x}")
        os.close(staged.open(directory))
        files.append((staged, f"{folder}/{number:032x}"))
    directory.unstage("1")
    outcomes = publish_together(files)
    assert [type(one) for one in outcomes] == [type(None), FileNotFoundError, type(None), type(None)]
    assert [staged.ended for staged, _ in files] == [True, False, True, True]
    there = {f"{path.parent.name}/{path.name}" for path in tmp_path.glob("data/*/*")}
    assert there == {location for number, (_, location) in enumerate(files) if number != 1}
    folders = [path for path in flushed if path.parent.name == "data"]
    assert folders == [tmp_path / "data" / "abc", tmp_path / "data" / "def"]
    files[1][0].remove()
    directory.close()


async def test_a_folder_that_cannot_be_flushed_fails_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory(tmp_path)
    directory.open(remote=False)
    files = []
    for number in range(2):
        staged = Staged(f"{number:x}")
        os.close(staged.open(directory))
        files.append((staged, f"abc/{number:032x}"))
    publish_together([])
    directory._make_folder("abc")

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "disk")

    monkeypatch.setattr(os, "fsync", failing)
    assert [str(one) for one in publish_together(files)] == ["[Errno 5] disk"] * 2
    for staged, _ in files:
        assert not staged.ended
        staged.remove()
    directory.close()
