"""The page on storage backends shows the plugin that the tests run, and it is found like any installed plugin."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pyvospace.storage.app import load_backend
from tests.storage.serving import make_settings, serving

ROOT = Path(__file__).parents[2]
PLUGIN = Path(__file__).parent / "sqlite-shelf"
PAGE = ROOT / "docs" / "howto" / "storage-backend.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the plugin as its users do, but into a folder of its own and without asking any index."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "site"))
    shutil.copytree(PLUGIN, source, dirs_exist_ok=True)  # building leaves files there
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", target, source], check=True)
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)


def test_plugin_passes_its_own_tests(site: Path, tmp_path: Path) -> None:
    for file in (*PLUGIN.glob("test_*.py"), PLUGIN / "setup.cfg"):
        shutil.copy(file, tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    run = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


async def test_server_with_the_plugin(tmp_path: Path, big: bytes, installed: None) -> None:
    settings = make_settings(tmp_path, backend="sqlite", options={"timeout": "30"})
    async with serving(settings, backend=load_backend(settings)) as server:
        for data in (b"", b"abc", big):
            assert (await server.put(data)).status == 201
            assert (await server.get()).body == data
        assert (await server.get(Range="bytes=2000000-5000000")).body == big[2_000_000:5_000_001]
        assert (await server.put(b"x", Content_MD5="0" * 32)).status == 412
        assert (await server.get()).body == big


async def test_server_with_a_layer(tmp_path: Path, big: bytes, installed: None) -> None:
    (tmp_path / "key").write_bytes(bytes(32))
    options = {"layers": "sealed", "sealed.key_file": str(tmp_path / "key"), "timeout": "30"}
    settings = make_settings(tmp_path, backend="sqlite", options=options)
    async with serving(settings, backend=load_backend(settings)) as server:
        assert (await server.put(big)).status == 201
        assert (await server.get()).body == big
        assert (await server.get(Range="bytes=2000000-5000000")).body == big[2_000_000:5_000_001]
    for wrong, match in (({"layers": "wax"}, "no layer 'wax'; installed: sealed"), ({"layers": "sealed"}, "key_file")):
        with pytest.raises(ValueError, match=match):
            load_backend(make_settings(tmp_path, backend="sqlite", options=wrong))


def test_wrong_option(tmp_path: Path, installed: None) -> None:
    with pytest.raises(ValueError, match="does not know colour"):
        load_backend(make_settings(tmp_path, backend="sqlite", options={"colour": "blue"}))


def test_backend_that_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no backend 'tape'; installed: .*posix"):
        load_backend(make_settings(tmp_path, backend="tape"))


def test_page_shows_the_files_as_they_are() -> None:
    shown = re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
    assert {name for name, _ in shown} == {path.name for path in PLUGIN.iterdir() if path.is_file()}
    for name, text in shown:
        assert text == (PLUGIN / name).read_text(), f"{PAGE} shows an old {name}"
