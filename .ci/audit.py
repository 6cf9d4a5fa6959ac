"""Looks for libraries with known holes: what we know ourselves, and what the advisory service knows if it answers.

It fails for what is found. What the service says nothing about it names: that nobody has looked is no good news.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from pyvospace.config.requirements import MINIMUM, too_old

LEAST: Final = {
    "cryptography": (50, 0, 0),  # CVE-2026-69247 and earlier ones
    "idna": (3, 7),  # CVE-2024-3651
    "lxml": (6, 1),  # reads no entity of somebody else by default
    "pyasn1": (0, 6, 4),  # CVE-2026-59885, CVE-2026-59886
}
"""Lowest versions without known holes of what comes along; the service starts with older ones."""
ACCEPTED: Final = {
    "CVE-2024-23342": "ecdsa comes with python-jose, which computes with cryptography instead",
    "GHSA-wj6h-64fc-37mp": "the same",
    "PYSEC-2024-300": "the same",
}
"""Holes that are none here, and why."""
PIP_AUDIT: Final = Path(sys.prefix) / "audit" / "bin" / "python"
"""It has an environment of its own, so that its libraries are not taken for ours."""
_PATIENCE: Final = 120


@dataclass(frozen=True)
class Report:
    """What the advisory service says: holes (package, version, name), and packages that it says nothing about."""

    holes: list[tuple[str, str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    looked_at: int = 0


def main() -> int:
    """Look, tell, and give the exit code."""
    bad = [str(one) for one in too_old(MINIMUM | LEAST)]
    print(f"audit: {len(MINIMUM | LEAST)} packages compared with our own list of least versions")
    report = ask()
    if report.looked_at:
        print(f"audit: of {report.looked_at} packages the advisory service knows {len(report.holes)} holes")
    if report.unknown:
        print("audit: LEFT OUT, since it does not answer, or not about these:")
        print("audit:   " + ", ".join(report.unknown))
    for name, version, hole in report.holes:
        if hole in ACCEPTED:
            print(f"audit: {name} {version}: {hole} accepted: {ACCEPTED[hole]}")
        else:
            bad.append(f"{name} {version}: {hole}")
    for line in bad:
        print(f"audit: {line}", file=sys.stderr)
    return 1 if bad else 0


def ask() -> Report:
    """Ask the advisory service about everything that is installed."""
    place = sysconfig.get_path("purelib")
    command = [str(PIP_AUDIT), "-m", "pip_audit", "--path", place, "--format", "json", "--timeout", "15"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
        return read(json.loads(done.stdout))
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError):
        return Report(unknown=sorted({f"{one.name} {one.version}" for one in distributions()}))


def read(answer: dict[str, Any]) -> Report:
    """Read what pip-audit writes; a package that the service does not know counts as not looked at."""
    packages = answer["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    report = Report(unknown=unknown, looked_at=len(packages) - len(unknown))
    for package in packages:
        for hole in package.get("vulns", []):
            names = [hole["id"], *hole.get("aliases", [])]
            known = next((name for name in names if name in ACCEPTED), hole["id"])
            report.holes.append((package["name"], package["version"], known))
    return report


if __name__ == "__main__":
    sys.exit(main())
