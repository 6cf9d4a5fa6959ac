"""An ordinary user of this machine, and a Python that he may run."""

from __future__ import annotations

import pwd
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pyvospace.supervisor.accounts import Account

ROOT = Path(__file__).parents[2]
NOBODY = Account.of(pwd.getpwnam("nobody"))
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PYTHONS = (sys.executable, f"/usr/bin/{_VERSION}")
"""The second one is for a virtual environment whose Python is in the home of root."""


def libraries(python: str) -> dict[str, str]:
    """Lead a Python to our packages, its own ones first: among ours is an ancient argparse that a client asks for."""
    standard = sysconfig.get_path("stdlib") if python == sys.executable else f"/usr/lib/{_VERSION}"
    return {"PYTHONPATH": f"{ROOT}:{standard}:{sysconfig.get_path('purelib')}"}


def ordinary_python() -> str:
    """Give a Python with which he can run pyvospace; skip the test if there is none."""
    python = next(filter(_may_run, _PYTHONS), None)
    if python is None:
        pytest.skip("this clone, or its Python, is closed to ordinary users")
    return python


def _may_run(python: str) -> bool:
    try:
        subprocess.run(
            [python, "-c", "import pyvospace, asyncpg, pydantic_core"],
            env=libraries(python),
            user=NOBODY.uid,
            group=NOBODY.gid,
            extra_groups=[],
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
