"""What must be installed for the service to be safe; asserted at start."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from pyvospace.config.load import ConfigError, Problem

MINIMUM = {"aiohttp": (3, 14, 2), "python-jose": (3, 5, 0)}
"""Lowest safe versions: request smuggling in the one, confusion of algorithms in the other."""


def too_old(least: Mapping[str, tuple[int, ...]]) -> Iterator[Problem]:
    """Give what is installed in an older version than the least one."""
    for name, minimum in least.items():
        if tuple(int(part) for part in re.findall(r"\d+", version(name))[:3]) < minimum:
            yield Problem(name, f"{version(name)} is too old, {'.'.join(map(str, minimum))} or later is needed")


def require_safe_versions() -> None:
    """Refuse to start with libraries that are known to be dangerous.

    Raises
    ------
    ConfigError
        One of `MINIMUM` is older, or aiohttp would parse HTTP in Python, where most of its holes were.
    """
    problems = list(too_old(MINIMUM))
    if os.environ.get("AIOHTTP_NO_EXTENSIONS") or importlib.util.find_spec("aiohttp._http_parser") is None:
        problems.append(Problem("aiohttp", "its parser in C is missing or turned off (AIOHTTP_NO_EXTENSIONS)"))
    if problems:
        raise ConfigError(problems)
