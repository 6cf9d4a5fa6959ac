"""The crash points that tests name."""

import signal
import subprocess
import sys

import pytest

from pyvospace.model.crash import POINTS, VARIABLE, crash_point

CALL = "import sys; from pyvospace.model.crash import crash_point; crash_point(sys.argv[1])"


def test_named_point_kills() -> None:
    process = subprocess.run([sys.executable, "-c", CALL, "after-tmp"], env={VARIABLE: "after-tmp"}, check=False)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", sorted(POINTS))
def test_other_points_pass(point: str) -> None:
    crash_point(point)


def test_unknown_point_is_a_defect() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        crash_point("nowhere")
