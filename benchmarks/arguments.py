"""Options of the command line that several benchmarks have: what is wrong with them is said before anything starts."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any


def folder(words: str) -> Path:
    """Take a folder that is there.

    Raises
    ------
    ArgumentTypeError
        There is none.
    """
    if not Path(words).is_dir():
        raise ArgumentTypeError(f"there is no folder {words}")
    return Path(words)


def file(words: str) -> Path:
    """Take a file that will be written, maybe after an hour, so that its folder has to be there now.

    Raises
    ------
    ArgumentTypeError
        It cannot be written there.
    """
    path = Path(words)
    if path.is_dir():
        raise ArgumentTypeError(f"{words} is a folder")
    folder(str(path.parent))
    return path


def count(words: str) -> int:
    """Take a whole number from 1 on.

    Raises
    ------
    ArgumentTypeError
        It is none.
    """
    if not words.isdecimal() or int(words) < 1:
        raise ArgumentTypeError(f"{words} is no number from 1 on")
    return int(words)


def counts(words: str) -> tuple[int, ...]:
    """Take several, with commas between them."""
    return tuple(map(count, words.split(",")))


def seconds(words: str) -> float:
    """Take a length of time, or another number above 0.

    Raises
    ------
    ArgumentTypeError
        It is none.
    """
    try:
        if 0 < (number := float(words)) < float("inf"):
            return number
    except ValueError:
        pass
    raise ArgumentTypeError(f"{words} is no number above 0")


def figures(words: str) -> dict[str, Any]:
    """Read what a run has written with ``--json``, or the report.

    Raises
    ------
    ArgumentTypeError
        This is no such file.
    """
    try:
        found = json.loads(Path(words).read_text())
    except (OSError, ValueError) as error:
        raise ArgumentTypeError(f"{words} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ArgumentTypeError(f"{words} has no figures of a benchmark")
    return found
