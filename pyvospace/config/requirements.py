"""What must be installed for the service to be safe; asserted at start."""

from __future__ import annotations

import importlib.util
import os
import re
from importlib.metadata import version

from pyvospace.config.load import ConfigError, Problem

MINIMUM = {"aiohttp": (3, 14, 2), "python-jose": (3, 5, 0)}
"""Lowest safe versions: request smuggling in the one, confusion of algorithms in the other."""


def require_safe_versions() -> None:
    """Refuse to start with libraries that are known to be dangerous.

    Raises
    ------
    ConfigError
        One of `MINIMUM` is older, or aiohttp would parse HTTP in Python, where most of its holes were.
    """
    problems = [
        Problem(name, f"{version(name)} is too old, {'.'.join(map(str, minimum))} or later is needed")
        for name, minimum in MINIMUM.items()
        if tuple(int(part) for part in re.findall(r"\d+", version(name))[:3]) < minimum
    ]
    if os.environ.get("AIOHTTP_NO_EXTENSIONS") or importlib.util.find_spec("aiohttp._http_parser") is None:
        problems.append(Problem("aiohttp", "its parser in C is missing or turned off (AIOHTTP_NO_EXTENSIONS)"))
    if problems:
        raise ConfigError(problems)
