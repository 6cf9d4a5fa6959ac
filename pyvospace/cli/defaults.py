"""How commands behave if no option says otherwise: the section ``[defaults]`` of client.toml."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from pyvospace.client.access import config_file
from pyvospace.model.faults import InvalidArgument

_MOST_JOBS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What can be said once."""

    jobs: int = 4
    """Files that are copied at once (``-j``)."""
    progress: bool = True
    """Whether bars are shown on a terminal; ``--quiet`` turns them off for one command."""
    colour: bool = True
    """Whether names are coloured on a terminal; the environment variable NO_COLOR turns colours off too."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value, wanted = getattr(self, one.name), type(one.default)
            if type(value) is not wanted:
                raise InvalidArgument(f"{one.name} is to be {'true or false' if wanted is bool else 'a number'}")
        if not 1 <= self.jobs <= _MOST_JOBS:
            raise InvalidArgument(f"jobs is to be from 1 to {_MOST_JOBS}")


def defaults() -> Defaults:
    """Read the section.

    Raises
    ------
    InvalidArgument
        Something in it is wrong.
    """
    return _read(config_file())


def _read(file: Path) -> Defaults:
    try:
        said: Mapping[str, Any] = tomllib.loads(file.read_text(encoding="utf-8")).get("defaults", {})
    except FileNotFoundError:
        return Defaults()
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"{file}: {error}") from None
    known = [one.name for one in fields(Defaults)]
    for name in said:
        if name not in known:
            raise InvalidArgument(f"{file} [defaults]: no setting {name!r}; there are {', '.join(known)}")
    try:
        return Defaults(**said)
    except InvalidArgument as fault:
        raise InvalidArgument(f"{file} [defaults]: {fault.detail}") from None


def shows_progress(*, quiet: bool) -> bool:
    """Say whether bars are wanted, and somebody is there to see them."""
    return not quiet and sys.stderr.isatty() and defaults().progress


def coloured(stream: IO[str]) -> bool:
    """Say whether a stream is a terminal where colours are wanted (see no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and defaults().colour
