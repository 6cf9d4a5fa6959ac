"""What the sweep deletes, and what it must not."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pyvospace.storage.backend import BackendConfig
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.sweep import Sweeper, Swept
from pyvospace.storage.testing.doubles import FailAt, MemoryCatalogue
from tests.storage.serving import make_settings, serving, staged, stored

GRACE = 100.0


class Shelf(PosixBackend):
    """Has as many locations as a test says, of any age, and remembers what was deleted."""

    def __init__(self, path: Path, ages: Sequence[float] = ()) -> None:
        super().__init__(path)
        self.ages = ages
        self.deleted: list[str] = []

    async def locations(self) -> AsyncIterator[tuple[str, datetime]]:
        for number, age in enumerate(self.ages):
            yield str(number), datetime.now(UTC) - timedelta(seconds=age)

    async def delete(self, location: str) -> None:
        self.deleted.append(location)

    async def sweep_staging(self, older_than: datetime) -> int:  # noqa: ARG002
        return 0


def sweeper(
    backend: PosixBackend, catalogue: MemoryCatalogue, *, interval: float = 3600, grace: float = GRACE
) -> Sweeper:
    return Sweeper(backend, catalogue, interval=interval, grace=grace, obsolete_grace=0)


async def test_only_old_and_unknown_locations_are_deleted(tmp_path: Path) -> None:
    shelf, catalogue = Shelf(tmp_path, [GRACE + 9, GRACE - 9, 0, GRACE + 9, -5]), MemoryCatalogue()
    catalogue.obsolete = ["3"]
    catalogue.take_obsolete = no_obsolete  # type: ignore[method-assign]
    assert await sweeper(shelf, catalogue).sweep() == Swept(unknown=1)
    assert shelf.deleted == ["0"]


async def no_obsolete(*, grace: float, limit: int) -> Sequence[str]:
    return []


async def test_many_locations_are_asked_about_in_batches(tmp_path: Path) -> None:
    shelf, catalogue = Shelf(tmp_path, [GRACE * 2] * 2500), MemoryCatalogue()
    catalogue.obsolete = [str(number) for number in range(2500) if number % 3]
    catalogue.take_obsolete = no_obsolete  # type: ignore[method-assign]
    steps = catalogue.before = FailAt("never")
    assert await sweeper(shelf, catalogue).sweep() == Swept(unknown=834)
    assert shelf.deleted == [str(number) for number in range(0, 2500, 3)]
    assert steps.steps.count("unknown") == 3


async def test_wrong_database_deletes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(tmp_path, [GRACE * 2] * 1500)
    assert await sweeper(shelf, MemoryCatalogue()).sweep() == Swept()
    assert shelf.deleted == []
    assert "is this the right database?" in caplog.text


async def test_all_that_is_obsolete_is_deleted(tmp_path: Path) -> None:
    shelf, catalogue = Shelf(tmp_path), MemoryCatalogue()
    catalogue.obsolete = [str(number) for number in range(250)]
    assert await sweeper(shelf, catalogue).sweep() == Swept(obsolete=250)
    assert len(shelf.deleted) == 250


async def test_replaced_bytes_go_with_the_sweep(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, sweep_interval=0.05)
    async with serving(settings) as server:
        for data in (b"1", b"2", b"3"):
            await server.put(data)
        for _ in range(100):
            if len(stored(settings)) == 1:
                break
            await asyncio.sleep(0.05)
        assert len(stored(settings)) == 1
        assert (await server.get()).body == b"3"


async def test_leftovers_in_staging(tmp_path: Path) -> None:
    backend = PosixBackend(tmp_path)
    await backend.start()
    (tmp_path / "staging" / "abc1").write_bytes(b"x")
    (tmp_path / "staging" / "abc2").write_bytes(b"x")
    (tmp_path / "staging" / "not ours").write_bytes(b"x")
    (tmp_path / "staging" / "abc3").mkdir()
    os.utime(tmp_path / "staging" / "abc1", (0, 0))
    assert await sweeper(backend, MemoryCatalogue()).sweep() == Swept(staged=1)
    assert {path.name for path in (tmp_path / "staging").iterdir()} == {"abc2", "abc3", "not ours"}
    await backend.close()


async def test_an_upload_is_not_swept_however_old(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    async with serving(settings) as server:
        connection = await server.connect()
        await connection.send(
            connection.head("PUT", "/files/put-1/x", {"Content_Length": "3000000"}) + bytes(2_999_999)
        )
        while not staged(settings):
            await asyncio.sleep(0.01)
        other = PosixBackend(settings.storage.path)
        await other.start()
        for backend in (other, server.backend):
            assert await backend.sweep_staging(datetime.now(UTC) + timedelta(days=1)) == 0
        await other.close()
        await connection.send(b"x")
        assert (await connection.answer()).status == 201


async def test_processes_take_turns(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    catalogue = MemoryCatalogue()
    async with serving(settings, catalogue=catalogue), serving(settings, catalogue=catalogue):
        await asyncio.sleep(0.1)
    assert catalogue.sweeps == 1


async def test_sweep_goes_on_after_a_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    catalogue = MemoryCatalogue()
    catalogue.before = FailAt("take_obsolete")
    async with serving(make_settings(tmp_path, sweep_interval=0.02), catalogue=catalogue):
        while catalogue.sweeps < 3:
            await asyncio.sleep(0.01)


async def test_locations_are_listed_with_the_time_of_their_publication(tmp_path: Path) -> None:
    """The bytes may be much older than that: a transaction can wait long, a clock of a client lie."""
    settings = make_settings(tmp_path)
    begun = datetime.now(UTC) - timedelta(seconds=1)
    async with serving(settings) as server:
        await server.put(b"x")
        [file] = stored(settings)
        os.utime(file, (0, 0))
        [(location, published)] = [entry async for entry in server.backend.locations()]
        assert location == f"{file.parent.name}/{file.name}"
        assert begun < published < datetime.now(UTC) + timedelta(seconds=1)


async def test_strange_things_in_the_store_are_left_alone(tmp_path: Path) -> None:
    backend = PosixBackend.configure(BackendConfig(tmp_path))
    await backend.start()
    (tmp_path / "data" / "abc").mkdir()
    (tmp_path / "data" / "abc" / "lost+found").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"x")
    (tmp_path / "data" / "link").symlink_to("/")
    assert [entry async for entry in backend.locations()] == []
    await backend.close()
