"""Each system call of an upload fails once, one after the other: nothing is lost and nothing is left."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyvospace.storage import direct, sink
from pyvospace.storage.backends import posix, posix_directory
from pyvospace.storage.sweep import Sweeper
from tests.storage.serving import make_settings, open_files, serving, staged, stored

CALLS = {"close", "dup", "fstat", "fsync", "mkdir", "open", "rename", "stat", "unlink", "write", "writev"}


class FaultyOs:
    """The module os, one call of which fails: the `at`-th that changes or asks the file system."""

    def __init__(self, at: int, code: int) -> None:
        self._at = at
        self._code = code
        self.failed = ""

    def __getattr__(self, name: str) -> Any:
        function = getattr(os, name)
        return self._counted(name, function) if name in CALLS else function

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._at -= 1
            if self._at == 0:
                self.failed = name
                if name == "close":
                    function(*args)  # as Linux does it: closed, and an error
                raise OSError(self._code, "injected")
            return function(*args, **kwargs)

        return call


@pytest.mark.parametrize(
    ("size", "code"),
    [(100, errno.EIO), (100, errno.EROFS), (100, errno.ENOSPC), (100, errno.EDQUOT), (3_000_000, errno.ENOSPC)],
)
async def test_every_call_of_an_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bytes, size: int, code: int
) -> None:
    settings = make_settings(tmp_path)
    failed = []
    # Each upload makes a folder, so that all of them consist of the same calls.
    monkeypatch.setattr(posix, "_IN_ONE_FOLDER", 1)
    async with serving(settings) as server:
        assert (await server.put(b"old")).status == 201
        await server.hang_up()
        for attempt in range(1, 100):
            opened = open_files()
            faulty = FaultyOs(attempt, code)
            with monkeypatch.context() as patch:
                for module in (posix_directory, sink, direct):
                    patch.setattr(module, "os", faulty)
                answer = await server.put(big[:size])
            failed.append(faulty.failed)
            if answer.status == 201:
                assert (await server.get()).body == big[:size]
                assert (await server.put(b"old")).status == 201
            else:
                assert answer.status == {errno.EIO: 500, errno.EROFS: 503}.get(code, 507)
                assert (await server.get()).body == b"old"
            await server.hang_up()
            assert open_files() <= opened, faulty.failed
            await Sweeper(server.backend, server.catalogue, interval=1, grace=-5, obsolete_grace=0).sweep()
            assert (len(stored(settings)), staged(settings)) == (1, [])
            if not faulty.failed:
                break
    assert {"open", "write" if size > 1_000_000 else "writev", "fsync", "rename"} <= set(failed)
    assert failed[-1] == ""


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
async def test_every_call_of_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bytes, code: int) -> None:
    async with serving(make_settings(tmp_path)) as server:
        assert (await server.put(big)).status == 201
        await server.hang_up()
        for attempt in range(1, 100):
            opened = open_files()
            faulty = FaultyOs(attempt, code)
            with monkeypatch.context() as patch:
                patch.setattr(posix_directory, "os", faulty)
                answer = await server.get()
            assert answer.status == (200 if faulty.failed in {"", "close"} else 500)
            await server.hang_up()
            assert open_files() <= opened, faulty.failed
            if not faulty.failed:
                break
        assert (await server.get()).body == big
