"""``mount.pyvospace``: how mount(8) and /etc/fstab mount a space."""

from __future__ import annotations

import os
import sys
from typing import Final

from pyvospace.client.access import FILE

_MEANT_FOR_MOUNT: Final = frozenset(
    {"rw", "auto", "noauto", "user", "users", "nouser", "owner", "defaults", "nofail", "_netdev", "exec", "noexec"}
    | {"suid", "nosuid", "dev", "nodev", "atime", "noatime", "relatime", "norelatime"}
)
_SHORT: Final = {"ro": "read_only"}
_USAGE: Final = "usage: mount.pyvospace URI DIR [-o option,…]; see docs/howto/mount.md"


def main() -> None:
    """Run as mount(8) calls helpers: source, directory, ``-sfnv``, ``-o options``."""
    # Imported only now: it brings the whole command line.
    from pyvospace.cli.main import run

    source, directory, options = _read(sys.argv[1:])
    sys.exit(run(command_of(source, directory, options)))


def command_of(source: str, directory: str, options: str) -> list[str]:
    """Give the command of ours for a line of fstab; ``config=FILE`` goes to the environment.

    >>> command_of("vos:", "/mnt", "ro,nofail,write_back=5")
    ['mount', '--read-only', '--write-back', '5', 'vos:', '/mnt']
    """
    words = ["mount"]
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "config":
            os.environ[FILE] = value
        elif name not in _MEANT_FOR_MOUNT and not name.startswith("x-"):
            words.append("--" + _SHORT.get(name, name).replace("_", "-"))
            words += [value] if value else []
    return [*words, source, directory]


def _read(words: list[str]) -> tuple[str, str, str]:
    places, options, given = [], "", iter(words)
    for word in given:
        if word == "-o":
            options = next(given, "")
        elif not word.startswith("-"):
            places.append(word)
    if len(places) != 2:  # noqa: PLR2004
        sys.exit(_USAGE)
    return places[0], places[1], options
