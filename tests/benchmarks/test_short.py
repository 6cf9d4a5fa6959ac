"""The benchmarks run and report; what they measure is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_quick_benchmark_reports_every_measure(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", "--quick", "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(figures.read_text())
    measured = {one["name"] for one in report["series"]}
    assert {"getNode", "createNode", "push of 1 KiB (POST, details, PUT)", "pull of a large file"} <= measured
    assert {"job, from POST to COMPLETED", "a waiter is woken, 99th percentile", "bare LISTEN, median"} <= measured
    assert "tar of small files" in measured
    assert set(report["memory"]) == {"metadata", "storage"}


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


def test_short_soak_has_no_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--clients", "20", "--minutes", "0.1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert " 0 failures" in done.stdout, done.stdout + done.stderr
