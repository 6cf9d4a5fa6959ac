import re
import subprocess
import sys

import pytest
import typer

import pyvospace
from pyvospace.cli import lazy, main
from pyvospace.config import ConfigError, Problem
from pyvospace.model.faults import NodeNotFound
from pyvospace.supervisor import SupervisorError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"pyvospace {pyvospace.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["frobnicate"], "pyvospace: No such command 'frobnicate'."),
        (["up", "--frobnicate"], "pyvospace: No such option: --frobnicate"),
        (["up", "--port", "many"], "pyvospace: Invalid value for '--port': "),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    assert main.run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(complaint)
    assert shown.out == ""


def test_wrong_usage_shows_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["cp", "image.fits"]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [
        "pyvospace: Usage: pyvospace cp [OPTIONS] {SOURCE}... {DESTINATION} (--help tells more)"
    ]


@pytest.mark.parametrize("arguments", [[], ["user"], ["config"]])
def test_without_a_command_there_is_help_and_nothing_else(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main.run(arguments) == 2
    shown = capsys.readouterr()
    assert "Usage: pyvospace" in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (NodeNotFound("vos://x~y/z"), 3, ["pyvospace: NodeNotFound vos://x~y/z"]),
        (SupervisorError("port 1: in use"), 1, ["pyvospace: port 1: in use"]),
        (ConfigError([Problem("a", "b"), Problem("c", "d")]), 2, ["pyvospace: a: b", "pyvospace: c: d"]),
        (FileNotFoundError(2, "No such file", "x"), 1, ["pyvospace: [Errno 2] No such file: 'x'"]),
        (typer.Abort(), 130, []),
        (KeyboardInterrupt(), 130, []),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    lines: list[str],
) -> None:
    def make_app() -> typer.Typer:
        def fail() -> None:
            raise error

        app = typer.Typer()
        app.command()(fail)
        return app

    monkeypatch.setattr(main, "make_app", make_app)
    assert main.run([]) == code
    assert capsys.readouterr().err.splitlines() == lines


def test_a_reader_who_leaves_is_no_failure_worth_a_trace() -> None:
    shown = subprocess.run(
        f"{sys.executable} -m pyvospace config show | true", shell=True, capture_output=True, text=True, check=False
    )
    assert shown.stderr == ""


def test_help_imports_nothing_that_is_slow() -> None:
    script = "import sys; from pyvospace.cli import main; main.run(['--help']); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(re.split(r"\s", shown.stdout))
    assert not loaded & {"aiohttp", "asyncpg", "lxml", "jose", "cryptography", "argon2", "psutil", "pydantic"}


def test_the_table_of_commands_is_true() -> None:
    context = typer.Context(typer.main.get_command(main.make_app()))
    assert {part: set(lazy.load(part, context)) for part in lazy.PARTS} == {
        part: set(names) for part, names in lazy.PARTS.items()
    }


def test_a_command_imports_the_others_no_more_than_the_parser_needs() -> None:
    script = "import sys; from pyvospace.cli import main; main.run(['jobs', 'list', '--url', 'x']); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(re.split(r"\s", shown.stdout))
    assert "pyvospace.cli.job_commands" in loaded
    assert not loaded & {"pyvospace.cli.user_commands", "pyvospace.cli.quota_commands", "rich", "pydantic"}
