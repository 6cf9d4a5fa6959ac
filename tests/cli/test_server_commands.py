import asyncio
import os
from pathlib import Path

import asyncpg
import pytest

from pyvospace.cli import main
from tests.support.commands import Done, run_here
from tests.support.postgres import PostgresServer

SECRET = "hunter2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pyvospace.toml"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in os.environ:
        if name.startswith("PYVOSPACE_"):
            monkeypatch.delenv(name)


def test_config_check(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[metadata]\nport = 9000\n")
    assert main.run(["config", "check", str(file)]) == 0
    assert main.run(["config", "check", "--config", str(file)]) == 0
    assert capsys.readouterr() == ("", "")
    file.write_text(f"[metadata]\nprot = 9000\nworkers = 0\n[database]\ndsn = '{SECRET}'\n")
    monkeypatch.setenv("PYVOSPACE_STORAGE_PORT", "1")
    assert main.run(["config", "check", str(file)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"pyvospace: {file}: database.dsn: a DSN begins with postgresql://",
        f"pyvospace: {file}: metadata.workers: Input should be greater than or equal to 1",
        f"pyvospace: {file}: metadata.prot: unknown setting, did you mean port?",
        "pyvospace: PYVOSPACE_STORAGE_PORT: unknown variable, did you mean PYVOSPACE_STORAGE__PORT?",
    ]


def test_config_show(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(f"[database]\ndsn = 'postgresql://joe:{SECRET}@host/space'\n[metadata]\nport = 9000\n")
    assert main.run(["config", "show", "--config", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "port = 9000\n" in shown
    assert 'dsn = "**********"\n' in shown
    assert SECRET not in shown


@pytest.mark.parametrize("command", ["metadata", "storage", "up", "migrate"])
def test_nothing_starts_with_wrong_settings(command: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("authority = 'a/b'\n")
    data = ["--data", str(file.parent / "data")] if command == "up" else []
    assert main.run([command, "--config", str(file), *data]) == 2
    assert capsys.readouterr().err.startswith(f"pyvospace: {file}: authority: an authority begins with")


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["metadata", "--config", "/no/such/file.toml"]) == 2
    assert capsys.readouterr().err == "pyvospace: /no/such/file.toml: No such file or directory\n"


def test_migrate(postgres_server: PostgresServer) -> None:
    name = "test_migrate"
    postgres_server.execute(f"create database {name} owner pyvospace")
    environment = {
        "PYVOSPACE_DATABASE__DSN": postgres_server.dsn(name),
        "PYVOSPACE_DATABASE__CHECK_DURABILITY": "false",
        "PYVOSPACE_AUTHORITY": "example.org~vault",
    }
    try:
        first = run_here("migrate", environment=environment)
        assert first.stdout.startswith("applied 0001_initial\n")
        assert run_here("migrate", environment=environment) == Done(0, "", "")
        assert asyncio.run(_authority(postgres_server.dsn(name))) == "example.org~vault"
        refused = run_here("migrate", environment={**environment, "PYVOSPACE_AUTHORITY": "localhost~space"})
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("pyvospace: the database belongs to the space")
    finally:
        postgres_server.execute(f"drop database {name} with (force)")


async def _authority(dsn: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("select authority from space")
    finally:
        await connection.close()


def test_without_a_database(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main.run(["migrate", "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith(f"pyvospace: no database: `pyvospace up` does not run on {tmp_path}")


@pytest.mark.parametrize(("command", "setting"), [("metadata", "database.dsn"), ("storage", "database.storage_dsn")])
def test_a_server_without_a_database(command: str, setting: str) -> None:
    shown = run_here(command, "--port", "48080", environment={"HOME": os.environ["HOME"]})
    assert shown.returncode == 1
    assert f"pyvospace: {setting} is not set\n" in shown.stderr
