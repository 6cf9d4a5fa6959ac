"""The look for libraries with known holes, which is no test of ours but has to be trusted."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "audit", module)
    spec.loader.exec_module(module)
    return module


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, text, ""))


def test_what_is_installed_has_no_hole_that_we_know_of(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the service it says what nobody has looked at."""
    answering(monkeypatch, "")
    assert audit.main() == 0
    assert "LEFT OUT" in capsys.readouterr().out


def test_a_hole_fails_and_one_that_is_none_here_is_told(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vulns = '[{"id": "PYSEC-1", "aliases": ["CVE-2024-23342"]}]'
    answering(monkeypatch, f'{{"dependencies": [{{"name": "ecdsa", "version": "0.19", "vulns": {vulns}}}]}}')
    assert audit.main() == 0
    assert "accepted" in capsys.readouterr().out
    vulns = '[{"id": "CVE-2099-1"}]'
    answering(monkeypatch, f'{{"dependencies": [{{"name": "x", "version": "1", "vulns": {vulns}}}]}}')
    assert audit.main() == 1
    assert "x 1: CVE-2099-1" in capsys.readouterr().err


def test_a_service_that_knows_no_package_has_looked_at_none(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, '{"dependencies": [{"name": "aiohttp", "skip_reason": "not found"}]}')
    assert audit.main() == 0
    assert "LEFT OUT, since it does not answer, or not about these:\naudit:   aiohttp" in capsys.readouterr().out
