"""uws-client 1.1.11, the command line client of any UWS: Python 2, converted here by what once was 2to3."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.interop.conftest import Team, make_folder
from tests.interop.machine import Folder, Machine, Outcome

BEFORE_PYTHON_3 = """
import base64
base64.encodestring = lambda text: base64.encodebytes(text.encode()).decode()
"""
"""What the client takes for granted."""
ENOENT = 2
_TEXT = re.compile(r"    def __str__\(self\):\n.*\n")


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client in Python 3; nothing but its language is changed."""
    folder = tmp_path_factory.mktemp("uws-client")
    spec = find_spec("uws")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, folder / "uws", ignore=shutil.ignore_patterns("tests", "__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "fissix", "-w", "-n", "--no-diffs", folder / "uws"], check=True, capture_output=True
    )
    models = folder / "uws/UWS/models.py"
    models.write_text(_TEXT.sub("", models.read_text()).replace("__unicode__", "__str__"))
    (folder / "sitecustomize.py").write_text(BEFORE_PYTHON_3)
    return folder


@dataclass(frozen=True)
class Client:
    """The client of a user with a password."""

    machine: Machine
    converted: Path
    team: Team

    def __call__(self, list_: str, *words: str, code: int = 0) -> Outcome:
        """Run a command on a list of jobs."""
        command = [sys.executable, "-W", "ignore", "-m", "uws.cli.main", "-H", f"{self.machine.url}/{list_}"]
        login = ["-U", self.team.member, "--password", self.team.password]
        return self.machine.run(*command, *login, *words, code=code, environment={"PYTHONPATH": str(self.converted)})

    def new(self, list_: str, *words: str) -> str:
        """Make a job; give its id."""
        found = re.search(r"^Job ID: ([0-9a-f]{40})$", self(list_, "job", "new", *words).out, re.MULTILINE)
        assert found is not None
        return found[1]


@pytest.fixture
def uws(machine: Machine, converted: Path, team: Team) -> Client:
    return Client(machine, converted, team)


@pytest.fixture
def member_folder(machine: Machine, team: Team) -> Folder:
    """A fresh container of that user."""
    return make_folder(replace(machine, token=team.token), parent=f"/home/{team.member}")


def fields(outcome: Outcome) -> dict[str, str]:
    """Read the table that tells of a job."""
    rows = [re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in outcome.lines]
    return {row[0]: row[1] for row in rows if len(row) == 2}


@pytest.mark.clause("J4")
@pytest.mark.clause("J6")
@pytest.mark.clause("J7")
@pytest.mark.clause("J11")
def test_job_from_its_making_to_its_end(uws: Client, member_folder: Folder) -> None:
    target = f"target={member_folder.vos()}"
    job = uws.new("async-delete", target)
    shown = fields(uws("async-delete", "job", "show", job))
    assert (shown["Job id"], shown["Owner id"], shown["Phase"]) == (job, uws.team.member, "PENDING")
    assert uws("async-delete", "job", "phase", job).out == "b'PENDING'\n"
    changed = fields(
        uws("async-delete", "job", "set", job, "executionDuration=600", "destruction=2026-12-24T00:00:00Z")
    )
    assert (changed["Execution duration"], changed["Phase"]) == ("600", "PENDING")
    assert fields(uws("async-delete", "job", "run", job))["Phase"] in {"QUEUED", "EXECUTING", "COMPLETED"}
    uws("async-delete", "job", "show", job, "-w", "30", "-s", "queued")
    ended = fields(uws("async-delete", "job", "show", job, "-w", "30", "-s", "executing"))
    assert (ended["Phase"], ended["Result successcount"]) == ("COMPLETED", "final:1")
    member_folder.machine.vos("vls", member_folder.vos(), code=ENOENT)


@pytest.mark.clause("J8")
@pytest.mark.clause("J9")
@pytest.mark.clause("J10")
def test_list_abort_and_delete(uws: Client, member_folder: Folder) -> None:
    target = f"target={member_folder.vos()}"
    first, second = (uws.new("async-delete", target) for _ in range(2))
    assert fields(uws("async-delete", "job", "abort", first))["Phase"] == "ABORTED"
    listed = uws("async-delete", "list", "-p", "-a", "--last", "2").lines
    assert [line.split()[0] for line in listed if line.startswith((first, second))] == [second, first]
    assert second in uws("async-delete", "list", "--pending", "--after", "2026-01-01T00:00:00").out
    assert first not in uws("async-delete", "list", "--pending").out
    assert "0 jobs listed." in uws("async-delete", "list", "--after", "2100-01-01T00:00:00").out
    assert "successfully deleted!" in uws("async-delete", "job", "delete", second).out
    assert "does not exist" in uws("async-delete", "job", "show", second).out


def test_whole_list(uws: Client, member_folder: Folder) -> None:
    job = uws.new("async-delete", "--run", f"target={member_folder.vos()}")
    assert job in uws("async-delete", "list").out
