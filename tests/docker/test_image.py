"""The files from which the image is made. `./dev image` builds and runs it."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from pyvospace.config import check
from tests.docker.conftest import DOCKER, tool

DOCKERFILE = DOCKER / "Dockerfile"
ROOT = DOCKER.parent


def instructions(name: str) -> list[str]:
    """Give the arguments of each of these instructions."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.removeprefix(name).strip() for line in text.splitlines() if line.startswith(f"{name} ")]


def test_the_dockerfile_has_no_findings() -> None:
    result = tool("hadolint", str(DOCKERFILE))
    assert result.returncode == 0, result.stdout


def test_a_bad_dockerfile_has_findings(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /tmp && apt-get install python3\n", encoding="utf-8")
    result = tool("hadolint", str(bad))
    assert result.returncode != 0
    assert {"DL3007", "DL3008"} <= set(re.findall(r"DL\d{4}", result.stdout))


def test_it_does_not_end_as_root() -> None:
    assert instructions("USER") == ["10001:10001"]


def test_the_base_is_an_argument_with_a_version() -> None:
    assert instructions("FROM") == ["${BASE} AS build", "${BASE}"]
    base = instructions("ARG")[0]
    assert re.fullmatch(r"BASE=[\w./-]+:\d[\w.-]+", base)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in rules
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]}
    assert copied == let_in
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_every_variable_is_a_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "pyvospace.toml"
    empty.touch()
    variables = dict(re.findall(r"(PYVOSPACE_\w+)=(\S+)", " ".join(instructions("ENV"))))
    assert "PYVOSPACE_METADATA__HOST" in variables
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert check(empty) == []


@pytest.mark.parametrize("script", sorted(DOCKER.rglob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_one(script: Path) -> None:
    shell = "bash" if "bash" in script.read_text(encoding="utf-8").partition("\n")[0] else "sh"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run([shell, "-n", script], check=True)
