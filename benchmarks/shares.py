"""Shares of a core for processes, by control groups of the kernel (version 1 or 2)."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_PERIOD = 20_000
"""Microseconds: short beside a request that waits for its turn."""


def missing() -> str:
    """Say why no share can be given here; empty: it can."""
    if os.geteuid() != 0:
        return "shares of a core need root"
    if not _first_version() and "cpu" not in _controllers():
        return f"no controller of CPU time below {_GROUPS}"
    try:
        with limited([], 1.0):
            return ""
    except OSError as error:
        return f"no shares of a core: {error}"


@contextlib.contextmanager
def limited(pids: list[int], share: float) -> Iterator[None]:
    """Give each of these processes, and all its threads, no more than such a share of one core.

    Raises
    ------
    OSError
        The kernel refuses: see `missing`.
    """
    with contextlib.ExitStack() as stack:
        for pid in pids:
            stack.enter_context(_one(share, pid))
        if not pids:
            stack.enter_context(_one(share, None))
        yield


@contextlib.contextmanager
def _one(share: float, pid: int | None) -> Iterator[None]:
    parent = _GROUPS / "cpu" if _first_version() else _GROUPS
    if not _first_version():
        (parent / "cgroup.subtree_control").write_text("+cpu")
    group = parent / f"pyvospace-{secrets.token_hex(4)}"
    group.mkdir()
    try:
        quota = round(share * _PERIOD)
        if _first_version():
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD}")
        if pid is not None:
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                (parent / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def _first_version() -> bool:
    return (_GROUPS / "cpu" / "cgroup.procs").exists()


def _controllers() -> list[str]:
    file = _GROUPS / "cgroup.controllers"
    return file.read_text().split() if file.exists() else []
