"""The benchmarks run and report; what they measure is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_quick_report_tells_every_measure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.report", "--quick", "--folder", str(tmp_path), "--target", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "performance.json").read_text())
    measured = {one["name"] for one in report["measures"]}
    assert {"getNode", "createNode", "push of 1 KiB (POST, details, PUT)", "pull of a large file"} <= measured
    assert {"job, from POST to COMPLETED", "a waiter is woken, 99th percentile", "bare LISTEN, median"} <= measured
    assert "tar of small files" in measured
    assert {"metadata", "storage", "moto (S3)"} <= set(report["memory"])
    beside = {(one["name"], one["system"]) for one in report["systems"]}
    assert {(name, system) for name, _ in beside for system in ("pyvospace", "moto (S3)")} == beside
    assert "| createNode / bare handler, one INSERT and commit |" in (tmp_path / "performance.md").read_text()


def test_quick_benchmark_of_mounts(tmp_path: Path) -> None:
    figures, only = tmp_path / "figures.json", "pyvospace;passthrough"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mount", "--quick", "--only", only, "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(figures.read_text())
    if report["missing"]:
        pytest.skip(f"nothing can be mounted here: {report['missing']}")
    assert {"sequential read, warm", "ls -l, again", "untar, until all is there"} <= set(report["ratios"])
    assert all(set(rows) == {"pyvospace", "passthrough"} for rows in report["measures"].values())
