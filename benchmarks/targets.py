"""What we promise: ratios to ceilings of the same run, and rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import archives, elsewhere, jobs, measures, quota

SLOWER = "the slower of nginx DAV PUT with fsync and MD5"
"""Who writes and hashes at the same time is as fast as the slower one."""


@dataclass(frozen=True, slots=True)
class Target:
    """A measure of ours, what it is divided by, and the least that we promise."""

    of: str
    to: str
    """Empty: the figure itself counts."""
    wanted: float

    @property
    def what(self) -> str:
        """Say what is meant."""
        return f"{self.of} / {self.to}" if self.to else f"{self.of}, a second"


TARGETS = (
    Target("getNode", "bare handler, one prepared query", 0.7),
    Target("createNode", "bare handler, one INSERT and commit", 0.6),
    Target("listing of 100,000 children", "", 150_000),
    Target(measures.PUSH_SMALL, measures.BARE_PUSH_SMALL, 0.5),
    Target(measures.QUICK_PUSH, measures.BARE_PUSH_SMALL, 0.5),
    Target(measures.PULL_SMALL, measures.BARE_PULL_SMALL, 0.7),
    Target(measures.QUICK_PULL, measures.BARE_PULL_SMALL, 0.7),
    Target(measures.PUSH_LARGE, SLOWER, 0.8),
    Target(measures.PULL_LARGE, "nginx static GET", 0.95),
)
"""What issue and page are about."""
FURTHER = (
    Target(elsewhere.PULLED, elsewhere.CURLED, 0.3),
    Target(archives.PACKED, archives.GNU_PACKED, 0.2),
    Target(jobs.COMPLETED, jobs.BARE, 0.1),
    Target(jobs.BARE_SOON, jobs.SOON, 0.15),
    Target(jobs.BARE_LATE, jobs.LATE, 0.1),
    Target(quota.UPLOADS, quota.FREE_UPLOADS, 0.8),
    Target(quota.CREATED, quota.FREE_CREATED, 0.7),
)
"""What is promised elsewhere; of times, the ceiling is first."""


def judged(medians: Mapping[str, float], costs: Mapping[str, float]) -> list[dict[str, Any]]:
    """Compare all promises whose figures are there with what was found.

    `costs` are CPU milliseconds of an operation: their ratio depends less on what else the machine does.
    """
    known = dict(medians)
    if measures.DAV in known:  # without nginx there is no such ceiling
        known[SLOWER] = min(known[measures.DAV], known[measures.MD5])
    wanted = [one for one in TARGETS + FURTHER if {one.of, one.to or one.of} <= set(known)]
    return [_judged(one, known) | {"by_cpu": _by_cpu(one, costs)} for one in wanted]


def _by_cpu(target: Target, costs: Mapping[str, float]) -> float | None:
    return costs[target.to] / costs[target.of] if costs.get(target.of) and costs.get(target.to) else None


def _judged(target: Target, known: Mapping[str, float]) -> dict[str, Any]:
    found = known[target.of] / (known[target.to] if target.to else 1.0)
    return {
        "what": target.what,
        "of": target.of,
        "to": target.to,
        "is": found,
        "wanted": target.wanted,
        "better": "more",
        "met": found >= target.wanted,
        "main": target in TARGETS,
    }
