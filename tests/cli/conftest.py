"""A shell of a user, against a real pair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pyvospace.cli.main import run
from pyvospace.client.sync import Space
from pyvospace.model.uris import NodeUri
from tests.support.pair import Pair


class Shell:
    """Runs commands in a directory, against a folder in the space that is the home."""

    def __init__(self, space: Space, home: NodeUri, capture: pytest.CaptureFixture[bytes]) -> None:
        self.space = space
        self.home = home
        self._capture = capture
        self.raw = b""
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str | Path) -> int:
        self._capture.readouterr()
        code = run([str(one) for one in arguments])
        out, err = self._capture.readouterr()
        self.raw = out
        self.out, self.err = out.decode(errors="replace"), err.decode()
        return code

    def lines(self, *arguments: str | Path) -> list[str]:
        assert self(*arguments) == 0, self.err
        return self.out.splitlines()


@pytest.fixture
def environment(pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    said = {
        "VOSPACE_URL": pair.url,
        "VOSPACE_TOKEN": pair.token,
        "VOSPACE_AUTHORITY": pair.authority,
        "VOSPACE_HOME": f"{pair.home}/{uuid4().hex}",
        "VOSPACE_CLIENT_CONFIG": str(tmp_path / "client.toml"),
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return said


@pytest.fixture
def shell(pair: Pair, environment: dict[str, str], capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Shell]:
    with Space(pair.url, token=pair.token, authority=pair.authority, home=environment["VOSPACE_HOME"]) as space:
        home = space.uri("vos:")
        space.ensure_container(home)
        yield Shell(space, home, capfdbinary)
