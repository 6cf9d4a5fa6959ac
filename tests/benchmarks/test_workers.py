"""Shares of a core, and the benchmark of workers in short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.shares import limited, missing
from benchmarks.workers import measure


def test_process_is_in_a_group_of_its_own_for_a_while() -> None:
    if why := missing():
        pytest.skip(why)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        groups = Path(f"/proc/{process.pid}/cgroup")
        with limited([process.pid], 0.5):
            assert "pyvospace-" in groups.read_text()
        assert "pyvospace-" not in groups.read_text()


def test_group_of_a_process_that_ends_meanwhile_is_removed() -> None:
    if why := missing():
        pytest.skip(why)
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process,
        limited([process.pid], 0.5),
    ):
        process.kill()
        process.wait()


def test_quick_measure_of_workers(tmp_path: Path) -> None:
    found = measure(tmp_path, numbers=(1,), rounds=1, seconds=0.1, concurrency=4)
    (table,) = found["tables"]
    measured = {(row[0], row[1]) for row in table["rows"]}
    assert {("getNode", "raw"), ("createNode", "raw"), ("push of 1 KiB", "raw"), ("pull of 1 KiB", "raw")} <= measured
    assert all(row[4] > 0 for row in table["rows"] if row[1] == "raw")
