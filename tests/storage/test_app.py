"""The server around the handlers: heartbeat, choice of the backend, start and stop."""

import asyncio
import errno
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from pyvospace.model.faults import ServiceBusy
from pyvospace.storage import app
from pyvospace.storage.app import load_backend
from pyvospace.storage.backends.posix import PosixBackend
from pyvospace.storage.testing.doubles import MemoryCatalogue
from tests.storage.serving import make_settings, serving


async def test_heartbeat(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, heartbeat=0.02, name="one", public_url="https://data.example")
    async with serving(settings) as server:
        while len(server.catalogue.announced) < 3:
            await asyncio.sleep(0.01)
        first, *others = server.catalogue.announced
        assert (first.name, first.url) == ("one", "https://data.example")
        assert first.free is not None
        assert {state.id for state in others} == {first.id}


async def test_reserve_is_not_announced_as_free(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path, reserve=0.99999)) as server:
        assert server.catalogue.announced[0].free == 0


async def test_nothing_is_offered_while_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: PosixBackend) -> None:
        raise OSError(errno.EROFS, "the disk has become read-only")

    with monkeypatch.context() as patch:
        patch.setattr(PosixBackend, "check", refuse)
        async with serving(make_settings(tmp_path, heartbeat=0.02)) as server:
            assert [state.free for state in server.catalogue.announced] == [0]
            patch.undo()
            while not server.catalogue.announced[-1].free:
                await asyncio.sleep(0.01)


async def test_missed_heartbeat(tmp_path: Path) -> None:
    catalogue = MemoryCatalogue()
    async with serving(make_settings(tmp_path, heartbeat=0.02), catalogue=catalogue):
        failures = 0

        def fail(step: str) -> None:
            nonlocal failures
            if step == "announce" and failures < 2:
                failures += 1
                raise ServiceBusy("away")

        catalogue.before = fail
        before = len(catalogue.announced)
        while len(catalogue.announced) < before + 2:
            await asyncio.sleep(0.01)
        assert failures == 2


async def test_server_that_cannot_announce_itself_does_not_start(tmp_path: Path) -> None:
    catalogue = MemoryCatalogue()
    catalogue.before = lambda step: (_ for _ in ()).throw(ServiceBusy(step))
    with pytest.raises(ServiceBusy):
        async with serving(make_settings(tmp_path), catalogue=catalogue):
            pass


def test_posix_is_the_default(tmp_path: Path) -> None:
    assert isinstance(load_backend(make_settings(tmp_path)), PosixBackend)


def test_entry_point_that_is_no_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = EntryPoints([EntryPoint("wrong", "pathlib:Path", app.ENTRY_POINTS)])
    monkeypatch.setattr(app, "entry_points", lambda group: wrong.select(group=group))
    with pytest.raises(ValueError, match="'wrong' is no StorageBackend"):
        load_backend(make_settings(tmp_path, backend="wrong"))
    with pytest.raises(ValueError, match="no backend 'other'; installed: wrong"):
        load_backend(make_settings(tmp_path, backend="other"))


async def test_client_that_leaves_during_the_transaction(tmp_path: Path) -> None:
    """All bytes came, so they are kept; the client that lost the answer sends them again."""
    catalogue = MemoryCatalogue()
    settings = make_settings(tmp_path)
    async with serving(settings, catalogue=catalogue) as server:
        connection = await server.connect()

        def leave(step: str) -> None:
            if step == "store":
                connection.writer.transport.abort()

        catalogue.before = leave
        await connection.send(connection.head("PUT", "/files/put-1/x", {"Content_Length": "3"}) + b"abc")
        while catalogue.node(1).stored is None:
            await asyncio.sleep(0.01)
        assert (await server.get()).body == b"abc"
        assert (await server.put(b"abc")).status == 201
