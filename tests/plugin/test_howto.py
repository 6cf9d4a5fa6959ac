"""The page on storage backends shows the plugin that the tests run, and it is found like any installed plugin."""

import re
from pathlib import Path

import pytest

from pyvospace.storage.app import load_backend
from tests.plugin.installing import install
from tests.storage.serving import make_settings, serving

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "sqlite-shelf"
PAGE = ROOT / "docs" / "howto" / "storage-backend.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(PLUGIN, tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.syspath_prepend(PLUGIN)


async def test_server_with_the_plugin(tmp_path: Path, big: bytes, installed: None) -> None:
    settings = make_settings(tmp_path, backend="sqlite", options={"timeout": "30"})
    async with serving(settings, backend=load_backend(settings)) as server:
        for data in (b"", b"abc", big):
            assert (await server.put(data)).status == 201
            assert (await server.get()).body == data
        assert (await server.get(Range="bytes=2000000-5000000")).body == big[2_000_000:5_000_001]
        assert (await server.put(b"x", Content_MD5="0" * 32)).status == 412
        assert (await server.get()).body == big


def test_wrong_option(tmp_path: Path, installed: None) -> None:
    with pytest.raises(ValueError, match="does not know colour"):
        load_backend(make_settings(tmp_path, backend="sqlite", options={"colour": "blue"}))


def test_backend_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no backend 'tape'; installed: .*posix"):
        load_backend(make_settings(tmp_path, backend="tape"))


def test_page_shows_the_files_as_they_are() -> None:
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
    assert {name for name, _ in shown} == {"sqlite_shelf.py", "test_sqlite_shelf.py", "setup.cfg"}
    for name, text in shown:
        assert text == (PLUGIN / name).read_text(), f"{PAGE} shows an old {name}"
