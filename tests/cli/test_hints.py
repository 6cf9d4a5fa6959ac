"""What is said besides results: hints, and how commands behave by default."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from pyvospace.cli import defaults, hints
from pyvospace.client import ContentChanged, JobAborted, ServiceUnreachable
from pyvospace.model import faults
from pyvospace.model.faults import FAULTS, Fault, InvalidArgument


def test_each_hint_is_for_a_fault_that_there_is() -> None:
    assert set(hints._HINTS) <= {*FAULTS, ContentChanged.code, JobAborted.code}


@pytest.mark.parametrize(
    ("fault", "anonymous", "words"),
    [
        (faults.NotAuthenticated("who?"), True, "VOSPACE_TOKEN"),
        (faults.NotAuthenticated("log in"), None, "VOSPACE_TOKEN"),
        (faults.NotAuthenticated("the token is wrong"), False, "the credential is refused"),
        (faults.NotAuthenticated("the login at x has ended: pyvospace login"), False, None),
        (faults.PermissionDenied("no"), True, "no token is given"),
        (faults.PermissionDenied("no"), False, "pyvospace why"),
        (faults.PermissionDenied("only an administrator may do this"), False, "pyvospace whoami"),
        (faults.QuotaExceeded("/home/a"), False, "pyvospace quota"),
        (faults.DuplicateNode("x; nothing is replaced"), False, None),
        (faults.InvalidArgument("x"), False, None),
        (ServiceUnreachable("x"), False, "is the URL right"),
        (ServiceUnreachable("x: certificate not trusted"), False, "--ca-file"),
    ],
)
def test_hints(fault: Fault, anonymous: bool | None, words: str | None) -> None:
    said = hints.hint(fault, anonymous=anonymous)
    assert said is None if words is None else said is not None and words in said


def test_a_hint_is_written_once_and_not_too_many_are() -> None:
    assert hints.shown(["a", None, "a", "b"]) == ["hint: a", "hint: b"]
    assert len(hints.shown("abcdef")) == 3


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOSPACE_CLIENT_CONFIG", str(tmp_path / "client.toml"))
    return tmp_path / "client.toml"


def test_defaults(file: Path) -> None:
    assert defaults.defaults() == defaults.Defaults(jobs=4, progress=True, colour=True)
    file.write_text('url = "http://x"\n[defaults]\njobs = 8\nprogress = false\n')
    assert defaults.defaults() == defaults.Defaults(jobs=8, progress=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jobs = 0", "from 1 to 32"),
        ('jobs = "many"', "jobs is to be a number"),
        ("progress = 1", "true or false"),
        ("frobnicate = 1", "no setting 'frobnicate'; there are jobs, progress, colour"),
        ("jobs = ", "client.toml"),
    ],
)
def test_wrong_defaults(file: Path, text: str, words: str) -> None:
    file.write_text(f"[defaults]\n{text}\n")
    with pytest.raises(InvalidArgument, match=words):
        defaults.defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_and_bars_are_for_terminals(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert defaults.coloured(Terminal())
    assert not defaults.coloured(io.StringIO())
    monkeypatch.setattr("sys.stderr", Terminal())
    assert defaults.shows_progress(quiet=False)
    assert not defaults.shows_progress(quiet=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not defaults.coloured(Terminal())
    file.write_text("[defaults]\nprogress = false")
    assert not defaults.shows_progress(quiet=False)
